"""The answer of ocr: the pages that were read, in the form of --layout and as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from smolcli.inputs.page import Page, confidence_of
from smolcli.tasks.base import mean_confidence
from smolcli.tasks.ocr import Ocr, PageWork
from smolcli.tasks.page_forms.doctags import DOCTAGS
from smolcli.tasks.page_forms.forms import render
from smolcli.tasks.page_forms.from_reply import pages_from_reply
from smolcli.tasks.page_forms.page_json import pages_to_data
from smolcli.tasks.page_forms.tables import tables_to_data
from smolcli.tasks.page_forms.text import PAGE_BREAK
from smolcli.types import Answer, Finish


def make_answer(task: Ocr, works: Sequence[PageWork], path: str) -> Answer:
    """Return the answer about the document `path`, whose pages are done, at least one of them without a fault.

    A single page that was read whole has no data but an object of --schema, unless something is made of its pages.
    """
    pages = [read_page(work) for work in works]
    confidence = confidence_of(line for page in pages for line in page.lines)
    if confidence is None:
        confidence = mean_confidence([work.whole for work in works if work.whole is not None])
    has_words = task.layout == "json" or task.searchable is not None
    data = pages_to_data(pages, task.dehyphenate, has_words)
    data["pages"] = [plain_data(work) or page for work, page in zip(works, data["pages"], strict=True)]
    if task.layout == "text":
        text = PAGE_BREAK.join(page["text"] for page in data["pages"])
    else:
        text = render(task.layout, pages, path, task.dehyphenate)
    if task.split_pages and task.layout != "text":  # the text of a page is that of its record
        for work, page, entry in zip(works, pages, data["pages"], strict=True):
            entry["text"] = "" if work.fault else render(task.layout, [page], path, task.dehyphenate)
    if task.layout == "tables":
        data["tables"] = tables_to_data(pages, task.dehyphenate)
    whole = works[0].whole if len(works) == 1 else None
    is_plain = task.layout == "text" and not task.split_pages and task.searchable is None
    finish = next((work.finish for work in works if work.finish is not None), Finish("stop"))
    return Answer(text, whole.data if whole is not None and is_plain else data, confidence, finish)


def read_page(work: PageWork) -> Page:
    """Return a page as it was read; the lines of one that was read as one picture are spread over it.

    It is one page whatever the reply says: what comes after a page break in DocTags is on it too.
    """
    page = work.page or Page(work.number, 0, 0, kind="picture")
    if work.whole is None or work.fault is not None:
        return page
    confidence = work.whole.finish.confidence
    parts = pages_from_reply(work.whole.text, page.width, page.height, work.number, confidence)
    return replace(parts[0], regions=tuple(region for part in parts for region in part.regions))


def plain_data(work: PageWork) -> dict[str, Any] | None:
    """Return the data of a page without places: one that was read as one picture, or could not be read; else None."""
    page: dict[str, Any] = {"page": work.number, "text": ""}
    if work.fault is not None:
        return page | {"error": {"kind": work.fault.kind, "message": work.fault.message}}
    if work.whole is None or DOCTAGS.search(work.whole.text):
        return None
    page["text"] = work.whole.text
    return page if work.whole.data is None else page | {"data": work.whole.data}
