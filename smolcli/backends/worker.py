"""Runs a backend in a child process, behind the same seam.

A native crash, an illegal instruction or a kill for want of memory costs the replies under way, not
the run: the child is started again for the rest. What native libraries print stays in the child: it
goes to standard error with -v, else to a file that is read only to explain a crash.
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
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from smolcli import errors, registry
from smolcli.errors import EngineError, SmolError
from smolcli.models import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Fault, Finish, Piece, Prompt

SPINS = 1000  # of an idle thread of libgomp before it sleeps; its 300,000 starve every other process on the cores
CRASHES = 3  # so many in a row, without one reply between them, end the run


class Worker:
    """The backend `name` of the registry in a process of its own, started at the first prompt."""

    def __init__(self, name: str, files: ModelFiles, options: Model, verbose: bool = False) -> None:
        self.name = name
        self._job = (registry.BACKENDS[name].place, files, options)
        self._verbose = verbose
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: _Pipe | None = None
        self._chatter: IO[bytes] | None = None
        self._under_way: set[int] = set()

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        source, taken, crashes = iter(prompts), 0, 0
        held: Any = next(source, _END)
        while held is not _END:
            first = taken
            try:
                pipe = self._started()
                pipe.send(options)
                while (message := pipe.receive())[0] != "done":
                    if message[0] == "pull":
                        held = next(source, _END) if held is _SENT else held
                        if isinstance(held, Prompt):
                            self._under_way.add(taken)
                            taken += 1
                        given, held = held, _SENT if held is not _END else _END
                        pipe.send(given)  # lost with the child even if it dies of this
                    elif message[0] == "piece":
                        piece: Piece = message[1]
                        index = first + piece.index
                        if piece.finish is not None:
                            self._under_way.discard(index)
                            crashes = 0
                        yield Piece(index, piece.text, piece.finish)
                    else:
                        raise _received(message[1])
                return
            except _Gone:
                crashes += 1
                fault = self._post_mortem()
                lost, self._under_way = sorted(self._under_way), set()
                yield from (Piece(index, "", Finish("error", fault=fault)) for index in lost)
                if crashes == CRASHES:
                    what = f"{CRASHES} times in a row {fault.message}"
                    raise EngineError(
                        what, "try the other --backend, or -v for what it printed", kind=fault.kind
                    ) from None
                held = next(source, _END) if held is _SENT else held

    def close(self) -> None:
        """Ends the child; at once if it is at work."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            if not self._under_way:
                self._process.join(5)
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None
        self._forget_chatter()

    def _started(self) -> _Pipe:
        if self._pipe is not None:
            return self._pipe
        context = multiprocessing.get_context("spawn")
        log = None
        if not self._verbose:
            self._forget_chatter()
            with contextlib.suppress(OSError):  # no place for a log is no reason not to run
                self._chatter = tempfile.NamedTemporaryFile(prefix="smolcli-", suffix=".log", delete=False)
            log = Path(self._chatter.name if self._chatter else os.devnull)
        try:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, *self._job, log), daemon=True)
            with _interrupts_ignored():  # what is ignored here is so in the child from its first moment on
                process.start()
        except OSError as error:
            what = f"the engine's process cannot be started ({error.strerror or error})"
            raise EngineError(what, "is the working directory still there, and are enough files allowed?") from error
        theirs.close()
        self._process, self._pipe = process, _Pipe(ours)
        return self._pipe

    def _forget_chatter(self) -> None:
        if self._chatter is not None:
            self._chatter.close()
            with contextlib.suppress(OSError):  # the child has done it, where open files can be removed
                os.unlink(self._chatter.name)
        self._chatter = None

    def _post_mortem(self) -> Fault:
        """What ended the child, from its exit code; it is gone afterwards."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        assert process is not None and pipe is not None
        pipe.close()
        process.join(5)
        process.kill()
        process.join()
        code = process.exitcode or 0
        if code == -getattr(signal, "SIGKILL", 9):
            message = "the engine was killed, most likely for want of memory; use a smaller model or --detail low"
            return Fault("memory", message)
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Fault("crash", f"the engine crashed ({cause}){self._last_words()}")

    def _last_words(self) -> str:
        if self._chatter is None:
            return ""
        lines = self._chatter.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""


class _Gone(Exception):
    """The process at the other end of the pipe has ended."""


class _Pipe:
    """A connection whose end is `_Gone`, whatever the system calls it."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def send(self, value: Any) -> None:
        try:
            self._connection.send(value)
        except (EOFError, OSError):
            raise _Gone from None

    def receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise _Gone from None

    def close(self) -> None:
        self._connection.close()


_END = "end"  # sent instead of a prompt: there are no more
_SENT = "sent"  # the prompt that was held is under way


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


def _received(told: tuple[str, str, str, str]) -> SmolError:
    name, what, advice, kind = told
    error: SmolError = getattr(errors, name)(what, advice, kind=kind)
    return error


# ---- the child -----------------------------------------------------------------------------------


def _serve(
    connection: Connection[Any, Any], place: str, files: ModelFiles, options: Model, chatter: Path | None
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what is finished on Ctrl-C
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read when llama.cpp or PyTorch is loaded
    _take_streams(chatter)
    pipe, backend = _Pipe(connection), None
    try:
        module, attribute = place.split(":")
        while True:
            generate: Generate = pipe.receive()
            if backend is None:
                backend = getattr(importlib.import_module(module), attribute)(files, options)
            for piece in backend.generate(_pulled(pipe), generate):
                pipe.send(("piece", piece))
            pipe.send(("done", None))
    except _Gone:
        return  # the parent has ended, or wants no more
    except SmolError as error:
        _tell(pipe, type(error).__name__, error.what, error.advice, error.kind)
    except BaseException as error:
        traceback.print_exc()
        what = f"the engine failed: {type(error).__name__}: {error}"
        _tell(pipe, "EngineError", what, "run it again with -v and report it", "engine")
    finally:
        if backend is not None:
            backend.close()


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


def _tell(pipe: _Pipe, *error: str) -> None:
    with contextlib.suppress(_Gone):
        pipe.send(("error", error))


def _pulled(pipe: _Pipe) -> Iterator[Prompt | None]:
    while True:
        pipe.send(("pull", None))
        prompt = pipe.receive()
        if prompt == _END:
            return
        yield prompt
