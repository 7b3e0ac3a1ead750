"""Runs a backend in a child process, behind the same seam.

A native crash, an illegal instruction or a kill for want of memory costs the replies under way, not
the run: the child is started again for the rest. What native libraries print stays in the child: it
goes to standard error with -v, else to a file that is read only to explain a crash.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from typing import IO, Any

from smolcli import errors, registry
from smolcli.errors import EngineError, SmolError
from smolcli.models import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Fault, Finish, Piece, Prompt

CRASHES = 3  # so many in a row, without one reply between them, end the run


class Worker:
    """The backend `name` of the registry in a process of its own, started at the first prompt."""

    def __init__(self, name: str, files: ModelFiles, options: Model, verbose: bool = False) -> None:
        self.name = name
        self._job = (registry.BACKENDS[name].place, files, options)
        self._verbose = verbose
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._chatter: IO[bytes] | None = None

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        source, taken, under_way, crashes = iter(prompts), 0, set[int](), 0
        held: Prompt | None = next(source, None)
        if held is None:
            return
        while True:
            first = taken
            pipe = self._start()
            try:
                pipe.send(options)
                while (message := pipe.recv())[0] != "done":
                    if message[0] == "pull":
                        prompt, held = (held, None) if held is not None else (next(source, _END), None)
                        pipe.send(prompt)
                        if isinstance(prompt, Prompt):
                            under_way.add(taken)
                            taken += 1
                    elif message[0] == "piece":
                        piece: Piece = message[1]
                        index = first + piece.index
                        if piece.finish is not None:
                            under_way.discard(index)
                            crashes = 0
                        yield Piece(index, piece.text, piece.finish)
                    else:
                        raise _received(message[1])
                return
            except (EOFError, ConnectionError):
                crashes += 1
                fault = self._post_mortem()
                if crashes == CRASHES or not under_way:
                    raise EngineError(
                        fault.message, "try --backend torch, or -v for what it printed", kind=fault.kind
                    ) from None
                yield from (Piece(index, "", Finish("error", fault=fault)) for index in sorted(under_way))
                under_way.clear()

    def close(self) -> None:
        """Ends the child."""
        if self._pipe is not None:
            self._pipe.close()  # the child sees the end of the pipe, whatever it is doing
        if self._process is not None:
            self._process.join(5)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._process = self._pipe = None

    def _start(self) -> Connection[Any, Any]:
        if self._pipe is not None:
            return self._pipe
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._chatter = None if self._verbose else tempfile.TemporaryFile()
        log = None if self._chatter is None else _Handle(self._chatter.fileno())
        self._process = context.Process(target=_serve, args=(theirs, *self._job, log), daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe

    def _post_mortem(self) -> Fault:
        """What ended the child, from its exit code; it is gone afterwards."""
        assert self._process is not None and self._pipe is not None
        self._process.join()
        code = self._process.exitcode or 0
        self._pipe.close()
        self._process = self._pipe = None
        if code == -signal.SIGKILL:
            return Fault(
                "memory", "the engine was killed, most likely for want of memory; use a smaller model or --detail low"
            )
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Fault("crash", f"the engine crashed ({cause}){self._last_words()}")

    def _last_words(self) -> str:
        if self._chatter is None:
            return ""
        self._chatter.seek(0)
        lines = self._chatter.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""


_END = "end"


class _Handle:
    """A file descriptor that travels to the child."""

    def __init__(self, fileno: int) -> None:
        self.fileno = fileno

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.reduction import DupFd  # only while a child is being started

        return _detached, (DupFd(self.fileno),)


def _detached(duplicate: Any) -> _Handle:
    return _Handle(duplicate.detach())


def _received(told: tuple[str, str, str, str]) -> SmolError:
    name, what, advice, kind = told
    error: SmolError = getattr(errors, name)(what, advice, kind=kind)
    return error


# ---- the child -----------------------------------------------------------------------------------


def _serve(pipe: Connection[Any, Any], place: str, files: ModelFiles, options: Model, log: _Handle | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what is finished on Ctrl-C
    if log is not None:
        os.dup2(log.fileno, 1)
        os.dup2(log.fileno, 2)
    else:
        os.dup2(2, 1)
        os.environ["SMOLCLI_VERBOSE"] = "1"
    backend = None
    try:
        module, attribute = place.split(":")
        while True:
            generate: Generate = pipe.recv()
            if backend is None:
                backend = getattr(importlib.import_module(module), attribute)(files, options)
            for piece in backend.generate(_pulled(pipe), generate):
                pipe.send(("piece", piece))
            pipe.send(("done", None))
    except (EOFError, ConnectionError):
        return  # the parent is gone
    except SmolError as error:
        pipe.send(("error", (type(error).__name__, error.what, error.advice, error.kind)))
    except BaseException:
        pipe.send(("error", ("EngineError", traceback.format_exc(), "", "engine")))
    finally:
        if backend is not None:
            backend.close()


def _pulled(pipe: Connection[Any, Any]) -> Iterator[Prompt | None]:
    while True:
        pipe.send(("pull", None))
        prompt = pipe.recv()
        if prompt == _END:
            return
        yield prompt
