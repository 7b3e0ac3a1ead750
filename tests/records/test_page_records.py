"""smolcli/records/page_records.py and resume.py: a record for each page, none lost and none twice."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smolcli.errors import ErrorKind, Exit
from smolcli.records.page_records import split_pages
from smolcli.records.record_id import Identity
from smolcli.records.resume import ResultsFile
from smolcli.records.sink import RecordSink
from smolcli.system.file_stamp import stamp_of
from smolcli.terminal.console import Console
from smolcli.types import Fault, Record, Seconds, Tokens
from smolcli.writers.json_lines import JsonLines, as_json
from tests.helpers import RECORD

IDENTITY = Identity("ocr", "nano", "echo", "f", {"prompt": "o"})
SHA256 = "ab" * 32
ERROR = {"kind": "truncated", "message": "is damaged; get a whole copy"}


def page(number: int, text: str = "words", **more: Any) -> dict[str, Any]:
    return {"page": number, "text": text, **more}


def document(path: Path | str, *pages: dict[str, Any], **more: Any) -> Record:
    """The record of a document, as a task and an executor make it."""
    fields: dict[str, Any] = {
        "tokens": Tokens(10, 8, 4), "seconds": Seconds(decode=1.0), "confidence": 0.5, "task": "ocr",
        "text": "\n\f".join(page["text"] for page in pages), "data": {"pages": list(pages)}, **more,
    }  # fmt: skip
    return replace(
        RECORD, path=str(path), id=IDENTITY.id_of(SHA256), sha256=SHA256, stamp=stamp_of(str(path)), **fields
    )


def split(record: Record) -> list[Record]:
    return split_pages(record, IDENTITY.page_id)


def test_each_page_has_a_record_with_its_own_id_number_and_text() -> None:
    notices = ("has 9 pages, and not all of --pages 2-99", "page 7 was read at 60 dpi and not at 200")
    records = split(document("a.pdf", page(2, "one"), page(7, "two"), page(9, ""), notices=notices))
    assert [(record.page, record.text, record.is_last_page) for record in records] == [
        (2, "one", False), (7, "two", False), (9, "", True),
    ]  # fmt: skip
    assert [record.blank for record in records] == [False, False, True]
    assert {record.path for record in records} == {"a.pdf"}
    assert {record.sha256 for record in records} == {SHA256}
    ids = {record.id for record in records}
    assert len(ids | {IDENTITY.id_of(SHA256)}) == 4 and all(len(id) == 64 for id in ids)
    assert [record.notices for record in records] == [(notices[0],), (notices[1],), ()]
    assert sum((record.tokens for record in records), Tokens()) == Tokens(10, 8, 4)
    assert sum((record.seconds for record in records), Seconds()) == Seconds(decode=1.0)


def test_the_ids_of_pages_never_change() -> None:
    """SHA-256 of the sorted options, the document's SHA-256 and the number, by coreutils' sha256sum."""
    identity = Identity("ocr", "nano", "echo", "f", {})
    assert identity.page_id("00", 3) == "9522ebb882939a49c60a76d7c0b5bbd9119b3e4a624edf568010d154b31df68a"


def test_what_a_page_has_beside_its_text_is_its_data() -> None:
    lines = [{"text": "words", "box": [1, 2, 3, 4]}]
    with_lines, with_object, bare = split(document("a.pdf", page(1, lines=lines), page(2, data={"total": 3}), page(3)))
    assert (with_lines.data, with_object.data, bare.data) == ({"lines": lines}, {"total": 3}, None)


def test_a_failed_page_is_a_failed_record_and_a_failed_document_is_one_record() -> None:
    notice = f"page 2 has no answer: {ERROR['message']}"
    good, bad = split(document("a.pdf", page(1), page(2, "", error=ERROR), notices=(notice,)))
    assert good.error is None and bad.error == Fault(ErrorKind.TRUNCATED, ERROR["message"])
    assert (bad.finish_reason, bad.notices, good.notices, bad.is_last_page) == ("error", (), (), True)
    whole = document("a.pdf").failed(Fault(ErrorKind.UNSUPPORTED, "is encrypted"))
    assert split(whole) == [whole] and whole.page is None


# ---- resuming ----------------------------------------------------------------------------------------------


def read(file: Path) -> ResultsFile:
    results = ResultsFile(file, IDENTITY)
    results.repair_torn_tail()
    results.read()
    return results


def write(file: Path, record: Record) -> RecordSink:
    """Write the record of a document as a run does that resumes `file`."""
    file.touch()
    results = read(file)
    with file.open("a", encoding="utf-8") as stream:
        by_page = partial(split_pages, page_id=IDENTITY.page_id)
        sink = RecordSink(JsonLines(stream), Console(quiet=True), results=results, split=by_page)
        sink.write_record(record)
    results.compact()
    return sink


def pages_in(file: Path) -> list[tuple[int | None, str | None]]:
    rows = map(json.loads, file.read_text().splitlines())
    return [(row["page"], row["error"] and row["error"]["kind"]) for row in rows]


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-")
    return path


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", ["", '{"path": "'])
def test_a_document_is_done_when_its_last_page_is_written(pdf: Path, tmp_path: Path, lines: int, torn: str) -> None:
    """Whatever number of its records a run has written when it is killed, the next one completes them."""
    record = document(pdf, page(1), page(2), page(5))
    file = tmp_path / "r.jsonl"
    file.write_text("".join(f"{as_json(part)}\n" for part in split(record)[:lines]) + torn)
    state = "done" if lines == 3 else "new"
    assert read(file).state_by_stamp(str(pdf)) == state
    assert read(file).state_by_id(str(pdf), record.id) == state  # as of a URL, which has no stamp
    write(file, record)
    assert pages_in(file) == [(1, None), (2, None), (5, None)]
    results = read(file)
    assert results.state_by_stamp(str(pdf)) == results.state_by_id(str(pdf), record.id) == "done"
    pdf.write_bytes(b"%PDF-1.7 changed")
    assert results.state_by_stamp(str(pdf)) == "new"


def test_a_failed_page_makes_the_document_failed_until_it_is_tried_again(pdf: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    sink = write(file, document(pdf, page(1), page(2, "", error=ERROR), page(3)))
    assert (sink.done, sink.failed, sink.exit_code) == (3, 1, 5)
    results = read(file)
    assert results.state_by_stamp(str(pdf)) == "partly-failed"
    assert results.is_skipped("partly-failed", retry_failed=False)
    assert not results.is_skipped("partly-failed", retry_failed=True)
    sink = write(file, document(pdf, page(1), page(2, "", error=ERROR), page(3)))  # in vain
    assert (sink.done, sink.failed, sink.skipped, sink.exit_code) == (1, 1, 2, 5)
    assert set(pages_in(file)) == {(1, None), (2, "truncated"), (3, None)} and len(pages_in(file)) == 3
    assert read(file).state_by_stamp(str(pdf)) == "partly-failed"
    write(file, document(pdf, page(1), page(2), page(3)))
    assert set(pages_in(file)) == {(1, None), (2, None), (3, None)} and len(pages_in(file)) == 3
    assert read(file).state_by_stamp(str(pdf)) == "done"


def write_whole(file: Path, record: Record) -> RecordSink:
    """Go on with the results file `file` by the record of a document, without --split-pages."""
    file.touch()
    results = read(file)
    with file.open("a", encoding="utf-8") as stream:
        sink = RecordSink(JsonLines(stream), Console(quiet=True), results=results)
        sink.write_record(record)
    results.compact()
    return sink


def texts_in(file: Path) -> list[str]:
    return [json.loads(line)["text"] for line in file.read_text().splitlines()]


def test_a_document_with_a_failed_page_is_tried_again_as_a_whole(pdf: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    partly = document(pdf, page(1, "one"), page(2, "", error=ERROR))
    assert write_whole(file, partly).exit_code == Exit.SOME_FAILED
    results = read(file)
    assert results.state_by_stamp(str(pdf)) == results.state_by_id(str(pdf), partly.id) == "partly-failed"
    assert results.answer(partly.id) is None  # a copy of it is read itself
    stored = results.record(str(pdf))  # of which a sidecar is made
    assert stored is not None and stored.text == partly.text
    sink = RecordSink(JsonLines(io.StringIO()), Console(quiet=True), results=results)
    sink.skip(str(pdf), results.state_by_stamp(str(pdf)))
    assert (sink.skipped, sink.failed_before, sink.exit_code) == (1, 0, Exit.SOME_FAILED)
    write_whole(file, document(pdf, page(1, "other"), page(2, "", error=ERROR)))  # in vain: the later one counts
    assert texts_in(file) == ["other\n\f"]
    assert read(file).state_by_stamp(str(pdf)) == "partly-failed"
    write_whole(file, document(pdf, page(1, "one"), page(2, "two")))
    assert texts_in(file) == ["one\n\ftwo"]
    assert read(file).state_by_stamp(str(pdf)) == "done"
    assert read(file).answer(partly.id) is not None


def test_what_is_known_of_a_document_is_not_lost_when_it_fails_as_a_whole(pdf: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    partly = document(pdf, page(1, "one"), page(2, "", error=ERROR))
    write_whole(file, partly)
    write_whole(file, partly.failed(Fault(ErrorKind.TIMEOUT, "took too long")))
    assert texts_in(file) == [partly.text, ""]
    assert read(file).state_by_stamp(str(pdf)) == "partly-failed"
    write_whole(file, document(pdf, page(1, "one"), page(2, "two")))
    assert texts_in(file) == ["one\n\ftwo"]
    assert read(file).state_by_stamp(str(pdf)) == "done"


def test_the_record_of_a_document_that_failed_as_a_whole_is_replaced_by_those_of_its_pages(
    pdf: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.jsonl"
    write(file, document(pdf).failed(Fault(ErrorKind.TIMEOUT, "took too long")))
    assert pages_in(file) == [(None, "timeout")]
    assert read(file).state_by_stamp(str(pdf)) == "failed"
    write(file, document(pdf, page(1), page(2)))
    assert pages_in(file) == [(1, None), (2, None)]
    assert read(file).state_by_stamp(str(pdf)) == "done"


def test_records_of_pages_are_no_answers_to_other_documents(pdf: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    record = document(pdf, page(1), page(2))
    write(file, record)
    assert read(file).answer(record.id) is None


def test_lines_that_other_programs_wrote_anew_count_too(pdf: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    rows = [json.loads(as_json(part)) for part in split(document(pdf, page(1), page(2)))]
    file.write_text("".join(json.dumps({"mine": 1, **dict(reversed(row.items()))}) + "\n" for row in rows))
    assert read(file).state_by_stamp(str(pdf)) == "done"
    write(file, document(pdf, page(1), page(2)))
    assert len(pages_in(file)) == 2


def test_text_that_looks_like_the_end_of_a_record_is_not_taken_for_it(pdf: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    text = ', "page": 4, "is_last_page": true, "error": null}'
    file.write_text(f"{as_json(split(document(pdf, page(1, text), page(2)))[0])}\n")
    assert read(file).state_by_stamp(str(pdf)) == "new"


def test_fail_fast_stops_after_the_document() -> None:
    stream = io.StringIO()
    sink = RecordSink(JsonLines(stream), Console(quiet=True), fail_fast=True, split=split)
    assert sink.write_record(document("a.pdf", page(1)))
    assert not sink.write_record(document("b.pdf", page(1, "", error=ERROR), page(2)))
    assert stream.getvalue().count("\n") == 3
