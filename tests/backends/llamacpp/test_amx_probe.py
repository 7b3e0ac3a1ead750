"""backends/llamacpp/amx_probe.py: every outcome of the probe, its cache, and one real run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest

from smolcli.backends.llamacpp import amx_probe
from smolcli.models.files import BUILT_IN
from smolcli.system import cpu as cpu_module
from smolcli.system.disk_cache import cache_folder

CPU = {"model name": "Sapphire", "flags": "fpu avx512f amx_tile amx_int8"}
DIES = (
    "import os; from smolcli.backends.llamacpp import amx_probe\n"
    "amx_probe._prevent_leftovers(); os.kill(os.getpid(), {})"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "smolcli" / "amx"


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A CPU with AMX, and a llama.cpp with its kernels, whatever this machine has."""
    info = dict(CPU)
    for module in (amx_probe, cpu_module):
        monkeypatch.setattr(module, "cpu_info", lambda: info)
    monkeypatch.setattr(amx_probe, "_is_built_with_amx", lambda: True)
    return info


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The results of the probes that ran; all are good."""
    results: list[bool] = []

    def run_probe() -> bool:
        results.append(True)
        return True

    monkeypatch.setattr(amx_probe, "_run_probe", run_probe)
    return results


OUTCOMES: dict[str, tuple[str, bool, list[bytes]]] = {
    "works": (f"raise SystemExit({amx_probe.EXIT_SAME})", True, [b"safe\n"]),
    "exits with 0": ("", False, []),
    "a segmentation fault": (DIES.format("11"), False, [b"not safe\n"]),
    "an illegal instruction": (DIES.format("4"), False, [b"not safe\n"]),
    "an assertion of ggml": (DIES.format("6"), False, []),  # also how a failed allocation ends
    "other numbers": (f"raise SystemExit({amx_probe.EXIT_DIFFERENT})", False, [b"not safe\n"]),
    "no memory": (DIES.format("9"), False, []),
    "an error of its own": ("open('/none/such', 'w')", False, []),
    "hangs": ("import time; time.sleep(60)", False, []),
}


@pytest.mark.parametrize("how", OUTCOMES)
def test_every_outcome_of_the_probe(
    cpu: dict[str, str],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    how: str,
) -> None:
    code, is_safe, cached = OUTCOMES[how]
    monkeypatch.setattr(amx_probe, "PROBE", f"print('chatter', flush=True)\n{code}")
    if how == "hangs":
        monkeypatch.setattr(amx_probe, "TIMEOUT", 0.5)
    assert amx_probe.verdict() is {"works": True}.get(how, False if cached else None)
    assert amx_probe.is_safe() is is_safe
    assert [path.read_bytes() for path in cache.glob("*")] == cached
    assert capfd.readouterr() == ("", "")


def test_a_probe_that_cannot_be_started_counts_as_unsafe(
    cpu: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/none/such")
    assert not amx_probe.is_safe()
    assert not cache.exists()


def test_a_crash_leaves_no_core_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    allow = f"import resource; resource.setrlimit(resource.RLIMIT_CORE, ({hard}, {hard}))\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", allow + DIES.format("11")], cwd=tmp_path, env=environment)
    assert done.returncode == -11
    assert list(tmp_path.iterdir()) == []


def test_the_probe_ends_when_its_parent_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    probe = (
        "import signal; from smolcli.backends.llamacpp import amx_probe; amx_probe._prevent_leftovers();"
        f"pipe = open({str(tmp_path / 'pipe')!r}, 'wb', 0); pipe.write(b'here');"
        "signal.signal(signal.SIGALRM, lambda *_: pipe.write(b'late')); signal.alarm(60); signal.pause()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent_code = (
        f"from smolcli.backends.llamacpp import amx_probe; amx_probe.PROBE = {probe!r}; amx_probe._run_probe()"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], env=environment)
    with (tmp_path / "pipe").open("rb", 0) as pipe:
        assert pipe.read(4) == b"here"
        parent.kill()
        parent.wait()
        assert pipe.read() == b""


# ---- the cache --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["fpu avx512f", "", None])
def test_nothing_is_tried_without_amx(
    cpu: dict[str, str], probes: list[bool], cache: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None
) -> None:
    monkeypatch.setattr(amx_probe, "_libraries", lambda: pytest.fail("the libraries were read"))
    cpu.pop("flags") if flags is None else cpu.update(flags=flags)
    assert amx_probe.is_safe() and not amx_probe.is_supported()
    assert probes == [] and not cache.exists()


def test_nothing_is_tried_with_a_library_built_without_amx(
    cpu: dict[str, str], probes: list[bool], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert amx_probe.is_supported()
    monkeypatch.setattr(amx_probe, "_is_built_with_amx", lambda: False)
    assert amx_probe.is_safe() and not amx_probe.is_supported()
    assert probes == [] and not cache.exists()


def test_the_probe_runs_once(cpu: dict[str, str], probes: list[bool], cache: Path) -> None:
    assert [amx_probe.is_safe() for _ in range(3)] == [True] * 3
    assert len(probes) == 1
    [cached] = cache.glob("*")
    cached.write_bytes(b"not safe\n")
    assert not amx_probe.is_safe()
    assert len(probes) == 1


CHANGES: dict[str, Callable[[dict[str, str], pytest.MonkeyPatch], Any]] = {
    "another CPU": lambda cpu, _: cpu.update({"model name": "Granite"}),
    "flags of another kernel": lambda cpu, _: cpu.update(flags=CPU["flags"] + " amx_fp16"),
    "another probe": lambda _, patch: patch.setattr(amx_probe, "FILE_TYPES", amx_probe.FILE_TYPES[:-1]),
    "another build": lambda _, patch: patch.setattr(amx_probe, "_libraries", lambda: [("libggml-cpu.so", 1, 1)]),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_verdict_holds_for_one_build_on_one_cpu(
    cpu: dict[str, str], probes: list[bool], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    amx_probe.is_safe()
    CHANGES[how](cpu, monkeypatch)
    amx_probe.is_safe()
    amx_probe.is_safe()
    assert len(probes) == 2


def test_a_build_is_identified_by_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name, size, _ in amx_probe._libraries() if size > 0]
    assert any("ggml-cpu" in name for name in names)
    for name in ("libllama.so", "libggml-cpu.so", "libggml-cpu-sapphirerapids.so"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(llama.llama_cpp, "_lib", type("Library", (), {"_name": str(tmp_path / "libllama.so")}))
    first = amx_probe._libraries()
    assert [name for name, *_ in first] == ["libggml-cpu-sapphirerapids.so", "libggml-cpu.so", "libllama.so"]
    os.utime(tmp_path / "libggml-cpu.so", ns=(1, 1))
    assert amx_probe._libraries() != first


@pytest.mark.parametrize("text", [b"", b"saf", b"safe", b"\0" * 5, b"safe\nsafe\n"])
def test_a_damaged_verdict_is_replaced(cpu: dict[str, str], probes: list[bool], cache: Path, text: bytes) -> None:
    amx_probe.is_safe()
    [cached] = cache.glob("*")
    cached.write_bytes(text)
    assert amx_probe.is_safe() and amx_probe.is_safe()
    assert len(probes) == 2 and cached.read_bytes() == b"safe\n"


def test_a_cache_that_cannot_be_written_costs_only_time(
    cpu: dict[str, str], probes: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert amx_probe.is_safe() and amx_probe.is_safe()
    assert len(probes) == 2 and not cache_folder("amx").exists()


def test_a_home_directory_that_does_not_exist_is_not_created(
    cpu: dict[str, str], probes: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "service"))
    assert amx_probe.is_safe() and amx_probe.is_safe()
    assert len(probes) == 2 and not (tmp_path / "service").exists()


# ---- the probe itself ------------------------------------------------------------------------------------


def test_logits_are_close_if_they_differ_by_rounding_only() -> None:
    logits = np.random.default_rng(1).normal(size=(43, 320)).astype(np.float32) * 10
    assert amx_probe.is_close(logits, logits)
    assert amx_probe.is_close(
        logits, logits + np.random.default_rng(2).normal(size=logits.shape).astype(np.float32) * 0.1
    )
    for row in (0, 42):
        for wrong in (logits[row][::-1], logits[row] * np.nan, logits[row] * 0, -logits[row], logits[row] + 2):
            other = logits.copy()
            other[row] = wrong
            assert not amx_probe.is_close(logits, other)


def test_the_probe_reports_different_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compute_logits(path: Path, extra_buffers: bool) -> Any:
        calls.append((path.stat().st_size, extra_buffers))
        return (
            np.full((43, 320), 1, np.float32)
            if len(calls) < 2 * len(amx_probe.FILE_TYPES)
            else np.eye(43, 320, dtype=np.float32)
        )

    monkeypatch.setattr(amx_probe, "compute_logits", compute_logits)
    calls_before_guard: list[int] = []
    monkeypatch.setattr(amx_probe, "_prevent_leftovers", lambda: calls_before_guard.append(len(calls)))
    with pytest.raises(SystemExit) as caught:
        amx_probe.probe()
    assert caught.value.code == amx_probe.EXIT_DIFFERENT
    assert calls_before_guard == [0]  # it comes before anything that could crash
    assert [extra for _, extra in calls] == [False, True] * len(amx_probe.FILE_TYPES)
    assert len({size for size, _ in calls}) > 2  # each of another type


@pytest.mark.parametrize("call", ["llama_model_load_from_file", "llama_init_from_model"])
def test_a_probe_without_memory_raises_memory_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "probe.gguf"
    amx_probe.quantize(BUILT_IN / "nano-F16.gguf", path, amx_probe.FILE_TYPES[0])
    monkeypatch.setattr(llama, call, lambda *_: None)
    with pytest.raises(MemoryError):
        amx_probe.compute_logits(path, extra_buffers=False)


COMPUTE_LOGITS = """
import sys
from pathlib import Path
from smolcli.backends.llamacpp import amx_probe
from smolcli.models.files import BUILT_IN
amx_probe._prevent_leftovers()
path = Path(sys.argv[1])
amx_probe.quantize(BUILT_IN / "nano-F16.gguf", path, amx_probe.llama.LLAMA_FTYPE_MOSTLY_Q8_0)
[logits, exact] = [amx_probe.compute_logits(path, extra) for extra in (sys.argv[2] == "True", False)]
assert logits.shape == (sum(amx_probe.BATCHES), 320) and float(abs(logits).max()) > 5
assert amx_probe.is_close(logits, exact)
"""


def test_logits_are_right_with_the_verdict_of_the_real_probe(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    is_safe = amx_probe.is_safe()
    assert list((tmp_path / "temporary").iterdir()) == []  # however the probe ended
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COMPUTE_LOGITS, str(tmp_path / "nano-Q8_0.gguf"), str(is_safe)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-500:]
    assert [path.read_bytes() for path in cache.glob("*")] == [
        b"safe\n" if is_safe else b"not safe\n"
    ] * amx_probe.is_supported()
