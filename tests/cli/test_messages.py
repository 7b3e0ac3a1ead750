"""What a wrong command line is answered with: the option, what it may be, and the command that was meant."""

from __future__ import annotations

import sys

import pytest
from typer import core

from smolcli import __main__ as entry_point
from smolcli.cli import main as program


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-m nano caption a.png", "-m stands before the command; options come after it: smolcli caption -m nano a.png"),
        (
            "--quiet bench speed",
            "--quiet stands before the command; options come after it: smolcli bench --quiet speed",
        ),
        ("--verison", "No such option --verison; did you mean --version?"),
        ("version", "No such command version; did you mean --version?"),
        ("caption a.png --pompt x", "No such option --pompt; did you mean --prompt?"),
        ("video-summarize a.mp4 --fps 0", "--fps: 0 is not a number more than 0; see smolcli video-summarize --help"),
        ("video-summarize a.mp4 --start abc", "--start: abc is no time; write seconds or H:MM:SS, as 75 or 1:15"),
        ("video-summarize a.mp4 --end 1:99", "--end: 1:99 is no time; write seconds or H:MM:SS, as 75 or 1:15"),
        ("caption a.png -n 0", "--max-tokens: 0 is not a whole number of 1 or more; see smolcli caption --help"),
        ("caption a.png --style loud", "--style loud is not known; choose one of short, detailed, alt-text, tags"),
        ("caption a.png -b x", "--backend x is not known; choose one of auto, torch, llamacpp, numpy"),
        (
            "caption a.png --vision-engine x",
            "--vision-engine x is not known; choose one of auto, openvino, torch, mtmd",
        ),
        ("caption a.png -f srt", "srt is for video-summarize; choose text, json, jsonl, csv, tsv or md"),
        ("caption a.png --sidecar .srt", ".srt is for video-summarize; choose .txt, .json or .xmp"),
        ("doctor --json --report", "--report is Markdown, and --json is JSON; leave out one of them"),
    ],
)
def test_usage(words: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["smolcli", *words.split()])
    monkeypatch.setattr(program, "_exit_on_signals", lambda: None)
    monkeypatch.setattr(program, "claim_stdout", lambda: None)
    build = vars(core)["build_runtime_param"]
    monkeypatch.setattr(core, "build_runtime_param", build)  # the program replaces it
    with pytest.raises(SystemExit) as end:
        program.main()
    assert (end.value.code, capsys.readouterr().err) == (2, f"smolcli: {message}\n")


def test_windows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as end:
        entry_point.main()
    monkeypatch.undo()
    assert (end.value.code, capsys.readouterr().err.count("WSL")) == (3, 1)
