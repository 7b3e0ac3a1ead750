"""records/pace.py: mean times of earlier records, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smolcli.records.pace import Pace, pace_of
from smolcli.records.record_id import Identity
from smolcli.types import Seconds, Tokens
from smolcli.writers.json_lines import as_json
from tests.helpers import BAD, RECORD

IDENTITY = Identity("caption", "nano", "echo")
FIRST = replace(RECORD, tokens=Tokens(80, 64, 9), seconds=Seconds(load=9, media=1, encode=2, prefill=1, decode=3))
SECOND = replace(RECORD, tokens=Tokens(209, 192, 9), seconds=Seconds(media=1, encode=2, prefill=1, decode=1))


def test_times_are_means_over_tokens_of_pictures_and_over_answers(tmp_path: Path) -> None:
    """Eight seconds for 256 tokens of pictures, four seconds for two answers; loading the model is not counted."""
    lines = [as_json(FIRST), as_json(SECOND), as_json(BAD), as_json(replace(FIRST, model="500m"))]
    lines.append(as_json(replace(FIRST, seconds=Seconds(media=1))))  # a copy of another's answer
    (tmp_path / "r.jsonl").write_text("\n".join([*lines, '{"path": "torn']))
    pace = pace_of(tmp_path / "r.jsonl", IDENTITY)
    assert pace == Pace(2, 8 / 256, 2.0)
    assert pace.seconds(image_tokens=128) == 4.0 + 2.0


@pytest.mark.parametrize("text", ["", "path,text\na.png,cat\n", '{"a": 1}\n', "[1]\n", json.dumps([]) + "\n"])
def test_a_file_without_records_of_the_job_has_no_pace(tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_text(text)
    assert pace_of(tmp_path / "r", IDENTITY) is None
    assert pace_of(tmp_path / "missing", IDENTITY) is None
