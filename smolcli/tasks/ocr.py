"""The task ocr: reads the text of a page piece by piece, in reading order.

    PageRequest -> Page (lines and their boxes) -> prompts about pieces of it -> texts of the lines -> Answer

While one page is read, the layout of the next one is found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from smolcli import registry
from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.page import Page, PageRequest, confidence_of
from smolcli.inputs.pages import Pages
from smolcli.models.catalog import NANO_BLANK_REPLIES
from smolcli.records.record_id import id_options
from smolcli.tasks.base import Steps, Task
from smolcli.tasks.page_forms.doctags import DOCTAGS
from smolcli.tasks.page_forms.forms import FORMS
from smolcli.tasks.page_reading import DOCTAGS_PROMPT, QUESTION, PageReading, PieceSize
from smolcli.terminal.option_fields import choice, opt
from smolcli.terminal.words import enumerate_words
from smolcli.types import Answer, Fault, Finish, Media, Prompt, Reply

BLANK_REPLIES = ("", *NANO_BLANK_REPLIES)  # no other model is taught words for it
PAGES_AHEAD = 3  # pages that are asked about at a time: one begins with each step, while those before it are read
WHOLE_PAGES_AHEAD = 16  # the same for pages that are read whole, each in one step or two
DEFAULT_X_HEIGHT = 12.0  # pixels, for a model of which nothing else is known
READING_VERSION = 3  # a part of a record's id: raise it when pages are cut or joined in another way
# Confidence of a page below which it is read the other way up too, and the user is told. Of 40 drawn pages of
# benchmarks/pages.py upright ones had 0.87 to 0.998, and two that were read upside down 0.70 and 0.78; pages in
# Cyrillic and Greek letters, which nano does not know, 0.73 and 0.77.
UNSURE = 0.82
PIECES = ("auto", "page", "blocks", "lines")


@dataclass(frozen=True)
class Ocr(Pages, Task):
    """Read the text in each picture, on every page."""

    pieces: str = opt(
        "auto",
        "What the model is shown at a time: page, the whole of it; blocks, as many rows of words as fit into a tile; "
        "lines, one row. auto is page for models that read whole pages, such as docling, and blocks for all others.",
        id_key="pieces",
        **choice("--pieces", PIECES, metavar="PIECES"),
    )

    layout: str = opt(
        "text",
        f"What to make of the pages: {enumerate_words(tuple(FORMS))}.",
        "--layout",
        short=True,
        id_key="layout",
        **choice("layout", FORMS, metavar="FORM"),
    )
    dehyphenate: bool = opt(
        False, "Join words that a line end divides, and make a line of each paragraph.", id_key="dehyphenate"
    )
    searchable: Path | None = opt(
        None, "Write all pages to one PDF, with their text invisible where it is printed.", metavar="OUT.pdf"
    )

    examples = (
        "smolcli ocr scan.png",
        "smolcli ocr book.pdf --pages 1-20 --layout markdown -o book.md",
        "smolcli ocr receipts/ -m 500m --schema 'vendor, total float' -o receipts.jsonl",
    )

    reads = "document"
    is_multiline = True
    reads_every_page = True
    judges_faults = True
    unsure_below = UNSURE
    data_parts = ("pages",)

    @property
    def asks_for_pages(self) -> bool:
        return True

    @property
    def id_options(self) -> dict[str, Any]:
        """The text of the prompt, how pages are cut into pieces, and which pages are looked at."""
        options = {"prompt": QUESTION, **id_options(self)}
        if self.pieces == "page":
            return {key: value for key, value in options.items() if key != "pieces"}  # as before there were pieces
        return {**options, "reading": READING_VERSION}

    @property
    def shows_replies(self) -> bool:
        return self.layout == "text"

    @property
    def at_once(self) -> int:
        """0 (unknown): a page has many pieces."""
        return 0

    @property
    def gives_tables(self) -> bool:
        return self.layout == "tables"

    @property
    def text_suffix(self) -> str:
        """The suffix of files of --layout."""
        return FORMS[self.layout].suffix

    @property
    def makes_documents(self) -> bool:
        return FORMS[self.layout].is_document

    @property
    def page_options(self) -> Pages:
        """Which pages are looked at, and how."""
        return Pages(**{option.name: getattr(self, option.name) for option in fields(Pages)})

    def text_so_far(self, reply: str) -> str:
        """The text of the elements that are whole, where the reply is DocTags."""
        if not DOCTAGS.search(reply):
            return reply
        text: str = registry.load(registry.ON_DEMAND, "text of DocTags")(reply, self.dehyphenate)
        return text

    def blank_replies(self, media: Media) -> Collection[str]:
        return BLANK_REPLIES

    def steps(self, media: Media) -> Steps:
        """Ask about some pages at a time. Raises InputError if none can be read."""
        waiting = deque(self._works(media))
        works = list(waiting)
        active: list[PageWork] = []
        while waiting or active:
            count = WHOLE_PAGES_AHEAD if works[0].is_whole else min(1, PAGES_AHEAD - len(active))
            active += [waiting.popleft() for _ in range(min(count, len(waiting)))]
            requests = [work.requests() for work in active]
            replies = iter((yield [request for group in requests for request in group]))
            for work, group in zip(active, requests, strict=True):
                work.take(list(islice(replies, len(group))))
                if work.is_done and self.layout == "text" and self.searchable is None:
                    work.forget_words()
            active = [work for work in active if not work.is_done]
        faults = [work.fault for work in works if work.fault is not None]
        if not works:
            raise InputError("has no page that can be read", "get a whole copy", kind=ErrorKind.NO_FRAMES)
        if len(faults) == len(works):
            raise InputError(faults[0].what, faults[0].advice, kind=faults[0].kind)
        answer: Answer = registry.load(registry.ON_DEMAND, "answers about pages")(self, works, media.path)
        return answer

    def _works(self, media: Media) -> Iterator[PageWork]:
        """The work on each page; with --schema, where the limits of the model are not known, pages are read whole."""
        limits, size = media.limits, None
        if limits is not None and self.pieces != "page" and (limits.x_height or self.pieces != "auto"):
            size = PieceSize(limits.tile, limits.x_height or DEFAULT_X_HEIGHT, 1 if self.pieces == "lines" else None)
        for frame in media.frames:
            number = frame.index + 1
            request = None if limits is None else PageRequest(frame, number, layout=size is not None)
            writes_doctags = limits is not None and limits.writes_doctags
            prompt = Prompt.user(frame, DOCTAGS_PROMPT if writes_doctags else QUESTION)
            yield PageWork(replace(prompt, page=number) if len(media.frames) > 1 else prompt, number, request, size)


class PageWork:
    """The requests about one page: what is on it, if that is asked; then its pieces, or all of it by `whole_prompt`.

    A page that was read without confidence is read the other way up too: few letters do not always show what is up.
    `page` is what is on it, None until that is known; `whole` the reply to the page as one picture; `finish` the end of
    the first reply in use that did not stop by itself, None where all did.
    """

    def __init__(self, whole_prompt: Prompt, number: int, request: PageRequest | None, size: PieceSize | None) -> None:
        self.number = number
        self._whole_prompt, self._request, self._size = whole_prompt, request, size
        self._reading: PageReading | None = None
        self._unsure: PageReading | None = None  # of the page as it seemed to be up
        self._is_asking = request is not None
        self.page: Page | None = None
        self.whole: Reply | None = None
        self.fault: Fault | None = None
        self.finish: Finish | None = None
        self.is_done = False

    @property
    def is_whole(self) -> bool:
        """Whether the page is read as one picture, whatever is on it."""
        return self._size is None

    def requests(self) -> list[Prompt | PageRequest]:
        """What is to be asked now."""
        if self._is_asking and self._request is not None:
            return [self._request]
        return [self._whole_prompt] if self._reading is None else list(self._reading.prompts())

    def take(self, replies: Sequence[Reply]) -> None:
        """Take the replies to `requests`."""
        if self._is_asking:
            self._is_asking = False
            self._begin(replies[0])
            return
        if self._reading is None:
            self.whole, self.fault, self.is_done = replies[0], replies[0].finish.fault, True
            self.finish = None if self.fault or self.whole.finish.reason == "stop" else self.whole.finish
            return
        self._reading.take(replies)
        if not self._reading.prompts():
            self._end(self._reading)

    def _begin(self, reply: Reply) -> None:
        """Go on with what is on the page: a picture without print is looked at as a whole, a blank page not at all."""
        page: Page | None = reply.data
        if self._unsure is not None and (page is None or page.kind != "print"):
            self._end(self._unsure)
            return
        self.page, self.fault = page, reply.finish.fault
        if page is None or page.has_text_layer or page.kind == "blank":
            self.is_done = True
        elif page.kind == "print" and self._request is not None and self._size is not None:
            self._reading = PageReading(self._request, page, self._size)
            if not self._reading.prompts():
                self._end(self._reading)

    def _end(self, reading: PageReading) -> None:
        """Take what was read, unless the page is to be read the other way up as well."""
        page, before = reading.result(), self._unsure
        confidence = confidence_of(page.lines)
        if before is None and self._request is not None and confidence is not None and confidence < UNSURE:
            self._unsure = reading
            self._request, self._is_asking = replace(self._request, half_turn=True), True
            return
        if before is not None and not _is_better(page, before.result()):
            reading, page = before, before.result()
        self.page, self.finish, self.is_done = page, reading.finish, True
        # Where other pieces of the page have text, a notice says that this one has none.
        self.fault = None if any(line.text for line in page.lines) else reading.fault

    def forget_words(self) -> None:
        """Keep of each line no word but the first, by which paragraphs are told apart: words are most of a page."""
        if self.page is not None:
            regions = (
                replace(region, lines=tuple(replace(line, words=line.words[:1]) for line in region.lines))
                for region in self.page.regions
            )
            self.page = replace(self.page, regions=tuple(regions))
        self._reading = self._unsure = None


def _is_better(page: Page, other: Page) -> bool:
    """Whether a page was read with more confidence than the other way up, and not by leaving most of it out."""
    letters, other_letters = (sum(len(line.text) for line in read.lines) for read in (page, other))
    confidence, other_confidence = confidence_of(page.lines) or 0.0, confidence_of(other.lines) or 0.0
    return confidence > other_confidence and 2 * letters >= other_letters
