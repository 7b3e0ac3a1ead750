"""Pages as plain data for a record, and back, so that every form can be made later from stored records.

    {"pages": [{"page": 1, "width": 2480, "height": 3508, "turn": 0, "skew": 0.4, "dpi": 300.0, "kind": "print",
                "text": "...", "confidence": 0.93, "source": "model", "regions": [
        {"kind": "heading", "box": [left, top, right, bottom], "level": 1, "lines": [
            {"text": "Example", "box": [...], "confidence": 0.98, "baseline": 410, "x_height": 21.5, "words": [
                {"text": "Example", "box": [...]}]}]},
        {"kind": "table", "box": [...], "cells": [{"row": 0, "column": 0, "box": [...], "row_span": 2}], "lines": [
            {"text": "cell", "box": [...], "cell": 0, ...}]}]}]}

Boxes are in pixels of the upright page, as in inputs/page.py. `source` is "text layer" where the texts are those of a
PDF's text layer. `level` is only at headings, `cells` and `cell` only in tables, a span only where it is not 1, `words`
only where they are asked for. The boxes of words are estimated where the reply has another number of words than the
layout found, and where a record has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.page import Cell, Line, Page, PageKind, Region, RegionKind, Word, confidence_of
from smolcli.tasks.page_forms.from_reply import pages_from_reply
from smolcli.tasks.page_forms.text import page_texts
from smolcli.tasks.page_forms.words import words_of
from smolcli.types import Box

MODEL, TEXT_LAYER = "model", "text layer"
MAX_PIXELS = 10_000_000  # of one edge of a page; larger numbers are damage
NOMINAL_SIZE = 595, 842  # pixels of a page whose size the data does not say: its proportions are those of A4
SPANS = ("row_span", "column_span")


def pages_to_data(pages: Sequence[Page], dehyphenate: bool = False, with_words: bool = True) -> dict[str, Any]:
    """Return the data of a record; `text` of each page is the form text of it. Words are most of its size."""
    texts = page_texts(pages, dehyphenate)
    return {"pages": [_page(page, text, with_words) for page, text in zip(pages, texts, strict=True)]}


def json_text(pages: Sequence[Page], dehyphenate: bool = False) -> str:
    """Return the data of the pages as JSON, each page on a line."""
    lines = [json.dumps(page, ensure_ascii=False) for page in pages_to_data(pages, dehyphenate)["pages"]]
    return '{"pages": [\n' + ",\n".join(lines) + "\n]}"


def _page(page: Page, text: str, with_words: bool) -> dict[str, Any]:
    return {
        "page": page.number,
        "width": page.width,
        "height": page.height,
        "turn": page.turn,
        "skew": round(page.skew, 3),
        "dpi": round(page.dpi, 2),
        "kind": page.kind,
        "text": text,
        "confidence": _rounded(confidence_of(page.lines)),
        "source": TEXT_LAYER if page.has_text_layer else MODEL,
        "regions": [_region(region, with_words) for region in page.regions],
    }


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)


def _region(region: Region, with_words: bool) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": region.kind, "box": list(region.box)}
    if region.level:
        data["level"] = region.level
    if region.cells:
        data["cells"] = [_cell(cell) for cell in region.cells]
    return {**data, "lines": [_line(line, with_words) for line in region.lines]}


def _cell(cell: Cell) -> dict[str, Any]:
    data = {"row": cell.row, "column": cell.column, "box": list(cell.box)}
    return data | {name: getattr(cell, name) for name in SPANS if getattr(cell, name) != 1}


def _line(line: Line, with_words: bool) -> dict[str, Any]:
    data: dict[str, Any] = {"text": line.text, "box": list(line.box), "confidence": _rounded(line.confidence)}
    if line.cell is not None:
        data["cell"] = line.cell
    data |= {"baseline": line.baseline, "x_height": round(line.x_height, 2)}
    if with_words:
        data["words"] = [{"text": word.text, "box": list(word.box)} for word in words_of(line)]
    return data


# ---- and back ---------------------------------------------------------------------------------------------


def pages_from_data(data: Any) -> list[Page]:
    """Return the pages of the data of a record; those that could not be read are left out.

    The text of a page without places is laid evenly over a page of NOMINAL_SIZE. Raises InputError of kind
    `unsupported` if it is not the data of pages.
    """
    try:
        return [page for entry in data["pages"] if "error" not in entry for page in _pages_of(entry)]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            "the record has no data of pages with their lines", "read the input again with ocr",
            kind=ErrorKind.UNSUPPORTED,
        ) from error  # fmt: skip


def _pages_of(entry: Mapping[str, Any]) -> list[Page]:
    if "regions" in entry:
        return [page_from_json(entry)]
    return pages_from_reply(_text(entry["text"]), *NOMINAL_SIZE, _number(entry["page"]))


def page_from_json(data: Mapping[str, Any]) -> Page:
    """Return a page from its data. Raises KeyError, TypeError, ValueError or OverflowError if it is not one."""
    return Page(
        number=_number(data["page"]),
        width=_number(data["width"]),
        height=_number(data["height"]),
        regions=tuple(map(_region_from, data["regions"])),
        kind=_word(data["kind"], get_args(PageKind)),
        turn=_word(data["turn"], (0, 90, 180, 270)),
        skew=_finite(data["skew"]),
        dpi=_finite(data["dpi"]),
        has_text_layer=data["source"] == TEXT_LAYER,
    )


def _region_from(data: Mapping[str, Any]) -> Region:
    cells = tuple(
        Cell(
            _number(cell["row"]),
            _number(cell["column"]),
            _box(cell["box"]),
            *(max(1, _number(cell.get(name, 1))) for name in SPANS),
        )
        for cell in data.get("cells", ())
    )
    lines = tuple(_line_from(line, len(cells)) for line in data["lines"])
    return Region(
        _word(data["kind"], get_args(RegionKind)), _box(data["box"]), lines, cells, _number(data.get("level", 0))
    )


def _line_from(data: Mapping[str, Any], cells: int) -> Line:
    confidence, cell = data.get("confidence"), data.get("cell")
    return Line(
        box=_box(data["box"]),
        words=tuple(Word(_box(word["box"]), _text(word["text"])) for word in data.get("words", ())),
        x_height=_finite(data["x_height"]),
        baseline=_number(data["baseline"]),
        text=_text(data["text"]),
        confidence=None if confidence is None else min(1.0, max(0.0, _finite(confidence))),
        cell=None if cell is None or _number(cell) >= cells else _number(cell),
    )


def _number(value: Any) -> int:
    """Return a count or a place in pixels as an int from 0 to MAX_PIXELS."""
    number = int(value)
    if number != value or not 0 <= number <= MAX_PIXELS:
        raise ValueError(value)
    return number


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _box(value: Any) -> Box:
    left, top, right, bottom = map(_number, value)
    if right < left or bottom < top:
        raise ValueError(value)
    return Box(left, top, right, bottom)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _word(value: Any, known: Sequence[Any]) -> Any:
    if value not in known:
        raise ValueError(value)
    return value
