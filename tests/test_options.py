"""options.py: the values that options take."""

from __future__ import annotations

from dataclasses import fields, make_dataclass

import pytest

from smolcli.errors import UsageError
from smolcli.options import Batch, Model, parse_detail, parse_suffix, parse_time
from smolcli.terminal.option_fields import choice_parser, same_as


@pytest.mark.parametrize("word", ["low", "auto", "high", "1", "17"])
def test_detail(word: str) -> None:
    assert parse_detail(word) == word


@pytest.mark.parametrize("word", ["0", "-1", "1.5", "²", "highest", ""])
def test_unknown_detail(word: str) -> None:
    with pytest.raises(UsageError, match="choose low, auto, high"):
        parse_detail(word)


def test_a_choice_has_no_case() -> None:
    assert choice_parser("backend", ("auto", "torch"))("Torch") == "torch"
    with pytest.raises(UsageError, match="backend cuda is not known; choose one of auto, torch"):
        choice_parser("backend", ("auto", "torch"))("cuda")


@pytest.mark.parametrize(
    ("word", "seconds"), [("75", 75), ("1:15", 75), ("1:02:03.5", 3723.5), (".5", 0.5), ("90:00", 5400)]
)
def test_times_in_a_video(word: str, seconds: float) -> None:
    assert parse_time(word) == seconds


@pytest.mark.parametrize("word", ["", "abc", "-1", "1:75", "1:2:3:4", "1:-5", "1e3", "nan", "75s", "1:60:00"])
def test_what_is_no_time(word: str) -> None:
    with pytest.raises(UsageError, match="no time"):
        parse_time(word)


def test_an_option_of_another_class_keeps_all_but_its_default() -> None:
    [backend] = fields(make_dataclass("Bench", [("backend", tuple, same_as(Model, "backend", default=("auto",)))]))
    [threads] = fields(make_dataclass("Bench", [("threads", tuple, same_as(Model, "threads", default=(), help="T."))]))
    originals = {field.name: field.metadata for field in fields(Model)}
    assert backend.default == ("auto",) and backend.metadata == {**originals["backend"], "short": False}
    assert threads.metadata == {**originals["threads"], "help": "T."}
    [timeout] = fields(make_dataclass("Bench", [("timeout", float, same_as(Batch, "timeout", default=5.0))]))
    assert "show_default" not in timeout.metadata  # its words are those of 600 seconds


@pytest.mark.parametrize(
    ("word", "suffix"),
    [("txt", ".txt"), (".XMP", ".xmp"), (".caption", ".caption"), ("Caption", ".Caption"), (".en.txt", ".en.txt")],
)
def test_a_sidecar_may_have_any_suffix(word: str, suffix: str) -> None:
    assert parse_suffix(word) == suffix
