"""Runs a backend in a child process, behind the same seam.

A native crash, an illegal instruction or a kill for want of memory costs the replies under way, not
the run: the child is started again for the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from smolcli import registry
from smolcli.child import Child, Gone, Pipe, received
from smolcli.errors import EngineError
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
        self._child: Child | None = None
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
                        raise received(message[1])
                return
            except Gone:
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
        if self._child is not None:
            self._child.close(at_once=bool(self._under_way))
        self._child = None

    def _started(self) -> Pipe:
        if self._child is None:
            self._child = Child("smolcli.backends.worker:serve", self._job, self._verbose)
        return self._child.pipe

    def _post_mortem(self) -> Fault:
        child, self._child = self._child, None
        assert child is not None
        return child.post_mortem("use a smaller model or --detail low")


_END = "end"  # sent instead of a prompt: there are no more
_SENT = "sent"  # the prompt that was held is under way


def serve(pipe: Pipe, place: str, files: ModelFiles, options: Model) -> None:
    """What the child does: for every Generate it receives, pull prompts and send pieces."""
    module, attribute = place.split(":")
    backend = None
    try:
        while True:
            generate: Generate = pipe.receive()
            if backend is None:
                backend = getattr(importlib.import_module(module), attribute)(files, options)
            for piece in backend.generate(_pulled(pipe), generate):
                pipe.send(("piece", piece))
            pipe.send(("done", None))
    finally:
        if backend is not None:
            backend.close()


def _pulled(pipe: Pipe) -> Iterator[Prompt | None]:
    while True:
        pipe.send(("pull", None))
        prompt = pipe.receive()
        if prompt == _END:
            return
        yield prompt
