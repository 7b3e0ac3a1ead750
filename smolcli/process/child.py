"""Runs native code in a child process: a crash there is an error here, and what it prints does not get in the way.

    child = Child("smolcli.engine.server:serve", (work,))
    child.pipe.send(...)              # the messages are up to the two ends
    value = call("smolcli.converters.llama_quantize:quantize", source, target)    # one function, and wait for its value
    for value in stream("smolcli.inputs.collect:stamped", input, output):         # what a generator yields

What the child prints goes to standard error with `verbose`, else to a file that is read only to explain a crash.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from smolcli.errors import EngineError, ErrorKind
from smolcli.process.pipe import FunctionFailed, FunctionReturned, FunctionYielded, PeerClosed, Pipe
from smolcli.process.spawn import get_process
from smolcli.types import Fault

LOG_TAIL = 4096  # bytes at the end of a child's log in which the last line is looked for


class Child:
    """A process that calls the function `target` ("module:function") with its end of a pipe, and with `args`.

    `pipe` is this process's end. Where the function raises an error, the child sends FunctionFailed. Raises EngineError
    where no process can be started.
    """

    def __init__(self, target: str, args: tuple[Any, ...], verbose: bool = False) -> None:
        try:
            self._process = get_process(target, verbose)
        except OSError as error:
            message = f"the engine's process cannot be started ({error.strerror or error})"
            advice = "is the working directory still there, are enough files allowed, and can TMPDIR be written?"
            raise EngineError(message, advice, kind=ErrorKind.START) from error
        self.pipe = Pipe(self._process.incoming, self._process.outgoing, self._process.shared)
        with contextlib.suppress(PeerClosed):  # it has ended already, which the next use of the pipe shows
            self.pipe.send(args)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def end(self, at_once: bool) -> None:
        """End the process, which has some seconds to do so itself unless `at_once`; the pipe can still be read."""
        self._process.end(at_once)

    def wait(self) -> None:
        """Wait for the end of a process that sends nothing more, and end it where that takes some seconds."""
        self._process.end(at_once=False)

    def close(self, at_once: bool = False) -> None:
        """Close the pipe and end the process, which has some seconds to do so itself unless `at_once`."""
        self.pipe.close()
        self.end(at_once)
        self._process.close_log()

    def post_mortem(self, advice: str) -> Fault:
        """Say what ended the process, from its exit code and the last line that it printed, and close the child.

        `advice` is what to do where it was killed for want of memory.
        """
        self.pipe.close()
        code = self._process.end(at_once=False)
        if code == -getattr(signal, "SIGKILL", 9):
            fault = Fault(ErrorKind.MEMORY, f"the engine was killed, most likely for want of memory; {advice}")
        else:
            cause = _signal_name(-code) if code < 0 else f"exit code {code}"
            fault = Fault(ErrorKind.CRASH, f"the engine crashed ({cause}){self._last_line()}")
        self._process.close_log()
        return fault

    def _last_line(self) -> str:
        log = self._process.log
        if log is None:
            return ""
        os.lseek(log, max(0, os.lseek(log, 0, os.SEEK_END) - LOG_TAIL), os.SEEK_SET)
        lines = os.read(log, LOG_TAIL).decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def call(target: str, *args: Any, verbose: bool = False, seconds: float | None = None) -> Any:
    """Call the function `target` ("module:function") in a child, and return its value.

    Raises the SmolError that it raises; EngineError for any other end, or where it takes longer than `seconds`.
    """
    child = Child("smolcli.process.worker_main:run_function", (target, args), verbose)
    at_once = True
    try:
        if seconds is not None and not child.pipe.poll(seconds):
            raise EngineError(f"the engine gave no answer in {seconds:g} seconds", kind=ErrorKind.TIMEOUT)
        outcome: FunctionReturned | FunctionFailed = child.pipe.receive()
        at_once = False
    except PeerClosed:
        fault = child.post_mortem("end other programs, or use a machine with more")
        advice = "-v shows what it printed" if fault.kind == ErrorKind.CRASH else ""
        raise EngineError(fault.message, advice, kind=fault.kind) from None
    finally:
        child.close(at_once)
    match outcome:
        case FunctionFailed(error):
            raise error
        case FunctionReturned(value):
            return value


def stream(target: str, *args: Any) -> Iterator[Any]:
    """Run the generator function `target` ("module:function") in a child that starts now, and yield its values.

    Raises the SmolError that it raises, EngineError for any other end. Closing the iterator ends the child.
    """
    child = Child("smolcli.process.worker_main:run_generator", (target, args))

    def values() -> Iterator[Any]:
        try:
            while True:
                outcome: FunctionYielded | FunctionFailed = child.pipe.receive()
                match outcome:
                    case FunctionFailed(error):
                        raise error
                    case FunctionYielded([]):
                        return
                    case FunctionYielded(batch):
                        yield from batch
        except PeerClosed:
            raise EngineError(child.post_mortem("end other programs").message) from None
        finally:
            child.close(at_once=True)

    return values()
