"""models/pull.py: what a terminal shows of a download, and after Ctrl-C."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from smolcli.models import pull as pull_module
from smolcli.models.files import ModelFiles
from smolcli.models.pull import pull


@pytest.mark.parametrize(
    ("is_terminal", "quiet", "shows"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_bars_are_drawn_on_a_terminal_unless_quiet(
    is_terminal: bool, quiet: bool, shows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def call(target: str, *args: object, verbose: bool) -> ModelFiles:
        calls.append((target, *args, verbose))
        return ModelFiles("256m")

    monkeypatch.setattr(pull_module, "call", call)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert pull("256m", "gguf", "f16", offline=True, quiet=quiet) == ModelFiles("256m")
    assert calls == [("smolcli.models.hub:pull", "256m", "gguf", "f16", True, None, shows)]


@pytest.mark.parametrize("quiet", [False, True])
def test_after_ctrl_c_a_notice_says_what_is_kept(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*args: object, verbose: bool) -> ModelFiles:
        raise KeyboardInterrupt

    monkeypatch.setattr(pull_module, "call", call)
    with pytest.raises(KeyboardInterrupt):
        pull("256m", quiet=quiet)
    notice = "smolcli: stopped; what was fetched is kept, and the same command goes on from there\n"
    assert capsys.readouterr() == ("", "" if quiet else notice)
