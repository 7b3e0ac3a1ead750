"""The engine's process: a few threads open inputs ahead, the model answers prompts in the order of their items.

receive      a thread handles the owner's messages: Open, Ask, Release, Stop
open         OPENERS threads open items: a FrameSource for each (inputs/), in open_items.py from then on
lay out      OPENERS threads find what is on the pages that are asked for
prepare      the scheduler's threads decode the pictures of a prompt and have the backend cut them into tiles
answer       the main thread runs the scheduler, and sends pieces and replies
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

import numpy  # noqa: F401 - every model needs it, and it can be loaded while it is not yet known which one

from smolcli import registry
from smolcli.backends.image_processor import shrink_to_tile
from smolcli.engine.limits import limits_for, limits_of
from smolcli.engine.open_items import OpenItems, QueuedPrompt
from smolcli.engine.progress_cells import OPENING, ProgressCells, RequestId, Stage
from smolcli.engine.protocol import (
    OPENERS,
    Ask,
    DevicesFound,
    EngineMessage,
    FramesDecoded,
    ItemNotOpened,
    ItemOpened,
    Open,
    OwnerMessage,
    PieceMade,
    Ready,
    Release,
    ReplyMade,
    Stop,
    Work,
)
from smolcli.errors import ErrorKind, InputError
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.scheduler import generate
from smolcli.inputs.frame_source import FrameSource
from smolcli.inputs.load import load, open_pictures, open_video
from smolcli.inputs.page import Page, PageRequest
from smolcli.inputs.page_reader import PageReader
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.process.pipe import PeerClosed, Pipe
from smolcli.process.worker_main import is_verbose, resolve
from smolcli.system.cpu import usable_cores
from smolcli.system.memory import peak_rss_bytes
from smolcli.types import (
    Content,
    Fault,
    Finish,
    Frame,
    FrameRef,
    Item,
    Media,
    Memory,
    Piece,
    Prompt,
    Reply,
    Seconds,
    Turn,
)

if TYPE_CHECKING:
    from smolcli.backends.base import Backend, PreparedPrompt

ASSUMED_PIXELS = 12_000_000  # of a page, whose size is not known before it is decoded: A4 at 350 dpi


def serve(pipe: Pipe, work: Work) -> None:
    """Run the engine's process: load the model, then answer prompts until the owner stops it."""
    server = EngineServer(pipe, work)
    Thread(target=_receive, args=(pipe, server), daemon=True).start()
    started = time.perf_counter()
    backend_class = server.import_backend()
    devices = resolve(work.lists_devices)(work.model.device) if work.lists_devices else ()
    if len(devices) > 1:
        pipe.send(DevicesFound(devices))
    backend = backend_class(work.files, work.model)
    load_seconds = time.perf_counter() - started
    if is_verbose():
        print(f"smolcli: {work.files.name} on {backend.name}: {backend.device_summary}", file=sys.stderr, flush=True)
    server.answer(backend, load_seconds)


def _receive(pipe: Pipe, server: EngineServer) -> None:
    """Handle the owner's messages. End this process when the owner says so or ends, or a message cannot be read."""
    exit_code = 0
    try:
        with suppress(PeerClosed):
            while all(server.handle(message) for message in pipe.receive()):
                pass
    except BaseException:
        traceback.print_exc()
        exit_code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(exit_code)  # whatever the other threads are doing


def _load_backend(target: str) -> Callable[[ModelFiles, Model], Backend]:
    """The class of a backend, "module:class". Raises UnavailableError where its libraries cannot be loaded."""
    name = registry.backend_of(target)
    try:
        if name in registry.BACKENDS and registry.BACKENDS[name].preload:
            resolve(registry.BACKENDS[name].preload)()
        backend: Callable[[ModelFiles, Model], Backend] = resolve(target)
        return backend
    except registry.LOADING_ERRORS as error:  # it is installed, but not all of its native libraries are
        raise registry.cannot_load(name, error) from error


class MessageSender(Protocol):
    """The part of a Pipe with which messages are sent and progress is shown."""

    shared: memoryview[int]

    def send(self, message: EngineMessage, /) -> None:
        """Send a message to the owner. Raises PeerClosed where it has ended."""
        ...


@dataclass
class PromptInProgress:
    """A prompt that the scheduler has taken and that is not answered."""

    request: RequestId
    cell: int  # its progress cell
    wait_seconds: float = 0.0  # for the decoder of its item, which other prompts had, and for memory
    reserved: int = 0  # bytes, for its pixels


class EngineServer:
    """Opens items in threads of its own, has their prompts answered, and sends what comes of them."""

    def __init__(self, pipe: MessageSender, work: Work) -> None:
        self._pipe, self._work, self._cells = pipe, work, ProgressCells(pipe.shared)
        self._is_verbose, self._has_backend = is_verbose(), Event()
        self._items = OpenItems()
        self._to_open: SimpleQueue[tuple[int, Item]] = SimpleQueue()
        self._to_lay_out: SimpleQueue[tuple[RequestId, PageRequest]] = SimpleQueue()
        self._in_progress: dict[int, PromptInProgress] = {}  # by the scheduler's index
        for _ in range(min(OPENERS, usable_cores())):
            Thread(target=self._run_opener, daemon=True).start()
        if work.asks_for_pages:
            for _ in range(min(OPENERS, usable_cores())):
                Thread(target=self._run_page_finder, daemon=True).start()

    def import_backend(self) -> Callable[[ModelFiles, Model], Backend]:
        """Return the class of the backend. Threads that need it wait for that.

        It is imported in the main thread: others must not handle signals, as some library may when it is imported.
        Raises UnavailableError where its libraries cannot be loaded.
        """
        backend_class = _load_backend(self._work.backend)
        self._has_backend.set()
        return backend_class

    def handle(self, message: OwnerMessage) -> bool:
        """Do what a message says. Returns whether to go on."""
        match message:
            case Open(number, item):
                self._items.add(number)
                self._to_open.put((number, item))
            case Ask(number, slot, Prompt() as prompt):
                self._items.ask(number, slot, prompt)
            case Ask(number, slot, PageRequest() as request):
                self._items.ask_page(number)
                self._to_lay_out.put((RequestId(number, slot), request))
            case Release(number):
                self._items.release(number)
            case Stop():
                return False
        return True

    def answer(self, backend: Backend, load_seconds: float) -> None:
        """Answer prompts, for ever. `load_seconds` is what loading the model has taken."""
        prepare = partial(self.prepare, backend)
        pieces = generate(backend, self.prompts(), self._work.generate, load_seconds=load_seconds, prepare=prepare)
        self._pipe.send(Ready(backend.max_sequences))
        replies = ReplyCollector()
        for piece in pieces:
            self._send_piece(piece)
            if reply := replies.add(piece):
                self._send_reply(piece.index, reply, backend)

    # ---- items are opened ------------------------------------------------------------------------------

    def _run_opener(self) -> None:
        with suppress(Exception):  # reported where the first item needs it; its time is not counted as an item's
            registry.load(registry.READERS, "image" if self._work.sampling is None else "video")
        with suppress(PeerClosed):  # the owner has ended, and this process ends soon
            while True:
                number, item = self._to_open.get()
                if self._items.wait_to_open(number):
                    cell = self._cells.begin(RequestId(number, OPENING), Stage.OPENING)
                    self._open(number, item)
                    self._cells.clear(cell)

    def _open(self, number: int, item: Item) -> None:
        started, content = time.perf_counter(), Content()
        source: FrameSource
        try:
            if self._work.sampling is None:
                loaded, content = load(item, self._work.model.offline, leaves_pdf=self._work.every_page)
                source = open_pictures(item, loaded, self._work.input, self._work.chosen_pages)
                if self._work.asks_for_pages:
                    source = PageReader(source)
            else:
                source, content = open_video(item, self._work.sampling, self._work.input, self._work.model.offline)
            media = self._with_limits(source.media)
        except Exception as error:
            self._pipe.send(ItemNotOpened(number, fault_of(error), content))
            self._items.release(number)
            return
        if self._is_verbose:
            for remark in source.remarks:
                print(f"smolcli: {item.path}: {remark}", file=sys.stderr, flush=True)
        seconds = time.perf_counter() - started
        self._items.opened(number, source)  # before its owner can ask about it
        media = replace(media, content=content, seconds=seconds, path=item.path)
        self._pipe.send(ItemOpened(number, media))

    def _with_limits(self, media: Media) -> Media:
        """Add the limits of the model to what a task distributes over prompts: a video, or pages. Raises ModelError."""
        if self._work.sampling is None and not self._work.asks_for_pages:
            return media
        self._has_backend.wait()
        return replace(media, limits=limits_for(self._work))

    # ---- pages are laid out ----------------------------------------------------------------------------

    def _run_page_finder(self) -> None:
        with suppress(PeerClosed):
            while True:
                request, page_request = self._to_lay_out.get()
                cell = self._cells.begin(request, Stage.WAITING)
                finish, page = self._find_page(request.number, page_request, cell)
                self._pipe.send(ReplyMade(*request, Reply("", finish, page), Memory(engine=peak_rss_bytes())))
                self._cells.clear(cell)

    def _find_page(self, number: int, request: PageRequest, cell: int) -> tuple[Finish, Page | None]:
        """What is on a page, or a finish with a fault. What came up meanwhile is sent."""
        size, reserved = 3 * (request.frame.width * request.frame.height or ASSUMED_PIXELS), 0
        try:
            with self._items.decoding(number, size) as source:
                reserved, started = size, time.perf_counter()
                self._cells.set_stage(cell, Stage.PREPARING)
                assert isinstance(source, PageReader)
                page, faults = source.page(request), tuple(source.faults)
        except Exception as error:
            return Finish("error", fault=fault_of(error)), None
        finally:
            self._items.found_page(number, reserved)
        if faults:
            self._pipe.send(FramesDecoded(number, faults))
        return Finish("stop", seconds=Seconds(media=time.perf_counter() - started)), page

    # ---- prompts are taken and prepared ----------------------------------------------------------------

    def prompts(self) -> Iterator[Prompt | None]:
        """The prompts for the scheduler; None where none is ready and others are under way."""
        for index in count():
            while (queued := self._next_prompt()) is None:
                yield None
            request = RequestId(queued.number, queued.slot)
            self._in_progress[index] = PromptInProgress(request, self._cells.begin(request, Stage.WAITING))
            yield queued.prompt

    def _next_prompt(self) -> QueuedPrompt | None:
        if self._in_progress and not self._cells.has_free:
            return None
        return self._items.next_prompt(wait=not self._in_progress)

    def prepare(self, backend: Backend, index: int, prompt: Prompt) -> PreparedPrompt:
        """Decode the pictures of a prompt and have the backend cut them. Called in one of the scheduler's threads.

        Raises InputError for pictures that cannot be decoded, and what the backend raises.
        """
        in_progress = self._in_progress[index]
        try:
            prepared = backend.prepare(_with_pixels(prompt, self._decode(in_progress, prompt)))
            if prepared.notice:
                self._pipe.send(FramesDecoded(in_progress.request.number, (prepared.notice,)))
            return prepared
        finally:
            self._items.prepared(in_progress.request.number, in_progress.reserved)
            self._cells.set_stage(in_progress.cell, Stage.WAITING)

    def _decode(self, in_progress: PromptInProgress, prompt: Prompt) -> Mapping[FrameRef, Frame]:
        """The pictures of a prompt; those that are one tile are not larger than that. Raises InputError.

        So the frames of a video take no more memory than what the model sees of them. The prompt is PREPARING from when
        it has the decoder and memory, for which it may wait as long as other prompts take.
        """
        number, begin = in_progress.request.number, partial(self._cells.set_stage, in_progress.cell, Stage.PREPARING)
        refs = {frame for frame in prompt.frames if isinstance(frame, FrameRef)}
        if not refs:
            begin()
            return {}
        frames: dict[FrameRef, Frame] = {}
        size = sum(self._pixel_bytes(ref, prompt) for ref in refs)
        started = time.perf_counter()
        try:
            with self._items.decoding(number, size) as source:
                begin()
                in_progress.reserved, in_progress.wait_seconds = size, time.perf_counter() - started
                for ref, frame in _pictures(source, refs):
                    frames[ref] = frame if prompt.split else shrink_to_tile(frame, self._tile)
                faults = tuple(source.faults)
        except Exception as error:
            fault = fault_of(error)
            raise InputError(fault.what, fault.advice, kind=fault.kind) from error
        in_progress.reserved = sum(len(frame.rgb) for frame in frames.values())
        if in_progress.reserved != size:
            self._items.resize(size, in_progress.reserved)
        if faults:
            self._pipe.send(FramesDecoded(number, faults))
        return frames

    def _pixel_bytes(self, ref: FrameRef, prompt: Prompt) -> int:
        """The bytes of a frame's pixels as they are kept until they are cut."""
        pixels = ref.width * ref.height or ASSUMED_PIXELS
        return 3 * (pixels if prompt.split else min(pixels, self._tile**2))

    @property
    def _tile(self) -> int:
        return limits_of(self._work.backend, self._work.files).tile

    # ---- replies are sent ------------------------------------------------------------------------------

    def _send_piece(self, piece: Piece) -> None:
        """Show in shared memory that a piece has come, and send its text where the work streams.

        The first piece only says that the model begins to work on the prompt.
        """
        in_progress = self._in_progress[piece.index]
        if self._cells.is_in_model(in_progress.cell):
            self._cells.count_piece(in_progress.cell)
        else:
            self._cells.set_stage(in_progress.cell, Stage.IN_MODEL)
        if piece.text and self._work.streams:
            self._pipe.send(PieceMade(*in_progress.request, piece.text))

    def _send_reply(self, index: int, reply: Reply, backend: Backend) -> None:
        in_progress = self._in_progress.pop(index)
        seconds = reply.finish.seconds  # the thread that decoded meanwhile counts these
        seconds = replace(seconds, media=max(0.0, seconds.media - in_progress.wait_seconds))
        reply = replace(reply, finish=replace(reply.finish, seconds=seconds))
        memory = Memory(engine=peak_rss_bytes(), gpu=backend.gpu_peak())
        self._pipe.send(ReplyMade(*in_progress.request, reply, memory))
        self._cells.clear(in_progress.cell)


def fault_of(error: Exception) -> Fault:
    """The fault of an input that raised `error` while it was opened or decoded."""
    if isinstance(error, InputError):
        return Fault(error.kind, str(error))
    if isinstance(error, MemoryError):
        return Fault(ErrorKind.TOO_LARGE, "does not fit in memory; make it smaller")
    # A bug of ours, or an error of the decoder's that is not one of its documented ones.
    return Fault(ErrorKind.FAULT, f"unexpected fault while it was opened: {type(error).__name__}: {error}")


def _pictures(source: FrameSource, refs: Collection[FrameRef]) -> Iterator[tuple[FrameRef, Frame]]:
    """Decode frames in their order, and parts of pages. Raises InputError."""
    whole = {ref.index: ref for ref in refs if ref.crop is None}
    for index, frame in source.pictures(sorted(whole)) if whole else ():
        yield whole[index], frame
    for ref in refs:
        if ref.crop is not None:
            assert isinstance(source, PageReader)
            yield ref, source.crop(ref.index, ref.crop)


def _with_pixels(prompt: Prompt, frames: Mapping[FrameRef, Frame]) -> Prompt:
    """A prompt with these frames in the place of references to them."""
    turns = tuple(
        Turn(turn.role, tuple(frames[part] if isinstance(part, FrameRef) else part for part in turn.parts))
        for turn in prompt.turns
    )
    return replace(prompt, turns=turns)
