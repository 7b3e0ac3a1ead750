"""docs/share, which a wheel installs: man pages that groff takes and that name every option, and completions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from smolcli import registry
from smolcli.cli.main import make_command

ROOT = Path(__file__).parents[2]
SHARE = ROOT / "docs" / "share"
PAGES = sorted((SHARE / "man" / "man1").glob("*.1"))
COMMANDS = (*registry.TASKS, *registry.COMMANDS)


def test_a_wheel_has_every_file_in_the_same_folder() -> None:
    project: Any = tomlkit.parse((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = {
        Path(folder) / file.name
        for folder, patterns in project["tool"]["setuptools"]["data-files"].items()
        for pattern in patterns
        for file in ROOT.glob(pattern)
    }
    assert listed == {file.relative_to(ROOT / "docs") for file in SHARE.rglob("*") if file.is_file()}


def test_there_is_a_page_for_the_program_and_each_command() -> None:
    assert {page.name for page in PAGES} == {"smolcli.1", *(f"smolcli-{name}.1" for name in COMMANDS)}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_of_its_command(name: str) -> None:
    text = (SHARE / "man" / "man1" / f"smolcli-{name}.1").read_text(encoding="utf-8").replace("\\-", "-")
    command: Any = make_command(name)
    for part in getattr(command, "commands", {"": command}).values():
        options = [param for param in part.params if param.param_type_name == "option" and not param.hidden]
        assert options
        for option in options:  # of a flag with two names, as --recursive, the one that changes the default
            assert any(f"\\fB{word}\\fP" in text for word in (*option.opts, *option.secondary_opts)), option.opts


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_no_fault_to_find_with_the_pages() -> None:
    command: list[str | Path] = ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", *PAGES]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stderr == ""
    assert "\n       --max-tokens N\n" in done.stdout or "\n       -n, --max-tokens N\n" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_with_the_file_alone(tmp_path: Path) -> None:
    program = tmp_path / "smolcli"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m smolcli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = (
        f'source "{SHARE}/bash-completion/completions/smolcli"; COMP_WORDS=(smolcli caption --style al); COMP_CWORD=3; '
        '"$(complete -p smolcli | sed "s/.* -F \\([^ ]*\\) .*/\\1/")" smolcli; echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("alt-text\n", "")


def test_zsh_and_fish_know_the_files_by_their_beginnings() -> None:
    assert (SHARE / "zsh/site-functions/_smolcli").read_text(encoding="utf-8").startswith("#compdef smolcli\n")
    fish = (SHARE / "fish/vendor_completions.d/smolcli.fish").read_text(encoding="utf-8")
    assert fish.startswith("complete --command smolcli ")
