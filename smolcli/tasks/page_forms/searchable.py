"""What `ocr --searchable` writes: the pages of all records in one PDF, made of their data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from smolcli.tasks.page_forms.page_json import pages_from_data
from smolcli.tasks.page_forms.searchable_pdf import SearchablePdf
from smolcli.types import Record, Source


class Searchable:
    """A companion of a run (writers/companions.py) that adds each record's input to a PDF.

    The PDF is written when the block ends, unless by an exception. `first_page` is the number of the first page that is
    looked at: a record of one page that was read whole does not say it.
    """

    def __init__(self, out: Path, max_pixels: int, password: str | None = None, first_page: int = 1) -> None:
        self._pdf, self._first_page = SearchablePdf(out, max_pixels, password), first_page

    def __enter__(self) -> Searchable:
        self._pdf.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pdf.__exit__(kind, error, trace)

    def exists(self, path: str) -> bool:
        return False

    def check(self, path: str) -> None:
        """Do nothing: every input can be added."""

    def write(self, record: Record) -> Record:
        if record.error is None:
            one_page = {"pages": [{"page": self._first_page, "text": record.text}]}  # which was read as one picture
            self._pdf.add(Source(record.path), pages_from_data(one_page if record.data is None else record.data))
        return record

    def complete(self, path: str, find_record: Callable[[], Record | None]) -> Record | None:
        """Add an input that an earlier run has read."""
        if (record := find_record()) is not None:
            self.write(record)
        return None

    def closing_notices(self, left_alone: int) -> Iterator[str]:
        return iter(())
