"""`smolcli doctor`: its facts are true, and whatever is wrong becomes a line of its report, never its end."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
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
from smolcli.commands.doctor.screen import Screen
from smolcli.errors import EngineError, ErrorKind
from smolcli.models import hub_cache
from smolcli.system.cpu import usable_cores
from smolcli.system.info import FEATURES
from tests.families import make_pair
from tests.helpers import LIBRARIES, loaded


def answers(target: str, *_: object) -> None:
    """Stands for probes.answers with a native library whose instructions this CPU lacks."""
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
    values = {"answers": {"computes": "cpu, float32"}, "loads": None, "precision": "bfloat16"}
    monkeypatch.setattr(checks, "call", lambda target, *_, **__: values[target.split(":")[1]])
    monkeypatch.setattr(checks, "gpu_may_be_here", lambda: False)
    return tmp_path


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def remove(*names: str) -> None:
        find_spec = registry.find_spec  # type: ignore[attr-defined]
        monkeypatch.setattr(registry, "find_spec", lambda name: None if name in names else find_spec(name))

    return remove


def place_256m(machine: Path, language: int = 0, vision: int = 0) -> None:
    """Place the pair of 256m, halves of so many zero bytes, where a pull puts it: `auto` takes llamacpp for it."""
    folder = machine / "hf" / "hub" / "models--ggml-org--SmolVLM-256M-Instruct-GGUF" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    for name, size in (
        ("SmolVLM-256M-Instruct-Q8_0.gguf", language),
        ("mmproj-SmolVLM-256M-Instruct-Q8_0.gguf", vision),
    ):
        with (folder / name).open("wb") as file:
            file.truncate(size)


def shown(capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, str]:
    with pytest.raises(typer.Exit) as end:
        command.run_doctor(command.Doctor(**options))
    return end.value.exit_code, capsys.readouterr().out


def problem(report: Report, begins: str) -> Problem:
    return next(problem for problem in report.problems if problem.what.startswith(begins))


@pytest.mark.slow
def test_the_facts_of_this_machine_are_true(tmp_path: Path) -> None:
    """As a user runs it, with every library that is here."""
    modules, output = loaded("doctor", "--json", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1")
    facts = json.loads(output)
    assert not modules & (LIBRARIES - {"multiprocessing", "importlib.metadata"})
    installed = {library["name"]: library["version"] for library in facts["libraries"] if library["installed"]}
    assert {"numpy", "llama-cpp-python", "torch", "openvino", "llguidance"} <= set(installed)
    assert all(version(name) == reported for name, reported in installed.items())
    assert facts["machine"]["cores"] == usable_cores()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith(("flags", "Features"))).split()
    assert facts["machine"]["features"] == [name for name in FEATURES if name in flags]
    assert ("none" in facts["amx"]) == ("amx_tile" not in flags)
    assert [backend["name"] for backend in facts["backends"]] == ["torch", "llamacpp", "numpy"]
    assert all(backend["installed"] for backend in facts["backends"])
    assert all(backend["seconds"] > 0 for backend in facts["backends"])
    assert (facts["vision"]["large"], facts["vision"]["small"]) == ("openvino", "mtmd")
    assert facts["auto"]["model"] == "nano"
    assert facts["offline"] is True and facts["environment"]["HF_HUB_OFFLINE"] == "1"
    assert facts["cache"] == {"path": str(tmp_path / "hf/hub"), "models": [], "bytes": 0}
    assert facts["folders"][0]["free"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert not any(problem["blocks"] for problem in facts["problems"])


def test_the_precision_is_that_of_the_encoder() -> None:
    from smolcli.backends.vision.openvino import PRECISIONS

    assert probes.precision("smolcli.backends.vision.openvino") in PRECISIONS


def test_a_machine_without_problems_fits_one_screen(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, screen = shown(capsys)
    verdict, empty, *areas = screen.splitlines()
    assert (code, verdict, empty) == (0, "smolcli works here, and lacks nothing", "")
    assert [line.split()[1] for line in areas] == list(checks.AREAS) and len(areas) == 10
    code, screen = shown(capsys, verbose=True)
    assert "llamacpp, which auto takes: answers" in screen and "numpy: answers" in screen
    assert "of a large model encoded by openvino in bfloat16" in screen
    assert all(line == line.rstrip() for line in screen.splitlines())
    assert max(map(len, screen.splitlines())) <= 80 or str(machine) in max(screen.splitlines(), key=len)


def test_an_output_without_unicode_gets_ascii(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    monkeypatch.setenv("SMOLCLI_MODEL", "gefäß")
    for is_verbose in (False, True):
        with pytest.raises(typer.Exit):
            command.run_doctor(command.Doctor(verbose=is_verbose))
    assert rb"gef\xe4\xdf" in output.getvalue()


def test_a_missing_library_is_shown_with_the_command_that_installs_it(
    machine: Path, without: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    without("openvino", "av", "llguidance")
    code, screen = shown(capsys, verbose=True)
    assert code == 0
    assert "llguidance: not installed; pip install 'smolcli[schema]'" in screen
    assert "av: not installed; pip install 'smolcli[video]'" in screen
    assert "of a large model encoded by torch in bfloat16" in screen
    assert "without OpenVINO" not in screen
    without("torch")
    screen = shown(capsys)[1]
    assert (
        "pictures are encoded several times slower without OpenVINO\n      pip install 'smolcli[openvino]'\n" in screen
    )
    assert re.search(r"^\S+ backends +torch not installed; llamacpp answers in", screen, re.MULTILINE)


def test_without_extras_numpy_answers_and_what_is_faster_is_named(
    machine: Path, without: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    without("llama_cpp", "torch")
    code, screen = shown(capsys, format="json")
    facts = json.loads(screen)
    assert code == 0
    assert facts["auto"] == {"backend": "numpy", "model": "nano"}
    slow = next(problem for problem in facts["problems"] if problem["area"] == "backends")
    assert slow["what"] == "models larger than nano are slow without PyTorch or llama.cpp"
    assert slow["advice"] == "pip install 'smolcli[llamacpp]'" and not slow["blocks"]
    assert "others are for llamacpp, which is not installed" in shown(capsys)[1]


def test_without_an_answer_of_the_backend_that_auto_takes_nothing_can_be_answered(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = checks.call  # type: ignore[attr-defined]  # the fixture's

    def broken(target: str, *args: Any, **options: Any) -> Any:
        if args[0] == registry.BACKENDS["llamacpp"].target:
            raise EngineError("the engine failed: MemoryError")
        return call(target, *args, **options)

    monkeypatch.setattr(checks, "call", broken)
    code, screen = shown(capsys)
    assert code == 3 and screen.startswith("smolcli cannot answer yet")
    assert shown(capsys, as_json=True)[0] == 3


def test_a_library_that_ends_its_process_is_a_problem_and_not_the_end(
    machine: Path, monkeypatch: pytest.MonkeyPatch, without: Callable[..., None]
) -> None:
    from smolcli.process.child import call

    without("torch")
    place_256m(machine)
    monkeypatch.setattr(checks, "call", call)
    monkeypatch.setattr(checks, "PROBES", __name__)
    report = checks.checkup()
    llama = problem(report, "llamacpp is installed and does not work: crashed (SIGILL): loading kernels")
    assert llama.blocks and "--no-binary llama-cpp-python" in llama.advice
    assert not problem(report, "decord is installed and does not work: crashed (SIGSEGV)").blocks
    assert not problem(report, "openvino is installed and does not work: failed: RuntimeError: no such plugin").blocks
    assert report.problems[0] == llama


def test_a_broken_vision_encoder_blocks_where_auto_uses_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = checks.call  # type: ignore[attr-defined]  # the fixture's

    def broken(target: str, *args: Any, **options: Any) -> Any:
        if args == ("smolcli.backends.vision.openvino",):
            raise EngineError("the engine failed: ImportError: no plugin")
        return call(target, *args, **options)

    monkeypatch.setattr(checks, "call", broken)
    broken_library = "openvino is installed and does not work"
    assert not problem(checks.checkup(), broken_library).blocks  # nano is encoded by mtmd
    place_256m(machine, vision=select.MIN_BYTES_FOR_LOADED_ENCODER)
    assert problem(checks.checkup(), broken_library).blocks


def test_a_missing_model_blocks(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLCLI_MODEL", "2.2b")
    missing = problem(checks.checkup(), "2.2b (from SMOLCLI_MODEL): not on this machine")
    assert missing.blocks and missing.advice == "smolcli models pull 2.2b"


def test_an_unknown_setting_is_a_problem_of_the_settings(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = machine / "config" / "smolcli"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('modle = "nano"')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.parent))
    [unknown] = [problem for problem in checks.checkup().problems if "modle" in problem.what]
    assert unknown.area == "settings"


def test_models_in_the_cache_have_their_size(machine: Path) -> None:
    place_256m(machine, 3000, 500)
    facts = checks.checkup().facts
    assert facts["cache"]["models"] == [{"name": "256m", "here": ["llamacpp", "numpy"], "bytes": 3500}]
    assert facts["auto"] == {"backend": "llamacpp", "model": "256m"}


def test_a_model_has_the_backends_that_are_installed(machine: Path, without: Callable[..., None]) -> None:
    """As `models list` tells them; a pair of another family runs on llama.cpp alone."""
    place_256m(machine)
    make_pair(machine / "hf" / "hub" / "models--org--other" / "snapshots" / "abc", "qwen2vl")
    without("llama_cpp")
    report = checks.checkup()
    rows = {row["name"]: row["here"] for row in report.facts["cache"]["models"]}
    assert rows == {"256m": ["numpy"], "org/other": []}
    assert rows.items() <= {row["name"]: row["here"] for row in models_command.model_rows()}.items()
    assert "org/other (no installed backend runs it)" in "\n".join(Screen(report).long())


def test_a_damaged_model_is_a_problem_and_not_the_end(machine: Path) -> None:
    for repo in ("HuggingFaceTB--SmolVLM2-2.2B-Instruct", "HuggingFaceTB--SmolVLM-256M-Instruct"):
        folder = machine / "hf" / "hub" / f"models--{repo}" / "snapshots" / "abc"
        folder.mkdir(parents=True)
        for name in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
            (folder / name).write_text("{torn")
    report = checks.checkup()
    assert [problem.what.endswith("not an index of weights") for problem in report.problems].count(True) == 2
    assert report.facts["auto"]["model"] == "nano"
    assert {row["name"]: row["here"] for row in models_command.model_rows()}["256m"] == []


def test_an_unused_gpu_and_a_full_disk_are_problems(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "gpu_may_be_here", lambda: True)
    usage = shutil.disk_usage(machine)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
    report = checks.checkup()
    assert "pytorch.org" in problem(report, "a GPU is here that PyTorch does not see").advice
    assert report.facts["llama_cpp"] is None  # it did not say
    kinds: list[str] = []
    monkeypatch.setattr(checks, "call", lambda *_, **__: {"computes": "cpu", "gpu_kinds": kinds})
    assert "-DGGML_" in problem(checks.checkup(), "a GPU is here, and llama.cpp was built without one").advice
    kinds = ["cuda"]
    assert not any("built without one" in problem.what for problem in checks.checkup().problems)
    assert "only 5 MB are free" in problem(report, str(hub_cache.cache_dir())).what
    assert not any(problem.blocks for problem in report.problems)


def test_folders_that_cannot_be_written_are_problems(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "cache"))
    monkeypatch.setenv("TMPDIR", str(machine / "tmp"))
    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(os, "access", lambda *_: False)
    report = checks.checkup()
    for folder, variable in ((machine / "hf/hub", "HF_HOME"), (machine / "cache/smolcli", "XDG_CACHE_HOME"),
                             (machine / "tmp", "TMPDIR")):  # fmt: skip
        assert f"set {variable} to" in problem(report, f"{folder}: cannot be written: ").advice


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            EngineError("the engine crashed (SIGSEGV)", "-v shows what it printed", kind=ErrorKind.CRASH),
            "install it again",
        ),
        (EngineError("the engine failed: ImportError: no", "run it again with -v"), "install it again"),
        (EngineError("the engine gave no answer in 180 seconds", kind=ErrorKind.TIMEOUT), "install it again"),
    ],
)
def test_the_remedy_is_that_of_the_fault(
    machine: Path, monkeypatch: pytest.MonkeyPatch, error: EngineError, advice: str
) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(checks, "call", fails)
    assert problem(checks.checkup(), "llamacpp is installed and does not work").advice.startswith(advice)


def test_that_no_process_starts_is_one_problem(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise EngineError(
            "no process can be started (Too many open files)", "are enough allowed?", kind=ErrorKind.START
        )

    monkeypatch.setattr(checks, "call", fails)
    [only] = [problem for problem in checks.checkup().problems if "files" in problem.what]
    assert only == Problem(
        "no process can be started (Too many open files)", "are enough allowed?", blocks=True, area="backends"
    )


def test_amx_that_crashes_has_a_remedy(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer: dict[str, object] = {"computes": "cpu, float32"}
    monkeypatch.setattr(checks, "call", lambda target, *_, **__: dict(answer) if target.endswith("answers") else None)
    for word, text in (("crashes", "crashes with"), ("left out", "built without"), ("untried", ""), ("used", "")):
        answer["amx"] = word
        for features in (["amx_tile"], []):
            monkeypatch.setattr(checks, "machine", lambda: {"features": features, "gpus": []})  # noqa: B023
            problems = [problem for problem in checks.checkup().problems if "AMX" in problem.what]
            assert len(problems) == bool(text and features)
            for problem in problems:
                assert text in problem.what and "-fno-dse" in problem.advice and not problem.blocks


@pytest.mark.parametrize("amx", ["used", "left out", "untried", None])
def test_the_state_of_amx(machine: Path, monkeypatch: pytest.MonkeyPatch, amx: str | None) -> None:
    texts = {
        "used": "computes with it", "left out": "without it", "untried": "not be found out", None: "did not answer",
    }  # fmt: skip
    monkeypatch.setattr(checks, "machine", lambda: {"features": ["amx_tile"], "gpus": []})

    def call(target: str, *_: object, **__: object) -> Any:
        if target.endswith("answers"):
            if amx is None:
                raise EngineError("no process can be started", "are enough allowed?", kind=ErrorKind.START)
            return {"computes": "cpu, float32", "amx": amx}

    monkeypatch.setattr(checks, "call", call)
    assert texts[amx] in checks.checkup().facts["amx"]


@pytest.mark.parametrize("name", registry.backends())
def test_only_a_backend_knows_its_facts_of_the_machine(
    name: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child gets the place of the function that the registry names, and what it returns becomes a fact."""
    entry = registry.BACKENDS[name]

    def call(target: str, *args: object, **_: object) -> Any:
        if args[:2] == (entry.target, entry.machine_facts):
            return {"computes": "cpu", "gpus": [{"device": "cuda:0", "name": "A GPU", "memory": 1}]}
        return {"computes": "cpu"} if target.endswith("answers") else None

    monkeypatch.setattr(checks, "call", call)
    facts = checks.checkup().facts
    assert [gpu["name"] for gpu in facts["gpus"]] == ["A GPU"]
    assert all("gpus" not in backend and "machine_facts" not in backend for backend in facts["backends"])


def test_a_cache_that_cannot_be_read_is_a_problem(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> list[str]:
        raise PermissionError(13, "Permission denied", "/closed/hub")

    monkeypatch.setattr(hub_cache, "cached_ids", closed)
    report = checks.checkup()
    assert problem(report, "/closed/hub: cannot be read (Permission denied)").advice.endswith("set HF_HOME")
    assert report.facts["cache"]["models"] == []


def test_a_backend_that_refuses_the_picture_does_not_answer(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(target: str, *_: object, **__: object) -> Any:
        if target.endswith("answers"):
            raise EngineError("the engine failed: no")

    monkeypatch.setattr(checks, "call", refuses)
    report = checks.checkup()
    assert [backend["seconds"] for backend in report.facts["backends"]] == [None, None, None]
    assert problem(report, "llamacpp is installed and does not work: failed: no").blocks
    assert not problem(report, "torch").blocks and not problem(report, "numpy").blocks
