"""What a child process runs: it takes its end of the pipe and calls the function it was started for."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from itertools import islice
from mmap import mmap
from typing import Any

from smolcli.errors import SmolError
from smolcli.process.pipe import PeerClosed, Pipe
from smolcli.process.spawn import ENGINE, INCOMING, MEMORY, OUTGOING, SHARED

SPINS = 1000  # of an idle thread of libgomp before it sleeps; its 300,000 starve every other process on the cores


BATCH = 1000  # values of a stream sent at once


def main(place: str, verbose: bool) -> None:
    """The whole life of a process that smolcli.process.spawn starts."""
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
    except PeerClosed:
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
    with contextlib.suppress(PeerClosed):
        pipe.send(("error", error))
