"""engine/engines.py: items shared among engines of several devices, in child processes that need no model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from smolcli.engine import engines
from smolcli.engine.engines import ENOUGH, ENOUGH_VIDEOS, Engines
from smolcli.engine.protocol import DevicesFound, InboxMessage, ItemOpened, Opened, Work
from smolcli.errors import Exit, UnavailableError
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model, Sampling
from smolcli.process.pipe import FunctionFailed
from smolcli.records.sink import RecordSink
from smolcli.tasks.caption import Caption
from smolcli.types import Item, Media, Memory
from tests.executors.replying import NOTHING, Replying
from tests.helpers import png, records

DEVICES = ("one:0", "one:1", "one:2")


def list_devices(device: str) -> tuple[str, ...]:
    return DEVICES if device == "auto" else (device,)


class OnDevice(Replying):
    """Replies with the device that it was given and its process."""

    slots = 2

    def reply(self, words: list[str]) -> Iterator[str]:
        yield f"{self.options.device} {os.getpid()}"


class Meeting(OnDevice):
    """Replies when there is one on each device; their files are in the folder that the variable MEETING names."""

    def __init__(self, files: ModelFiles, options: Model) -> None:
        super().__init__(files, options)
        self._folder = Path(os.environ["MEETING"])
        (self._folder / str(os.getpid())).touch()

    def reply(self, words: list[str]) -> Iterator[str]:
        while len(list(self._folder.iterdir())) < len(DEVICES):
            yield NOTHING
        yield from super().reply(words)


class Picky(Meeting):
    """Cannot be loaded on the second device."""

    def __init__(self, files: ModelFiles, options: Model) -> None:
        super().__init__(files, options)
        if options.device == DEVICES[1]:
            raise UnavailableError(f"the device {options.device} cannot be used", "try --device cpu")


def pictures(number: int) -> list[Item]:
    return [Item.of(f"{index}.png", png(color=index)) for index in range(number)]


def run(number: int, backend: str = "OnDevice") -> tuple[list[dict[str, Any]], Any]:
    lister = f"{__name__}:list_devices"
    endless = Generate(max_tokens=2**30)  # a token is spent on each look at whether to reply
    target, lister = f"{__name__}:{backend}", f"{__name__}:list_devices"
    return records(Caption(prompt="Hm?"), pictures(number), target, generate=endless, lists_devices=lister)


def test_records_of_all_devices_come_in_the_order_of_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEETING", str(tmp_path))
    written, sink = run(200, "Meeting")
    assert [record["path"] for record in written] == [f"{index}.png" for index in range(200)]
    devices = Counter(record["text"].split()[0] for record in written)
    assert set(devices) == {"auto", *DEVICES[1:]}  # the first engine keeps the word of --device
    assert min(devices.values()) >= ENOUGH
    assert len({record["text"] for record in written}) == len(DEVICES)  # a process for each
    assert sink.exit_code == Exit.OK


def test_few_pictures_load_one_model() -> None:
    written, _ = run(ENOUGH)
    assert {record["text"].split()[0] for record in written} == {"auto"}


def test_the_others_answer_what_a_device_that_cannot_be_used_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    monkeypatch.setenv("MEETING", str(tmp_path))
    monkeypatch.setattr(RecordSink, "notice", lambda sink, message: notices.append(message))
    written, sink = run(200, "Picky")
    assert [record["path"] for record in written] == [f"{index}.png" for index in range(200)]
    assert {record["text"].split()[0] for record in written} == {"auto", DEVICES[2]}
    assert sink.exit_code == Exit.OK
    assert notices == ["one:1 is left out: the device one:1 cannot be used"]


class FakeEngine:
    """Notes what it is asked; each message is an event of the engine that has opened its item."""

    made: list[FakeEngine]
    memory, ready_at, seconds_until_check = Memory(0, 3, 5), 0.0, 2.0

    def __init__(self, work: Work, *rest: Any, **more: Any) -> None:
        self.device, self.numbers = work.model.device, list[int]()
        self.lists_devices = work.lists_devices
        FakeEngine.made.append(self)

    def open(self, number: int, item: Item) -> None:
        self.numbers.append(number)

    def release(self, number: int) -> None:
        self.numbers.remove(number)

    def handle(self, message: InboxMessage) -> list[Any]:
        made = message.message
        if isinstance(made, FunctionFailed):
            raise made.error
        assert isinstance(made, ItemOpened)
        return [Opened(made.number, made.media)] if made.number in self.numbers else []


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    monkeypatch.setattr(engines, "Engine", FakeEngine)
    FakeEngine.made = []
    return FakeEngine.made


def make(device: str = "auto", **more: Any) -> Engines:
    work = Work("none:None", ModelFiles("none"), Model(device=device), Input(), Generate(), lists_devices="a:b", **more)
    return Engines(work, None)  # type: ignore[arg-type]


ITEM = Item.of("a.png")


def found(pool: Engines) -> None:
    assert pool.handle(InboxMessage(0, DevicesFound(DEVICES))) == [DevicesFound(DEVICES)]


def test_another_engine_is_started_when_each_has_enough(fakes: list[FakeEngine]) -> None:
    pool = make()
    for number in range(ENOUGH + 1):
        pool.open(number, ITEM)
    assert len(fakes) == 1  # whatever it has: no other device is known
    found(pool)
    for number in range(100, 100 + ENOUGH):
        pool.open(number, ITEM)
    assert [len(fake.numbers) for fake in fakes] == [ENOUGH + 1, ENOUGH]
    pool.open(200, ITEM)
    assert [(fake.device, fake.lists_devices) for fake in fakes[1:]] == [(DEVICES[1], ""), (DEVICES[2], "")]


def test_an_item_goes_where_the_fewest_are(fakes: list[FakeEngine]) -> None:
    pool = make(sampling=Sampling())
    found(pool)
    numbers = iter(range(1000))
    for number in islice(numbers, 3 * ENOUGH_VIDEOS + 3):
        pool.open(number, ITEM)
    assert [len(fake.numbers) for fake in fakes] == [2, 2, 2]
    released = fakes[1].numbers[0]
    pool.release(released)
    pool.release(released)  # an item that has failed is released once more
    pool.open(999, ITEM)
    assert fakes[1].numbers[-1] == 999


def test_the_first_items_of_the_engines(fakes: list[FakeEngine]) -> None:
    pool = make(sampling=Sampling())
    found(pool)
    for number in range(7):
        pool.open(number, ITEM)
    of_engines = [set(fake.numbers) for fake in fakes]
    begun = {1, 2, 3, 4, 5, 6, 99}  # 99 was released
    assert pool.first_of_each(begun) == {min(begun & numbers) for numbers in of_engines}
    assert pool.first_of_each({6, 3}) == {3}  # both are the first engine's
    assert pool.first_of_each([]) == set()


def test_a_lost_child_tells_the_devices_again(fakes: list[FakeEngine]) -> None:
    pool = make(sampling=Sampling())
    found(pool)
    for number in range(2):
        pool.open(number, ITEM)
    found(pool)
    for number in range(2, 9):
        pool.open(number, ITEM)
    assert [fake.device for fake in fakes] == ["auto", *DEVICES[1:]]


def test_sums_of_the_engines(fakes: list[FakeEngine]) -> None:
    pool = make(sampling=Sampling())
    found(pool)
    for number in range(2):
        pool.open(number, ITEM)
    assert pool.memory == Memory(0, 6, 10)
    assert pool.handle(InboxMessage(0, ItemOpened(1, Media(())))) == [Opened(1, Media(()))]


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_failure_of_the_first_engine_or_of_a_device_that_was_asked_for_ends_the_run(
    fakes: list[FakeEngine], device: str
) -> None:
    """Each fake raises it, the first of them too."""
    pool = make(device, sampling=Sampling())
    found(pool)
    for number in range(2):
        pool.open(number, ITEM)
    if device == "cuda":
        fakes[0].handle = lambda message: []  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="cannot be used"):
        pool.handle(InboxMessage(1, FunctionFailed(UnavailableError("one:1 cannot be used"))))
