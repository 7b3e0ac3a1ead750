"""Judges how well the lines of print of a page are found: on the pages of pages.py, by layout and by damage.

    python benchmarks/layout.py DIR [--detector smolcli tesseract rapidocr opencv] [--layout letter] [--damage skew]
        [--worst 5] [--json]

For each group of pages, in percent of their true lines:

    found     a line has a detected line of its own: each covers at least half of the other
    cut       the line is in several pieces, which together cover half of its width or more
    joined    one detected line covers several cells of a row, or the two halves of a row of a list, each at least half
    merged    one detected line covers it and others that are not of its row, or much that is no line
    lost      less than half of it is covered by all that was detected
    readable  found, cut or joined: its letters are in pieces that hold no others than those of its row
    doubled   two or more detected lines cover half of it or more
    extra     detected lines that touch no true line, and are no leader of dots
    order     of all pairs of readable lines, those in the right order

`turn` is the share of pages whose turn was found, s/page the mean wall time and CPU s the mean CPU time of all threads
and child processes. What was found upside down is judged the other way up, with the lines in reverse order. A true box
is that of the ink; for this, half an x-height more on each side counts as the line. A detected box of a skewed or
turned picture is judged on the upright page.

tesseract is the program of that name, with the mode that finds the page's turn (--psm 1). rapidocr is the text detector
of the package rapidocr (PP-OCR), run by openvino. opencv (opencv-python-headless) is the usual chain of threshold,
morphology and connected components. These two are not packages of smolcli; they do not look for the page's turn, and
sort what they find by rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Boxes = np.ndarray[Any, Any]  # int or float (n, 4): left, top, right, bottom
OUTCOMES = ("found", "cut", "joined", "merged", "lost")
READABLE = ("found", "cut", "joined")
COLUMNS = ("found", "cut", "joined", "merged", "lost", "readable", "doubled", "extra", "order", "turn")
ENOUGH = 0.5  # the part of a box that must be covered
WORD_GAP = 2.0  # for opencv: wider than the space between words, in heights of a letter


@dataclass(frozen=True)
class Truth:
    """A page of pages.py: its picture, and its lines in reading order, with boxes on the upright page."""

    picture: Path
    about: dict[str, Any]

    @property
    def boxes(self) -> Boxes:
        return np.array([line["box"] for line in self.about["lines"]], float)

    @property
    def rows(self) -> list[tuple[int, int]]:
        """For each line its region and row, or a number of its own if it has no row."""
        return [(line["region"], line.get("row", -k - 1)) for k, line in enumerate(self.about["lines"])]

    @property
    def damage(self) -> str:
        return str(self.about["damage"] or "none")


@dataclass(frozen=True)
class Detected:
    """The lines that were found, in reading order, on the upright page, which the picture is `turn` degrees from."""

    boxes: Boxes
    turn: int | None
    seconds: float  # of wall time
    cpu_seconds: float


@dataclass(frozen=True)
class Verdict:
    """The outcome of each true line, how many are doubled, how many detected lines are extra, and pairs in order."""

    outcomes: tuple[str, ...]
    doubled: int
    extra: int
    pairs: int
    pairs_in_order: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--detector", nargs="+", choices=tuple(DETECTORS), default=["smolcli"])
    parser.add_argument("--layout", nargs="+", help="only pages of these layouts")
    parser.add_argument("--damage", nargs="+", help='only pages with these damages; "none" is the page as drawn')
    parser.add_argument("--worst", type=int, default=0, help="also name this many pages with the fewest readable lines")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    truths = [truth for truth in truths_of(args.folder) if wanted(truth, args.layout, args.damage)]
    if not truths:
        raise SystemExit(f"{args.folder}: no pages; draw some with benchmarks/pages.py")
    for name in args.detector:
        judged = [(truth, *judge_page(truth, DETECTORS[name])) for truth in truths]
        print_report(name, judged, args.json)
        for truth, _, verdict in sorted(judged, key=goodness)[: args.worst]:
            counts = ", ".join(f"{verdict.outcomes.count(word)} {word}" for word in OUTCOMES)
            print(f"{truth.picture.name}: {counts}")


def truths_of(folder: Path) -> Iterable[Truth]:
    for path in sorted(folder.glob("*.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        yield Truth(next(path.with_suffix(s) for s in (".png", ".jpg") if path.with_suffix(s).exists()), about)


def wanted(truth: Truth, layouts: list[str] | None, damages: list[str] | None) -> bool:
    is_layout = layouts is None or truth.about["layout"] in layouts
    return is_layout and (damages is None or truth.damage in damages)


# ---- detectors -----------------------------------------------------------------------------------


def smolcli_lines(truth: Truth) -> Detected:
    """The lines that `smolcli ocr` reads."""
    from smolcli.inputs.layout import lay_out
    from smolcli.types import Frame

    with Image.open(truth.picture) as image:
        frame = Frame(image.convert("RGB").tobytes(), *image.size)
    start = times()
    page = lay_out(frame, 1, float(truth.about["dpi"])).page
    return Detected(as_boxes([line.box for line in page.lines]), page.turn, *times() - start)


def tesseract_lines(truth: Truth) -> Detected:
    """The lines in tesseract's TSV, of the boxes of their words."""
    command = ["tesseract", str(truth.picture), "-", "--psm", "1", "--dpi", str(truth.about["dpi"]), "tsv"]
    start = times()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = times() - start
    words: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for row in csv.DictReader(done.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["level"] == "5" and row["text"].strip():
            left, top, width, height = (int(row[key]) for key in ("left", "top", "width", "height"))
            key = (row["block_num"], row["par_num"], row["line_num"])
            words.setdefault(key, []).append((left, top, left + width, top + height))
    lines = [upright(as_boxes(boxes), truth.about) for boxes in words.values()]
    joined = [(*boxes[:, :2].min(0), *boxes[:, 2:].max(0)) for boxes in lines]
    return Detected(as_boxes(joined), None, *took)


@cache
def rapidocr_engine() -> Callable[[Boxes], Any]:
    """RapidOCR's detector alone, with the model that is in its wheel; it takes pictures as uint8 (h, w, 3), BGR."""
    from rapidocr import EngineType, RapidOCR

    params = {"Det.engine_type": EngineType.OPENVINO, "Global.log_level": "error"}
    engine = partial(RapidOCR(params=params), use_det=True, use_cls=False, use_rec=False)
    engine(np.full((64, 64, 3), 255, np.uint8))  # loads the model
    return engine


def rapidocr_lines(truth: Truth) -> Detected:
    """The boxes around the quadrilaterals that RapidOCR finds, in its order."""
    engine = rapidocr_engine()
    with Image.open(truth.picture) as image:
        pixels = np.asarray(image.convert("RGB"))[..., ::-1]
    start = times()
    corners = engine(pixels).boxes  # float (n, 4, 2), or None
    took = times() - start
    boxes = as_boxes([]) if corners is None else np.concatenate([corners.min(1), corners.max(1)], 1)
    return Detected(upright(boxes, truth.about), None, *took)


def opencv_lines(truth: Truth) -> Detected:
    """Components of the ink after a horizontal closing, by rows and from left to right."""
    import cv2

    cv2.setNumThreads(1)
    with Image.open(truth.picture) as image:
        grey = np.asarray(image.convert("L"))
    start = times()
    if np.median(grey) < 128:  # bright on dark
        grey = cv2.bitwise_not(grey)
    smooth = cv2.medianBlur(grey, 3)
    paper = cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, np.ones((51, 51), np.uint8))  # wider than any stroke
    _, ink = cv2.threshold(cv2.divide(smooth, paper, scale=255), 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    heights = cv2.connectedComponentsWithStats(ink)[2][1:, cv2.CC_STAT_HEIGHT]
    letter = float(np.median(heights[heights > 3])) if (heights > 3).any() else 10.0
    for width, height in ((round(8 * letter), 1), (1, round(4 * letter))):  # rules
        ink = cv2.subtract(ink, cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((height, width), np.uint8)))
    closed = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((1, round(WORD_GAP * letter)), np.uint8))
    stats = cv2.connectedComponentsWithStats(closed)[2][1:]  # int32 (n, 5): left, top, width, height, area
    boxes = stats[stats[:, cv2.CC_STAT_HEIGHT] > 0.6 * letter][:, :4].astype(float)
    boxes[:, 2:] += boxes[:, :2]
    boxes = by_rows(boxes, letter / 2)
    return Detected(upright(boxes, truth.about), None, *times() - start)


def by_rows(boxes: Boxes, step: float) -> Boxes:
    """The boxes from top to bottom, and from left to right where middles follow each other by less than `step`."""
    middles = boxes[:, [1, 3]].mean(1)
    down = np.argsort(middles, kind="stable")
    row = np.cumsum(np.diff(middles[down], prepend=-math.inf) >= step)
    return np.asarray(boxes[down][np.lexsort((boxes[down, 0], row))])


DETECTORS: dict[str, Callable[[Truth], Detected]] = {
    "smolcli": smolcli_lines,
    "tesseract": tesseract_lines,
    "rapidocr": rapidocr_lines,
    "opencv": opencv_lines,
}


def times() -> Boxes:
    """float (2,), in seconds: a clock, and the CPU time of this process and of its ended children."""
    return np.array([time.perf_counter(), sum(os.times()[:4])])


def as_boxes(boxes: Sequence[Sequence[float]]) -> Boxes:
    return np.array(boxes, float).reshape(-1, 4)


def upright(boxes: Boxes, about: dict[str, Any]) -> Boxes:
    """Boxes of words in the picture as boxes of the upright page: their centres are turned, their sizes kept."""
    width, height = about["size"]
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    if about["turn"] == 180:
        centre = np.array([width, height]) - centre
    elif about["turn"] == 90:  # the picture is `height` wide; turned clockwise its left edge becomes the top
        centre, size = np.stack([width - centre[:, 1], centre[:, 0]], 1), size[:, ::-1]
    elif about["turn"] == 270:
        centre, size = np.stack([centre[:, 1], height - centre[:, 0]], 1), size[:, ::-1]
    if about["skew"]:
        angle = math.radians(about["skew"])
        middle = np.array([width / 2, height / 2])
        turned = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        centre = (centre - middle) @ turned + middle
        size = size - np.stack([size[:, 1], size[:, 0]], 1) * math.sin(abs(angle))  # what the tilt adds
    return np.concatenate([centre - size / 2, centre + size / 2], 1)


# ---- the verdict ---------------------------------------------------------------------------------


def judge_page(truth: Truth, detector: Callable[[Truth], Detected]) -> tuple[Detected, Verdict]:
    detected = detector(truth)
    boxes = detected.boxes
    if detected.turn is not None and (detected.turn - truth.about["turn"]) % 360 == 180:
        boxes = upside_down(boxes, truth.about["size"])
    leaders = as_boxes(truth.about["leaders"])
    return detected, judged(truth.boxes, truth.rows, boxes, x_heights(truth), leaders)


def upside_down(boxes: Boxes, size: Sequence[int]) -> Boxes:
    """The boxes on a page that is turned by 180 degrees, in reverse order."""
    return (np.array([*size, *size]) - boxes[:, [2, 3, 0, 1]])[::-1]


def x_heights(truth: Truth) -> Boxes:
    return np.array([line["x_height"] for line in truth.about["lines"]], float)


def overlaps(first: Boxes, second: Boxes) -> Boxes:
    """float (n, m), the area that each box of `first` has in common with each of `second`."""
    left_top = np.maximum(first[:, None, :2], second[None, :, :2])
    right_bottom = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (right_bottom - left_top).clip(min=0)
    return np.asarray(common[..., 0] * common[..., 1])


def areas(boxes: Boxes) -> Boxes:
    return np.asarray(((boxes[:, 2:] - boxes[:, :2]).clip(min=1)).prod(1))


def judged(truth: Boxes, rows: Sequence[tuple[int, int]], found: Boxes, x_height: Boxes, leaders: Boxes) -> Verdict:
    """The verdict on the detected boxes `found`; `rows` says which true lines are of one row."""
    if not len(found):
        return Verdict(("lost",) * len(truth), 0, 0, 0, 0)
    margin = x_height[:, None] / 2 * np.array([-1, -1, 1, 1])
    of_truth = overlaps(truth, found) / areas(truth)[:, None]  # the part of each true line in each detected one
    of_found = overlaps(truth + margin, found) / areas(found)[None]
    covers, is_inside = of_truth >= ENOUGH, of_found >= ENOUGH
    outcomes: list[str] = []
    positions: list[int] = []
    for line in range(len(truth)):
        around: list[int] = np.flatnonzero(covers[line]).tolist()
        alone = [number for number in around if is_inside[line, number] and covers[:, number].sum() == 1]
        pieces: list[int] = np.flatnonzero(is_inside[line] & (of_truth[line] > 0)).tolist()
        if alone:
            outcome, position = "found", min(alone)
        elif len(pieces) > 1 and covered_width(truth[line], found[pieces]) >= ENOUGH:
            outcome, position = "cut", min(pieces)
        elif around:
            others = [rows[other] for number in around for other in np.flatnonzero(covers[:, number]).tolist()]
            is_row = len(others) > 1 and set(others) == {rows[line]}
            outcome, position = ("joined" if is_row else "merged"), min(around)
        else:
            outcome, position = "lost", -1
        outcomes.append(outcome)
        if outcome in READABLE:
            positions.append(position)
    is_leader = (overlaps(found, leaders) / areas(found)[:, None] >= ENOUGH / 2).any(1)
    extra = int(((of_truth.max(0) == 0) & ~is_leader).sum())
    pairs, in_order = order(positions)
    return Verdict(tuple(outcomes), int((covers.sum(1) > 1).sum()), extra, pairs, in_order)


def covered_width(line: Boxes, pieces: Boxes) -> float:
    """The part of a line's width that its pieces cover."""
    columns = np.zeros(max(1, round(line[2] - line[0])), bool)
    for left, _, right, _ in pieces:
        columns[max(0, round(left - line[0])) : max(0, round(right - line[0]))] = True
    return float(columns.mean())


def order(positions: Sequence[int]) -> tuple[int, int]:
    """The number of pairs of lines, and of those whose detected lines come in the right order, or are the same.

    >>> order([0, 2, 1, 3])
    (6, 5)
    """
    pairs = [(a, b) for k, a in enumerate(positions) for b in positions[k + 1 :]]
    return len(pairs), sum(a <= b for a, b in pairs)


def readable(outcomes: Sequence[str]) -> float:
    return sum(outcome in READABLE for outcome in outcomes) / max(1, len(outcomes))


# ---- the report ----------------------------------------------------------------------------------

Judged = Sequence[tuple[Truth, Detected, Verdict]]


def figures(pages: Judged) -> dict[str, float]:
    """The figures of a group of pages, in percent."""
    outcomes = [outcome for _, _, verdict in pages for outcome in verdict.outcomes]
    shares = {word: outcomes.count(word) / max(1, len(outcomes)) for word in OUTCOMES}
    pairs = sum(verdict.pairs for _, _, verdict in pages)
    turns = [detected.turn == truth.about["turn"] for truth, detected, _ in pages if detected.turn is not None]
    shares |= {
        "readable": readable(outcomes),
        "doubled": sum(verdict.doubled for _, _, verdict in pages) / max(1, len(outcomes)),
        "extra": sum(verdict.extra for _, _, verdict in pages) / max(1, len(outcomes)),
        "order": sum(verdict.pairs_in_order for _, _, verdict in pages) / pairs if pairs else math.nan,
        "turn": sum(turns) / len(turns) if turns else math.nan,
    }
    return {word: 100 * share for word, share in shares.items()}


def goodness(page: tuple[Truth, Detected, Verdict]) -> tuple[float, float]:
    """The parts of a page's lines that are readable, and that are found."""
    outcomes = page[2].outcomes
    return readable(outcomes), outcomes.count("found") / max(1, len(outcomes))


def print_report(name: str, pages: Judged, is_json: bool) -> None:
    groups: dict[tuple[str, str], list[tuple[Truth, Detected, Verdict]]] = {}
    for page in pages:
        truth = page[0]
        for key in (("layout", str(truth.about["layout"])), ("damage", truth.damage), ("all", "all")):
            groups.setdefault(key, []).append(page)
    if is_json:
        results = [
            {"page": truth.picture.name, "seconds": found.seconds, "cpu_seconds": found.cpu_seconds, "turn": found.turn}
            | asdict(verdict)
            for truth, found, verdict in pages
        ]
        print(json.dumps({"detector": name, "pages": results}))
        return
    for kind in ("layout", "damage", "all"):
        print(f"\n| {name}: {kind} | pages | lines | {' | '.join(COLUMNS)} | s/page | CPU s |")
        print(f"|{'---|' * (len(COLUMNS) + 5)}")
        for (of_kind, group), members in groups.items():
            if of_kind == kind:
                numbers = figures(members)
                cells = " | ".join("" if math.isnan(numbers[word]) else f"{numbers[word]:.1f}" for word in COLUMNS)
                lines = sum(len(verdict.outcomes) for _, _, verdict in members)
                seconds = sum(found.seconds for _, found, _ in members) / len(members)
                cpu = sum(found.cpu_seconds for _, found, _ in members) / len(members)
                print(f"| {group} | {len(members)} | {lines} | {cells} | {seconds:.2f} | {cpu:.2f} |", flush=True)


if __name__ == "__main__":
    main()
