"""Scripted children end, hang and break at random moments: every item has one outcome all the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from smolcli.engine.progress_cells import RequestId, Stage
from smolcli.engine.protocol import (
    EngineMessage,
    Event,
    Failed,
    FramesDecoded,
    InboxMessage,
    ItemOpened,
    Opened,
    Ready,
    ReplyReceived,
)
from smolcli.options import Sampling
from smolcli.types import Content, Media
from tests.engine.scripted import Owner, ScriptedChild, reply_made


class Run:
    """Items with some prompts each, all of which are to have one answer or one fault, whatever happens to children.

    Messages wait in the inbox for any time before they are handled. A fault comes only after fewer than two since the
    last answer, so that three in a row do not end the run. With `deadly` every prompt of that item ends the child, and
    nothing else does.
    """

    def __init__(self, seed: int, deadly: int | None = None) -> None:
        self.chance = random.Random(seed)
        self.deadly = deadly
        self.owner = Owner(timeout=100.0, sampling=Sampling() if seed % 2 else None, is_slow=True)
        self.prompts = {number: self.chance.randint(1, 3) for number in range(6)}
        self.arrived: list[InboxMessage] = []  # that nobody has handled yet
        self.answers: Counter[RequestId] = Counter()
        self.failed: Counter[int] = Counter()
        self.faults = 0 if deadly is None else 2  # since the last answer
        self.done: set[int] = set()

    def run(self) -> None:
        self.owner.open(*self.prompts)
        for _ in range(3000):
            if self.done == self.prompts.keys():
                break
            self._step()
        assert self.done == self.prompts.keys()
        for number, prompts in self.prompts.items():
            if self.failed[number]:
                assert self.failed[number] == 1
                continue
            assert {slot: self.answers[RequestId(number, slot)] for slot in range(prompts)} == dict.fromkeys(
                range(prompts), 1
            )

    def _step(self) -> None:
        child = self.owner.child
        actions = [self._work, self._work, self._work, self._handle, self._handle]
        if self.faults < 2:
            actions += [self._kill, self._hang, self._break_pipe] if self.chance.random() < 0.1 else []
        if child.is_pipe_broken:  # it has ended, or is about to
            actions = [self._handle, self._end]
        self.chance.choice(actions)()
        self._take_arrived()

    def _take_arrived(self) -> None:
        while not self.owner.inbox.empty():
            self.arrived.append(self.owner.inbox.get())

    def _send(self, child: ScriptedChild, message: EngineMessage) -> None:
        child.say(message)
        self.arrived.append(self.owner.next_message())

    def _work(self) -> None:
        """The child loads the model, or begins, prepares or answers a request."""
        child, chance = self.owner.child, self.chance
        if not child.is_loaded and chance.random() < 0.5:
            self._send(child, Ready())
            return
        waiting = [request for request in child.requests if request not in child.begun]
        if waiting and chance.random() < 0.5:
            request = waiting[0]
            if request.is_opening:
                child.begin(request.number)
            elif child.is_loaded:
                child.begin(*request, chance.choice([Stage.PREPARING, Stage.IN_MODEL]))
                if request.number == self.deadly:
                    self._end()
        elif child.cell_of:
            request = chance.choice(list(child.cell_of))
            child.cells.count_piece(child.cell_of[request])
            if request.is_opening:
                self._send(child, ItemOpened(request.number, Media((), Content("same"))))
            else:
                self._send(child, FramesDecoded(request.number, ()))
                self._send(child, reply_made(*request))
            if self.faults >= 2 or chance.random() < 0.9:  # else it ends before it clears the cell
                child.clear(request)
            else:
                self._fault()
                self._end()

    def _fault(self) -> None:
        self.faults += 1

    def _kill(self) -> None:
        self._fault()
        self._end()

    def _end(self) -> None:
        child = self.owner.child
        if not child.has_ended:
            child.exit()
            self.arrived.append(self.owner.next_message())

    def _break_pipe(self) -> None:
        self._fault()
        self.owner.child.is_pipe_broken = True

    def _hang(self) -> None:
        """Let the time of a request pass, perhaps while the end of its child is in the inbox."""
        self._fault()
        if self.chance.random() < 0.3:
            self._end()
        self._note(self.owner.check_each_second(self.chance.randint(1, 120)))

    def _handle(self) -> None:
        if self.arrived:
            self._note(self.owner.engine.handle(self.arrived.pop(0)))

    def _note(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Opened(number):
                    self.owner.ask(number, *range(self.prompts[number]))
                case ReplyReceived(number, slot):
                    if self.deadly is None:
                        self.faults = int(self.owner.child.is_pipe_broken)  # a fault that came after it
                    self.answers[RequestId(number, slot)] += 1
                    if all(self.answers[RequestId(number, slot)] for slot in range(self.prompts[number])):
                        self._finish(number)
                case Failed(number):
                    self.failed[number] += 1
                    self._finish(number)

    def _finish(self, number: int) -> None:
        assert number not in self.done
        self.done.add(number)
        self.owner.engine.release(number)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_every_item_has_one_outcome(seed: int) -> None:
    Run(seed).run()


@pytest.mark.parametrize("seed", range(20))
def test_an_item_that_ends_every_child_is_the_only_one_that_fails(seed: int) -> None:
    run = Run(seed, deadly=seed % 6)
    run.run()
    assert list(run.failed) == [seed % 6]
