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
from smolcli.engine.protocol import DeviceLeftOut, DevicesFound, Failed, InboxMessage, ItemOpened, Opened, Work
from smolcli.errors import EngineError, ErrorKind, Exit, SmolError, UnavailableError
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model, Sampling
from smolcli.process.pipe import FunctionFailed
from smolcli.records.sink import RecordSink
from smolcli.tasks.caption import Caption
from smolcli.types import Fault, Item, Media, Memory
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
    """Notes what it is asked; each message is an event of the engine that has opened its item.

    All items wait but those that are `begun`. `error` is what it raises at the next check.
    """

    made: list[FakeEngine]
    memory, ready_at, seconds_until_check = Memory(0, 3, 5), 0.0, 2.0

    def __init__(self, work: Work, *rest: Any, **more: Any) -> None:
        self.device, self.numbers = work.model.device, list[int]()
        self.lists_devices = work.lists_devices
        self.is_loaded = self.is_stopped = False
        self.begun: set[int] = set()
        self.error: SmolError | None = None
        FakeEngine.made.append(self)

    @property
    def is_restarting(self) -> bool:
        return bool(self.ready_at) and not self.is_loaded

    @property
    def is_idle(self) -> bool:
        return self.is_loaded and not self.numbers

    @property
    def waiting_items(self) -> list[int]:
        return [number for number in self.numbers if number not in self.begun]

    def load(self) -> None:
        self.is_loaded, self.ready_at = True, 1.0

    def open(self, number: int, item: Item) -> None:
        self.numbers.append(number)

    def release(self, number: int) -> None:
        self.numbers.remove(number)

    def hand_over(self, number: int, other: FakeEngine) -> None:
        self.numbers.remove(number)
        other.numbers.append(number)

    def flush(self) -> None: ...

    def stop(self) -> None:
        self.is_stopped = True

    def check(self) -> list[Any]:
        if self.error is not None and not self.is_stopped:
            raise self.error
        return [Failed(number, Fault(ErrorKind.TIMEOUT, "")) for number in self.begun]

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


LATE = EngineError("the model was not loaded within 601 s", "try a smaller one")


def three(fakes: list[FakeEngine], items: int) -> Engines:
    """Engines on three devices, with so many items in turn."""
    pool = make("cuda", sampling=Sampling())
    found(pool)
    for number in range(items):
        pool.open(number, ITEM)
    assert len(fakes) == 3
    return pool


def test_a_fault_of_the_first_engine_ends_the_run_while_no_model_is_loaded(fakes: list[FakeEngine]) -> None:
    """All of them most likely have it."""
    pool = three(fakes, 3)
    with pytest.raises(UnavailableError, match="cannot be used"):
        pool.handle(InboxMessage(0, FunctionFailed(UnavailableError("one:0 cannot be used"))))


@pytest.mark.parametrize(("lost", "device"), [(0, "one:0"), (2, "one:2")])
def test_an_engine_that_cannot_go_on_is_left_out_where_another_can(
    fakes: list[FakeEngine], lost: int, device: str
) -> None:
    """The events of the others are not lost, and it is told once."""
    pool = three(fakes, 9)
    fakes[1].load()
    fakes[lost].error, fakes[1].begun = LATE, {1}
    assert sorted(pool.check(), key=str) == [DeviceLeftOut(device, LATE.what), Failed(1, Fault(ErrorKind.TIMEOUT, ""))]
    assert fakes[lost].is_stopped and not fakes[lost].numbers and pool.count == 2
    assert sorted(number for fake in fakes for number in fake.numbers) == list(range(9))
    pool.open(9, ITEM)
    pool.release(lost)  # it is where it was moved to
    assert not fakes[lost].numbers and len(pool.check()) == 1


def test_a_later_engine_that_cannot_be_loaded_is_left_out_while_the_first_loads(fakes: list[FakeEngine]) -> None:
    pool = three(fakes, 3)
    fakes[1].error = fakes[2].error = LATE
    assert pool.check() == [DeviceLeftOut("one:1", LATE.what), DeviceLeftOut("one:2", LATE.what)]
    assert fakes[0].numbers == [0, 1, 2]
    fakes[0].error = LATE
    with pytest.raises(EngineError, match="601 s"):
        pool.check()


def test_an_item_goes_to_no_engine_that_starts_again_unless_all_do(fakes: list[FakeEngine]) -> None:
    pool = three(fakes, 3)
    for fake in fakes:
        fake.load()
    pool.release(1)
    fakes[1].is_loaded = False
    pool.open(3, ITEM), pool.open(4, ITEM)
    assert [len(fake.numbers) for fake in fakes] == [2, 0, 2]
    fakes[0].is_loaded = fakes[2].is_loaded = False
    pool.open(5, ITEM)
    assert fakes[1].numbers == [5]


def test_an_engine_with_nothing_to_do_takes_the_first_half_of_what_waits_where_most_does(
    fakes: list[FakeEngine],
) -> None:
    """The last one too where the model is not loaded, which may take minutes."""
    pool = three(fakes, 15)
    pool.flush()
    assert [len(fake.numbers) for fake in fakes] == [5, 5, 5]  # none is loaded
    fakes[0].load(), fakes[2].load()
    for number in list(fakes[0].numbers):
        pool.release(number)
    fakes[1].begun = {1}
    fakes[2].begun = {2, 5}
    pool.flush()
    assert [fake.numbers for fake in fakes] == [[4, 7], [1, 10, 13], [2, 5, 8, 11, 14]]
    for number in (4, 7):
        pool.release(number)
    fakes[1].load()
    fakes[1].begun = {1, 13}
    fakes[2].begun = {2, 5, 8, 11, 14}
    pool.flush()
    assert fakes[0].numbers == []  # the engine begins with 10 soon
    fakes[1].is_loaded = False
    pool.flush()
    assert [fake.numbers for fake in fakes[:2]] == [[10], [1, 13]]
    pool.release(10)
    assert fakes[0].numbers == []
