"""Measures the memory that ocr takes for a long PDF: the peaks of both processes by the number of pages that are read.

    python benchmarks/pdf_memory.py long.pdf                         # 100, 1,000 and 5,000 pages
    python benchmarks/pdf_memory.py long.pdf --pages 10 50 -b echo   # without a model's work

The PDF is made where it is not there yet: of every two pages one is a scan, whose lines are found and read, and one
holds its text as text. For each number N a run of its own reads the pages 1 to N of it. Peak memory is what the record
says: the resident memory of the process that the user starts, and of its engine, which has the model and PDFium.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pikepdf
from PIL import Image, ImageDraw, ImageFont

WORDS = "the library lends books maps and tools to everyone who lives in town or near it for three weeks"
SIZE = (620, 877)  # pixels of a scan: A4 at 75 dpi
A4 = (595, 842)  # points
FONT = pikepdf.Dictionary(Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=Path)
    parser.add_argument("--pages", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("-m", "--model", default="nano")
    parser.add_argument("-b", "--backend", default="numpy")
    options = parser.parse_args()
    if not options.document.exists():
        make_document(options.document, max(options.pages))
    for count in options.pages:
        report(options.document, count, options.model, options.backend)


def make_document(path: Path, count: int) -> None:
    """Write a PDF of `count` pages, each with ten lines of its own."""
    with pikepdf.new() as document:
        font = document.make_indirect(FONT)
        for number in range(count):
            lines = [" ".join(random.Random(f"{number} {line}").choices(WORDS.split(), k=7)) for line in range(10)]
            page = document.add_blank_page(page_size=A4)
            if number % 2:
                page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F=font))
                shown = " ".join(f"({line}) Tj T*" for line in lines)
                page.Contents = document.make_stream(f"BT /F 12 Tf 18 TL 60 760 Td {shown} ET".encode())
            else:
                page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(I=scan(document, lines)))
                page.Contents = document.make_stream(b"%d 0 0 %d 0 0 cm /I Do" % A4)
        document.save(path, compress_streams=True)


def scan(document: pikepdf.Pdf, lines: list[str]) -> pikepdf.Stream:
    """A gray picture of some lines."""
    image = Image.new("L", SIZE, 255)
    ImageDraw.Draw(image).multiline_text((50, 60), "\n".join(lines), 0, ImageFont.load_default(18), spacing=14)
    return document.make_stream(
        image.tobytes(), Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Image, Width=SIZE[0], Height=SIZE[1],
        ColorSpace=pikepdf.Name.DeviceGray, BitsPerComponent=8,
    )  # fmt: skip


def report(document: Path, count: int, model: str, backend: str) -> None:
    """Read the first `count` pages in a run of its own, and print its peaks."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "r.jsonl"
        command = [sys.executable, "-m", "smolcli", "ocr", str(document), "--pages", f"1-{count}", "-m", model]
        started = time.perf_counter()
        subprocess.run([*command, "-b", backend, "-q", "-o", str(results)], check=True)
        seconds = time.perf_counter() - started
        record = json.loads(results.read_text())
        size = results.stat().st_size
    read, memory = len(record["data"]["pages"]), record["memory"]
    assert read == count, f"{read} pages were read"
    print(
        f"{count:,} pages: {seconds:.0f} s, starting process {memory['parent'] / 1e6:.0f} MB at most, "
        f"engine {memory['engine'] / 1e6:.0f} MB, record {size / 1e6:.1f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
