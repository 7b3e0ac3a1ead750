"""smolcli/writers/destination.py: what is opened, and when old content is deleted."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest

from smolcli.errors import OutputError
from smolcli.writers.destination import destination
from smolcli.writers.json_lines import Json
from tests.helpers import RECORD


def test_bytes_of_a_path_that_is_not_utf8_are_kept(tmp_path: Path) -> None:
    with destination(tmp_path / "a.txt", io.StringIO()) as stream:
        stream.write("ä\udcff")
    assert (tmp_path / "a.txt").read_bytes() == "ä".encode() + b"\xff"


@pytest.mark.parametrize("has_many", [True, False])
def test_old_content_stays_until_the_first_record(tmp_path: Path, has_many: bool) -> None:
    out = tmp_path / "out.json"
    out.write_text("old")
    with pytest.raises(ZeroDivisionError), destination(out, io.StringIO()) as stream, Json(stream, has_many):
        raise ZeroDivisionError
    assert out.read_text() == "old"
    with destination(out, io.StringIO()) as stream, Json(stream, has_many) as writer:
        assert out.read_text() == "old"
        writer.write(RECORD)
    assert "old" not in out.read_text()


def test_a_run_that_fails_after_a_record_leaves_complete_json(tmp_path: Path) -> None:
    def failing() -> None:
        with destination(tmp_path / "out.json", io.StringIO()) as stream, Json(stream, True) as writer:
            writer.write(RECORD)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert len(json.loads((tmp_path / "out.json").read_text())) == 1


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_by_name(name: str) -> None:
    stdout = io.StringIO()
    with destination(Path(name), stdout) as stream:
        assert stream is stdout


def test_pipes_and_devices_can_be_written(tmp_path: Path) -> None:
    with destination(Path(os.devnull), io.StringIO()) as stream:
        stream.write("gone")
    os.mkfifo(tmp_path / "pipe")
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append((tmp_path / "pipe").read_text()))
    reader.start()
    with destination(tmp_path / "pipe", io.StringIO()) as stream:
        stream.write("through")
    reader.join()
    assert texts == ["through"]


def test_a_full_disk_is_an_error_with_its_name() -> None:
    with destination(Path("/dev/full"), io.StringIO()) as stream:
        stream.write("too much")
        with pytest.raises(OutputError, match="/dev/full: cannot be written"):
            stream.flush()
