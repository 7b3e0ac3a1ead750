"""Every run of the tests is the same wherever it is started: with a home of its own, and with Ctrl-C at work.

They neither see nor change the user's settings, models and caches.
"""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smolcli.models.hub_cache import cache_dir
from tests.http_server import Server

# The real files of tests/real_files.py may lie in the user's hub cache, which is only read. A process that runs a part
# of the tests for another has that one's.
os.environ.setdefault("SMOLCLI_TESTS_HUB_CACHE", str(cache_dir()))
# Before any test imports a library that reads it (huggingface_hub, Matplotlib), and for every program they start.
home = tempfile.TemporaryDirectory(prefix="smolcli-home-")
os.environ["HOME"] = home.name
for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "HF_HUB_CACHE", "MPLCONFIGDIR"):
    os.environ.pop(name, None)

# A shell that starts something in the background without job control has it ignore SIGINT, and all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Python find no folder for temporary files, as in a container whose file system is read-only.

    A test's own tmp_path is made before.
    """
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
