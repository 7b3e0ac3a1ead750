"""Draws pages of known text, to measure how well pages are read and their lines found.

    python benchmarks/pages.py DIR [--seed 0] [--count 66] [--damaged] [--hard]

writes for each page

    NNN_layout_face.png     the picture
    NNN_layout_face.txt     its text in reading order: a printed line is a line, a row of a table or of a form too;
                            regions (paragraphs, headings, tables...) are separated by an empty line
    NNN_layout_face.json    category, size, layout, face, font, package, x_height, dpi, damage, turn, skew,
                            leaders, lines

Each of `lines`, in reading order, has text, box, region (a number), kind (of the region), x_height, words (text and
box), and row and column where it is in a cell. A box is [left, top, right, bottom] in pixels, tight to the ink, `right`
and `bottom` being the first outside it. --damaged adds copies of each page, NNN_layout_face_blur.png and so on, with
the same text; their boxes are those of the upright page, which comes of turning the picture clockwise by `turn`, then
by `skew` degrees. `leaders` are the boxes of rows of dots, which are in no line.

The eleven layouts, or with --hard the five of page_hard.py, take turns, the faces do for each page; page NNN of a seed
is the same whatever --count is. None of the faces is one that nano is trained on. The text is made from word lists
(page_text.py); listings are of the standard library and so depend on Python's version. --packages names the Debian
packages of the faces.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from page_damage import DAMAGES, Damaged, damaged
from page_hard import HARD_LAYOUTS
from page_layouts import LAYOUTS
from page_sheet import FACES, Face, PrintedLine, Sheet, font_files
from page_text import Writer
from PIL import Image

from smolcli.nano.fonts import FONT_FAMILIES, HELD_OUT_FAMILIES

X_HEIGHTS = (9, 10, 11, 12, 13, 14, 16, 18, 20, 22, 25, 28, 30)  # pixels
SIZES = (  # width and height in pixels, dots per inch: A5, A4, screens
    (583, 827, 100), (874, 1240, 150), (1165, 1654, 200), (827, 1169, 100), (1240, 1754, 150), (1654, 2339, 200),
    (640, 480, 96), (800, 600, 96), (1024, 768, 96),
)  # fmt: skip
SCREENS = SIZES[6:]
Layouts = Mapping[str, Callable[[Sheet, Writer, random.Random], None]]
PAPERS = ((255, 255, 255), (255, 255, 255), (250, 247, 238), (238, 238, 236))
INKS = ((0, 0, 0), (25, 25, 30), (60, 60, 60), (20, 30, 90))
SCREEN_COLOURS = (((30, 32, 38), (235, 235, 235)), ((12, 12, 12), (200, 220, 200)), ((24, 36, 66), (250, 250, 245)))
# The width of a page in x-heights: a small x is about as wide as it is high, and a line has 40 to 100 letters.
NARROWEST, WIDEST = 48, 115
HEIGHTS = {"letter": 75, "notice": 80, "notes": 60}  # the least height, in x-heights
WIDTHS = {
    "two-columns": (80, 140), "magazine": (95, 150), "receipt": (34, 44), "code": (75, 130), "form": (60, 110),
    "screen": (60, 120),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=66)
    parser.add_argument("--damaged", action="store_true", help=f"also draw copies with {', '.join(DAMAGES)}")
    parser.add_argument("--hard", action="store_true", help="pages that are hard to find the lines of, instead")
    parser.add_argument("--packages", action="store_true", help="print the Debian packages of the faces, and end")
    args = parser.parse_args()
    if args.packages:
        print("\n".join(sorted({f"{face.package} ({face.licence})" for face in FACES})))
        return
    if args.folder is None:
        parser.error("name a folder")
    check_faces()
    args.folder.mkdir(parents=True, exist_ok=True)
    for number in range(args.count):
        layout, sheet = drawn(args.seed, number, HARD_LAYOUTS if args.hard else LAYOUTS)
        write(args.folder, number, layout, sheet, "", Damaged(sheet.image, sheet.image.size))
        for place, kind in enumerate(DAMAGES if args.damaged else ()):
            copy = damaged(sheet.image, kind, sheet.x_height, sheet.paper, [args.seed, number, place])
            write(args.folder, number, layout, sheet, kind, copy)


def check_faces() -> None:
    """End the program if a font is missing, or is of a family that nano is trained on."""
    stems = [stem for face in FACES for stem in (face.regular, face.bold) if stem]
    if trained := [stem for stem in stems if stem.startswith(FONT_FAMILIES) and not stem.startswith(HELD_OUT_FAMILIES)]:
        raise SystemExit(f"nano is trained on {', '.join(trained)}")
    missing = {face.package for face in FACES if not {face.regular, face.bold or face.regular} <= font_files().keys()}
    if missing:
        raise SystemExit(f"install the fonts: apt-get install {' '.join(sorted(missing))}")


def drawn(seed: int, number: int, layouts: Layouts) -> tuple[str, Sheet]:
    """The layout of page `number` and the sheet with it."""
    rng = random.Random(f"{seed} {number}")
    turn, place = divmod(number, len(layouts))
    layout = list(layouts)[place]
    sheet = new_sheet(layout, face_of(layout, turn, place + turn * (len(layouts) + 1)), rng)
    is_ascii = sheet.face.mono or rng.random() < 0.5
    layouts[layout](sheet, Writer(rng, typographic=not is_ascii), rng)
    return layout, sheet


def face_of(layout: str, turn: int, number: int) -> Face:
    """The face of a layout's page number `turn`: of fixed width for code and most receipts, else each in turn."""
    if layout == "code" or (layout == "receipt" and turn % 3 < 2):
        mono = [face for face in FACES if face.mono]
        return mono[(turn + (layout == "receipt") * 3) % len(mono)]
    return FACES[number % len(FACES)]


def new_sheet(layout: str, face: Face, rng: random.Random) -> Sheet:
    """A sheet of a size and print that suit the layout."""
    low, high = WIDTHS.get(layout, (NARROWEST, WIDEST))
    sizes = SCREENS if layout == "screen" else SIZES
    while True:
        width, height, dpi = rng.choice(sizes)
        x_height = rng.choice(X_HEIGHTS)
        if layout == "receipt":
            width = round(rng.uniform(low, high) * x_height)
            height = max(rng.randint(28, 40) * 3 * x_height, 480)
        if low <= width / x_height <= high and height >= HEIGHTS.get(layout, 40) * x_height:
            break
    paper, ink = rng.choice(SCREEN_COLOURS) if layout == "screen" else (rng.choice(PAPERS), rng.choice(INKS))
    return Sheet(width, height, dpi, face, x_height, paper, ink, leading=rng.choice((1.0, 1.0, 1.15, 1.4)))


def text_of(lines: list[PrintedLine]) -> str:
    """The text of a page: a line of text for each printed line or row of cells, an empty line between regions."""
    texts: list[str] = []
    previous: PrintedLine | None = None
    for line in lines:
        if previous and previous.region == line.region and line.row is not None and previous.row == line.row:
            texts[-1] += f" {line.text}"
        else:
            if previous and previous.region != line.region:
                texts.append("")
            texts.append(" " * line.indent + line.text)
        previous = line
    return "\n".join(texts) + "\n"


def write(folder: Path, number: int, layout: str, sheet: Sheet, damage: str, page: Damaged) -> None:
    """Write a page's picture, text and boxes."""
    name = "_".join(word for word in (f"{number:03}", layout, sheet.face.name, damage) if word)
    save(page.image, folder / name, damage == "jpeg")
    (folder / f"{name}.txt").write_text(text_of(sheet.lines), encoding="utf-8")
    about = {
        "category": damage or layout,
        "size": page.size, "layout": layout, "face": sheet.face.name, "font": sheet.face.regular,
        "package": sheet.face.package, "x_height": sheet.print().x_height, "dpi": sheet.dpi, "damage": damage,
        "turn": page.turn, "skew": page.skew, "leaders": [page.box(box) for box in sheet.leaders],
        "lines": [as_json(line, page) for line in sheet.lines],
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(about, ensure_ascii=False) + "\n", encoding="utf-8")


def save(image: Image.Image, path: Path, is_jpeg: bool) -> None:
    if is_jpeg:
        image.save(f"{path}.jpg", quality=30)
    else:
        image.save(f"{path}.png")


def as_json(line: PrintedLine, page: Damaged) -> dict[str, Any]:
    cell = {} if line.row is None else {"row": line.row, "column": line.column}
    words = [{"text": text, "box": page.box(box)} for text, box in line.words]
    return {
        "text": line.text, "box": page.box(line.box), "region": line.region, "kind": line.kind,
        "x_height": line.x_height, **cell, "words": words,
    }  # fmt: skip


if __name__ == "__main__":
    main()
