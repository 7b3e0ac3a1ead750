"""engine/client.py with real children: memory that grows is given back, and large pictures hold up nothing."""

from __future__ import annotations

from contextlib import closing
from queue import SimpleQueue

import pytest

from smolcli.engine.client import Engine
from smolcli.engine.engine_child import ChildProcess, start_process
from smolcli.engine.protocol import InboxMessage, Opened, ReplyReceived, Work
from smolcli.system import memory
from smolcli.types import Item, Prompt
from tests.engine.troubled import PICTURE, outcomes_of, work
from tests.helpers import png


@pytest.fixture(scope="module")
def photo() -> bytes:
    """36 MB of pixels: the engine holds at most seven such at a time."""
    return png((4000, 3000))


@pytest.mark.slow
def test_large_pictures_ahead_do_not_keep_a_child_from_being_replaced(photo: bytes) -> None:
    items = [Item.of(f"{number}.png", photo) for number in range(24)]
    outcomes = outcomes_of(*["one"] * 24, items=items, growth=-(10**12))  # replaced at the first measure
    assert sorted(outcomes) == [(number, "one!", None) for number in range(24)]


@pytest.mark.slow
def test_large_pictures_ahead_do_not_keep_others_from_being_opened_after_a_crash(photo: bytes) -> None:
    items = [Item.of("0.png", PICTURE)] + [Item.of(f"{number}.png", photo) for number in range(1, 20)]
    outcomes = outcomes_of("SIGSEGV", *["one"] * 19, items=items)
    assert sorted(outcomes) == [(0, "", "crash")] + [(number, "one!", None) for number in range(1, 20)]


@pytest.mark.slow
def test_memory_that_grows_is_given_back_between_two_inputs() -> None:
    """800 inputs leak a MiB each, 800 MB in all; no child grows beyond 200 MB, and no input is lost."""
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    most, done, asked = 0, 0, 0
    children: list[ChildProcess] = []

    def start(work: Work, verbose: bool) -> ChildProcess:
        children.append(start_process(work, verbose))
        return children[-1]

    with closing(Engine(work(), inbox, growth=24 * 2**20, start=start)) as engine:
        while done < 800:
            while asked < min(800, done + 8):
                engine.open(asked, Item.of("a.png", PICTURE))
                asked += 1
            engine.flush()
            before = children[-1]
            for event in engine.handle(inbox.get(timeout=60)):
                if isinstance(event, Opened):
                    engine.ask(event.number, 0, Prompt.user("leak"))
                elif isinstance(event, ReplyReceived):
                    assert event.reply.text == "leak!"
                    done += 1
                    if children[-1] is before:  # it has loaded; a new one may still be a copy of this process
                        most = max(most, memory.private_bytes(before.pid))
                    engine.release(event.number)
        assert 5 < len(children) - 1 < 40  # each leaks more than 24 MiB, so 40 are too many
        assert most <= engine.memory.engine < 300e6  # with mapped files
        assert engine.memory.gpu == 4711  # what the backend reports
    assert 0 < most < 200e6
