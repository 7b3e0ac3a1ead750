"""What runs in the engine's process: inputs are opened ahead in a small pool, the model answers one after the other."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Condition, Thread
from typing import Any

from smolcli import registry
from smolcli.child import Gone, Pipe, resolve
from smolcli.cores import usable_cores
from smolcli.errors import InputError
from smolcli.events import MARKS, OPENING, Work, mark
from smolcli.inputs.opening import decode, load
from smolcli.replies import Replies
from smolcli.types import Content, Fault, Frame, Item, Media, Piece, Prompt

OPENERS = 4  # threads that open inputs, at most; the first marks are theirs
HELD_BYTES = 2**28  # of pixels: with more of them nothing new is opened


def serve(pipe: Pipe, work: Work, marks: Any) -> None:
    """The whole life of the engine's process."""
    desk = _Desk(pipe, work, marks)
    Thread(target=desk.receive, daemon=True).start()
    backend = resolve(work.backend)(work.files, work.model)
    pipe.send(("ready",))
    replies = Replies()
    for piece in backend.generate(desk.prompts(), work.generate):
        desk.tell(piece, replies)


class _Desk:
    def __init__(self, pipe: Pipe, work: Work, marks: Any) -> None:
        self._pipe, self._work, self._marks = pipe, work, marks
        self._asked: SimpleQueue[tuple[int, int, Prompt]] = SimpleQueue()
        self._keys: dict[int, tuple[int, int]] = {}  # a backend's index of a prompt -> item and slot
        self._to_open: SimpleQueue[tuple[int, Item]] = SimpleQueue()
        self._opening: set[int] = set()
        self._frames: dict[int, tuple[Frame, ...]] = {}
        self._held = 0
        self._room = Condition()
        for opener in range(min(OPENERS, usable_cores())):
            Thread(target=self._open_all, args=(opener,), daemon=True).start()

    def receive(self) -> None:
        """Takes what the owner says, in a thread of its own; the owner's end is this process's end."""
        try:
            while all(self._hears(*message) for message in self._pipe.receive()):
                pass
        except Gone:
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
            self._asked.put((rest[0], rest[1], rest[2]))
        elif kind == "forget":
            self._forget(*rest)
        return kind != "end"

    def prompts(self) -> Iterator[Prompt | None]:
        """What is asked, with its pixels; None where nothing is ready and a reply is under way."""
        index = 0
        asked: tuple[int, int, Prompt] | None = None
        while True:
            try:
                asked = asked or self._asked.get(block=not self._keys)
            except Empty:
                yield None
                continue
            number, slot, prompt = asked
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

    def tell(self, piece: Piece, replies: Replies) -> None:
        """Says what a piece of the backend's means."""
        number, slot = self._keys[piece.index]
        place = OPENERS + piece.index % (MARKS - OPENERS)
        self._marks[place] = mark(number, slot)
        if piece.text:
            self._marks[MARKS + place] = 1
            if self._work.streams:
                self._pipe.send(("piece", number, slot, piece.text))
        if reply := replies.add(piece):
            del self._keys[piece.index]
            self._pipe.send(("replied", number, slot, reply))
            self._marks[place] = self._marks[MARKS + place] = 0

    def _open_all(self, opener: int) -> None:
        with suppress(Exception):  # told where it is used; its libraries are no input's time
            registry.load(registry.READERS, "image")
        while True:
            number, item = self._to_open.get()
            with self._room:
                self._room.wait_for(lambda: self._held < HELD_BYTES)
            self._marks[opener] = mark(number, OPENING)
            self._open(number, item)
            self._marks[opener] = 0

    def _open(self, number: int, item: Item) -> None:
        started, content, fault = time.perf_counter(), Content(), None
        frames: tuple[Frame, ...] = ()
        try:
            loaded, content = load(item, self._work.model.offline)
            frames = decode(item, loaded, self._work.input)
        except InputError as error:
            fault = Fault(error.kind, str(error))
        except MemoryError:
            fault = Fault("too-large", "does not fit in memory; make it smaller")
        except Exception as error:  # a fault of ours, or a decoder's that none of its errors covers
            what = f"unexpected fault while it was opened: {type(error).__name__}: {error}"
            fault = Fault("fault", what)
        if fault is None:
            stubs = tuple(replace(frame, rgb=b"", held=(number, n)) for n, frame in enumerate(frames))
            self._pipe.send(("opened", number, Media(stubs, content, time.perf_counter() - started)))
        else:
            self._pipe.send(("refused", number, fault, content))
        with self._room:
            if fault is None and number in self._opening:
                self._frames[number] = frames
                self._held += _bytes(frames)
            self._opening.discard(number)
            self._room.notify_all()

    def _forget(self, number: int) -> None:
        with self._room:
            self._opening.discard(number)
            self._held -= _bytes(self._frames.pop(number, ()))
            self._room.notify_all()


def _bytes(frames: tuple[Frame, ...]) -> int:
    return sum(len(frame.rgb) for frame in frames)


def _with_pixels(prompt: Prompt, frames: tuple[Frame, ...]) -> Prompt:
    turns = tuple(
        replace(turn, parts=tuple(
            frames[part.held[1]] if isinstance(part, Frame) and part.held else part for part in turn.parts
        ))
        for turn in prompt.turns
    )  # fmt: skip
    return replace(prompt, turns=turns)
