"""cli/typer_patch.py: what a command is given is what Typer would have given it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer import core
from typer.testing import CliRunner

from smolcli.cli.typer_patch import skip_pydantic


def given(words: list[str]) -> tuple[dict[str, Any], str]:
    """The values that a command with a parameter of every kind gets, and what is said."""
    app, got = typer.Typer(rich_markup_mode=None), {}

    @app.command()
    def command(
        inputs: Annotated[list[str] | None, typer.Argument()] = None,
        word: str | None = None,
        named: str = "a",
        shout: Annotated[str, typer.Option(parser=str.upper)] = "low",
        shouts: Annotated[list[str], typer.Option(parser=str.upper)] = ["x", "y"],  # noqa: B006
        path: Path = Path("."),
        other: Path | None = None,
        paths: list[Path] = [],  # noqa: B006
        count: Annotated[int, typer.Option(min=1, max=9)] = 3,
        share: Annotated[float | None, typer.Option(min=0)] = None,
        flag: bool = False,
        unset: bool | None = None,
    ) -> None:
        got.update(locals())
        for name in ("app", "got", "command"):
            got.pop(name, None)

    done = CliRunner().invoke(app, words)
    return got, done.output


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a.png", "b c", "--word", "", "--named", "b", "--flag", "--no-unset"],
        ["--shout", "Hey", "--shouts", "a", "--shouts", "b", "--path", "x/../y", "--other", "-", "--paths", "p"],
        ["--count", "9", "--share", "1e-3"],
        ["--count", "3", "--share", "2"],
        ["--count", " 4 ", "--share", "inf"],
        ["--count", "4.0"],
        ["--nothing"],
    ],
)
def test_values_are_those_of_typer(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = given(words)
    monkeypatch.setattr(core, "build_runtime_param", core.build_runtime_param)
    skip_pydantic()
    assert repr(given(words)) == repr(wanted)  # nan is not equal to itself
    assert wanted[0] or "Error" in wanted[1] or "Invalid" in wanted[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", "10"], "Invalid value for '--count': 10 is not a whole number from 1 to 9"),
        (["--count", "1.5"], "Invalid value for '--count': 1.5 is not a whole number from 1 to 9"),
        (["--share", "much"], "Invalid value for '--share': much is not a number of 0 or more"),
        (["--share", "nan"], "Invalid value for '--share': nan is not a number of 0 or more"),
        (["--count", "1_0"], "Invalid value for '--count': 1_0 is not a whole number from 1 to 9"),
        (["--share", "-1"], "Invalid value for '--share': -1 is not a number of 0 or more"),
    ],
)
def test_of_a_number_that_is_none_it_is_said_what_it_has_to_be(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not given(words)[0]  # nor does Typer take it
    monkeypatch.setattr(core, "build_runtime_param", core.build_runtime_param)
    skip_pydantic()
    assert said in given(words)[1]
