"""What runs in the engine's process: inputs are opened ahead in a small pool, the model answers in their order."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import count
from queue import Empty, PriorityQueue, SimpleQueue
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy  # noqa: F401 - every model needs it, and it can be loaded while it is not yet known which one

from smolcli import registry
from smolcli.backends.image_processor import fitted
from smolcli.backends.llamacpp.bindings import load_llama_cpp
from smolcli.engine.protocol import DECODER, MARKS, OPENERS, OPENING, REPLIES, Work, mark
from smolcli.errors import InputError, ModelError, UnavailableError
from smolcli.generation.replies import ReplyCollector
from smolcli.inputs.load import decode, load, open_video
from smolcli.models.files import ModelFiles
from smolcli.options import Sampling
from smolcli.process.pipe import PeerClosed, Pipe
from smolcli.process.worker_main import is_verbose, resolve
from smolcli.system.cpu import usable_cores
from smolcli.system.file_stamp import stamp_of
from smolcli.system.memory import peak
from smolcli.types import Content, Fault, Finish, Frame, Item, Media, ModelLimits, Piece, Prompt, Reply

if TYPE_CHECKING:
    from smolcli.inputs.video import Video

HELD_BYTES = 2**28  # of pixels: with more of them nothing new is opened
DECODED_BYTES = 2**26  # of the frames of prompts that are not answered: with more of them no video is decoded


def serve(pipe: Pipe, work: Work) -> None:
    """The whole life of the engine's process."""
    desk = EngineServer(pipe, work)
    Thread(target=desk.receive, daemon=True).start()
    backend = _backend(work.backend)(work.files, work.model)
    desk.gpu_peak = backend.gpu_peak
    if is_verbose():
        print(f"smolcli: {work.files.name} on {backend.name}: {backend.computes}", file=sys.stderr, flush=True)
    pipe.send(("ready",))
    replies = ReplyCollector()
    for piece in backend.generate(desk.prompts(), work.generate):
        desk.tell(piece, replies)


def _backend(place: str) -> Any:
    """The class of the backend at a place. Raises UnavailableError."""
    try:
        if place == registry.BACKENDS["llamacpp"].place:
            load_llama_cpp()
        return resolve(place)
    except (ImportError, OSError, RuntimeError) as error:  # installed, and its native half is not all there
        name = next((name for name, entry in registry.BACKENDS.items() if entry.place == place), place)
        told = f"{name} is installed and cannot be loaded ({error})"
        raise UnavailableError(told, "install it again; smolcli doctor says which libraries it needs") from error


_Asked = tuple[int, int, int, Prompt]  # number, how many were asked before, slot, prompt


class OpenVideo(NamedTuple):
    """A video that is open, its path, and the file's stamp, empty where there is no file."""

    video: Video
    path: str
    stamp: str


class EngineServer:
    def __init__(self, pipe: Pipe, work: Work) -> None:
        self._pipe, self._work, self._marks = pipe, work, pipe.shared
        self._asked: PriorityQueue[_Asked] = PriorityQueue()  # an item's before those of later ones
        self._keys: dict[int, tuple[int, int]] = {}  # a backend's index of a prompt -> item and slot
        self._places: dict[int, int] = {}  # the same of those begun -> mark
        self._to_open: SimpleQueue[tuple[int, Item]] = SimpleQueue()
        self._opening: set[int] = set()
        self._frames: dict[int, tuple[Frame, ...]] = {}
        self._held = 0
        self._videos: dict[int, OpenVideo] = {}
        self._to_decode: PriorityQueue[_Asked] = PriorityQueue()
        self._given = count()
        self._decoded: dict[tuple[int, int], int] = {}  # prompts with frames of a video: their bytes
        self._room = Condition()
        self.gpu_peak: Callable[[], int] = lambda: 0  # the backend's, once it is there
        for opener in range(min(OPENERS, usable_cores())):
            Thread(target=self._open_all, args=(opener,), daemon=True).start()
        if work.sampling is not None:
            Thread(target=self._decode_all, daemon=True).start()

    def receive(self) -> None:
        """Takes what the owner says, in a thread of its own; the owner's end is this process's end."""
        try:
            while all(self._hears(*message) for message in self._pipe.receive()):
                pass
        except PeerClosed:
            pass
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)  # whatever the other threads are at

    def _hears(self, kind: str, *rest: Any) -> bool:
        """Does what it is told; whether to go on."""
        if kind == "open":
            self._opening.add(rest[0])
            self._to_open.put((rest[0], rest[1]))
        elif kind == "ask":
            queue = self._asked if self._work.sampling is None else self._to_decode
            queue.put((rest[0], next(self._given), rest[1], rest[2]))
        elif kind == "forget":
            self._forget(*rest)
        return kind != "end"

    def prompts(self) -> Iterator[Prompt | None]:
        """What is asked, with its pixels; None where nothing is ready and a reply is under way."""
        index = 0
        asked: _Asked | None = None
        while True:
            try:
                asked = asked or self._asked.get(block=not self._keys)
            except Empty:
                yield None
                continue
            number, _, slot, prompt = asked
            if self._keys and not self._is_settled(number):
                yield None
                continue
            with self._room:
                self._room.wait_for(lambda: self._is_settled(number))  # noqa: B023 - waited for here
                frames = self._frames.get(number)
            asked = None
            if frames is not None:
                self._keys[index] = number, slot
                yield _with_pixels(prompt, frames)
                index += 1

    def _is_settled(self, number: int) -> bool:
        """Whether an item is open, or will not be."""
        return number in self._frames or number not in self._opening

    def tell(self, piece: Piece, replies: ReplyCollector) -> None:
        """Says what a piece of the backend's means."""
        number, slot = self._keys[piece.index]
        place = self._places.get(piece.index)
        if place is None:
            place = min({*range(REPLIES, MARKS)} - {*self._places.values()})
            self._places[piece.index] = place
            self._marks[place] = mark(number, slot)
        if piece.text:
            self._marks[MARKS + place] += 1
            if self._work.streams:
                self._pipe.send(("piece", number, slot, piece.text))
        if reply := replies.add(piece):
            del self._keys[piece.index], self._places[piece.index]
            self._pipe.send(("replied", number, slot, reply, peak(), self.gpu_peak()))
            self._marks[place] = self._marks[MARKS + place] = 0
            if self._decoded:
                self._let_go(number, slot)

    def _open_all(self, opener: int) -> None:
        with suppress(Exception):  # told where it is used; its libraries are no input's time
            registry.load(registry.READERS, "image" if self._work.sampling is None else "video")
        while True:
            number, item = self._to_open.get()
            with self._room:
                self._room.wait_for(lambda: self._held < HELD_BYTES)
            self._marks[opener] = mark(number, OPENING)
            self._open(number, item)
            self._marks[opener] = 0

    def _open(self, number: int, item: Item) -> None:
        started, content, fault = time.perf_counter(), Content(), None
        media, video = Media(()), None
        try:
            if self._work.sampling is None:
                loaded, content = load(item, self._work.model.offline)
                media = Media(decode(item, loaded, self._work.input))
            else:
                video, content = open_video(item, self._work.sampling, self._work.input, self._work.model.offline)
                media = planned(video, self._work)
                _say(item, video, self._work.sampling)
        except InputError as error:
            fault = Fault(error.kind, str(error))
        except MemoryError:
            fault = Fault("too-large", "does not fit in memory; make it smaller")
        except Exception as error:  # a fault of ours, or a decoder's that none of its errors covers
            fault = _unexpected(error)
        frames = media.frames
        if fault is None:
            stubs = tuple(replace(frame, rgb=b"", held=(number, n)) for n, frame in enumerate(frames))
            seconds = time.perf_counter() - started
            self._pipe.send(("opened", number, replace(media, frames=stubs, content=content, seconds=seconds)))
        else:
            self._pipe.send(("refused", number, fault, content))
        with self._room:
            if fault is None and number in self._opening:
                self._frames[number] = frames
                self._held += _bytes(frames)
                if video is not None:
                    self._videos[number] = OpenVideo(video, item.sources[0].word, content.stamp)
                    self._held += video.held
            self._opening.discard(number)
            self._room.notify_all()

    def _forget(self, number: int) -> None:
        with self._room:
            self._opening.discard(number)
            self._held -= _bytes(self._frames.pop(number, ()))
            if (film := self._videos.pop(number, None)) is not None:
                self._held -= film.video.held
            self._decoded = {key: held for key, held in self._decoded.items() if key[0] != number}
            self._room.notify_all()

    # ---- videos: planned when they are opened, decoded a prompt at a time ------------------------------

    def _decode_all(self) -> None:
        while True:
            asked = self._to_decode.get()
            number, _, slot, _ = asked
            with self._room:
                self._room.wait_for(
                    lambda: self._is_settled(number) and sum(self._decoded.values()) < DECODED_BYTES  # noqa: B023
                )
                film = self._videos.get(number)
            if film is None:
                continue
            self._marks[DECODER] = mark(number, slot)
            self._decode(asked, film)
            self._marks[DECODER] = 0

    def _decode(self, asked: _Asked, film: OpenVideo) -> None:
        started = time.perf_counter()
        number, given, slot, prompt = asked
        wanted = sorted({frame.held[1] for frame in prompt.frames if frame.held})
        try:
            frames: dict[int, Frame] = {}
            if wanted:
                tile = room_of(self._work.backend, self._work.files).tile
                frames = {n: fitted(frame, tile) for n, frame in film.video.pictures(wanted)}
                if film.stamp and film.stamp != stamp_of(film.path):
                    raise InputError("was changed while it was looked at", "run it again", kind="changed")
        except Exception as error:
            fault = Fault(error.kind, str(error)) if isinstance(error, InputError) else _unexpected(error)
            self._pipe.send(("replied", number, slot, Reply("", Finish("error", fault=fault)), peak(), 0))
            return
        self._pipe.send(("decoded", number, time.perf_counter() - started, tuple(film.video.faults)))
        with self._room:
            if number in self._videos:
                self._decoded[number, slot] = sum(len(frame.rgb) for frame in frames.values())
                self._asked.put((number, given, slot, _with_pixels(prompt, frames)))

    def _let_go(self, number: int, slot: int) -> None:
        with self._room:
            self._decoded.pop((number, slot), None)
            self._room.notify_all()


@lru_cache
def room_of(backend: str, files: ModelFiles) -> ModelLimits:
    """The limits of a model on the backend at a place."""
    limits: ModelLimits = resolve(backend).limits(files)
    return limits


def planned(video: Video, work: Work) -> Media:
    """A video as a task sees it: which frames are to be looked at, still without pixels, and the room they have."""
    width, height = video.size
    frames = tuple(Frame(b"", width, height, time, held=(0, n)) for n, time in enumerate(video.times))
    room = room_of(work.backend, work.files)
    room = replace(room, reply=min(work.generate.max_tokens, room.context // 2))
    return Media(frames, spans=video.spans, duration=video.duration, notices=tuple(video.notices), limits=room)


def plans(items: Sequence[Item], work: Work) -> Iterator[Media | Fault]:
    """What would be looked at of each video, or why it cannot be opened."""
    assert work.sampling is not None
    for item in items:
        try:
            video, content = open_video(item, work.sampling, work.input, work.model.offline)
            _say(item, video, work.sampling)
            yield replace(planned(video, work), content=content)
        except InputError as error:
            yield Fault(error.kind, str(error))
        except ModelError:
            raise
        except Exception as error:
            yield _unexpected(error)


def _say(item: Item, video: Video, sampling: Sampling) -> None:
    """What only those want to know who ask with -v."""
    if not is_verbose():
        return
    if video.audio:
        print(f"smolcli: {item.path}: its sound is not heard", file=sys.stderr, flush=True)
    if sampling.decoder == "decord":
        print(f"smolcli: {item.path}: decord may give other frames than those asked for", file=sys.stderr, flush=True)


def _unexpected(error: Exception) -> Fault:
    return Fault("fault", f"unexpected fault while it was opened: {type(error).__name__}: {error}")


def _bytes(frames: tuple[Frame, ...]) -> int:
    return sum(len(frame.rgb) for frame in frames)


def _with_pixels(prompt: Prompt, frames: Mapping[int, Frame] | Sequence[Frame]) -> Prompt:
    turns = tuple(
        replace(turn, parts=tuple(
            frames[part.held[1]] if isinstance(part, Frame) and part.held else part for part in turn.parts
        ))
        for turn in prompt.turns
    )  # fmt: skip
    return replace(prompt, turns=turns)
