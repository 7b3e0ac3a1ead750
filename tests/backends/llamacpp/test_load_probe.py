"""llamacpp/load_probe.py: llama.cpp's libraries as they are here, and broken ones in their place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import pytest

from smolcli.backends.llamacpp import load_probe
from smolcli.errors import EngineError, ErrorKind, UnavailableError
from smolcli.models.files import BUILT_IN
from tests.helpers import SAMPLES, line, smolcli

LIBRARIES = Path(llama_cpp.__path__[0]) / "lib"
PAIR = BUILT_IN / "nano-F16.gguf"


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], UnavailableError | None]:
    """The probe, which remembers nothing but what is in its cache, an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run() -> UnavailableError | None:
        load_probe.loading_error.cache_clear()
        return load_probe.loading_error()

    return run


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """The environment in which llama.cpp's libraries are cut short."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in ("libllama.so", "libmtmd.so", "libllama.dylib", "libmtmd.dylib"):
        (folder / name).write_bytes(b"\x7fELF cut short")
    return {"LLAMA_CPP_LIB_PATH": str(folder), "MTMD_CPP_LIB": str(folder), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_libraries_that_can_be_loaded_are_loaded_once(
    probe: Callable[[], UnavailableError | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert probe() is None
    calls: list[str] = []
    monkeypatch.setattr(load_probe, "call", lambda target, **_: calls.append(target))
    assert probe() is None and calls == []
    folder = shutil.copytree(LIBRARIES, tmp_path / "lib", copy_function=lambda source, copy: Path(copy).touch())
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(folder))  # other files
    assert probe() is None and len(calls) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UnavailableError("it lacks libgomp.so.1", "build it"), "it lacks libgomp.so.1; build it"),
        (EngineError("the engine crashed (SIGILL)", kind=ErrorKind.CRASH), "cannot be loaded (crashed (SIGILL)); pip"),
        (EngineError("the engine gave no answer in 60 seconds", kind=ErrorKind.TIMEOUT), None),
        (EngineError("the engine's process cannot be started", kind=ErrorKind.START), None),
    ],
)
def test_a_fault_is_one_of_the_library_and_is_looked_for_again(
    probe: Callable[[], UnavailableError | None],
    monkeypatch: pytest.MonkeyPatch,
    error: UnavailableError | EngineError,
    message: str | None,
) -> None:
    calls = []

    def fail(target: str, **_: float) -> None:
        calls.append(target)
        raise error

    monkeypatch.setattr(load_probe, "call", fail)
    for _ in range(2):
        fault = probe()
        assert (message is None) == (fault is None) and (message or "") in str(fault or "")
    assert len(calls) == 2


def test_auto_goes_on_in_numpy_with_one_notice(broken: dict[str, str]) -> None:
    """Of a pair, which PyTorch does not run."""
    done = smolcli("caption", SAMPLES / "scene.png", "-m", PAIR, "-f", "json", stdin=b"", **broken)
    record = json.loads(done.stdout)
    assert (done.returncode, record["backend"]) == (0, "numpy") and record["text"].startswith("a red circle")
    assert "libllama" in line(done) and "and NumPy runs nano-F16; " in line(done) and "--force-reinstall" in line(done)


def test_llamacpp_by_name_fails_in_one_line(broken: dict[str, str]) -> None:
    done = smolcli("caption", SAMPLES / "scene.png", "-m", "nano", "-b", "llamacpp", stdin=b"", **broken)
    assert (done.returncode, done.stdout) == (3, b"")
    assert "llamacpp is installed and cannot be loaded" in line(done) and "--force-reinstall" in line(done)
