"""engine/server.py, without a second process: what is decoded when, and how much memory it takes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.backends.echo import Echo
from smolcli.engine import open_items
from smolcli.engine import server as server_module
from smolcli.engine.open_items import OpenItems
from smolcli.engine.progress_cells import FIELDS, Activity, ProgressCells, RequestId, Stage
from smolcli.engine.protocol import (
    OPENERS,
    Ask,
    EngineMessage,
    FramesDecoded,
    ItemNotOpened,
    ItemOpened,
    Open,
    Ready,
    Release,
    ReplyMade,
    Work,
)
from smolcli.engine.server import EngineServer
from smolcli.errors import ErrorKind, InputError
from smolcli.generation import prefetcher
from smolcli.inputs.image import Picture
from smolcli.inputs.page import Page, PageRequest
from smolcli.inputs.video import Video
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model, Sampling
from smolcli.types import Finish, Frame, FrameRef, Item, Media, ModelLimits, Prompt, Reply
from tests.engine.pixels import CountedPixels
from tests.helpers import ECHO, png

SECONDS = 60  # after which a test fails
CELLS = 80
Message = TypeVar("Message")
ABOUT_FIRST = Prompt.user(FrameRef(0, 0, 0))


class FakePipe:
    """Keeps what the engine sends."""

    def __init__(self) -> None:
        self.shared = memoryview(bytearray(8 * FIELDS * CELLS)).cast("q")
        self.sent: SimpleQueue[EngineMessage] = SimpleQueue()

    def send(self, message: EngineMessage) -> None:
        self.sent.put(message)


class Brightness(Echo):
    """Repeats the prompt, with the size and the brightness of each picture."""

    @staticmethod
    def reply_words(prompt: Prompt) -> list[str]:
        frames = iter(prompt.decoded_frames)
        parts = [part if isinstance(part, str) else _described(next(frames)) for part in prompt.turns[0].parts]
        return " ".join(parts).split()


def _described(frame: Frame) -> str:
    brightness = round(float(np.frombuffer(frame.rgb, np.uint8).mean()))
    return f"{frame.width}x{frame.height}:{brightness}"


class Engine:
    """A server on one backend, whose messages a test waits for."""

    def __init__(self, backend: Echo, **more: Any) -> None:
        work = Work(ECHO, ModelFiles("echo"), Model(), Input(), Generate(), **more)
        self._pipe = FakePipe()
        self.server = EngineServer(self._pipe, work)
        self.server.import_backend()
        self._cells = ProgressCells(self._pipe.shared)
        Thread(target=self.server.answer, args=(backend, 0.5), daemon=True).start()
        self.next(Ready)

    def next(self, kind: type[Message]) -> Message:
        """The next message, which must be of this kind."""
        message = self._pipe.sent.get(timeout=SECONDS)
        assert isinstance(message, kind), message
        return message

    def open(self, number: int, item: Item) -> Media:
        self.server.handle(Open(number, item))
        return self.next(ItemOpened).media

    def ask(self, number: int, slot: int = 0, prompt: Prompt = ABOUT_FIRST) -> Reply:
        self.server.handle(Ask(number, slot, prompt))
        made = self.next(ReplyMade)
        assert (made.number, made.slot) == (number, slot)
        return made.reply

    def activity(self) -> dict[RequestId, Activity]:
        return self._cells.activity()


def backend(kind: type[Echo] = Brightness, jobs: int = 1) -> Echo:
    return kind(ModelFiles("echo"), Model(jobs=jobs))


def kind_of(reply: Reply) -> ErrorKind | None:
    return None if reply.finish.fault is None else reply.finish.fault.kind


def document(*sizes: tuple[int, int]) -> bytes:
    pages, file = [Image.new("RGB", size) for size in sizes], io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def animation(count: int) -> bytes:
    """A GIF of 8 x 8 pixels whose frames have the gray values 0, 20, 40 ..., a second each."""
    pictures, file = [Image.new("L", (8, 8), 20 * number) for number in range(count)], io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=1000, loop=0)
    return file.getvalue()


def test_the_main_thread_imports_the_backend_also_where_an_opener_needs_its_limits_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library may handle signals when it is imported, which Python refuses in other threads."""
    order, is_open = list[str](), Event()

    class Opened(Video):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            is_open.set()

    def import_slowly(target: str) -> type[Echo]:
        assert is_open.wait(SECONDS)
        order.append("imported")
        return Echo

    def limits_for(work: Work) -> ModelLimits:
        order.append("asked")
        return ModelLimits(2048, 8, 1)

    monkeypatch.setattr("smolcli.inputs.video.Video", Opened)
    monkeypatch.setattr(server_module, "_load_backend", import_slowly)
    monkeypatch.setattr(server_module, "limits_for", limits_for)
    pipe = FakePipe()
    server = EngineServer(pipe, Work(ECHO, ModelFiles("echo"), Model(), Input(), Generate(), sampling=Sampling()))
    server.handle(Open(0, Item.of("-", animation(2))))
    server.import_backend()
    assert isinstance(pipe.sent.get(timeout=SECONDS), ItemOpened)
    assert order == ["imported", "asked"]


# ---- every kind of source --------------------------------------------------------------------------------


def test_a_still_picture_is_decoded_again_for_a_later_prompt_and_not_after_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png((5, 4), 0x101010))
    engine = Engine(backend())
    assert engine.open(7, Item.of(str(path))).frames == (FrameRef(0, 5, 4),)
    assert [engine.ask(7, slot).text for slot in (0, 1)] == ["5x4:16", "5x4:16"]
    path.write_bytes(png((6, 4), 0x202020))
    assert kind_of(engine.ask(7, 2)) == ErrorKind.CHANGED
    assert engine.ask(7, 3, Prompt.user("a text")).finish.fault is None


def test_a_picture_that_came_through_a_pipe_is_decoded_again_from_its_bytes() -> None:
    engine = Engine(backend())
    engine.open(0, Item.of("-", png((5, 4), 0x101010)))
    assert [engine.ask(0, slot).text for slot in (0, 1)] == ["5x4:16", "5x4:16"]


def test_pages_are_decoded_in_any_order() -> None:
    engine = Engine(backend(), every_page=True)
    media = engine.open(0, Item.of("-", document((10, 20), (30, 40), (50, 60))))
    assert media.frames == tuple(FrameRef(index, 0, 0) for index in range(3))
    prompts = [Prompt.user(frame) for frame in media.frames]
    assert [engine.ask(0, slot, prompts[slot]).text for slot in (2, 0, 1)] == ["50x60:0", "10x20:0", "30x40:0"]


def test_frames_of_a_video_are_shrunk_to_a_tile() -> None:
    engine = Engine(backend(), sampling=Sampling(frames=4))
    media = engine.open(0, Item.of("-", animation(4)))
    assert [frame.time for frame in media.frames] == [0, 1, 2, 3]
    assert media.limits is not None and media.limits.tile == 512
    reply = engine.ask(0, 0, Prompt.user(*media.frames[1:3], split=False))
    assert reply.text == "512x512:20 512x512:40"


def test_a_video_that_has_changed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(animation(4))
    engine = Engine(backend(), sampling=Sampling(frames=4))
    media = engine.open(0, Item.of(str(path)))
    path.write_bytes(animation(5))
    assert kind_of(engine.ask(0, 0, Prompt.user(media.frames[0], split=False))) == ErrorKind.CHANGED


def test_what_comes_up_while_frames_are_decoded_is_sent_before_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def page(picture: Picture, number: int) -> Frame:
        picture.faults.append(f"page {number} is pale")
        return Frame(bytes(3), 1, 1)

    monkeypatch.setattr(Picture, "page", page)
    engine = Engine(backend(), every_page=True)
    engine.open(3, Item.of("-", document((2, 2), (2, 2))))
    engine.server.handle(Ask(3, 0, Prompt.user(FrameRef(1, 0, 0))))
    assert engine.next(FramesDecoded) == FramesDecoded(3, ("page 1 is pale",))
    assert engine.next(ReplyMade).reply.text == "1x1:0"


def test_what_comes_up_while_a_prompt_is_prepared_is_sent_before_the_reply() -> None:
    class Noticing(Echo):
        def prepare(self, prompt: Prompt) -> PreparedPrompt:
            return replace(super().prepare(prompt), notice="fewer tiles")

    engine = Engine(backend(Noticing))
    engine.open(3, Item.of("-", png()))
    engine.server.handle(Ask(3, 0, Prompt.user("Hello")))
    assert engine.next(FramesDecoded) == FramesDecoded(3, ("fewer tiles",))
    assert engine.next(ReplyMade).reply.text == "Hello"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("is damaged", kind=ErrorKind.TRUNCATED), ErrorKind.TRUNCATED),
        (ZeroDivisionError("a bug"), ErrorKind.FAULT), (MemoryError(), ErrorKind.TOO_LARGE),
    ],
)  # fmt: skip
def test_a_decoder_that_raises_costs_one_reply(
    error: Exception, kind: ErrorKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Picture.page

    def page(picture: Picture, number: int) -> Frame:
        if number == 1:
            raise error
        return whole(picture, number)

    monkeypatch.setattr(Picture, "page", page)
    engine = Engine(backend(), every_page=True)
    engine.open(0, Item.of("-", document((300, 300), (300, 300))))
    assert kind_of(engine.ask(0, 0, Prompt.user(FrameRef(1, 0, 0)))) == kind
    assert engine.ask(0, 1, Prompt.user(FrameRef(0, 0, 0))).text == "300x300:0"


def test_an_item_that_cannot_be_opened_loses_its_prompts() -> None:
    engine = Engine(backend())
    engine.server.handle(Open(0, Item.of("-", b"no picture")))
    engine.server.handle(Ask(0, 0, ABOUT_FIRST))
    failed = engine.next(ItemNotOpened)
    assert (failed.number, failed.fault.kind, len(failed.content.sha256)) == (0, ErrorKind.UNSUPPORTED, 64)
    engine.open(1, Item.of("-", png()))
    assert engine.ask(1).text == "2x1:0"


class CountingPrefills(Brightness):
    """Notes for each prefill how many frames of videos were decoded before it."""

    def __init__(self, files: ModelFiles, options: Model) -> None:
        super().__init__(files, options)
        self.decoded: list[int] = []  # the frames
        self.decoded_before: list[int] = []

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        self.decoded_before += [len(self.decoded)] * len(requests)
        return super().prefill(requests, upcoming)


def test_frames_of_a_video_are_decoded_a_prompt_ahead_of_the_model_where_one_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting, whole = CountingPrefills(ModelFiles("echo"), Model(jobs=2)), Video.pictures

    def pictures(video: Video, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        counting.decoded.extend(indices)
        return whole(video, indices)

    monkeypatch.setattr(Video, "pictures", pictures)
    monkeypatch.setattr(prefetcher, "MAX_PREFETCHED_BYTES", 1)
    engine = Engine(counting, sampling=Sampling(frames=12))
    for frame in engine.open(0, Item.of("-", animation(12))).frames:
        engine.server.handle(Ask(0, frame.index, Prompt.user(frame, "word " * 9, split=False)))
    replies = [engine.next(ReplyMade).reply.text for _ in range(12)]
    assert sorted(replies) == sorted(f"512x512:{20 * number} {'word ' * 9}".strip() for number in range(12))
    ahead = [decoded - prompt for prompt, decoded in enumerate(counting.decoded_before, 1)]
    assert len(ahead) == 12 and max(ahead) <= 2  # of the other slot, and of the one prompt that is prepared


# ---- order, release, progress ----------------------------------------------------------------------------


def test_prompts_are_answered_in_the_order_of_the_items_whichever_is_open_first(tmp_path: Path) -> None:
    """As after a restart, when the prompts are sent along with the items."""
    os.mkfifo(tmp_path / "slow.png")
    engine = Engine(backend())
    engine.server.handle(Open(0, Item.of(str(tmp_path / "slow.png"))))
    engine.server.handle(Ask(0, 0, ABOUT_FIRST))
    engine.server.handle(Open(1, Item.of("-", png((3, 3)))))
    engine.server.handle(Ask(1, 0, ABOUT_FIRST))
    assert engine.next(ItemOpened).number == 1
    (tmp_path / "slow.png").write_bytes(png((4, 4)))
    assert engine.next(ItemOpened).number == 0
    assert [engine.next(ReplyMade).number for _ in range(2)] == [0, 1]


class Blocking(Brightness):
    """Waits while it prepares a prompt with a picture, in each prefill, and in the second decode step.

    It goes on when a test releases the semaphore of that name.
    """

    def __init__(self, files: ModelFiles, options: Model) -> None:
        super().__init__(files, options)
        self.begun: SimpleQueue[str] = SimpleQueue()
        self.prepares, self.prefills, self.decodes = Semaphore(0), Semaphore(0), Semaphore(0)
        self.steps = 0

    def wait_for_begin(self, name: str) -> None:
        assert self.begun.get(timeout=SECONDS) == name

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        if prompt.frames:
            self.begun.put("prepare")
            assert self.prepares.acquire(timeout=SECONDS)
        return super().prepare(prompt)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        self.begun.put("prefill")
        assert self.prefills.acquire(timeout=SECONDS)
        return super().prefill(requests, upcoming)

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        self.steps += 1
        if self.steps == 2:
            assert self.decodes.acquire(timeout=SECONDS)
        return super().decode(tokens)


def test_progress_cells_show_what_is_done_with_each_prompt() -> None:
    blocking = Blocking(ModelFiles("echo"), Model())
    engine = Engine(blocking)
    engine.open(4, Item.of("-", png()))
    [ref] = engine.open(5, Item.of("-", png((300, 300)))).frames
    engine.server.handle(Ask(4, 0, Prompt.user("one two three")))
    blocking.wait_for_begin("prefill")
    assert engine.activity() == {RequestId(4, 0): Activity(Stage.IN_MODEL)}
    engine.server.handle(Ask(5, 3, Prompt.user(ref)))
    blocking.prefills.release()
    blocking.wait_for_begin("prepare")
    activity = engine.activity()
    assert activity[RequestId(4, 0)].is_in_model and activity[RequestId(5, 3)] == Activity(Stage.PREPARING)
    blocking.decodes.release()
    assert engine.next(ReplyMade).reply.text == "one two three"
    blocking.prepares.release()
    blocking.wait_for_begin("prefill")
    assert engine.activity() == {RequestId(5, 3): Activity(Stage.IN_MODEL)}
    blocking.prefills.release()
    assert engine.next(ReplyMade).reply.text == "300x300:0"


def test_a_prompt_is_not_prepared_while_it_waits_for_the_decoder_of_its_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many prompts about one document the last one waits for minutes, which are not its own."""
    waiting, decoding = SimpleQueue[object](), SimpleQueue[object]()
    whole_decoding, whole_page = OpenItems.decoding, Picture.page
    engine = Engine(backend(), every_page=True)

    def wait_for_decoder(items: OpenItems, number: int, size: int = 0) -> object:
        waiting.put(engine.activity())
        return whole_decoding(items, number, size)

    def page(picture: Picture, number: int) -> Frame:
        decoding.put(engine.activity())
        return whole_page(picture, number)

    monkeypatch.setattr(OpenItems, "decoding", wait_for_decoder)
    monkeypatch.setattr(Picture, "page", page)
    engine.open(0, Item.of("-", document((300, 300), (300, 300))))
    engine.ask(0, 5)
    assert waiting.get_nowait() == {}
    assert decoding.get_nowait() == {RequestId(0, 5): Activity(Stage.PREPARING)}


def test_an_item_is_released_while_it_is_prepared_and_while_others_wait() -> None:
    blocking = Blocking(ModelFiles("echo"), Model(jobs=2))
    for semaphore in (blocking.prefills, blocking.decodes):
        semaphore.release(100)
    engine = Engine(blocking)
    [ref] = engine.open(0, Item.of("-", png((300, 300)))).frames
    for slot in (0, 1, 2, 3):
        engine.server.handle(Ask(0, slot, Prompt.user(ref)))
    blocking.wait_for_begin("prepare")
    engine.server.handle(Release(0))
    blocking.prepares.release(100)
    engine.server.handle(Open(1, Item.of("-", png((3, 3)))))
    while not isinstance(message := engine.next(object), ItemOpened):
        assert isinstance(message, ReplyMade) and message.number == 0  # its owner does not wait for it
    engine.server.handle(Ask(1, 0, ABOUT_FIRST))
    while (made := engine.next(ReplyMade)).number == 0:
        pass
    assert (made.number, made.reply.text) == (1, "3x3:0")


# ---- memory ----------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes every item a CountedPixels, and lets items hold that many pictures."""
    monkeypatch.setattr(CountedPixels, "held_by_all", 0)
    monkeypatch.setattr(CountedPixels, "most", 0)
    monkeypatch.setattr(server_module, "open_pictures", lambda *args: CountedPixels())

    def limit(pictures: int) -> None:
        monkeypatch.setattr(open_items, "MAX_HELD_BYTES", pictures * 3 * 160 * 160)

    return limit


def test_64_replies_in_flight_hold_no_more_pixels_than_the_bound(counted: Callable[[int], None]) -> None:
    """Three pictures leave space under a bound of four; then each thread that opens items may begin with one."""
    counted(4)
    engine = Engine(backend(Brightness, jobs=64))
    for number in range(64):
        engine.server.handle(Open(number, Item.of("-", png(color=number))))
    answered: list[int] = []
    while len(answered) < 64:
        match message := engine.next(object):
            case ItemOpened(number, media):
                engine.server.handle(Ask(number, 0, Prompt.user(*media.frames)))
            case ReplyMade(number, _, reply):
                assert reply.text == "160x160:0"
                answered.append(number)
            case _:
                raise AssertionError(message)
    assert sorted(answered) == list(range(64))
    size = 3 * 160 * 160
    assert 0 < CountedPixels.most <= (3 + OPENERS) * size
    assert CountedPixels.held_by_all == 0  # though no item was released


def test_where_nobody_asks_pixels_are_let_go_and_the_next_items_are_opened(counted: Callable[[int], None]) -> None:
    """As on Ray, where the driver decides whether to ask, and may stand still."""
    counted(4)
    engine = Engine(backend())
    for number in range(20):
        engine.server.handle(Open(number, Item.of("-", png(color=number))))
    assert sorted(engine.next(ItemOpened).number for _ in range(20)) == list(range(20))
    assert 4 * 3 * 160 * 160 <= CountedPixels.most <= (3 + OPENERS) * 3 * 160 * 160
    assert engine.ask(7).text == "160x160:0"  # decoded again


def test_items_that_hold_files_do_not_keep_the_next_one_from_being_opened(
    counted: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the openings of large documents are tried one by one after a crash: nothing may be asked meanwhile."""
    counted(2)
    monkeypatch.setattr(CountedPixels, "let_go", lambda source: None)
    engine = Engine(backend())
    assert [len(engine.open(number, Item.of("-", png(color=number))).frames) for number in range(6)] == [1] * 6


def test_the_item_that_the_model_waits_for_is_opened_whatever_is_held(counted: Callable[[int], None]) -> None:
    """As when items are tried one by one after a crash: those before are open, and nobody asks about them."""
    counted(1)
    engine = Engine(backend())
    engine.open(0, Item.of("-", png(color=1)))
    engine.server.handle(Open(1, Item.of("-", png(color=2))))
    engine.server.handle(Ask(1, 0, ABOUT_FIRST))
    assert engine.next(ItemOpened).number == 1
    assert engine.next(ReplyMade).number == 1


def test_where_one_prompt_fills_the_memory_all_are_answered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Picture.page

    def page(picture: Picture, number: int) -> Frame:
        if number % 3 == 1:
            raise InputError("is damaged")
        return whole(picture, number)

    monkeypatch.setattr(open_items, "MAX_DECODED_BYTES", 1)
    monkeypatch.setattr(Picture, "page", page)
    engine = Engine(backend(jobs=8), every_page=True)
    engine.open(0, Item.of("-", document(*[(300, 300)] * 12)))
    engine.open(1, Item.of("-", png((300, 300))))
    for slot in range(12):
        engine.server.handle(Ask(0, slot, Prompt.user(FrameRef(slot, 0, 0))))
        engine.server.handle(Ask(1, slot, Prompt.user(FrameRef(0, 300, 300))))
    replies = [engine.next(ReplyMade) for _ in range(24)]
    damaged = [made.slot for made in replies if made.number == 0 and made.reply.finish.fault]
    assert sorted(damaged) == [1, 4, 7, 10]


def test_pages_are_looked_at_while_their_pixels_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, inside = Picture.page, SimpleQueue[None]()
    most: list[int] = []  # threads that decode at the same time

    def page(picture: Picture, number: int) -> Frame:
        inside.put(None)
        others.wait(0.2)  # the other thread comes in meanwhile, if it may
        most.append(inside.qsize())
        frame = whole(picture, number)
        inside.get()
        return frame

    others = Event()
    monkeypatch.setattr(open_items, "MAX_DECODED_BYTES", 1)
    monkeypatch.setattr(server_module, "usable_cores", lambda: OPENERS)
    engine = Engine(backend(), every_page=True, asks_for_pages=True)
    for number in range(3):
        engine.open(number, Item.of("-", document((30, 30), (30, 30))))
    monkeypatch.setattr(Picture, "page", page)
    for number in range(3):
        engine.server.handle(Ask(number, 0, PageRequest(FrameRef(0, 0, 0), 1)))
    for _ in range(3):
        assert isinstance(engine.next(ReplyMade).reply.data, Page)
    assert most == [1, 1, 1]


def test_loading_is_a_part_of_the_first_reply() -> None:
    engine = Engine(backend())
    engine.open(0, Item.of("-", png()))
    first, second = (engine.ask(0, slot).finish for slot in (0, 1))
    assert isinstance(first, Finish) and first.seconds.load == 0.5 and second.seconds.load == 0
