"""records/where.py: conditions on records are evaluated as SQL says, and nothing else can be reached by them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smolcli.errors import UsageError
from smolcli.records import where as where_module
from smolcli.records.where import Where
from smolcli.writers.json_lines import as_json
from tests.helpers import BAD, RECORD


def fields(name: str, **changes: Any) -> dict[str, Any]:
    """The JSON object of a record called `name`."""
    return {**json.loads(as_json(RECORD)), "path": name, **changes}


RECORDS = [
    fields("short", tokens={"prompt": 5, "image": 3, "new": 2}, text="a cat", rating=5, confidence=0.9),
    fields("long", tokens={"prompt": 5, "image": 3, "new": 200}, text="it's a dog", notices=["cut"], confidence=0.4999),
    fields("total", data={"total": 120.5, "paid": True, "items": ["x", "y"], "to": {"city": "K\u00f6ln"}, "a.b": 1}),
    fields("small", data={"total": 2**70, "paid": False, "items": [], "to": None}),
    fields("asked", data=[{"question": "How many?", "answer": "3"}]),
    fields("lone\udcff", text="\ud83d"),
    {**json.loads(as_json(BAD)), "path": "bad"},
    {"path": "old", "text": "", "error": None},  # of a version that had fewer fields
]


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("tokens.new > 100 and error.kind is null", ["long"]),
        ("error.kind = 'missing'", ["bad"]),
        ("error is not null", ["bad"]),
        ("TOKENS.New = 2 and Path like 'S%'", ["short", "small"]),
        ("text = 'it''s a dog'", ["long"]),
        ("path glob 's*' or path in ('old', 'bad')", ["short", "small", "bad", "old"]),
        ("data.total > 100", ["total", "small"]),
        ("data.total between 100 and 200", ["total"]),
        ("data.paid", ["total"]),
        ("not data.paid", ["small"]),
        ("data is not null and data.total is null", ["asked"]),
        ("data.\"to.city\" = 'K\u00f6ln'", ["total"]),
        ('data."a.b" = 1', ["total"]),
        ('data."How many?" = 3', []),  # the answer is a text
        ("data.\"How many?\" = '3'", ["asked"]),
        ("json_array_length(data.items) > 1", ["total"]),
        ("json_extract(data.items, '$[1]') = 'y'", ["total"]),
        ("rating >= 5", ["short"]),
        ("record.rating >= 5", ["short"]),
        ("length(text) = 5 and seconds.decode > 0.3 and tokens.image < 4", ["short", "total", "small", "asked", "bad"]),
        ("notices like '%cut%'", ["long"]),
        ("memory.engine is null", ["old"]),
        ("confidence < 0.5", ["long"]),
        ("confidence >= 0.5", ["short"]),
        ("confidence is null and path = 'old'", ["old"]),
        ("1 -- all", [record["path"] for record in RECORDS]),
        ("'text'", []),
        ("null", []),
    ],
)
def test_a_condition_chooses_as_sql_does(condition: str, names: list[str]) -> None:
    expected = [name for name in names if not (condition.startswith("length") and name == "bad")]
    assert [record["path"] for record in Where(condition).select(RECORDS)] == expected


def test_a_second_batch_does_not_see_the_first() -> None:
    where = Where("data.total > 100")
    assert len(where.select(RECORDS)) == 2
    assert where.select(RECORDS[:2]) == []
    assert where.select([]) == []
    assert where.wanted == {"data.total": ("data", "total")}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("1; drop table record", "syntax error"),
        ("1); drop table record; select (1", "it is more than one condition"),
        ("1) union select 1, sql from sqlite_master --", ""),
        ("1) is true from record union select 1, 1 from sqlite_master where (1", ""),
        ("path in (select name from sqlite_master)", "a subquery is not allowed"),
        ("(select max(new) from tokens) > 1", "the function max is not allowed"),
        ("exists (select 1 from tokens)", "a subquery is not allowed"),
        ("1 in (select name from pragma_function_list)", "a subquery is not allowed"),
        ("exists (with recursive n(i) as (select 1 union all select i + 1 from n) select i from n)", "not allowed"),
        ("load_extension('x.so')", "the function load_extension is not allowed; there are abs, coalesce, glob"),
        ("length(randomblob(1000000000))", "the function randomblob is not allowed"),
        ("readfile('/etc/passwd') = 1", "no such function: readfile"),
        ("count(*) > 1", "the function count is not allowed"),
        ("path = ?", "bindings"),
        ("path = :name", "bindings"),
        ("tokens.new >", "syntax error"),
        ("", "syntax error"),
        ("path /*", "incomplete input"),
        ('text = "a cat"', "write text in single ones"),
        ('"rating" = 5', "write text in single ones"),
        ("tokens.nw > 1", "tokens.nw is no field of a record; did you mean tokens.new?"),
        ("token.new > 1", "did you mean tokens.new?"),
        ("tokens > 1", "did you mean tokens."),
        ("data.from.city = 'Ulm'", 'from is a word of SQL; as the name of a field write data."from"'),
        ("data.sender.city = 'Ulm'", 'write data."sender.city"'),
        ("sqlite_master.name = 1", "sqlite_master.name is no field of a record; the fields are path, id"),
    ],
)
def test_what_is_no_condition_is_refused(condition: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Where(condition).select(RECORDS)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("--where: ") and refusal.value.advice


def test_a_condition_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    where = Where(" + ".join(["tokens.new"] * 200) + " > 1")
    monkeypatch.setattr(where_module, "MAX_SECONDS", -1.0)
    with pytest.raises(UsageError, match="it takes too long"):
        where.select(RECORDS * 100)


def test_there_is_an_end_to_the_names_of_a_condition() -> None:
    with pytest.raises(UsageError):
        Where(" or ".join(f"data.k{number}" for number in range(where_module.MAX_COLUMNS + 1)))


def test_a_whole_number_that_no_float_holds_is_compared_all_the_same() -> None:
    """As a model writes one that repeats a digit until --max-tokens."""
    large, small = ({"path": name, "data": {"total": sign * 10**400}} for name, sign in (("large", 1), ("small", -1)))
    assert Where("data.total > 5").select([large, small]) == [large]
    assert Where("data.total < -9223372036854775807").select([large, small]) == [small]
