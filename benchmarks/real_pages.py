"""Fetches real scans whose text is known, to measure how well pages are read: `bench quality DIR --suite ocr-pages`.

    python benchmarks/real_pages.py DIR

They are test files of other projects, fetched anew each time and never a part of this repository:

    tesseract  (Apache-2.0) Debian's source package, by `apt-get source`: phototest upright and in three turns,
               eurotext, and two magazine pages with columns of the UNLV set (8071_093.3B; 8087_054.3B, in grey .3G)
    ocrmypdf   its source distribution on PyPI, by `pip download`; REUSE.toml there has the licence of each file:
               linn.png, the same page as PDF, skewed, and in four turns, and francais.pdf

Every picture or PDF has a .txt beside it. That of linn is the output of another program; the mistakes in it that can be
seen on the page are corrected here. In the texts of UNLV "~" stands for a sign that could not be typed. Where pdftoppm
(poppler-utils) is installed, the pages of PDFs are also drawn as PNG, at --dpi dots per inch.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

DEBIAN = "deb-src http://deb.debian.org/debian bookworm main\n"
OCRMYPDF = "ocrmypdf==17.13.0"
TESSERACT_PAGES = {  # picture: the text in the folder testing/
    "phototest.tif": "phototest.gold.txt", "phototest-rotated-180.png": "phototest.gold.txt",
    "phototest-rotated-L.png": "phototest.gold.txt", "phototest-rotated-R.png": "phototest.gold.txt",
    "eurotext.tif": "eurotext.txt", "8071_093.3B.tif": "8071_093.3B.txt", "8087_054.3B.tif": "8087_054.3B.txt",
    "8087_054.3G.tif": "8087_054.3B.txt",
}  # fmt: skip
LINN = ("linn.png", "linn.pdf", "skew.pdf", "rotated_skew.pdf", "cardinal.pdf")  # cardinal has the page four times
CARDINAL_PAGES = 4
LINN_CORRECTIONS = (
    ("\n0 ", "\n\u2022 "), ("state\u2014of\u2014the", "state-of-the"), ("3 1/2 \u201d", '3\u00bd"'),
    ("synthesizers !", "synthesizers!"), ("real\u2014time", "real-time"), ("adjusted 0r", "adjusted or"),
    ("the \ufb01rst\u2018track", "the first track"), ("sequence-\u2014", "sequence\u2014"),
    ("INSERT/ COPY", "INSERT/COPY"),
    ("FOOTSWIT CH", "FOOTSWITCH"), ("PLAY/ STOP", "PLAY/STOP"), ("high\u2014speed", "high-speed"), ("8 MHZ", "8 MHz"),
    ("PER\u2014MINUTE", "PER-MINUTE"), ("PER\u2014BEAT", "PER-BEAT"), ("EDI]", "Linn"),
    ("Additional Features\n\n", ""), ("\u2022 Simple, easy", "Additional Features\n\n\u2022 Simple, easy"),
)  # fmt: skip
PANGRAM = """Portez ce vieux whisky au juge
blond qui fume sur son \u00eele
int\u00e9rieure, \u00e0 c\u00f4t\u00e9 de l'alc\u00f4ve
ovo\u00efde, o\u00f9 les b\u00fbches se
consument dans l'\u00e2tre, ce qui
lui permet de penser \u00e0 la
c\u00e6nog\u00e9n\u00e8se de l'\u00eatre dont il
est question dans la cause
ambigu\u00eb entendue \u00e0 Mo\u00ff, dans
un capharna\u00fcm qui, pense-t-il,
diminue \u00e7\u00e0 et l\u00e0 la qualit\u00e9 de son
\u0153uvre.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dpi", type=int, default=200, help="of pages drawn from PDFs")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    failures = 0
    for collect in (tesseract_pages, ocrmypdf_pages):
        with tempfile.TemporaryDirectory() as temporary:
            try:
                collect(args.folder, Path(temporary))
            except (OSError, subprocess.CalledProcessError, LookupError) as error:
                failures += 1
                detail = (getattr(error, "stderr", None) or b"")[-300:].decode(errors="replace").strip()
                print(f"{collect.__name__}: cannot be fetched: {error} {detail}", file=sys.stderr)
    if shutil.which("pdftoppm") is None:
        print("pdftoppm is not installed (poppler-utils): the pages of PDFs are not drawn as PNG", file=sys.stderr)
    else:
        for path in sorted(args.folder.glob("*.pdf")):
            draw_pages(path, args.dpi)
    print(f"{len(list(args.folder.glob('*.txt')))} texts in {args.folder}")
    sys.exit(1 if failures else 0)


def tesseract_pages(folder: Path, temporary: Path) -> None:
    """The pages of the source package, which apt-get fetches with lists of its own, so that nothing is configured."""
    (temporary / "sources.list").write_text(DEBIAN)
    (temporary / "lists" / "partial").mkdir(parents=True)
    where = {
        "Dir::Etc::sourcelist": temporary / "sources.list", "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": temporary / "lists", "Dir::Cache": temporary / "cache",
    }  # fmt: skip
    options = [word for name, value in where.items() for word in ("-o", f"{name}={value}")]
    for words in (["update"], ["source", "--download-only", "tesseract"]):
        subprocess.run(["apt-get", "-q", *options, *words], cwd=temporary, check=True, capture_output=True)
    files = members(next(iter(temporary.glob("*orig-test*"))), "/testing/")
    for picture, text in TESSERACT_PAGES.items():
        place(folder, picture, files[picture], files[text].decode("utf-8"))


def ocrmypdf_pages(folder: Path, temporary: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "ocrmypdf", OCRMYPDF]
    subprocess.run([*command, "-d", str(temporary)], check=True, capture_output=True)
    files = members(next(iter(temporary.glob("*.tar.gz"))), "/tests/resources/")
    text = files["linn.txt"].decode("utf-8")
    for wrong, right in LINN_CORRECTIONS:
        if wrong not in text:
            raise LookupError(f"linn.txt is another: it has no {wrong!r}")
        text = text.replace(wrong, right)
    for name in LINN:
        place(folder, name, files[name], "\f".join([text] * (CARDINAL_PAGES if name == "cardinal.pdf" else 1)))
    place(folder, "francais.pdf", files["francais.pdf"], PANGRAM)


def members(archive: Path, part: str) -> dict[str, bytes]:
    """The files of an archive whose path has this part, by name."""
    with tarfile.open(archive) as tar:
        found = (member for member in tar if member.isfile() and part in member.name)
        return {Path(member.name).name: read(tar, member) for member in found}


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None  # of a regular file there is one
    return file.read()


def place(folder: Path, name: str, data: bytes, text: str) -> None:
    """Write a picture or PDF and its text; a PDF has a name of its own, since its pages are drawn beside it."""
    path = folder / name
    path = path.with_name(f"{path.stem}_pdf.pdf") if path.suffix == ".pdf" else path
    path.write_bytes(data)
    write_text(path, text)


def write_text(picture: Path, text: str) -> None:
    picture.with_suffix(".txt").write_text(text.strip() + "\n", encoding="utf-8")


def draw_pages(path: Path, dpi: int) -> None:
    """Draw the pages of a PDF as PNG, with the text of each."""
    texts = path.with_suffix(".txt").read_text(encoding="utf-8").split("\f")
    stem = path.with_name(path.stem.removesuffix("_pdf") + "_page")
    subprocess.run(["pdftoppm", "-r", str(dpi), "-png", str(path), str(stem)], check=True)
    for picture, text in zip(drawn(stem), texts, strict=True):
        write_text(picture, text)


def drawn(stem: Path) -> Iterable[Path]:
    return sorted(stem.parent.glob(f"{stem.name}-*.png"))


if __name__ == "__main__":
    main()
