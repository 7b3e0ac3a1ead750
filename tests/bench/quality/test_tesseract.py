"""bench quality --suite ocr-pages: pages are read as `ocr` reads them, and by tesseract beside it.

A script stands for tesseract, which may not be installed. It knows what each picture says from a file beside it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from smolcli.bench.quality import tesseract
from smolcli.bench.report.results import Report
from smolcli.types import Source
from tests.helpers import SAMPLES, smolcli

SCRIPT = """#!/bin/sh
case "$1" in
  --version) echo "tesseract 9.8.7"; echo " leptonica-1.2.3";;
  --list-langs) echo "List of available languages (2):"; echo eng; {osd};;
  *) [ -f "$1.said" ] || exit 1; echo "args: $*" >&2; cat "$1.said";;
esac
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "tesseract"
    path.write_text(SCRIPT.format(osd="echo osd"))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Two pages; tesseract reads the first with an error in 10 characters, and cannot read the second."""
    folder = tmp_path / "pages"
    folder.mkdir()
    for name, width, text in (("a", 70, "Hello page"), ("b", 80, "It is red")):
        Image.new("RGB", (width, 50), "white").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(text)
    (folder / "a.png.said").write_text("Hallo page\n\f")
    (folder / "a.json").write_text('{"category": "letter"}')
    return folder


def test_tesseract_has_a_row_with_its_version(pages: Path, program: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    words = ("-m", "nano", "-b", "echo", "--suite", "ocr-pages", "--records", records, "--json", "--no-progress")
    done = smolcli("bench", "quality", pages, *words)
    assert done.returncode == 0, done.stderr  # though tesseract has failed on a page
    report = Report.of(json.loads(done.stdout))
    ours, theirs = report.results
    assert theirs.settings == {"model": "tesseract 9.8.7"} and report.varied == ["model"]
    assert theirs.figures["cer_mean"].value == pytest.approx(1 / 10)
    assert theirs.figures["plain_wer_median"].value == pytest.approx(1 / 2)
    assert (theirs.failed, theirs.figures["score"].count) == (1, 1)
    assert theirs.categories["letter"].value == pytest.approx(1 / 10)
    assert ours.failed == 0 and ours.figures["cer_mean"].count == 2

    read = smolcli("ocr", *sorted(pages.glob("*.png")), "-m", "nano", "-b", "echo", "-f", "jsonl", "--no-progress")
    texts = [json.loads(line)["text"] for line in read.stdout.splitlines()]
    assert [json.loads(line)["text"] for line in records.read_text().splitlines()] == texts


def test_nano_reads_pages_in_pieces_as_ocr_does(tmp_path: Path) -> None:
    folder, records = tmp_path / "pages", tmp_path / "records.jsonl"
    folder.mkdir()
    shutil.copy(SAMPLES / "page.png", folder)
    (folder / "page.txt").write_text("OPEN")
    options = ("--suite", "ocr-pages", "--records", records, "--no-progress")
    done = smolcli("bench", "quality", folder, "-m", "nano", "-b", "numpy", *options)
    assert done.returncode == 0, done.stderr
    [record] = map(json.loads, records.read_text().splitlines())
    assert [len(region["lines"]) for region in record["data"]["pages"][0]["regions"]] == [4]


def test_the_mode_with_turns_needs_its_data(program: Path, pages: Path) -> None:
    found = tesseract.find()
    assert found is not None and found.version == "9.8.7" and found.finds_turns
    program.write_text(SCRIPT.format(osd=":"))
    without = tesseract.find()
    assert without is not None and not without.finds_turns


@pytest.mark.parametrize("broken", ["exit 1", "echo"])
def test_a_program_that_does_not_run_is_none(broken: str, program: Path) -> None:
    program.write_text(f"#!/bin/sh\n{broken}\n" if broken != "echo" else "no program")
    assert tesseract.find() is None


def test_it_opens_no_pdf_and_nothing_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    assert not tesseract.reads(Source(str(tmp_path / "a.pdf")))
    assert not tesseract.reads(Source(str(tmp_path / "none.png")))
    assert not tesseract.reads(Source("row 1", b"%PDF-1.7"))
    assert tesseract.reads(Source(str(tmp_path / "b.png")))
