"""records/stored.py: every record of a file is read, however the file was treated, and other lines are counted."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolcli.errors import ErrorKind, InputError
from smolcli.records.stored import RecordFiles, is_record, stored_record
from smolcli.types import Memory, Seconds, Tokens
from smolcli.writers.json_lines import as_json
from smolcli.writers.table import Csv
from tests.helpers import BAD, RECORD, written

LINE = as_json(RECORD) + "\n"
VIDEO = {"summary": "s", "segments": [{"start": 0.0, "end": 1.0, "text": "t", "frames": []}]}


def read(path: Path) -> tuple[list[str], tuple[int, int, int]]:
    """The paths of the records of a file, and what else it holds: lines, the first one, torn bytes."""
    with RecordFiles([str(path)]) as files:
        paths = [fields["path"] for fields in files.read()]
        others = files.others[str(path)]
    return paths, (others.count, others.first, others.torn_bytes)


@pytest.mark.parametrize(
    ("content", "count", "others"),
    [
        (LINE * 3, 3, (0, 0, 0)),
        ("\ufeff" + LINE.replace("\n", "\r\n") * 2, 2, (0, 0, 0)),
        (LINE + LINE[:-1], 2, (0, 0, 0)),  # only the newline is missing
        (LINE + LINE[:100], 1, (0, 0, 100)),
        (LINE + "\0" * 4096, 1, (0, 0, 0)),  # after a power cut
        ("\n \n" + LINE + "\n", 1, (0, 0, 0)),
        ("path,text\n" + LINE + "[1]\n{}\n" + LINE, 2, (3, 1, 0)),
        (LINE + '{"path": 1, "text": ""}\n', 1, (1, 2, 0)),
        (LINE + "[" * 100_000 + "\n", 1, (1, 2, 0)),
        ("", 0, (0, 0, 0)),
    ],
)
def test_a_file_is_read_line_by_line(tmp_path: Path, content: str, count: int, others: tuple[int, int, int]) -> None:
    (tmp_path / "r.jsonl").write_text(content)
    assert read(tmp_path / "r.jsonl") == (["a.png"] * count, others)


def test_a_record_comes_back_as_it_was() -> None:
    for record in (
        RECORD,
        BAD,
        replace(RECORD, data={"a": [1]}, notices=("one", "two"), path="\udcff.png"),
        replace(RECORD, paths=("a", "b")),
        replace(RECORD, confidence=0.5),
    ):
        stored = stored_record(json.loads(as_json(record)))
        assert written(Csv, stored) == written(Csv, record)
        assert as_json(stored) == as_json(record)
        assert (stored.tokens, stored.memory, stored.error) == (record.tokens, record.memory, record.error)
        assert (stored.paths, stored.confidence) == (record.paths, record.confidence)


def test_keys_of_others_are_kept_and_missing_ones_have_their_default() -> None:
    fields = {"path": "a.png", "rating": 5, "text": "x\ud83d", "tokens": {"new": 2, "cached": 1}, "error": None}
    stored = stored_record(fields)
    assert json.loads(as_json(stored)) == fields
    assert (stored.text, stored.tokens, stored.seconds, stored.memory) == ("x?", Tokens(new=2), Seconds(), Memory())
    assert (stored.data, stored.model, stored.notices, stored.confidence) == (None, "", (), None)
    [row] = csv.DictReader(io.StringIO(written(Csv, stored)))
    assert (row["text"], row["model"], row["tokens.new"], row["tokens.image"]) == ("x?", "", "2", "")


def test_an_error_of_a_later_version_keeps_its_kind() -> None:
    stored = stored_record({"path": "a.png", "error": {"kind": "too-late", "message": "m"}})
    assert stored.error is not None and stored.error.kind == "too-late"
    known = stored_record({"path": "a.png", "error": {"kind": "missing", "message": "m"}})
    assert known.error is not None and known.error.kind is ErrorKind.MISSING


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"path": "a.png"}, {"path": None, "text": ""}, {"path": "a.png", "text": 5},
        {"path": "a.png", "text": "", "error": "bad"}, {"path": "a.png", "text": "", "error": {"kind": "x"}},
        {"path": "a.png", "text": "", "tokens": 5}, {"path": "a.png", "text": "", "notices": "cut"},
        {"path": "a.png", "text": "", "notices": [1]},
        {"path": "a.png", "text": "", "paths": "a b"},
        {"path": "a.mp4", "text": "", "task": "video-summarize"},
        {"path": "a.mp4", "text": "", "task": "video-summarize", "data": {**VIDEO, "segments": [{"start": 0}]}},
    ],
)  # fmt: skip
def test_an_object_that_cannot_be_written_is_no_record(fields: dict[str, Any]) -> None:
    assert not is_record(fields)


def test_the_least_that_is_a_record() -> None:
    assert is_record({"path": "a.png", "text": ""})
    assert is_record({"path": "a.png", "error": {"kind": "missing", "message": ""}})
    assert is_record({"path": "a.mp4", "text": "", "task": "video-summarize", "data": VIDEO})


@pytest.mark.parametrize(("name", "kind"), [("none.jsonl", ErrorKind.MISSING), ("", ErrorKind.UNREADABLE)])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, kind: ErrorKind) -> None:
    with pytest.raises(InputError) as error:
        RecordFiles([str(tmp_path / name)])
    assert error.value.kind == kind and str(tmp_path / name) in str(error.value)


def test_a_pipe_that_is_kept_can_be_read_twice(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=pipe.write_text, args=(LINE * 2,))
    thread.start()
    with RecordFiles([str(pipe)]) as files:
        files.keep()
        assert [len(list(files.read())) for _ in range(2)] == [2, 2]
    thread.join()
