"""`smolcli doctor`: what it says is so, and whatever is wrong is a line, not its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from smolcli import registry
from smolcli.backends.vision import select
from smolcli.commands import models as models_command
from smolcli.commands.doctor import checks, command, probes
from smolcli.commands.doctor.checks import Problem, Report
from smolcli.errors import EngineError
from smolcli.models import hub_cache
from smolcli.system.cpu import usable_cores
from smolcli.system.info import FEATURES
from tests.helpers import LIBRARIES, loaded


def answers(place: str, *_: object) -> None:
    """A native library that this CPU has not the instructions for, in the place of probes.answers."""
    os.write(2, b"loading kernels\n")
    os.kill(os.getpid(), signal.SIGILL)


def loads(module: str) -> None:
    if module == "decord":
        os.kill(os.getpid(), signal.SIGSEGV)


def precision(module: str) -> str:
    raise RuntimeError("no such plugin")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without settings, models and GPUs, whose libraries answer at once."""
    for name in checks.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    said = {"answers": {"computes": "cpu, float32"}, "loads": None, "precision": "bfloat16"}
    monkeypatch.setattr(checks, "call", lambda place, *_, **__: said[place.split(":")[1]])
    monkeypatch.setattr(checks, "gpu_may_be_here", lambda: False)
    return tmp_path


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def remove(*names: str) -> None:
        found = registry.find_spec
        monkeypatch.setattr(registry, "find_spec", lambda name: None if name in names else found(name))

    return remove


def shown(capsys: pytest.CaptureFixture[str], format: str = "text") -> tuple[int, str]:
    with pytest.raises(typer.Exit) as end:
        command.run_doctor(command.Doctor(format))
    return end.value.exit_code, capsys.readouterr().out


def problem(report: Report, begins: str) -> Problem:
    return next(one for one in report.problems if one.what.startswith(begins))


def test_what_it_says_of_this_machine_is_so(tmp_path: Path) -> None:
    """As a user runs it, with every library that is here."""
    modules, said = loaded("doctor", "-f", "json", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1")
    facts = json.loads(said)
    assert not modules & (LIBRARIES - {"multiprocessing", "importlib.metadata"})
    seen = {one["name"]: one["version"] for one in facts["libraries"] if one["installed"]}
    assert {"numpy", "llama-cpp-python", "torch", "openvino", "llguidance"} <= set(seen)
    assert all(version(name) == found for name, found in seen.items())
    assert facts["machine"]["cores"] == usable_cores()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith(("flags", "Features"))).split()
    assert facts["machine"]["features"] == [name for name in FEATURES if name in flags]
    assert ("none" in facts["amx"]) == ("amx_tile" not in flags)
    assert {one["name"]: one["installed"] for one in facts["backends"]} == {"torch": True, "llamacpp": True}
    assert all(one["seconds"] > 0 for one in facts["backends"])
    assert (facts["vision"]["large"], facts["vision"]["small"]) == ("openvino", "mtmd")
    assert facts["auto"]["model"] == "nano"
    assert facts["offline"] is True and facts["environment"]["HF_HUB_OFFLINE"] == "1"
    assert facts["cache"] == {"path": str(tmp_path / "hf/hub"), "models": [], "bytes": 0}
    assert facts["folders"][0]["free"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert not any(one["blocks"] for one in facts["problems"])


def test_the_precision_is_that_of_the_encoder() -> None:
    from smolcli.backends.vision.openvino import PRECISIONS

    assert probes.precision("smolcli.backends.vision.openvino") in PRECISIONS


def test_nothing_wrong_is_told_on_one_screen(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = shown(capsys)
    assert (code, said.splitlines()[-1].split()) == (0, ["problems", "none"])
    assert said.count("\n") < 50
    assert "llamacpp, which auto takes: answers" in said
    assert "of a large model encoded by openvino in bfloat16" in said
    assert all(line == line.rstrip() for line in said.splitlines())


def test_a_missing_library_is_told_with_its_command(
    machine: Path, without: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    without("openvino", "av", "llguidance")
    code, said = shown(capsys)
    assert code == 0
    assert "llguidance: not installed; pip install 'smolcli[schema]'" in said
    assert "av: not installed; pip install 'smolcli[video]'" in said
    assert "of a large model encoded by torch in bfloat16" in said
    assert "without OpenVINO" not in said
    without("torch")
    assert shown(capsys)[1].endswith("slower without OpenVINO; pip install 'smolcli[openvino]'\n")


def test_without_any_backend_nothing_can_be_answered(
    machine: Path, without: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    without("llama_cpp", "torch")
    code, said = shown(capsys, "json")
    facts = json.loads(said)
    assert code == 3
    assert facts["auto"] == {"backend": None, "model": None}
    assert [one["advice"] for one in facts["problems"] if one["blocks"]] == ["pip install 'smolcli[llamacpp]'"]
    assert "until then nothing is answered" in shown(capsys)[1]


def test_a_library_that_ends_its_process_is_a_problem_and_not_the_end(
    machine: Path, monkeypatch: pytest.MonkeyPatch, without: Callable[..., None]
) -> None:
    from smolcli.process.child import call

    without("torch")
    monkeypatch.setattr(checks, "call", call)
    monkeypatch.setattr(checks, "PROBES", __name__)
    report = checks.checkup()
    llama = problem(report, "llamacpp is installed and does not work: crashed (SIGILL): loading kernels")
    assert llama.blocks and "--no-binary llama-cpp-python" in llama.advice
    assert not problem(report, "decord is installed and does not work: crashed (SIGSEGV)").blocks
    assert not problem(report, "openvino is installed and does not work: failed: RuntimeError: no such plugin").blocks
    assert report.problems[0] == llama


def test_what_auto_encodes_pictures_with_and_cannot_stands_in_the_way(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = checks.call

    def broken(place: str, *args: Any, **options: Any) -> Any:
        if args == ("smolcli.backends.vision.openvino",):
            raise EngineError("the engine failed: ImportError: no plugin")
        return call(place, *args, **options)

    monkeypatch.setattr(checks, "call", broken)
    told = "openvino is installed and does not work"
    assert not problem(checks.checkup(), told).blocks  # nano is encoded by mtmd
    folder = machine / "hf" / "hub" / "models--ggml-org--SmolVLM-256M-Instruct-GGUF" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "SmolVLM-256M-Instruct-Q8_0.gguf").touch()
    with (folder / "mmproj-SmolVLM-256M-Instruct-Q8_0.gguf").open("wb") as file:
        file.truncate(select.LARGE)
    assert problem(checks.checkup(), told).blocks


def test_a_model_that_is_not_here_stands_in_the_way(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLCLI_MODEL", "2.2b")
    found = problem(checks.checkup(), "2.2b (from SMOLCLI_MODEL): not on this machine")
    assert found.blocks and found.advice == "smolcli models pull 2.2b"


def test_models_in_the_cache_have_their_size(machine: Path) -> None:
    folder = machine / "hf" / "hub" / "models--ggml-org--SmolVLM-256M-Instruct-GGUF" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "SmolVLM-256M-Instruct-Q8_0.gguf").write_bytes(bytes(3000))
    (folder / "mmproj-SmolVLM-256M-Instruct-Q8_0.gguf").write_bytes(bytes(500))
    facts = checks.checkup().facts
    assert facts["cache"]["models"] == [{"name": "256m", "here": ["llamacpp"], "bytes": 3500}]
    assert facts["auto"] == {"backend": "llamacpp", "model": "256m"}


def test_a_damaged_model_is_told_and_ends_nothing(machine: Path) -> None:
    for repo in ("HuggingFaceTB--SmolVLM2-2.2B-Instruct", "HuggingFaceTB--SmolVLM-256M-Instruct"):
        folder = machine / "hf" / "hub" / f"models--{repo}" / "snapshots" / "abc"
        folder.mkdir(parents=True)
        for name in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
            (folder / name).write_text("{torn")
    report = checks.checkup()
    assert [one.what.endswith("not an index of weights") for one in report.problems].count(True) == 2
    assert report.facts["auto"]["model"] == "nano"
    assert {row["name"]: row["here"] for row in models_command.model_rows()}["256m"] == []


def test_a_gpu_that_is_not_used_and_a_full_disk_are_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "gpu_may_be_here", lambda: True)
    usage = shutil.disk_usage(machine)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
    report = checks.checkup()
    assert "pytorch.org" in problem(report, "a GPU is here that PyTorch does not see").advice
    assert "only 5 MB are free" in problem(report, str(hub_cache.cache_dir())).what
    assert not any(one.blocks for one in report.problems)


def test_folders_that_cannot_be_written_are_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "cache"))
    monkeypatch.setenv("TMPDIR", str(machine / "tmp"))
    monkeypatch.setattr(checks.tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(checks.os, "access", lambda *_: False)
    report = checks.checkup()
    for folder, variable in ((machine / "hf/hub", "HF_HOME"), (machine / "cache/smolcli", "XDG_CACHE_HOME"),
                             (machine / "tmp", "TMPDIR")):  # fmt: skip
        assert f"set {variable} to" in problem(report, f"{folder}: cannot be written: ").advice


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (EngineError("the engine crashed (SIGSEGV)", "-v shows what it printed", kind="crash"), "install it again"),
        (EngineError("the engine failed: ImportError: no", "run it again with -v"), "install it again"),
        (EngineError("the engine gave no answer in 180 seconds", kind="timeout"), "install it again"),
    ],
)
def test_the_remedy_is_that_of_the_fault(
    machine: Path, monkeypatch: pytest.MonkeyPatch, error: EngineError, advice: str
) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(checks, "call", fails)
    assert problem(checks.checkup(), "llamacpp is installed and does not work").advice.startswith(advice)


def test_that_no_process_starts_is_told_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise EngineError("no process can be started (Too many open files)", "are enough allowed?", kind="start")

    monkeypatch.setattr(checks, "call", fails)
    [only] = [one for one in checks.checkup().problems if "files" in one.what]
    assert only == Problem("no process can be started (Too many open files)", "are enough allowed?", blocks=True)


def test_amx_that_crashes_has_a_remedy(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, object] = {"computes": "cpu, float32"}
    monkeypatch.setattr(checks, "call", lambda place, *_, **__: dict(said) if place.endswith("answers") else None)
    for word, told in (("crashes", "crashes with"), ("left out", "built without"), ("untried", ""), ("used", "")):
        said["amx"] = word
        for features in (["amx_tile"], []):
            monkeypatch.setattr(checks, "machine", lambda: {"features": features, "gpus": []})  # noqa: B023
            found = [one for one in checks.checkup().problems if "AMX" in one.what]
            assert len(found) == bool(told and features)
            assert all(told in one.what and "-fno-dse" in one.advice and not one.blocks for one in found)


@pytest.mark.parametrize("amx", ["used", "left out", "untried", None])
def test_what_is_with_amx(machine: Path, monkeypatch: pytest.MonkeyPatch, amx: str | None) -> None:
    told = {"used": "computes with it", "left out": "without it", "untried": "not be found out", None: "did not answer"}
    monkeypatch.setattr(checks, "machine", lambda: {"features": ["amx_tile"], "gpus": []})

    def call(place: str, *_: object, **__: object) -> Any:
        if place.endswith("answers"):
            if amx is None:
                raise EngineError("no process can be started", "are enough allowed?", kind="start")
            return {"computes": "cpu, float32", "amx": amx}

    monkeypatch.setattr(checks, "call", call)
    assert told[amx] in checks.checkup().facts["amx"]


def test_a_cache_that_cannot_be_read_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> list[str]:
        raise PermissionError(13, "Permission denied", "/closed/hub")

    monkeypatch.setattr(hub_cache, "cached_ids", closed)
    report = checks.checkup()
    assert problem(report, "/closed/hub: cannot be read (Permission denied)").advice.endswith("set HF_HOME")
    assert report.facts["cache"]["models"] == []


def test_a_backend_that_refuses_the_picture_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(place: str, *_: object, **__: object) -> Any:
        if place.endswith("answers"):
            raise EngineError("the engine failed: no")

    monkeypatch.setattr(checks, "call", refuses)
    report = checks.checkup()
    assert [one["seconds"] for one in report.facts["backends"]] == [None, None]
    assert problem(report, "llamacpp is installed and does not work: failed: no").blocks
    assert not problem(report, "torch").blocks
