"""--split-pages: a record for each page of a document, made of the document's record when that is written.

The document stays what is opened, asked about and resumed. Its pages are told apart only here, on the way to the
outputs, so nothing else knows of them: neither an executor nor a cluster. A document is done once the record of its
last page is written; records of pages that an interrupted run has written already are not written again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from smolcli.errors import ErrorKind
from smolcli.types import Fault, Record, Seconds, Tokens

OF_EVERY_PAGE = frozenset(("page", "text"))
OWN_KEYS = frozenset(("page", "text", "error"))  # of a page in a document's data; the others become its record's data
PageId = Callable[[str, int], str]  # the id of a page's record, from the document's SHA-256 and the page's number


def split_pages(record: Record, page_id: PageId) -> list[Record]:
    """Return a record for each page of a document; that of a document without an answer is given as it is.

    Tokens and seconds of the document are those of its first record, and the others have none, so that sums stay right.
    """
    pages = [] if record.error is not None else pages_of(record.data)
    if not pages:
        return [record]
    last = pages[-1]["page"]
    return [
        _page_record(record, page, page_id(record.sha256, page["page"]), position == 0, page["page"] == last)
        for position, page in enumerate(pages)
    ]


def _page_record(record: Record, page: dict[str, Any], id: str, is_first: bool, is_last: bool) -> Record:
    number = page["page"]
    own = f"page {number} "
    notices = [notice for notice in record.notices if notice.startswith(own)]
    if is_first:  # what is said of the document as a whole
        notices = [notice for notice in record.notices if not notice.startswith("page ")] + notices
    fault = _fault(page.get("error"))
    made = replace(
        record, id=id, text=page["text"], data=_data(page), page=number, is_last_page=is_last, notices=tuple(notices),
        blank=fault is None and not page["text"].strip(), confidence=page.get("confidence", record.confidence),
        tokens=record.tokens if is_first else Tokens(), seconds=record.seconds if is_first else Seconds(),
    )  # fmt: skip
    if fault is None:
        return made
    notices = [notice for notice in notices if fault.message not in notice]  # the error says it
    return replace(made.failed(fault), notices=tuple(notices))


def _fault(error: dict[str, str] | None) -> Fault | None:
    return None if error is None else Fault(ErrorKind(error["kind"]), error["message"])


def _data(page: dict[str, Any]) -> Any:
    """What a page has beside its text: with --schema its object alone."""
    more = {key: value for key, value in page.items() if key not in OWN_KEYS}
    return more["data"] if set(more) == {"data"} else more or None


def pages_of(data: Any) -> list[dict[str, Any]]:
    """Return the pages in the data of a record, [] where it has none.

    An object of --schema may have a key `pages` too, with other values.

    >>> pages_of({"pages": [{"page": 1, "text": "Invoice"}]}), pages_of({"pages": 3}), pages_of({"pages": ["one"]})
    ([{'page': 1, 'text': 'Invoice'}], [], [])
    """
    pages = data.get("pages") if isinstance(data, dict) else None
    if isinstance(pages, list) and all(isinstance(page, dict) and page.keys() >= OF_EVERY_PAGE for page in pages):
        return pages
    return []


def has_text(data: Any) -> bool:
    """Return whether there is text on a page of the data of a record.

    >>> has_text({"pages": [{"page": 1, "text": ""}, {"page": 2, "text": "Invoice"}]}), has_text(None)
    (True, False)
    """
    return any(page["text"] for page in pages_of(data))


def has_failed_page(data: Any) -> bool:
    """Return whether a page of the data of a record could not be read.

    >>> has_failed_page({"pages": [{"page": 1, "text": "", "error": {"kind": "truncated", "message": "is cut"}}]})
    True
    """
    return any("error" in page for page in pages_of(data))
