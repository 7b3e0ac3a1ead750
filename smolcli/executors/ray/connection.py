"""The connection to a Ray cluster, or to one of this machine alone that ends with the run."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Any

from smolcli.errors import UnavailableError
from smolcli.system.cpu import usable_cores
from smolcli.system.temporary import temporary_folder

CONNECT_SECONDS = 10.0  # for a server to take a connection
OBJECT_STORE_BYTES = 2**28  # of the cluster of this machine


@contextlib.contextmanager
def connected(address: str | None, verbose: bool) -> Iterator[None]:
    """Connect to the Ray cluster at `address`, or start one of this machine alone that ends with the block.

    Raises UnavailableError where it cannot be reached. Ray is imported here, not at the top of the file: environment
    variables that are set before decide where it listens and what it prints.
    """
    os.environ.update({
        "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
        "RAY_gcs_server_port_wait_time_s": "1",  # one attempt, of 40 s, to talk to a server that is no cluster
    })  # fmt: skip
    options: dict[str, Any] = {
        "log_to_driver": verbose, "logging_level": logging.INFO if verbose else logging.CRITICAL,
    }  # fmt: skip
    if address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it listens on this machine's loopback only
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # without it Ray writes one into the user's home
        options |= {
            "address": "local", "num_cpus": usable_cores(), "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }  # fmt: skip
    else:
        options["address"] = address
        _check_reachable(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    import ray

    with contextlib.ExitStack() as stack:
        if address is None:  # made after the import, which takes seconds and may be interrupted
            temporary = temporary_folder()
            folder = tempfile.mkdtemp(prefix="smolcli-", dir=temporary if len(temporary) < 20 else "/tmp")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            options["_temp_dir"] = folder
        stack.enter_context(contextlib.redirect_stdout(sys.stderr if verbose else stack.enter_context(_null_file())))
        stack.callback(ray.shutdown)
        with _sigterm_restored(), contextlib.nullcontext() if verbose else _stderr_muted():
            try:
                ray.init(**options)
            except Exception as error:
                message = f"the Ray cluster {address or 'of this machine'} cannot be reached ({_one_line(error)})"
                raise UnavailableError(message, "is it running, with this version of Ray and Python?") from error
        yield


def _null_file() -> IO[str]:
    return open(os.devnull, "w", encoding="utf-8")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).strip(" .")[:300] or type(error).__name__


def _check_reachable(address: str) -> None:
    """Raise UnavailableError at once where no server is at the address: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # a name that Ray knows, or complains about
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        message = f"the Ray cluster {address} cannot be reached ({getattr(error, 'strerror', None) or error})"
        raise UnavailableError(message, "is it running, and is this its address?") from error


@contextlib.contextmanager
def _sigterm_restored() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _stderr_muted() -> Iterator[None]:
    """Keep native code off standard error: Ray's complains there of servers that do not answer."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
