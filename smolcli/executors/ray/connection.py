"""The connection to a Ray cluster, or to one of this machine that ends with the run. [ray]"""

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
from typing import Any

from smolcli.errors import UnavailableError
from smolcli.system.cpu import usable_cores

REACH = 10.0  # seconds for a server to take a connection


@contextlib.contextmanager
def connected(address: str | None, verbose: bool) -> Iterator[None]:
    """In a Ray cluster: that of `address`, else one of this machine that ends with it. Raises UnavailableError.

    Ray is imported here, not above: what is set in the environment before decides where it listens and what it tells.
    """
    own = None
    os.environ.update({
        "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
        "RAY_gcs_server_port_wait_time_s": "1",  # one attempt, of 40 s, to talk to what is no cluster
    })  # fmt: skip
    options: dict[str, Any] = {
        "log_to_driver": verbose, "logging_level": logging.INFO if verbose else logging.CRITICAL,
    }  # fmt: skip
    if address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it listens on this machine's loopback only
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # without it Ray leaves one in the user's home
        own = tempfile.mkdtemp(prefix="smolcli-", dir=None if len(tempfile.gettempdir()) < 20 else "/tmp")
        options |= {
            "address": "local", "num_cpus": usable_cores(), "include_dashboard": False,
            "object_store_memory": 2**28, "_temp_dir": own,
        }  # fmt: skip
    else:
        options["address"] = address
        _reach(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    import ray

    with contextlib.ExitStack() as stack:
        if own is not None:
            stack.callback(shutil.rmtree, own, ignore_errors=True)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr if verbose else stack.enter_context(_nowhere())))
        stack.callback(ray.shutdown)
        with _own_signals(), contextlib.nullcontext() if verbose else _mute():
            try:
                ray.init(**options)
            except Exception as error:
                what = f"the Ray cluster {address or 'of this machine'} cannot be reached ({_whole(error)})"
                raise UnavailableError(what, "is it running, with this version of Ray and Python?") from error
        yield


def _nowhere() -> Any:
    return open(os.devnull, "w", encoding="utf-8")


def _whole(error: BaseException) -> str:
    return " ".join(str(error).split()).strip(" .")[:300] or type(error).__name__


def _reach(address: str) -> None:
    """Finds out soon whether somebody is there: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # a name that Ray knows, or complains about
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, OverflowError) as error:
        what = f"the Ray cluster {address} cannot be reached ({getattr(error, 'strerror', None) or error})"
        raise UnavailableError(what, "is it running, and is this its address?") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM; it is ours again afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    """Keeps what native code prints off standard error: Ray's complains of servers that do not answer."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
