"""What runs in a child process: it takes its end of the pipe and calls the function that it was started for."""

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
from threading import Thread
from typing import Any

from smolcli.errors import DeviceLostError, EngineError, SmolError
from smolcli.process.pipe import (
    FunctionFailed,
    FunctionReturned,
    FunctionYielded,
    PeerClosed,
    Pipe,
    picklable_error,
)
from smolcli.process.spawn import ENGINE, INCOMING_FD, MEMORY_FD, OUTGOING_FD, SHARED_BYTES

SPIN_COUNT = 1000  # turns of an idle libgomp thread before it sleeps; its 300,000 starve all else on the cores
BATCH_VALUES = 1000  # values of a generator that are sent at once


def main(target: str, verbose: bool) -> None:
    """Run the whole process that process/spawn.py starts: call the function `target`, then exit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what is finished on Ctrl-C
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))  # read when llama.cpp or PyTorch is loaded
    if verbose:
        os.environ["_SMOLCLI_VERBOSE"] = "1"
    _run(_open_pipe(), target)
    _flush_streams()
    os._exit(0)  # native libraries may crash in their exit handlers


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def is_verbose() -> bool:
    """Whether the user sees what this process prints."""
    return bool(os.environ.get("_SMOLCLI_VERBOSE"))


def _open_pipe() -> Pipe:
    """The pipe to the parent, which no process that this one starts inherits."""
    shared = memoryview(mmap(MEMORY_FD, SHARED_BYTES)).cast("q")
    os.close(MEMORY_FD)
    for file in (INCOMING_FD, OUTGOING_FD):
        os.set_inheritable(file, False)
    return Pipe(INCOMING_FD, OUTGOING_FD, shared)


def _run(pipe: Pipe, target: str) -> None:
    """Load the function, wait for its arguments, and call it; send the error that it raises."""
    try:
        with _one_blas_thread() if target == ENGINE else contextlib.nullcontext():
            function = resolve(target)
        gc.freeze()  # what is loaded by now lives until the end
        gc.enable()
        function(pipe, *pipe.receive())
    except PeerClosed:
        return  # the parent has ended, or wants no more
    except DeviceLostError as error:  # whoever has started this process may start another
        print(f"smolcli: {error}", file=sys.stderr)
        _flush_streams()
        os._exit(1)
    except SmolError as error:
        _send_error(pipe, error)
    except BaseException as error:
        traceback.print_exc()
        message = f"the engine failed: {type(error).__name__}: {error}"
        _send_error(pipe, EngineError(message, "run it again with -v and report it"))


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Have numpy, which is loaded meanwhile, multiply matrices with one thread, unless the user says otherwise.

    OpenBLAS's other threads wait in a busy loop once they are started, beside a start that needs all cores, and the
    engine multiplies nothing with them. PyTorch, which may bring an OpenBLAS of its own, is loaded later.
    """
    if (name := "OPENBLAS_NUM_THREADS") in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


def run_function(pipe: Pipe, target: str, args: tuple[Any, ...]) -> None:
    """Send the value of the function `target`, for child.call."""
    Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    pipe.send(FunctionReturned(resolve(target)(*args)))


def _end_with_parent(pipe: Pipe) -> None:
    """End this process when the parent has ended, which sends nothing more: a download would go on for hours."""
    with contextlib.suppress(PeerClosed):
        pipe.receive()
    _flush_streams()  # the parent may have closed the pipe because it has the value
    os._exit(1)


def run_generator(pipe: Pipe, target: str, args: tuple[Any, ...]) -> None:
    """Send the values of the generator function `target`, many at once, then none, for child.stream."""
    values = iter(resolve(target)(*args))
    while batch := list(islice(values, BATCH_VALUES)):
        pipe.send(FunctionYielded(batch))
    pipe.send(FunctionYielded([]))


def resolve(target: str) -> Any:
    """The object at "module:attribute". Raises ImportError and AttributeError."""
    module, attribute = target.split(":")
    return getattr(importlib.import_module(module), attribute)


def _send_error(pipe: Pipe, error: SmolError) -> None:
    with contextlib.suppress(PeerClosed):
        pipe.send(FunctionFailed(picklable_error(error)))
