"""process/pipe.py: values between two processes, and errors that not every process can read."""

from __future__ import annotations

import os
import threading

import pytest

from smolcli.errors import EngineError, ErrorKind, ModelError, SmolError
from smolcli.process.pipe import PeerClosed, Pipe, picklable_error


def both_ends() -> tuple[Pipe, Pipe]:
    to_right, to_left = os.pipe(), os.pipe()
    shared = memoryview(bytearray(8)).cast("q")
    return Pipe(to_left[0], to_right[1], shared), Pipe(to_right[0], to_left[1], shared)


def test_values_arrive_in_order_and_whole() -> None:
    left, right = both_ends()
    large = os.urandom(2**20)  # more than a pipe holds
    sender = threading.Thread(target=lambda: [left.send(value) for value in ("a", large, ("b", 1))])
    sender.start()
    assert [right.receive() for _ in range(3)] == ["a", large, ("b", 1)]
    sender.join()
    left.close(), right.close()


def test_the_end_of_the_other_process_is_one_exception_for_every_use() -> None:
    left, right = both_ends()
    right.close()
    with pytest.raises(PeerClosed):
        left.receive()
    with pytest.raises(PeerClosed):
        left.send("a")
    left.close()
    for use in (left.receive, lambda: left.send("a")):  # this end is closed too
        with pytest.raises(PeerClosed):
            use()


def test_values_that_are_posted_wait_for_the_reader_in_a_thread() -> None:
    left, right = both_ends()
    values = [os.urandom(2**20), "a", ("b", 1)]
    for value in values:
        left.post(value)  # though nobody reads yet, and a pipe holds less
    assert [right.receive() for _ in values] == values
    right.close()
    left.post(bytes(2**20))  # is lost
    left.close()


def test_half_a_value_is_the_end_of_the_other_process() -> None:
    incoming, outgoing = os.pipe()
    pipe = Pipe(incoming, os.open(os.devnull, os.O_WRONLY), memoryview(bytearray(8)).cast("q"))
    os.write(outgoing, b"\x80\x05\x95")
    os.close(outgoing)
    with pytest.raises(PeerClosed):
        pipe.receive()
    pipe.close()


class Unreadable(SmolError):
    """Pickle can write it, and cannot make it again: its constructor takes something else."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: is broken", "get another", kind=ErrorKind.MODEL)
        self.args = ()


class Unwritable(SmolError):
    """Pickle cannot write it."""

    def __init__(self) -> None:
        super().__init__("no handle", kind=ErrorKind.START)
        self.lock = threading.Lock()


def test_an_error_that_cannot_be_pickled_is_sent_as_its_text() -> None:
    error = ModelError("no such model", "see smolcli models")
    assert picklable_error(error) is error
    for broken, text, kind in (
        (Unreadable("a.gguf"), "a.gguf: is broken; get another", ErrorKind.MODEL),
        (Unwritable(), "no handle", ErrorKind.START),
    ):
        sent = picklable_error(broken)
        assert (type(sent), str(sent), sent.kind) == (EngineError, text, kind)


def test_small_values_are_posted_in_order_when_the_pipe_has_room_and_when_it_has_none() -> None:
    """Nobody reads until the pipe is full; what does not fit is sent later, and nothing overtakes it."""
    left, right = both_ends()
    expected = [(number, bytes(100)) for number in range(3000)]  # several times what a pipe holds
    for value in expected[:2900]:
        left.post(value)
    received = [right.receive() for _ in range(2000)]
    for value in expected[2900:]:
        left.post(value)
    received += [right.receive() for _ in range(1000)]
    assert received == expected
    left.close(), right.close()
