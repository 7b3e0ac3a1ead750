"""backends/llamacpp/amx_probe.py: every end of the probe, what is kept of it, and one real run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolcli.backends.llamacpp import amx_probe
from smolcli.system import cpu as cpu_info_module
from smolcli.system.disk_cache import folder

CPU = {"model name": "Sapphire", "flags": "fpu avx512f amx_tile amx_int8"}
DIES = (
    "import os; from smolcli.backends.llamacpp import amx_probe\namx_probe._leave_nothing(); os.kill(os.getpid(), {})"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "smolcli" / "amx"


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A CPU with AMX, whatever this machine has."""
    info = dict(CPU)
    for module in (amx_probe, cpu_info_module):
        monkeypatch.setattr(module, "cpu_info", lambda: info)
    monkeypatch.setattr(amx_probe, "_is_built", lambda: True)
    return info


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The verdicts of the probes there were; all are good."""
    made: list[bool] = []

    def probed() -> bool:
        made.append(True)
        return True

    monkeypatch.setattr(amx_probe, "_probed", probed)
    return made


ENDS: dict[str, tuple[str, bool, list[bytes]]] = {
    "works": (f"raise SystemExit({amx_probe.SAME})", True, [b"safe\n"]),
    "ends without a word": ("", False, []),
    "a bad configuration of tiles": (DIES.format("11"), False, [b"not safe\n"]),
    "an illegal instruction": (DIES.format("4"), False, [b"not safe\n"]),
    "an assertion of ggml": (DIES.format("6"), False, []),  # as an allocation that failed ends too
    "other numbers": (f"raise SystemExit({amx_probe.DIFFERS})", False, [b"not safe\n"]),
    "no memory": (DIES.format("9"), False, []),
    "an error of its own": ("open('/none/such', 'w')", False, []),
    "hangs": ("import time; time.sleep(60)", False, []),
}


@pytest.mark.parametrize("how", ENDS)
def test_every_end_of_the_probe(
    cpu: dict[str, str],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    how: str,
) -> None:
    code, safe, kept = ENDS[how]
    monkeypatch.setattr(amx_probe, "PROBE", f"print('chatter', flush=True)\n{code}")
    if how == "hangs":
        monkeypatch.setattr(amx_probe, "SECONDS", 0.5)
    assert amx_probe.verdict() is {"works": True}.get(how, False if kept else None) and amx_probe.is_safe() is safe
    assert [path.read_bytes() for path in cache.glob("*")] == kept
    assert capfd.readouterr() == ("", "")


def test_a_process_that_cannot_be_started_is_no_reason_to_take_them(
    cpu: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amx_probe.sys, "executable", "/none/such")
    assert not amx_probe.is_safe()
    assert not cache.exists()


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    allow = f"import resource; resource.setrlimit(resource.RLIMIT_CORE, ({hard}, {hard}))\n"
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", allow + DIES.format("11")], cwd=tmp_path, env=here)
    assert done.returncode == -11
    assert list(tmp_path.iterdir()) == []


def test_the_probe_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    probe = (
        "import signal; from smolcli.backends.llamacpp import amx_probe; amx_probe._leave_nothing();"
        f"pipe = open({str(tmp_path / 'pipe')!r}, 'wb', 0); pipe.write(b'here');"
        "signal.signal(signal.SIGALRM, lambda *_: pipe.write(b'late')); signal.alarm(60); signal.pause()"
    )
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    asks = f"from smolcli.backends.llamacpp import amx_probe; amx_probe.PROBE = {probe!r}; amx_probe._probed()"
    asker = subprocess.Popen([sys.executable, "-c", asks], env=here)
    with (tmp_path / "pipe").open("rb", 0) as pipe:
        assert pipe.read(4) == b"here"
        asker.kill()
        asker.wait()
        assert pipe.read() == b""


# ---- what is kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["fpu avx512f", "", None])
def test_without_amx_nothing_is_tried(
    cpu: dict[str, str], probes: list[bool], cache: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None
) -> None:
    monkeypatch.setattr(amx_probe, "_libraries", lambda: pytest.fail("looked further"))
    cpu.pop("flags") if flags is None else cpu.update(flags=flags)
    assert amx_probe.is_safe() and not amx_probe.is_there()
    assert probes == [] and not cache.exists()


def test_nothing_is_tried_of_a_library_that_is_built_without(
    cpu: dict[str, str], probes: list[bool], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert amx_probe.is_there()
    monkeypatch.setattr(amx_probe, "_is_built", lambda: False)
    assert amx_probe.is_safe() and not amx_probe.is_there()
    assert probes == [] and not cache.exists()


def test_the_probe_runs_once(cpu: dict[str, str], probes: list[bool], cache: Path) -> None:
    assert [amx_probe.is_safe() for _ in range(3)] == [True] * 3
    assert len(probes) == 1
    [kept] = cache.glob("*")
    kept.write_bytes(b"not safe\n")
    assert not amx_probe.is_safe()
    assert len(probes) == 1


CHANGES: dict[str, Callable[[dict[str, str], pytest.MonkeyPatch], Any]] = {
    "another CPU": lambda cpu, _: cpu.update({"model name": "Granite"}),
    "another kernel's flags": lambda cpu, _: cpu.update(flags=CPU["flags"] + " amx_fp16"),
    "another probe": lambda _, patch: patch.setattr(amx_probe, "KINDS", amx_probe.KINDS[:-1]),
    "another build": lambda _, patch: patch.setattr(amx_probe, "_libraries", lambda: [("libggml-cpu.so", 1, 1)]),
}


@pytest.mark.parametrize("how", CHANGES)
def test_the_verdict_is_of_one_build_on_one_cpu(
    cpu: dict[str, str], probes: list[bool], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    amx_probe.is_safe()
    CHANGES[how](cpu, monkeypatch)
    amx_probe.is_safe()
    amx_probe.is_safe()
    assert len(probes) == 2


def test_the_build_is_known_by_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name, size, _ in amx_probe._libraries() if size > 0]
    assert any("ggml-cpu" in name for name in names)
    for name in ("libllama.so", "libggml-cpu.so", "libggml-cpu-sapphirerapids.so"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(
        amx_probe.llama.llama_cpp, "_lib", type("Library", (), {"_name": str(tmp_path / "libllama.so")})
    )
    first = amx_probe._libraries()
    assert [name for name, *_ in first] == ["libggml-cpu-sapphirerapids.so", "libggml-cpu.so", "libllama.so"]
    os.utime(tmp_path / "libggml-cpu.so", ns=(1, 1))
    assert amx_probe._libraries() != first


@pytest.mark.parametrize("text", [b"", b"saf", b"safe", b"\0" * 5, b"safe\nsafe\n"])
def test_a_damaged_verdict_is_none(cpu: dict[str, str], probes: list[bool], cache: Path, text: bytes) -> None:
    amx_probe.is_safe()
    [kept] = cache.glob("*")
    kept.write_bytes(text)
    assert amx_probe.is_safe() and amx_probe.is_safe()
    assert len(probes) == 2 and kept.read_bytes() == b"safe\n"


def test_a_cache_that_cannot_be_written_costs_only_time(
    cpu: dict[str, str], probes: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert amx_probe.is_safe() and amx_probe.is_safe()
    assert len(probes) == 2 and not folder("amx").exists()


def test_a_home_that_is_not_there_is_not_made(
    cpu: dict[str, str], probes: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "service"))
    assert amx_probe.is_safe() and amx_probe.is_safe()
    assert len(probes) == 2 and not (tmp_path / "service").exists()


# ---- the probe itself ------------------------------------------------------------------------------------


def test_numbers_are_alike_but_for_rounding() -> None:
    one = np.random.default_rng(1).normal(size=(43, 320)).astype(np.float32) * 10
    assert amx_probe.alike(one, one)
    assert amx_probe.alike(one, one + np.random.default_rng(2).normal(size=one.shape).astype(np.float32) * 0.1)
    for row in (0, 42):
        for wrong in (one[row][::-1], one[row] * np.nan, one[row] * 0, -one[row], one[row] + 2):
            other = one.copy()
            other[row] = wrong
            assert not amx_probe.alike(one, other)


def test_the_probe_tells_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def logits(path: Path, extra: bool) -> Any:
        seen.append((path.stat().st_size, extra))
        return (
            np.full((43, 320), 1, np.float32)
            if len(seen) < 2 * len(amx_probe.KINDS)
            else np.eye(43, 320, dtype=np.float32)
        )

    monkeypatch.setattr(amx_probe, "logits", logits)
    guarded: list[int] = []
    monkeypatch.setattr(amx_probe, "_leave_nothing", lambda: guarded.append(len(seen)))
    with pytest.raises(SystemExit) as caught:
        amx_probe.probe()
    assert caught.value.code == amx_probe.DIFFERS
    assert guarded == [0]  # before anything could crash
    assert [extra for _, extra in seen] == [False, True] * len(amx_probe.KINDS)
    assert len({size for size, _ in seen}) > 2  # each of another type


@pytest.mark.parametrize("call", ["llama_model_load_from_file", "llama_init_from_model"])
def test_a_probe_without_memory_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "probe.gguf"
    amx_probe._quantize(amx_probe.BUILT_IN / "nano-F16.gguf", path, amx_probe.KINDS[0])
    monkeypatch.setattr(amx_probe.llama, call, lambda *_: None)
    with pytest.raises(MemoryError):
        amx_probe.logits(path, extra=False)


ANSWERS = """
import sys
from pathlib import Path
from smolcli.backends.llamacpp import amx_probe
amx_probe._leave_nothing()
path = Path(sys.argv[1])
amx_probe._quantize(amx_probe.BUILT_IN / "nano-F16.gguf", path, amx_probe.llama.LLAMA_FTYPE_MOSTLY_Q8_0)
[found, exact] = [amx_probe.logits(path, extra) for extra in (sys.argv[2] == "True", False)]
assert found.shape == (sum(amx_probe.BATCHES), 320) and float(abs(found).max()) > 5 and amx_probe.alike(found, exact)
"""


def test_what_the_real_probe_finds_safe_answers(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    safe = amx_probe.is_safe()
    assert list((tmp_path / "temporary").iterdir()) == []  # whatever ended it
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", ANSWERS, str(tmp_path / "nano-Q8_0.gguf"), str(safe)]
    done = subprocess.run(words, capture_output=True, text=True, env=here)
    assert done.returncode == 0, done.stderr[-500:]
    assert [path.read_bytes() for path in cache.glob("*")] == [
        b"safe\n" if safe else b"not safe\n"
    ] * amx_probe.is_there()
