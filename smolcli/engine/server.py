"""The engine's process: a few threads open inputs ahead, the model answers prompts in the order of their items."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import count
from queue import Empty, PriorityQueue, SimpleQueue
from threading import Condition, Thread
from typing import TYPE_CHECKING, NamedTuple

import numpy  # noqa: F401 - every model needs it, and it can be loaded while it is not yet known which one

from smolcli import registry
from smolcli.backends.image_processor import shrink_to_tile
from smolcli.engine.protocol import (
    CELLS,
    DECODER_CELL,
    FIRST_REPLY_CELL,
    OPENERS,
    OPENING,
    EngineMessage,
    OwnerMessage,
    ProgressCells,
    RequestId,
    Work,
)
from smolcli.errors import ErrorKind, InputError, UnavailableError
from smolcli.generation.replies import ReplyCollector
from smolcli.inputs.load import decode, load, open_video
from smolcli.models.files import ModelFiles
from smolcli.options import Model, Sampling
from smolcli.process.pipe import PeerClosed, Pipe
from smolcli.process.worker_main import is_verbose, resolve
from smolcli.system.cpu import usable_cores
from smolcli.system.file_stamp import stamp_of
from smolcli.system.memory import peak_rss_bytes
from smolcli.types import Content, Fault, Finish, Frame, Item, Media, ModelLimits, Piece, Prompt, Reply

if TYPE_CHECKING:
    from smolcli.backends.base import Backend
    from smolcli.inputs.image import Picture
    from smolcli.inputs.video import Video

HELD_BYTES = 2**28  # of pixels of open items: no other item is opened while there are more
DECODED_BYTES = 2**26  # of frames of unanswered prompts on videos: no other is decoded while there are more


def serve(pipe: Pipe, work: Work) -> None:
    """Run the engine's process: load the model, then answer prompts until the owner stops it."""
    server = EngineServer(pipe, work)
    Thread(target=server.receive, daemon=True).start()
    backend = _load_backend(work.backend)(work.files, work.model)
    server.gpu_peak = backend.gpu_peak
    if is_verbose():
        print(f"smolcli: {work.files.name} on {backend.name}: {backend.device_summary}", file=sys.stderr, flush=True)
    server.send(("ready",))
    replies = ReplyCollector()
    for piece in backend.generate(server.prompts(), work.generate):
        server.send_piece(piece, replies)


def _load_backend(target: str) -> Callable[[ModelFiles, Model], Backend]:
    """The class of a backend, "module:class". Raises UnavailableError where its libraries cannot be loaded."""
    try:
        for entry in registry.BACKENDS.values():
            if entry.target == target and entry.preload:
                resolve(entry.preload)()
        backend: Callable[[ModelFiles, Model], Backend] = resolve(target)
        return backend
    except (ImportError, OSError, RuntimeError) as error:  # it is installed, but not all of its native libraries are
        name = next((name for name, entry in registry.BACKENDS.items() if entry.target == target), target)
        message = f"{name} is installed and cannot be loaded ({error})"
        raise UnavailableError(message, "install it again; smolcli doctor says which libraries it needs") from error


class _QueuedPrompt(NamedTuple):
    """A prompt that waits; they are sorted by item, and within an item as they came."""

    number: int
    arrival: int  # how many prompts came before it
    slot: int
    prompt: Prompt


class OpenSource(NamedTuple):
    """A video or a file of several pages that is open, its path, and the file's stamp, if it may still change.

    The frames of a video are shrunk to one tile, of `tile` x `tile` pixels.
    """

    source: Video | Picture
    path: str
    stamp: str = ""
    tile: int | None = None


class EngineServer:
    """Opens items in threads of its own, hands their prompts to the backend, and sends back what comes of them."""

    def __init__(self, pipe: Pipe, work: Work) -> None:
        self._pipe, self._work, self._cells = pipe, work, ProgressCells(pipe.shared)
        self._prompts: PriorityQueue[_QueuedPrompt] = PriorityQueue()  # for the backend
        self._requests: dict[int, RequestId] = {}  # by the backend's index of a prompt
        self._reply_cells: dict[int, int] = {}  # by the index of a prompt that the model has begun
        self._to_open: SimpleQueue[tuple[int, Item]] = SimpleQueue()
        self._opening: set[int] = set()
        self._frames: dict[int, tuple[Frame, ...]] = {}  # of the items that are open
        self._held_bytes = 0  # of pixels
        self._sources: dict[int, OpenSource] = {}  # of those items whose frames are decoded prompt by prompt
        self._to_decode: PriorityQueue[_QueuedPrompt] = PriorityQueue()
        self._arrivals = count()
        self._decoded_bytes: dict[RequestId, int] = {}  # of unanswered prompts on `_sources`
        self._changed = Condition()  # guards the items: some were opened or released, or a prompt was answered
        self.gpu_peak: Callable[[], int] = lambda: 0  # the backend's, once it is loaded
        for cell in range(min(OPENERS, usable_cores())):
            Thread(target=self._run_opener, args=(cell,), daemon=True).start()
        if work.decodes_by_prompt:
            Thread(target=self._run_decoder, daemon=True).start()

    def send(self, message: EngineMessage) -> None:
        """Send a message to the owner. Raises PeerClosed where it has ended."""
        self._pipe.send(message)

    def receive(self) -> None:
        """Handle the owner's messages, in a thread of its own; end this process when the owner says so or ends."""
        try:
            while all(self._handle(message) for message in self._pipe.receive()):
                pass
        except PeerClosed:
            pass
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)  # whatever the other threads are doing

    def _handle(self, message: OwnerMessage) -> bool:
        """Do what a message says. Returns whether to go on."""
        match message:
            case ("open", number, item):
                self._opening.add(number)
                self._to_open.put((number, item))
            case ("ask", number, slot, prompt):
                queue = self._to_decode if self._work.decodes_by_prompt else self._prompts
                queue.put(_QueuedPrompt(number, next(self._arrivals), slot, prompt))
            case ("release", number):
                self._release(number)
        return message[0] != "stop"

    def prompts(self) -> Iterator[Prompt | None]:
        """The prompts for the backend, with their pixels; None where none is ready and a reply is under way."""
        index = 0
        queued: _QueuedPrompt | None = None
        while True:
            try:
                queued = queued or self._prompts.get(block=not self._requests)
            except Empty:
                yield None
                continue
            number, _, slot, prompt = queued
            if self._requests and not self._is_settled(number):
                yield None
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._is_settled(number))  # noqa: B023 - waited for here
                frames = self._frames.get(number)
            queued = None
            if frames is not None:
                self._requests[index] = RequestId(number, slot)
                yield _with_pixels(prompt, frames)
                index += 1

    def _is_settled(self, number: int) -> bool:
        """Whether an item is open, or will not be."""
        return number in self._frames or number not in self._opening

    def send_piece(self, piece: Piece, replies: ReplyCollector) -> None:
        """Send what a piece of the backend's output amounts to: its text where the work streams, a whole reply."""
        request = self._requests[piece.index]
        cell = self._reply_cells.get(piece.index)
        if cell is None:
            cell = min({*range(FIRST_REPLY_CELL, CELLS)} - {*self._reply_cells.values()})
            self._reply_cells[piece.index] = cell
            self._cells.begin(cell, request)
        if piece.text:
            self._cells.count_piece(cell)
            if self._work.streams:
                self.send(("piece", *request, piece.text))
        if reply := replies.add(piece):
            del self._requests[piece.index], self._reply_cells[piece.index]
            self.send(("reply", *request, reply, peak_rss_bytes(), self.gpu_peak()))
            self._cells.clear(cell)
            if self._decoded_bytes:
                self._free_decoded(request)

    # ---- items are opened ------------------------------------------------------------------------------

    def _run_opener(self, cell: int) -> None:
        with suppress(Exception):  # reported where the first item needs it; its time is not counted as an item's
            registry.load(registry.READERS, "image" if self._work.sampling is None else "video")
        while True:
            number, item = self._to_open.get()
            with self._changed:
                self._changed.wait_for(lambda: self._held_bytes < HELD_BYTES)
            self._cells.begin(cell, RequestId(number, OPENING))
            self._open(number, item)
            self._cells.clear(cell)

    def _open(self, number: int, item: Item) -> None:
        started, content, fault = time.perf_counter(), Content(), None
        media = Media(())
        opened: OpenSource | None = None
        try:
            if self._work.sampling is None:
                loaded, content = load(item, self._work.model.offline)
                pictures = decode(item, loaded, self._work.input, self._work.every_page)
                media = Media(pictures.frames, notices=pictures.notices)
                if pictures.pages is not None:
                    opened = OpenSource(pictures.pages, item.path)
            else:
                video, content = open_video(item, self._work.sampling, self._work.input, self._work.model.offline)
                media = plan_media(video, self._work)
                tile = limits_of(self._work.backend, self._work.files).tile
                opened = OpenSource(video, item.sources[0].word, content.stamp, tile)
                _print_notices(item, video, self._work.sampling)
        except InputError as error:
            fault = Fault(error.kind, str(error))
        except MemoryError:
            fault = Fault(ErrorKind.TOO_LARGE, "does not fit in memory; make it smaller")
        except Exception as error:  # a bug of ours, or an error of the decoder's that is not one of its documented ones
            fault = unexpected_fault(error)
        frames = media.frames
        if fault is None:
            stubs = tuple(replace(frame, rgb=b"", held=(number, n)) for n, frame in enumerate(frames))
            seconds = time.perf_counter() - started
            self.send(("opened", number, replace(media, frames=stubs, content=content, seconds=seconds)))
        else:
            self.send(("not opened", number, fault, content))
        with self._changed:
            if fault is None and number in self._opening:
                self._frames[number] = frames
                self._held_bytes += _size_of(frames)
                if opened is not None:
                    self._sources[number] = opened
                    self._held_bytes += opened.source.held
            self._opening.discard(number)
            self._changed.notify_all()

    def _release(self, number: int) -> None:
        with self._changed:
            self._opening.discard(number)
            self._held_bytes -= _size_of(self._frames.pop(number, ()))
            if (opened := self._sources.pop(number, None)) is not None:
                self._held_bytes -= opened.source.held
            self._decoded_bytes = {
                request: size for request, size in self._decoded_bytes.items() if request.number != number
            }
            self._changed.notify_all()

    # ---- videos and files of several pages: decoded prompt by prompt -----------------------------------

    def _run_decoder(self) -> None:
        while True:
            queued = self._to_decode.get()
            number = queued.number
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._is_settled(number)  # noqa: B023 - waited for here
                        and sum(self._decoded_bytes.values()) < DECODED_BYTES
                    )
                )
                opened = self._sources.get(number)
            if opened is None:
                self._prompts.put(queued)  # its pixels are here already, or it was released
                continue
            self._cells.begin(DECODER_CELL, RequestId(number, queued.slot))
            self._decode(queued, opened)
            self._cells.clear(DECODER_CELL)

    def _decode(self, queued: _QueuedPrompt, opened: OpenSource) -> None:
        started = time.perf_counter()
        number, arrival, slot, prompt = queued
        indices = sorted({frame.held[1] for frame in prompt.frames if frame.held})
        try:
            frames: dict[int, Frame] = {}
            if indices:
                frames = dict(opened.source.pictures(indices))
                if opened.tile is not None:
                    frames = {n: shrink_to_tile(frame, opened.tile) for n, frame in frames.items()}
                if opened.stamp and opened.stamp != stamp_of(opened.path):
                    raise InputError("was changed while it was looked at", "run it again", kind=ErrorKind.CHANGED)
        except Exception as error:
            fault = Fault(error.kind, str(error)) if isinstance(error, InputError) else unexpected_fault(error)
            self.send(("reply", number, slot, Reply("", Finish("error", fault=fault)), peak_rss_bytes(), 0))
            return
        self.send(("decoded", number, time.perf_counter() - started, tuple(opened.source.faults)))
        with self._changed:
            if number in self._sources:
                self._decoded_bytes[RequestId(number, slot)] = _size_of(frames.values())
                self._prompts.put(_QueuedPrompt(number, arrival, slot, _with_pixels(prompt, frames)))

    def _free_decoded(self, request: RequestId) -> None:
        """Let other frames be decoded: those of this prompt were used."""
        with self._changed:
            self._decoded_bytes.pop(request, None)
            self._changed.notify_all()


@lru_cache
def limits_of(backend: str, files: ModelFiles) -> ModelLimits:
    """The limits of a model on a backend, "module:class". Raises ModelError."""
    limits: ModelLimits = resolve(backend).limits(files)
    return limits


def plan_media(video: Video, work: Work) -> Media:
    """A video as a task sees it: which frames to look at, without their pixels, and the limits of the model.

    The reply's share of the limits is at most half the context.
    """
    width, height = video.size
    frames = tuple(Frame(b"", width, height, time, held=(0, n)) for n, time in enumerate(video.times))
    limits = limits_of(work.backend, work.files)
    limits = replace(limits, reply=min(work.generate.max_tokens, limits.context // 2))
    return Media(frames, spans=video.spans, duration=video.duration, notices=tuple(video.notices), limits=limits)


def _print_notices(item: Item, video: Video, sampling: Sampling) -> None:
    """Print, with -v only, what is ignored of a video and what its decoder may do."""
    if not is_verbose():
        return
    if video.audio:
        print(f"smolcli: {item.path}: its sound is not heard", file=sys.stderr, flush=True)
    if sampling.decoder == "decord":
        print(f"smolcli: {item.path}: decord may give other frames than those asked for", file=sys.stderr, flush=True)


def unexpected_fault(error: Exception) -> Fault:
    """The fault of an input whose opening ended in an error that is not one of an input's."""
    return Fault(ErrorKind.FAULT, f"unexpected fault while it was opened: {type(error).__name__}: {error}")


def _size_of(frames: Iterable[Frame]) -> int:
    """Bytes of the frames' pixels."""
    return sum(len(frame.rgb) for frame in frames)


def _with_pixels(prompt: Prompt, frames: Mapping[int, Frame] | Sequence[Frame]) -> Prompt:
    """A prompt with these frames, by their index in the item, in the place of those whose pixels are held here."""
    turns = tuple(
        replace(turn, parts=tuple(
            frames[part.held[1]] if isinstance(part, Frame) and part.held else part for part in turn.parts
        ))
        for turn in prompt.turns
    )  # fmt: skip
    return replace(prompt, turns=turns)
