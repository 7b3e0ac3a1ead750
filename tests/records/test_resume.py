"""smolcli/records/resume.py: a resumed run makes no record twice and loses none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolcli.errors import ErrorKind, UsageError
from smolcli.records import resume
from smolcli.records.record_id import Identity
from smolcli.records.resume import ResultsFile, replaced_records
from smolcli.records.stored import as_record
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Fault, Record, Seconds
from smolcli.writers.json_lines import as_json
from tests.helpers import RECORD

IDENTITY = Identity("caption", "nano", "echo", "f", {"prompt": "o"})
OTHER = replace(IDENTITY, options={"prompt": "another"})


def record(path: Path | str, content: str = "c", identity: Identity = IDENTITY, **more: Any) -> Record:
    fields: dict[str, Any] = {"seconds": Seconds(decode=0.25), **more}
    return replace(
        RECORD, path=str(path), id=identity.id_of(content), sha256=content, stamp=stamp_of(str(path)), **fields
    )


def failed(path: Path | str) -> Record:
    return record(path, "", text="", finish_reason="error", error=Fault(ErrorKind.MISSING, "no such file"))


def written(file: Path, *records: Record, torn: str = "") -> ResultsFile:
    file.write_text("".join(as_json(record) + "\n" for record in records) + torn)
    return read(file)


def read(file: Path, identity: Identity = IDENTITY) -> ResultsFile:
    results = ResultsFile(file, identity)
    results.repair_torn_tail()
    results.read()
    return results


def test_only_an_unchanged_file_with_a_record_is_done(tmp_path: Path) -> None:
    same, changed, new = (tmp_path / name for name in ("same.png", "changed.png", "new.png"))
    for path in (same, changed, new):
        path.write_bytes(b"one")
    results = written(tmp_path / "r.jsonl", record(same), record(changed))
    changed.write_bytes(b"two")
    assert [results.state_by_stamp(str(path)) for path in (same, changed, new)] == ["done", "new", "new"]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    """The inode's change time shows it, which no program can set."""
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    before = path.stat()
    results = written(tmp_path / "r.jsonl", record(path))
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert results.state_by_stamp(str(path)) == "new"


def test_records_of_other_options_belong_to_another_job(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    results = written(tmp_path / "r.jsonl", record(path, identity=OTHER))
    assert results.state_by_stamp(str(path)) == "new"
    assert results.answer(IDENTITY.id_of("c")) is None
    assert read(tmp_path / "r.jsonl", identity=OTHER).state_by_stamp(str(path)) == "done"


@pytest.mark.parametrize("cut", range(1, 300, 19))
def test_a_torn_last_line_is_cut_off_and_whole_ones_stay(tmp_path: Path, cut: int) -> None:
    lines = [as_json(record(f"{n}.png", str(n))) + "\n" for n in range(3)]
    file = tmp_path / "r.jsonl"
    file.write_text("".join(lines) + lines[0][:cut])
    results = ResultsFile(file, IDENTITY)
    assert results.repair_torn_tail() == cut
    assert file.read_text() == "".join(lines)


def test_a_last_line_that_lacks_only_its_newline_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(as_json(RECORD))
    assert ResultsFile(file, IDENTITY).repair_torn_tail() == 0
    assert file.read_text() == as_json(RECORD) + "\n"


def test_a_torn_record_longer_than_one_read_is_cut_off(tmp_path: Path) -> None:
    whole_line = as_json(RECORD) + "\n"
    (tmp_path / "r.jsonl").write_text(whole_line + as_json(replace(RECORD, text="x" * 200_000))[:-9])
    ResultsFile(tmp_path / "r.jsonl", IDENTITY).repair_torn_tail()
    assert (tmp_path / "r.jsonl").read_text() == whole_line


def test_an_answer_is_found_by_id_in_the_file_and_among_added_records(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    answers = [record(f"{n}.png", str(n), text=f"é {n}") for n in range(3)]
    results = written(file, answers[0], failed("x.png"), answers[1])
    assert results.answer(IDENTITY.id_of("1")) == answers[1]
    assert results.answer(IDENTITY.id_of("")) is None  # a failure is no answer
    offset = file.stat().st_size
    with file.open("a") as stream:
        stream.write(as_json(answers[2]) + "\n")
    results.add(answers[2], offset)
    assert results.answer(IDENTITY.id_of("2")) == answers[2]
    assert results.state_by_id("2.png", IDENTITY.id_of("2")) == "done"
    picture, stamp = tmp_path / "a.png", "3-1-2"
    results.add(replace(record(picture, "a"), stamp=stamp), offset)
    assert results.state_by_id(str(picture), IDENTITY.id_of("a"), stamp) == "done"
    assert results.state_by_id("2.png", IDENTITY.id_of("1")) == "new"


def test_a_failed_input_stays_failed_until_its_file_is_there(tmp_path: Path) -> None:
    late = tmp_path / "late.png"
    results = written(tmp_path / "r.jsonl", record("a.png"), failed("gone.png"), failed(late))
    late.touch()
    assert results.state_by_stamp("gone.png") == "failed"
    assert results.state_by_stamp(str(late)) == "new"
    assert results.state_by_id("gone.png", IDENTITY.id_of("")) == "failed"


def test_compacting_removes_only_failures_that_have_a_later_record(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    kept = [record("a.png"), failed("gone.png"), replace(failed("b.png"), id=OTHER.id_of("")), record("b.png")]
    results = written(file, failed("b.png"), *kept)
    file.chmod(0o640)
    offset = file.stat().st_size
    with file.open("a") as stream:
        stream.write(as_json(failed("gone.png")) + "\n")
    results.add(failed("gone.png"), offset)
    results.compact()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["path"], line["error"] is None) for line in lines] == [
        ("a.png", True), ("b.png", False), ("b.png", True), ("gone.png", False),
    ]  # fmt: skip
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]
    read(file).compact()
    assert len(file.read_text().splitlines()) == 4


def test_compacting_through_a_symbolic_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "r.jsonl").symlink_to(tmp_path / "far" / "real.jsonl")
    written(tmp_path / "r.jsonl", failed("a.png"), record("a.png")).compact()
    assert (tmp_path / "r.jsonl").is_symlink()
    assert len((tmp_path / "far" / "real.jsonl").read_text().splitlines()) == 1


def test_an_input_without_a_stamp_is_done_only_by_its_id(tmp_path: Path) -> None:
    """A URL, or several pictures of one conversation: only the content shows whether it is the same."""
    results = written(tmp_path / "r.jsonl", record("http://localhost/a.png"))
    assert results.state_by_stamp("http://localhost/a.png") == "new"
    assert results.state_by_id("http://localhost/a.png", IDENTITY.id_of("c")) == "done"


def test_zeros_left_by_a_power_cut_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    line = as_json(record("a.png", "a")).encode() + b"\n"
    file.write_bytes(line + bytes(100) + b"\n" + line + bytes(50))
    results = ResultsFile(file, IDENTITY)
    assert results.repair_torn_tail() == 50
    results.read()
    assert results.answer(IDENTITY.id_of("a")) is not None


def test_a_path_may_have_any_bytes(tmp_path: Path) -> None:
    for name in (os.fsdecode(b"\xff.png"), 'quo"te\\.png', "two\nlines.png", "é.png"):
        path = tmp_path / name
        path.touch()
        assert written(tmp_path / "r.jsonl", record(path)).state_by_stamp(str(path)) == "done", name


def test_lines_with_fields_in_another_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    fields = json.loads(as_json(record(path)))
    (tmp_path / "r.jsonl").write_text(json.dumps(dict(reversed(fields.items()))) + "\n")
    assert read(tmp_path / "r.jsonl").state_by_stamp(str(path)) == "done"
    assert as_record(fields) == record(path)
    more = {**fields, "rating": 5, "tokens": {**fields["tokens"], "thought": 3}}
    assert as_record(more) == record(path)


RATED = b'"error": null, "rating": 5}'
TOUCHES: dict[str, Callable[[bytes], bytes]] = {
    "a key is appended": lambda data: data.replace(b'"error": null}', RATED),
    "a key that is called error within another": lambda data: data.replace(
        b'"error": null}', b'"error": null, "review": {"error": "bad", "x": [1]}}'
    ),
    "jq -c": lambda data: b"".join(
        json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n" for line in data.splitlines()
    ),
    "sorted keys": lambda data: b"".join(
        json.dumps(json.loads(line), sort_keys=True).encode() + b"\n" for line in data.splitlines()
    ),
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "empty lines": lambda data: b"\n \n" + data.replace(b"\n", b"\n\r\n") + b"\n\n",
    "no newline at the end": lambda data: data.removesuffix(b"\n"),
    "no newline, other keys first": lambda data: data.replace(b'{"path"', b'{"rating": 5, "path"').removesuffix(b"\n"),
    "without memory": lambda data: re.sub(rb', "memory": \{[^}]*\}', b"", data),
}  # fmt: skip


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_a_file_that_another_program_has_written_anew_is_read(tmp_path: Path, touch: Callable[[bytes], bytes]) -> None:
    """The answers are done and found, the failure is a failure, and nothing is removed where nothing was retried."""
    pictures = [tmp_path / name for name in ("a.png", "b.png")]
    for picture in pictures:
        picture.touch()
    file = tmp_path / "r.jsonl"
    written(file, record(pictures[0], "a"), failed("gone.png"), record(pictures[1], "b"))
    file.write_bytes(touch(file.read_bytes()))
    before = file.read_bytes()
    results = read(file)
    results.compact()
    assert [results.state_by_stamp(str(picture)) for picture in pictures] == ["done", "done"]
    assert results.state_by_stamp("gone.png") == "failed"
    answer = results.answer(IDENTITY.id_of("b"))
    assert answer is not None
    assert (answer.path, answer.text) == (str(pictures[1]), "a cat")
    assert file.read_bytes().rstrip() == before.rstrip()


def test_a_rated_answer_is_not_tried_again_and_a_noted_failure_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    noted = as_json(failed("b.png"))[:-1] + ', "note": "ask Ann"}'
    lines = [as_json(record("a.png"))[:-1] + ', "rating": 5}', noted, as_json(failed("b.png"))]
    file.write_text("".join(f"{line}\n" for line in lines))
    results = read(file)
    answered = record("b.png", "b")
    offset = file.stat().st_size
    with file.open("a") as stream:
        stream.write(as_json(answered) + "\n")
    results.add(answered, offset)
    results.compact()
    assert file.read_text().splitlines() == [*lines[:2], as_json(answered)]
    inode = file.stat().st_ino
    read(file).compact()
    assert file.stat().st_ino == inode  # nothing can be removed, so nothing is written


def test_nothing_is_removed_where_the_file_has_changed_since_it_was_read(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    results = written(file, failed("a.png"), record("a.png"))
    file.write_text(f"{as_json(record('c.png'))}\n{file.read_text()}")
    results.compact()
    assert [json.loads(line)["path"] for line in file.read_text().splitlines()] == ["c.png", "a.png", "a.png"]


def test_an_answer_that_somebody_has_spoilt_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    written(file, record("a.png"))
    file.write_text(file.read_text().replace('"a cat"', "a cat"))
    assert read(file).answer(IDENTITY.id_of("c")) is None


def test_the_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(f"{as_json(RECORD)}\n\nnotes\n{as_json(RECORD)}\n")
    with pytest.raises(UsageError, match="holds something other than records in line 3"):
        read(file)


@pytest.mark.parametrize("line", ["notes\n", "notes", "[1, 2]\n", '{"path": 3}\n', "\x00\x01\n", "[1]"])
def test_a_file_that_holds_something_else_is_refused_and_unchanged(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.jsonl").write_text(line)
    with pytest.raises(UsageError, match="holds something other than records"):
        read(tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_text() == line


def test_a_file_that_another_run_writes_to_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text("")
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(UsageError, match="another run writes to it"):
        ResultsFile(file, IDENTITY).repair_torn_tail()
    holder.communicate("\n")
    ResultsFile(file, IDENTITY).repair_torn_tail()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("RECORD\n" * 100, "replaces 100 records of {}; --resume would keep them"),
        ("RECORD\n", "replaces 1 record of {}; --resume would keep them"),
        ("RECORD", "replaces 1 record of {}; --resume would keep them"),
        ("RECORD\nRECORD", "replaces 2 records of {}; --resume would keep them"),
        ("", ""),
        ("notes\n", ""),
        ("[1, 2]\n", ""),
        ('{"path": "a.png", "label": "cat"}\n', ""),
    ],
)
def test_the_records_that_a_run_replaces_are_counted(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(content.replace("RECORD", as_json(RECORD)))
    assert replaced_records(file) == says.format(file)


def test_only_the_beginning_of_a_huge_file_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "r.jsonl"
    lines = [as_json(RECORD) + "\n"] * 5000
    file.write_text("".join(lines))
    monkeypatch.setattr(resume, "COUNTED", 2**20)
    fewest, most = ((2**20 + part) // len(lines[0]) for part in (0, 2**20))
    match = re.match("replaces over ([0-9,]+) records", replaced_records(file))
    assert match
    assert fewest <= int(match[1].replace(",", "")) <= most


def test_nothing_is_said_of_what_is_no_file(tmp_path: Path) -> None:
    assert (
        replaced_records(tmp_path / "new.jsonl")
        == replaced_records(tmp_path)
        == replaced_records(Path("/dev/null"))
        == ""
    )
