"""A child process for native code: a crash there is an error here, and what it prints stays in it.

    child = Child("smolcli.inside:serve", (work,))
    child.pipe.send(...)              # what it receives is up to the two ends
    value = call("smolcli.converters.native:quantize", source, target)    # or one function, its value awaited
    for value in stream("smolcli.inputs.words:stamped", input, output):   # or what a generator gives

What the child prints goes to standard error with `verbose`, else to a file that is read only to explain a crash.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import islice
from mmap import mmap
from typing import Any

from smolcli import errors
from smolcli.errors import EngineError, SmolError
from smolcli.process import ENGINE, INCOMING, MEMORY, OUTGOING, SHARED, process_for
from smolcli.types import Fault

SPINS = 1000  # of an idle thread of libgomp before it sleeps; its 300,000 starve every other process on the cores

BATCH = 1000  # values of a stream sent at once
LAST_BYTES = 4096  # of what a child printed, in which its last words are looked for


class Gone(Exception):
    """The process at the other end of the pipe has ended."""


class Pipe:
    """What goes between two processes; its end is `Gone`, whatever the system calls it.

    `shared` are the numbers that both see.
    """

    def __init__(self, incoming: int, outgoing: int, shared: memoryview) -> None:
        self._incoming, self._outgoing, self.shared = os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"), shared
        self._sending = threading.Lock()  # several threads of the engine send

    def send(self, value: Any) -> None:
        message = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        try:
            with self._sending:
                self._outgoing.write(message)
                self._outgoing.flush()
        except (OSError, ValueError):  # the second for one that is closed here
            raise Gone from None

    def receive(self) -> Any:
        if self._incoming.closed:
            raise Gone
        try:
            return pickle.load(self._incoming)
        except (EOFError, OSError, pickle.UnpicklingError):  # the last for a message of which a part came
            raise Gone from None

    def comes(self, seconds: float) -> bool:
        """Whether the first message, or the end, comes within so many seconds."""
        return bool(select.select([self._incoming], [], [], seconds)[0])

    def close(self) -> None:
        for file in (self._outgoing, self._incoming):
            with contextlib.suppress(OSError):  # what was not sent has nobody to go to
                file.close()


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
        with contextlib.suppress(Gone):  # it has ended already: whoever asks it anything is told
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
    child = Child("smolcli.child:_answer", (place, args), verbose)
    at_once = True
    try:
        if seconds is not None and not child.pipe.comes(seconds):
            raise EngineError(f"the engine gave no answer in {seconds:g} seconds", kind="timeout")
        kind, value = child.pipe.receive()
        at_once = False
    except Gone:
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
    child = Child("smolcli.child:_stream", (place, args))

    def values() -> Iterator[Any]:
        try:
            while True:
                kind, value = child.pipe.receive()
                if kind == "error":
                    raise received(value)
                if not value:
                    return
                yield from value
        except Gone:
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


def main(place: str, verbose: bool) -> None:
    """The whole life of a process that smolcli.process starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what is finished on Ctrl-C
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read when llama.cpp or PyTorch is loaded
    if verbose:
        os.environ["SMOLCLI_VERBOSE"] = "1"
    pipe = _take_pipe()
    _run(pipe, place)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # what native libraries do at an end may crash


def is_verbose() -> bool:
    """Whether the user sees what this process prints."""
    return bool(os.environ.get("SMOLCLI_VERBOSE"))


def _take_pipe() -> Pipe:
    """The ends of the pipes that this process was given, for itself and none that it starts."""
    shared = memoryview(mmap(MEMORY, SHARED)).cast("q")
    os.close(MEMORY)
    for file in (INCOMING, OUTGOING):
        os.set_inheritable(file, False)
    return Pipe(INCOMING, OUTGOING, shared)


def _run(pipe: Pipe, place: str) -> None:
    try:
        with _one_thread_for_numpy() if place == ENGINE else contextlib.nullcontext():
            function = resolve(place)
        gc.freeze()  # what is loaded by now is there until the end
        gc.enable()
        function(pipe, *pipe.receive())
    except Gone:
        return  # the parent has ended, or wants no more
    except SmolError as error:
        _tell(pipe, type(error).__name__, error.what, error.advice, error.kind)
    except BaseException as error:
        traceback.print_exc()
        what = f"the engine failed: {type(error).__name__}: {error}"
        _tell(pipe, "EngineError", what, "run it again with -v and report it", "engine")


@contextlib.contextmanager
def _one_thread_for_numpy() -> Iterator[None]:
    """Has what is loaded meanwhile, which is numpy, multiply matrices with one thread, unless the user says otherwise.

    OpenBLAS's other threads wait busily once they are there, beside a start that needs all cores; the engine multiplies
    nothing with them. PyTorch, which may have an OpenBLAS of its own, is loaded later.
    """
    if (name := "OPENBLAS_NUM_THREADS") in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


def _answer(pipe: Pipe, place: str, args: tuple[Any, ...]) -> None:
    pipe.send(("value", resolve(place)(*args)))


def _stream(pipe: Pipe, place: str, args: tuple[Any, ...]) -> None:
    values = iter(resolve(place)(*args))
    while batch := list(islice(values, BATCH)):
        pipe.send(("values", batch))
    pipe.send(("values", []))


def resolve(place: str) -> Any:
    """What is at `place`, "module:attribute"."""
    module, attribute = place.split(":")
    return getattr(importlib.import_module(module), attribute)


def _tell(pipe: Pipe, *error: str) -> None:
    with contextlib.suppress(Gone):
        pipe.send(("error", error))
