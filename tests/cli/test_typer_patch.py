"""cli/typer_patch.py: a command gets the values that it would get from Typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer import core
from typer.testing import CliRunner

from smolcli.cli.typer_patch import skip_pydantic


def parse(words: list[str]) -> tuple[dict[str, Any], str]:
    """Return the values that a command with a parameter of every kind gets, and its output."""
    app, values = typer.Typer(rich_markup_mode=None), {}

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
        values.update(locals())
        for name in ("app", "values", "command"):
            values.pop(name, None)

    result = CliRunner().invoke(app, words)
    return values, result.output


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
    expected = parse(words)
    monkeypatch.setattr(core, "build_runtime_param", core.build_runtime_param)  # type: ignore[attr-defined]
    skip_pydantic()
    assert repr(parse(words)) == repr(expected)  # nan is not equal to itself
    assert expected[0] or "Error" in expected[1] or "Invalid" in expected[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "10"], "Invalid value for '--count': 10 is not a whole number from 1 to 9"),
        (["--count", "1.5"], "Invalid value for '--count': 1.5 is not a whole number from 1 to 9"),
        (["--share", "much"], "Invalid value for '--share': much is not a number of 0 or more"),
        (["--share", "nan"], "Invalid value for '--share': nan is not a number of 0 or more"),
        (["--count", "1_0"], "Invalid value for '--count': 1_0 is not a whole number from 1 to 9"),
        (["--share", "-1"], "Invalid value for '--share': -1 is not a number of 0 or more"),
    ],
)
def test_the_error_says_what_a_number_must_be(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not parse(words)[0]  # Typer refuses it too
    monkeypatch.setattr(core, "build_runtime_param", core.build_runtime_param)  # type: ignore[attr-defined]
    skip_pydantic()
    assert message in parse(words)[1]
