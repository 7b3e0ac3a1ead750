"""engine/open_items.py: who waits for an item or for its memory, and what ends the wait."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread

import pytest

from smolcli.engine.open_items import OpenItems
from smolcli.errors import InputError
from smolcli.types import FrameRef, Prompt
from tests.engine.pixels import CountedPixels

SECONDS = 60  # after which a test fails
ABOUT_FIRST = Prompt.user(FrameRef(0, 0, 0))


def test_pixels_are_kept_for_the_prompts_that_wait() -> None:
    items, source = OpenItems(), CountedPixels()
    items.add(0)
    assert items.wait_to_open(0)
    items.opened(0, source)
    for slot in range(2):
        items.ask(0, slot, ABOUT_FIRST)
    held = []
    for _ in range(2):
        assert items.next_prompt(wait=True) is not None
        with items.decoding(0) as its:
            assert its is source
        items.prepared(0)
        held.append(source.held)
    assert held == [source.size, 0]
    assert items.next_prompt(wait=False) is None


def test_one_thread_at_a_time_decodes_an_item() -> None:
    items, entered = OpenItems(), SimpleQueue[str]()
    items.add(0)
    items.opened(0, CountedPixels())

    def decode() -> None:
        with items.decoding(0):
            entered.put("the other")

    other = Thread(target=decode, daemon=True)
    with items.decoding(0):
        other.start()
        other.join(0.1)
        entered.put("the first")
    other.join(SECONDS)
    assert [entered.get(timeout=SECONDS) for _ in range(2)] == ["the first", "the other"]


def wait_in_thread(wait: Callable[[], object]) -> tuple[Thread, SimpleQueue[object]]:
    """Begin a wait that is not over soon. Returns its thread, and the queue that gets what it returns."""
    returned = SimpleQueue[object]()
    thread = Thread(target=lambda: returned.put(wait()), daemon=True)
    thread.start()
    thread.join(0.1)
    return thread, returned


def test_pictures_are_not_decoded_while_the_pixels_of_others_are_not_cut() -> None:
    items = OpenItems(max_decoded=100)

    def decode(number: int, size: int) -> None:
        with items.decoding(number, size):
            pass

    for number in range(4):
        items.add(number)
        items.opened(number, CountedPixels())
    decode(0, 60)
    decode(1, 40)
    thread, returned = wait_in_thread(lambda: decode(2, 30))
    assert returned.empty()
    items.resize(40, 20)  # item 1 has fewer than it seemed
    assert thread.is_alive()
    items.prepared(0, 60)
    assert returned.get(timeout=SECONDS) is None
    thread, returned = wait_in_thread(lambda: decode(3, 1000))
    items.prepared(1, 20)
    assert thread.is_alive() and returned.empty()
    items.prepared(2, 30)
    assert returned.get(timeout=SECONDS) is None  # one with more goes on alone


def test_pixels_of_a_picture_that_cannot_be_decoded_to_its_end_count_as_held() -> None:
    items, source = OpenItems(max_held=1), CountedPixels()
    items.add(0), items.add(1)
    source.let_go()
    items.opened(0, source)

    def decode() -> None:
        with items.decoding(0):
            next(source.pictures([0]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decode()
    thread, returned = wait_in_thread(lambda: items.wait_to_open(1))
    assert thread.is_alive()
    items.release(0)
    assert returned.get(timeout=SECONDS)


def test_an_item_that_was_released_is_neither_opened_nor_decoded() -> None:
    items = OpenItems()
    items.add(0)
    items.release(0)
    assert not items.wait_to_open(0)
    items.opened(0, CountedPixels())
    with pytest.raises(InputError), items.decoding(0):
        pass


def test_a_look_at_an_item_waits_until_it_is_open_or_released() -> None:
    items, source = OpenItems(), CountedPixels()

    def look(number: int) -> object:
        try:
            with items.decoding(number) as its:
                return its
        except InputError:
            return "released"

    items.add(0), items.add(1)
    thread, found = wait_in_thread(lambda: look(0))
    other, told = wait_in_thread(lambda: look(1))
    assert thread.is_alive() and other.is_alive()
    items.opened(0, source)
    assert found.get(timeout=SECONDS) is source
    items.release(1)  # it cannot be opened
    assert told.get(timeout=SECONDS) == "released"


class SlowToLetGo(CountedPixels):
    """Frees its pixels once a test allows it, as a PDF does while its library draws another one."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = Event()

    def let_go(self) -> None:
        assert self.allowed.wait(SECONDS)
        super().let_go()


@pytest.mark.parametrize("cause", ["its last prompt was prepared", "memory is needed"])
def test_nobody_waits_for_an_item_whose_pixels_are_freed_slowly(cause: str) -> None:
    items, source = OpenItems(max_held=1), SlowToLetGo()
    items.add(0)
    items.opened(0, source)
    items.add(1)
    if cause == "memory is needed":
        wait_in_thread(lambda: items.next_prompt(wait=True))  # the model is idle
        _, done = wait_in_thread(lambda: items.wait_to_open(1))
    else:
        items.ask(0, 0, ABOUT_FIRST)
        items.next_prompt(wait=False)
        with items.decoding(0):
            pass
        _, done = wait_in_thread(lambda: items.prepared(0))
    asked, _ = wait_in_thread(lambda: items.ask(0, 1, ABOUT_FIRST))
    assert not asked.is_alive() and done.empty()
    _, decoded = wait_in_thread(lambda: _decode(items))
    assert decoded.empty()  # not while its pixels are freed
    source.allowed.set()
    assert decoded.get(timeout=SECONDS) == source.size


def _decode(items: OpenItems) -> int:
    with items.decoding(0) as source:
        [(_, frame)] = source.pictures([0])
    return len(frame.rgb)
