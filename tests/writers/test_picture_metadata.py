"""smolcli/writers/picture_metadata.py: what exiftool is asked to write, and writes where it is installed."""

from __future__ import annotations

import html
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smolcli.errors import ErrorKind, InputError, UnavailableError
from smolcli.records.resume import ResultsFile
from smolcli.records.sink import RecordSink
from smolcli.system.file_stamp import stamp_of
from smolcli.terminal.console import Console
from smolcli.types import Record, Seconds
from smolcli.writers.companions import Companions
from smolcli.writers.json_lines import JsonLines, as_json
from smolcli.writers.picture_metadata import PictureMetadata
from tests.helpers import BAD, IDENTITY, RECORD, sidecars

NASTY = "Ä <b>&amp; \"quotes\" 'n' $5 @x #[CSTR]\\n\nzwei\tTab\n-Comment=no 🙂 "
# A program in the place of exiftool. It keeps its arguments and what it reads, prints the metadata that the test gives,
# and "writes" by adding a byte to the picture.
STAND_IN = """\
#!/bin/sh
if [ "$1" = -listwf ]; then echo "Writable file extensions:"; echo "  JPG PNG PPM"; exit; fi
for file; do :; done
input=$(cat)
case "$input" in
-j*) cat "$METADATA" ;;
*)
    if [ -s "$FAILURE" ]; then cat "$FAILURE" >&2; exit 1; fi
    printf '%s\\n' "$@" > "$ARGUMENTS"
    printf '%s\\n' "$input" > "$INPUT"
    cp -n "$file" "${file}_original"
    printf x >> "$file" ;;
esac
"""


class StandIn:
    """The stand-in's files: the metadata that it prints, why it fails, and what it was last asked to write."""

    def __init__(self, folder: Path) -> None:
        self.metadata, self.failure = folder / "metadata.json", folder / "failure"
        self.arguments, self.input = folder / "arguments", folder / "input"
        self.picture_has()
        self.failure.touch()

    def picture_has(self, **fields: object) -> None:
        self.metadata.write_text(json.dumps([{"FileTypeExtension": "png", **fields}]))

    @property
    def has_written(self) -> bool:
        return self.arguments.exists()

    @property
    def lines(self) -> list[str]:
        return self.input.read_text("utf-8").splitlines()


@pytest.fixture
def exiftool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "exiftool").write_text(STAND_IN)
    (folder / "exiftool").chmod(0o755)
    stand_in = StandIn(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for name in ("metadata", "failure", "arguments", "input"):
        monkeypatch.setenv(name.upper(), str(getattr(stand_in, name)))
    return stand_in


def picture(path: Path, **more: Any) -> Record:
    """The record of a picture that lies at `path` now."""
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (4, 3), "red").save(path, path.suffix[1:].upper().replace("JPG", "JPEG"))
    return replace(RECORD, path=str(path), stamp=stamp_of(str(path)), **more)


def writer(
    if_exists: str = "skip",
    gives_keywords: bool = False,
    is_only_output: bool = False,
    notices: list[str] | None = None,
) -> PictureMetadata:
    return PictureMetadata(gives_keywords, if_exists, is_only_output, ([] if notices is None else notices).append)


def test_exiftool_is_given_the_text_on_one_line_and_an_absolute_path(
    tmp_path: Path, exiftool: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = picture(tmp_path / "-two\nlines.png", text=NASTY)
    monkeypatch.chdir(tmp_path)
    written = writer().write(replace(record, path="-two\nlines.png"))
    assert exiftool.arguments.read_text().endswith(f"\n-@\n-\n{tmp_path}/-two\nlines.png\n")
    lines = [line.partition("=") for line in exiftool.lines if "Description=" in line]
    assert [(tag, html.unescape(value)) for tag, _, value in lines] == [
        ("-XMP-dc:Description", NASTY), ("-EXIF:ImageDescription", NASTY),
    ]  # fmt: skip
    assert "-E" in exiftool.lines  # by which exiftool takes the escapes of HTML
    assert written.embedded
    assert written.stamp == stamp_of(record.path) != record.stamp
    assert written.text == NASTY


def test_each_tag_is_a_keyword_and_none_is_there_twice(tmp_path: Path, exiftool: StandIn) -> None:
    exiftool.picture_has(Description="by Ann", Keywords="dog")
    record = picture(tmp_path / "a.png", data=["dog", "a & b"])
    assert writer("overwrite", gives_keywords=True).write(record).embedded
    assert [line for line in exiftool.lines if "XMP" in line] == [
        "-XMP-dc:Subject-=dog", "-XMP-dc:Subject+=dog", "-XMP-dc:Subject-=a &amp; b", "-XMP-dc:Subject+=a &amp; b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "gives_keywords", "is_kept"),
    [
        ({"Description": "by Ann"}, False, True),
        ({"Caption-Abstract": 5}, False, True),
        ({"Description": "  "}, False, False),
        ({"Subject": ["dog"]}, False, False),
        ({"Subject": ["dog"]}, True, True),
        ({"Keywords": "dog"}, True, True),
        ({"Description": "by Ann"}, True, False),
    ],
)
def test_what_people_have_written_is_left_alone(
    tmp_path: Path, exiftool: StandIn, fields: dict[str, object], gives_keywords: bool, is_kept: bool
) -> None:
    exiftool.picture_has(**fields)
    record = picture(tmp_path / "a.png", data=["cat"] if gives_keywords else None)
    metadata = writer(gives_keywords=gives_keywords)
    assert metadata.exists(record.path) == is_kept
    assert metadata.write(record).embedded == exiftool.has_written == (not is_kept)
    subject = "keywords are" if gives_keywords else "a description is"
    notices = [f"3 left alone: {subject} in the picture; --if-exists overwrite"] if is_kept else []
    assert list(metadata.closing_notices(2))[: len(notices)] == notices


def test_if_exists_overwrite_and_error(tmp_path: Path, exiftool: StandIn) -> None:
    exiftool.picture_has(Description="by Ann")
    record = picture(tmp_path / "a.png")
    refusing = writer("error")
    for refuse in (lambda: refusing.check(record.path), lambda: writer("error", is_only_output=True).write(record)):
        with pytest.raises(InputError, match="has a description already") as error:
            refuse()
        assert error.value.kind == ErrorKind.EXISTS
    assert not exiftool.has_written
    assert writer("overwrite").write(record).embedded
    assert exiftool.has_written


def test_a_picture_that_says_it_already_is_not_written(tmp_path: Path, exiftool: StandIn) -> None:
    exiftool.picture_has(Description="a cat")
    record = picture(tmp_path / "a.png")
    assert writer("overwrite").write(record) == replace(record, embedded=True)
    assert not exiftool.has_written


def test_failed_and_blank_records_write_nothing(tmp_path: Path, exiftool: StandIn) -> None:
    blank = picture(tmp_path / "a.png", text="", blank=True)
    for record in (BAD, blank):
        assert writer().write(record) == record
    assert not exiftool.has_written


@pytest.mark.parametrize(
    ("fields", "failure", "message", "kind"),
    [
        ({"FileTypeExtension": "bmp"}, "", "exiftool cannot write into BMP files", ErrorKind.UNSUPPORTED),
        ({"FileTypeExtension": "ppm"}, "", "exiftool cannot write into PPM files", ErrorKind.UNSUPPORTED),
        ({}, "Warning: x\nError: Not a valid PNG (looks more like a JPEG) - /a.png\n", "exiftool: Not a valid PNG "
         "(looks more like a JPEG)", ErrorKind.UNWRITABLE),
    ],
)  # fmt: skip
def test_what_exiftool_cannot_write_is_a_failure_or_a_notice_of_the_answer(
    tmp_path: Path, exiftool: StandIn, fields: dict[str, object], failure: str, message: str, kind: ErrorKind
) -> None:
    exiftool.picture_has(**fields)
    exiftool.failure.write_text(failure)
    record = picture(tmp_path / "a.png")
    advice = "; use --sidecar .xmp"
    assert writer().write(record) == replace(record, notices=(f"nothing is written into it: {message}{advice}",))
    with pytest.raises(InputError) as error:
        writer(is_only_output=True).write(record)
    assert (error.value.what, error.value.kind) == (message, kind)
    if not failure:  # it is known before the model is asked
        with pytest.raises(InputError, match=message):
            writer(is_only_output=True).check(record.path)


def test_a_file_that_was_changed_meanwhile_is_not_written(tmp_path: Path, exiftool: StandIn) -> None:
    record = picture(tmp_path / "a.png")
    picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="was changed while it was looked at"):
        writer(is_only_output=True).write(record)


@pytest.mark.parametrize("path", ["-", "https://h.org/a.png"])
def test_what_is_no_file_is_refused(path: str, exiftool: StandIn) -> None:
    with pytest.raises(InputError) as error:
        writer().check(path)
    assert error.value.kind == ErrorKind.UNSUPPORTED


def test_without_exiftool_it_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match="needs exiftool, which is not installed; apt install libimage") as error:
        writer()
    assert error.value.code == 3


def test_a_resumed_run_writes_metadata_once_and_knows_the_changed_file(tmp_path: Path, exiftool: StandIn) -> None:
    """The first run was not asked for it; the changed picture gets a record with its new stamp, and its sidecar too."""
    file, notices = tmp_path / "r.jsonl", list[str]()
    first = picture(tmp_path / "a.png", id=IDENTITY.id_of("1e"))
    file.write_text(as_json(first) + "\n")

    def resume() -> str:
        results, stream = ResultsFile(file, IDENTITY), io.StringIO()
        results.read()
        companions = Companions([writer(notices=notices), sidecars(".json")])
        sink = RecordSink(JsonLines(stream), Console(), sidecars=companions, results=results)
        assert results.state_by_stamp(first.path) == "done"
        sink.skip(first.path)
        assert (sink.skipped, sink.failed_before) == (1, 0)
        with file.open("a") as appended:
            appended.write(stream.getvalue())
        return stream.getvalue()

    second = json.loads(resume())
    assert (second["text"], second["embedded"], second["stamp"]) == ("a cat", True, stamp_of(first.path))
    assert json.loads((tmp_path / "a.json").read_text()) == second
    exiftool.arguments.unlink()
    assert resume() == ""
    assert not exiftool.has_written


def test_a_copy_of_an_answer_is_not_said_to_be_written_into_the_other_file(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    record = replace(RECORD, id=IDENTITY.id_of("1e"), seconds=Seconds(), embedded=True)
    file.write_text(as_json(record) + "\n")
    results = ResultsFile(file, IDENTITY)
    results.read()
    copied = results.answer(record.id)
    assert copied is not None and not copied.embedded
    assert results.record("a.png", record.id) == record
    assert results.record("b.png", record.id) == replace(record, path="b.png", embedded=False)


def read_by_exiftool(path: Path) -> dict[str, Any]:
    tags = ("-XMP-dc:Description", "-XMP-dc:Subject", "-XMP-dc:Creator", "-EXIF:Model")
    done = subprocess.run(["exiftool", "-j", *tags, path], capture_output=True, check=True)
    return dict(json.loads(done.stdout)[0])


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("suffix", [".jpg", pytest.param(".png", marks=pytest.mark.slow)])
def test_exiftool_writes_the_picture_and_keeps_the_original(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"-ü\nnew $5 #{suffix}"
    record = picture(path, text=NASTY)
    tags = ["-XMP-dc:Subject=Maus", "-XMP-dc:Creator=Ann", "-EXIF:Model=K"]
    subprocess.run(["exiftool", "-q", "-overwrite_original", *tags, path], check=True)
    record = replace(record, stamp=stamp_of(str(path)))
    before, pixels = path.read_bytes(), Image.open(path).tobytes()
    written = writer().write(record)
    tagged = writer("overwrite", gives_keywords=True).write(replace(written, data=["Hündin & Co", "Maus"]))
    has = read_by_exiftool(path)
    assert has.pop("Description") == NASTY
    assert {name: has[name] for name in ("Subject", "Creator", "Model")} == {
        "Subject": ["Hündin & Co", "Maus"], "Creator": "Ann", "Model": "K",
    }  # fmt: skip
    assert Image.open(path).tobytes() == pixels
    assert path.with_name(f"{path.name}_original").read_bytes() == before
    metadata: Callable[..., Record] = writer("overwrite").write
    assert metadata(tagged).stamp == tagged.stamp == stamp_of(str(path))  # data is a list of tags, which are there
