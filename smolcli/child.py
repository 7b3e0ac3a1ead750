"""A child process for native code: a crash there is an error here, and what it prints stays in it.

    child = Child("smolcli.backends.worker:serve", ("llamacpp", files, options))
    child.pipe.send(...)              # what it receives is up to the two ends
    value = call("smolcli.converters.native:quantize", source, target)    # or one function, its value awaited
    for value in stream("smolcli.inputs.words:stamped", input, output):   # or what a generator gives

The child's file descriptors 1 and 2 go to standard error with `verbose`, else to a file that is read
only to explain a crash.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from smolcli import errors
from smolcli.errors import EngineError, SmolError
from smolcli.types import Fault

SPINS = 1000  # of an idle thread of libgomp before it sleeps; its 300,000 starve every other process on the cores

BATCH = 1000  # values of a stream sent at once
LAST_BYTES = 4096  # of what a child printed, in which its last words are looked for


class Gone(Exception):
    """The process at the other end of the pipe has ended."""


class Pipe:
    """A connection whose end is `Gone`, whatever the system calls it."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._sending = threading.Lock()  # several threads of the engine send

    def send(self, value: Any) -> None:
        try:
            with self._sending:
                self._connection.send(value)
        except (EOFError, OSError):
            raise Gone from None

    def receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise Gone from None

    def close(self) -> None:
        self._connection.close()


class Child:
    """A process that runs `place` ("module:function") on the other end of `pipe` and on `args`.

    A SmolError that ends the function is sent as ("error", its parts), which `received` makes an exception of again.
    Raises EngineError where no process can be started.
    """

    def __init__(self, place: str, args: tuple[Any, ...], verbose: bool = False) -> None:
        self._chatter: IO[bytes] | None = None
        context = multiprocessing.get_context("spawn")
        log = None
        if not verbose:
            with contextlib.suppress(OSError):  # no place for a log is no reason not to run
                self._chatter = tempfile.NamedTemporaryFile(prefix="smolcli-", suffix=".log", delete=False)
            log = Path(self._chatter.name if self._chatter else os.devnull)
        try:
            ours, theirs = context.Pipe()
            self._process = context.Process(target=_run, args=(theirs, place, args, log), daemon=True)
            with _interrupts_ignored():  # what is ignored here is so in the child from its first moment on
                self._process.start()
        except OSError as error:
            self._forget_chatter()
            what = f"the engine's process cannot be started ({error.strerror or error})"
            raise EngineError(what, "is the working directory still there, and are enough files allowed?") from error
        theirs.close()
        self.pipe = Pipe(ours)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid or 0

    def end(self, at_once: bool) -> None:
        """Ends the process, which has some seconds to do so itself unless `at_once`; the pipe can still be read."""
        if not at_once:
            self._process.join(5)
        self._process.kill()
        self._process.join()

    def close(self, at_once: bool = False) -> None:
        """Ends the child, which has some seconds to do so itself unless `at_once`."""
        self.pipe.close()
        self.end(at_once)
        self._forget_chatter()

    def post_mortem(self, advice: str) -> Fault:
        """What ended the child, from its exit code and its last words; the child is closed afterwards.

        `advice` is for want of memory.
        """
        self.pipe.close()
        self.end(at_once=False)
        code = self._process.exitcode or 0
        if code == -getattr(signal, "SIGKILL", 9):
            fault = Fault("memory", f"the engine was killed, most likely for want of memory; {advice}")
        else:
            cause = _signal(-code) if code < 0 else f"exit code {code}"
            fault = Fault("crash", f"the engine crashed ({cause}){self._last_words()}")
        self._forget_chatter()
        return fault

    def _last_words(self) -> str:
        if self._chatter is None:
            return ""
        self._chatter.seek(max(0, self._chatter.seek(0, os.SEEK_END) - LAST_BYTES))
        lines = self._chatter.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""

    def _forget_chatter(self) -> None:
        if self._chatter is not None:
            self._chatter.close()
            with contextlib.suppress(OSError):  # the child has done it, where open files can be removed
                os.unlink(self._chatter.name)
        self._chatter = None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def call(place: str, *args: Any, verbose: bool = False) -> Any:
    """The value of the function at `place` ("module:function") for `args`, computed in a child.

    Raises the SmolError that it raises, EngineError for any other end.
    """
    child = Child("smolcli.child:_answer", (place, args), verbose)
    at_once = True
    try:
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


def shared(size: int) -> Any:
    """So many whole numbers of 64 bits, all 0, that a child sees too when it is given them as an argument."""
    try:
        return multiprocessing.get_context("spawn").RawArray("q", size)
    except OSError as error:
        what = f"no memory can be shared with the engine's process ({error.strerror or error})"
        raise EngineError(what, "make room in /dev/shm and the temporary folder") from error


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


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# ---- the child -----------------------------------------------------------------------------------


def _run(connection: Connection[Any, Any], place: str, args: tuple[Any, ...], chatter: Path | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what is finished on Ctrl-C
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read when llama.cpp or PyTorch is loaded
    _take_streams(chatter)
    pipe = Pipe(connection)
    try:
        resolve(place)(pipe, *args)
    except Gone:
        return  # the parent has ended, or wants no more
    except SmolError as error:
        _tell(pipe, type(error).__name__, error.what, error.advice, error.kind)
    except BaseException as error:
        traceback.print_exc()
        what = f"the engine failed: {type(error).__name__}: {error}"
        _tell(pipe, "EngineError", what, "run it again with -v and report it", "engine")


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


def _take_streams(chatter: Path | None) -> None:
    """Sends file descriptors 1 and 2 to the file `chatter`, or with -v both to standard error.

    The file's name goes at once, so that no end of these processes leaves it behind; the parent has it open.
    """
    if chatter is None:
        os.dup2(2, 1)
        os.environ["SMOLCLI_VERBOSE"] = "1"
        return
    log = os.open(chatter, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if str(chatter) != os.devnull:
        with contextlib.suppress(OSError):  # Windows keeps what is open
            chatter.unlink()


def _tell(pipe: Pipe, *error: str) -> None:
    with contextlib.suppress(Gone):
        pipe.send(("error", error))
