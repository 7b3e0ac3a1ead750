"""The screen of `smolcli doctor`: 25 lines of 80 columns, each problem with its command; --report has no secrets."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolcli.commands.doctor.checks import AREAS, Problem, Report
from smolcli.commands.doctor.screen import Screen, markdown

FACTS: dict[str, Any] = {
    "machine": {
        "smolcli": "0.1.0", "python": "3.11.7", "system": "Linux-6.1.0-of-a-long-name-x86_64-with-glibc2.36-and-more",
        "cpu": "A CPU with a name that is longer than most of the names of CPUs", "cores": 2, "memory": 16e9,
        "features": ["avx2", "avx512f", "amx_tile", "fma"], "gpus": [],
    },
    "memory_free": 12e9,
    "amx": "llama.cpp computes with it",
    "llama_cpp": {"gpu_kinds": [], "build": "CMAKE_ARGS='-DGGML_CUDA=on' pip install a --no-binary a"},
    "gpus": [
        {"backend": "first", "device": "cuda:0", "name": "A GPU", "memory": 8e9, "free": 6e9, "dtype": "bfloat16"},
        {"backend": "second", "device": "vulkan:0", "name": "A GPU", "memory": 8e9, "free": 6e9},
    ],
    "backends": [
        {"name": "first", "installed": True, "seconds": 1.25, "computes": "cpu, float32"},
        {"name": "second", "installed": False, "seconds": None, "install": "pip install 'smolcli[second]'"},
        {"name": "third", "installed": True, "seconds": None},
    ],
    "auto": {"backend": "first", "model": "nano"},
    "vision": {"large": "mtmd", "small": "mtmd", "precision": {"mtmd": "float32"}, "engines": []},
    "decoders": [{"name": "av", "installed": True, "version": "17.1.0"}],
    "libraries": [{"name": f"library{number}", "installed": True, "version": "1.2.3"} for number in range(40)],
    "cache": {"path": "~/hub", "models": [{"name": f"org/model-{n}", "here": ["first"], "bytes": 1} for n in range(9)],
              "bytes": 9},
    "folders": [{"name": name, "path": f"/{name}", "free": 5e9} for name in ("cache", "kept", "temporary")],
    "offline": False,
    "config": {"path": "/config.toml", "exists": True, "settings": [
        {"key": "model", "value": "256m", "source": "config.toml:1"}]},
    "environment": {f"HF_VARIABLE_{number}": "a value" for number in range(9)},
}  # fmt: skip
REBUILD = (
    "CXXFLAGS='-fno-tree-dse -fno-dse' pip install --force-reinstall --no-cache-dir --no-deps --no-binary a a==1.0"
)
PROBLEMS = tuple(Problem(f"thing {n} is wrong " * n, REBUILD, n == 1, AREAS[n]) for n in range(1, 9))


@pytest.mark.parametrize("count", range(9))
@pytest.mark.parametrize("has_unicode", [True, False])
def test_it_fits_a_terminal_of_25_lines_and_80_columns(count: int, has_unicode: bool) -> None:
    lines = Screen(Report(FACTS, PROBLEMS[:count]), has_unicode).short()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80
    marks = {"✓", "!", "✗"} if has_unicode else {"ok", "!", "x"}
    areas = [line.split()[:2] for line in lines[-10:]]
    assert [name for _, name in areas] == list(AREAS)
    assert {mark for mark, _ in areas} <= marks
    bad = [name for mark, name in areas if mark not in ("✓", "ok")]
    assert bad == [problem.area for problem in PROBLEMS[:count]]
    assert has_unicode or "\n".join(lines).isascii()


def test_every_problem_is_followed_by_its_command_which_a_shell_reads_as_it_was() -> None:
    [verdict, _, *lines] = Screen(Report(FACTS, PROBLEMS[:1])).short()
    assert verdict == "smolcli cannot answer yet: do first what the first lines say"
    assert lines[0] == "✗ thing 1 is wrong"
    command = "\n".join(lines[1 : lines.index("")])
    assert "\\\n" in command
    assert shlex.split(command.replace("\\\n", " ")) == shlex.split(REBUILD)


def test_problems_that_do_not_fit_are_counted_and_shown_with_v() -> None:
    screen = Screen(Report(FACTS, PROBLEMS))
    [left] = [line for line in screen.short() if line.endswith("smolcli doctor -v")]
    assert left.split()[1:3] == ["more", "problems:"]
    assert all(any(f"thing {number} is wrong" in line for line in screen.long()) for number in range(1, 9))
    assert max(map(len, screen.long())) <= 80


@pytest.mark.parametrize(
    ("problems", "verdict"),
    [
        ((), "smolcli works here, and lacks nothing"),
        (PROBLEMS[1:2], "smolcli works here; 1 thing could be better"),
        (PROBLEMS[1:3], "smolcli works here; 2 things could be better"),
    ],
)
def test_the_verdict(problems: tuple[Problem, ...], verdict: str) -> None:
    assert Screen(Report(FACTS, problems)).short()[0] == verdict


def test_marks_are_coloured_on_a_terminal_alone() -> None:
    assert "\x1b[31m✗\x1b[0m thing 1" in "\n".join(Screen(Report(FACTS, PROBLEMS), has_color=True).short())
    assert "\x1b" not in "\n".join(Screen(Report(FACTS, PROBLEMS)).short())


def test_a_report_for_an_issue_has_neither_the_home_nor_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ann"))
    facts = {**FACTS, "environment": {"HF_HOME": "/home/ann/hf", "HF_ENDPOINT": "https://ann:pass@mirror.org/x"}}
    problems = (replace(PROBLEMS[0], what="/home/ann/m: is not /home/anne/m nor\x1b[2J"),)
    text = markdown(Report(facts, problems))
    assert text.startswith("### `smolcli doctor --report`\n\n```text\nsmolcli cannot") and text.endswith("```\n")
    assert (
        "HF_HOME=~/hf" in text and "HF_ENDPOINT=https://mirror.org/x" in text and "x  ~/m: is not /home/anne/m" in text
    )
    assert "/home/ann/" not in text and "pass" not in text and "\x1b" not in text
