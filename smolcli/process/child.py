"""A child process for native code: a crash there is an error here, and what it prints stays in it.

    child = Child("smolcli.engine.server:serve", (work,))
    child.pipe.send(...)              # what it receives is up to the two ends
    value = call("smolcli.converters.llama_quantize:quantize", source, target)    # or one function, its value awaited
    for value in stream("smolcli.inputs.collect:stamped", input, output):   # or what a generator gives

What the child prints goes to standard error with `verbose`, else to a file that is read only to explain a crash.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from smolcli import errors
from smolcli.errors import EngineError, SmolError
from smolcli.process.pipe import PeerClosed, Pipe
from smolcli.process.spawn import process_for
from smolcli.types import Fault

LAST_BYTES = 4096  # of what a child printed, in which its last words are looked for


class Child:
    """A process that runs `place` ("module:function") on the other end of `pipe` and on `args`.

    A SmolError that ends the function is sent as ("error", its parts), which `received` makes an exception of again.
    Raises EngineError where no process can be started.
    """

    def __init__(self, place: str, args: tuple[Any, ...], verbose: bool = False) -> None:
        try:
            self._process = process_for(place, verbose)
        except OSError as error:
            what = f"the engine's process cannot be started ({error.strerror or error})"
            advice = "is the working directory still there, and are enough files allowed?"
            raise EngineError(what, advice, kind="start") from error
        self.pipe = Pipe(self._process.incoming, self._process.outgoing, self._process.shared)
        with contextlib.suppress(PeerClosed):  # it has ended already: whoever asks it anything is told
            self.pipe.send(args)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def end(self, at_once: bool) -> None:
        """Ends the process, which has some seconds to do so itself unless `at_once`; the pipe can still be read."""
        self._process.end(at_once)

    def close(self, at_once: bool = False) -> None:
        """Ends the child, which has some seconds to do so itself unless `at_once`."""
        self.pipe.close()
        self.end(at_once)
        self._process.forget_log()

    def post_mortem(self, advice: str) -> Fault:
        """What ended the child, from its exit code and its last words; the child is closed afterwards.

        `advice` is for want of memory.
        """
        self.pipe.close()
        code = self._process.end(at_once=False)
        if code == -getattr(signal, "SIGKILL", 9):
            fault = Fault("memory", f"the engine was killed, most likely for want of memory; {advice}")
        else:
            cause = _signal(-code) if code < 0 else f"exit code {code}"
            fault = Fault("crash", f"the engine crashed ({cause}){self._last_words()}")
        self._process.forget_log()
        return fault

    def _last_words(self) -> str:
        log = self._process.log
        if log is None:
            return ""
        os.lseek(log, max(0, os.lseek(log, 0, os.SEEK_END) - LAST_BYTES), os.SEEK_SET)
        lines = os.read(log, LAST_BYTES).decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def call(place: str, *args: Any, verbose: bool = False, seconds: float | None = None) -> Any:
    """The value of the function at `place` ("module:function") for `args`, computed in a child.

    Raises the SmolError that it raises, EngineError for any other end, or where `seconds` are not enough.
    """
    child = Child("smolcli.process.worker_main:_answer", (place, args), verbose)
    at_once = True
    try:
        if seconds is not None and not child.pipe.comes(seconds):
            raise EngineError(f"the engine gave no answer in {seconds:g} seconds", kind="timeout")
        kind, value = child.pipe.receive()
        at_once = False
    except PeerClosed:
        fault = child.post_mortem("end other programs, or use a machine with more")
        advice = "-v shows what it printed" if fault.kind == "crash" else ""
        raise EngineError(fault.message, advice, kind=fault.kind) from None
    finally:
        child.close(at_once)
    if kind == "error":
        raise received(value)
    return value


def stream(place: str, *args: Any) -> Iterator[Any]:
    """What the generator at `place` ("module:function") gives for `args`, made ahead in a child that begins now.

    Raises the SmolError that it raises, EngineError for any other end; closing it ends the child.
    """
    child = Child("smolcli.process.worker_main:_stream", (place, args))

    def values() -> Iterator[Any]:
        try:
            while True:
                kind, value = child.pipe.receive()
                if kind == "error":
                    raise received(value)
                if not value:
                    return
                yield from value
        except PeerClosed:
            raise EngineError(child.post_mortem("end other programs").message) from None
        finally:
            child.close(at_once=True)

    return values()


def received(told: tuple[str, str, str, str]) -> SmolError:
    """The exception that the child told of."""
    name, what, advice, kind = told
    error: SmolError = getattr(errors, name)(what, advice, kind=kind)
    return error


# ---- the child -----------------------------------------------------------------------------------
