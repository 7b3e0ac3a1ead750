"""A PDF as tasks use it: its pages as frames that are rendered on request, and the text that a page holds as text.

PDFium draws the pages. It is not thread-safe, not even between documents, so all calls of this process are made under
one lock (LOCK), and everything that PDFium gives is closed under it too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import NamedTuple

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs import pdf_content, pdf_text
from smolcli.inputs.page import Page
from smolcli.inputs.pages import MIN_DPI, Pages
from smolcli.options import Input
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Frame, FrameRef, Media

LOCK = RLock()  # reentrant: Python may delete a Pdf, which closes it, while this thread works on another one
POINTS = 72  # an inch, in the unit of PDF's coordinates
VECTOR_DPI = 200  # for text and lines: a letter of 10 points has an x-height of about 13 pixels
MAX_SCAN_DPI = 400  # more than a scan needs to be read
MAX_AUTO_PIXELS = 40_000_000  # of a page without --dpi: A3 at 400 dpi has 31 million, 120 MB while it is rendered
# Pages after which the document is opened anew. PDFium keeps every object that it has parsed while a document is open,
# so that the memory would grow with the pages.
PAGES_AN_OPENING = 64
MAX_MESSAGES = 3  # about pages that are rendered at less than their resolution
OLD_OCR = "has the text of an earlier OCR, which was taken as it is; --force-ocr reads it anew"
FLAGS = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER


class Raster(NamedTuple):
    """How a page is rendered: its width and height in pixels, and the resolution that these are."""

    width: int
    height: int
    dpi: float


class Pdf:
    """The pages of a PDF, as a FrameSource; `text_layer` gives the text of a page that holds it as text.

    `source` is a path, or the bytes of a pipe or a download. `indices` count from 0 through the whole document, also
    where only some pages are chosen. `notices` are messages on the document for the user, `faults` those that came up
    while pages were rendered.

        pdf = Pdf("book.pdf", Input(), Pages(pages="3-"))
        pdf.media.frames[0].index                          # 2
        [(_, frame)] = pdf.pictures([2])
        page = pdf.text_layer(2)                           # None where the picture has to be read

    Raises InputError: unsupported (encrypted, or the password is wrong), truncated, no-frames (no page is chosen).
    """

    def __init__(self, source: str | bytes, options: Input, pages: Pages | None = None) -> None:
        self._source, self._max_pixels, self._pages = source, options.max_pixels, pages or Pages()
        self._document: pypdfium2.PdfDocument | None = None
        self._uses = 0  # pages that the open document has loaded
        self._stamp = _stamp(source)
        self._rasters: dict[int, Raster] = {}
        self._lowered = 0  # pages that are rendered at less than their resolution
        self.faults: list[str] = []
        self.remarks: Sequence[str] = ()
        self.held = len(source) if isinstance(source, bytes) else 0
        with LOCK:
            self.page_count = len(self._open_document())
            indices, notice = self._pages.select(self.page_count)
            self.notices = [notice] if notice else []
            dpi = self._pages.dpi
            self._frames = tuple(
                FrameRef(index, *(self._size_by_box(index, dpi) if dpi else (0, 0))) for index in indices
            )

    @property
    def media(self) -> Media:
        """The chosen pages, as a task sees them; their size is not known yet unless --dpi says it."""
        return Media(self._frames, notices=tuple(self.notices))

    def pictures(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Render pages, and yield each with its index."""
        for index in indices:
            with self._page(index) as page:
                frame = _render(page, self._raster(index, page))
                self._check_pictures(index, page, frame)
            yield index, frame

    def _check_pictures(self, index: int, page: pypdfium2.PdfPage, frame: Frame) -> None:
        """Note that a page lacks damaged pictures. Raises InputError where these are the most of it."""
        drawn = np.frombuffer(frame.rgb, np.uint8).reshape(frame.height, frame.width, 3)
        lost = pdf_content.lost_coverage(page, drawn, self._max_pixels)
        if lost >= pdf_content.PICTURE_COVERAGE:
            raise InputError("is a picture that is damaged or cut short", "get a whole copy", kind=ErrorKind.TRUNCATED)
        if lost:
            self.faults.append(f"page {index + 1} has a damaged picture, which was not looked at")

    def measured(self) -> Media:
        """The chosen pages with their sizes, for plans; one that cannot be read is left out, with a message.

        What is on a page is not looked at, so that this takes no longer where that is much: without --dpi a page has
        its size at VECTOR_DPI, also a scan.
        """
        frames: list[FrameRef] = []
        for frame in self._frames:
            width, height = self._size_by_box(frame.index, self._pages.dpi or VECTOR_DPI)
            if width:
                frames.append(replace(frame, width=width, height=height))
            else:
                self.notices.append(f"page {frame.index + 1} is damaged or has no area")
        return Media(tuple(frames), notices=tuple(self.notices))

    def dpi_of(self, index: int) -> float:
        """The resolution of a page, in pixels an inch."""
        return self.raster_of(index).dpi

    def raster_of(self, index: int) -> Raster:
        """How a page is rendered."""
        if index not in self._rasters:
            with self._page(index) as page:
                return self._raster(index, page)
        return self._rasters[index]

    def text_layer(self, index: int) -> Page | None:
        """The text of a page with its lines, words and their boxes in pixels of the rendered page.

        None where the page has no text, or none that is sound (see pdf_text.py), and with --force-ocr.
        """
        if self._pages.force_ocr:
            return None
        raster = self.raster_of(index)  # before the values of its fields are made texts of the page
        with self._page(index, flat=True) as page:
            layer = pdf_text.read(page, pdf_content.survey(page), raster.width, raster.height)
        if layer is None:
            return None
        if layer.is_invisible and OLD_OCR not in self.faults:
            self.faults.append(OLD_OCR)
        return replace(layer.page, number=index + 1, dpi=raster.dpi)

    def let_go(self) -> None:
        """Close the document, with what PDFium keeps of its pages; it is opened again when it is needed."""
        with LOCK:
            if self._document is not None:
                self._document.close()
            self._document, self._uses = None, 0

    def __del__(self) -> None:
        if getattr(self, "_document", None) is not None:
            self.let_go()

    # ---- the document ----------------------------------------------------------------------------------

    def _open_document(self) -> pypdfium2.PdfDocument:
        if self._document is not None and self._uses >= PAGES_AN_OPENING:
            self.let_go()
        if self._document is None:
            try:
                self._document = _open(self._source, self._pages.password)
            except InputError as error:
                raise self._changed or error from None
            self._document.init_forms()  # before the first page, or the values of its fields are not drawn
        return self._document

    @contextmanager
    def _page(self, index: int, flat: bool = False) -> Iterator[pypdfium2.PdfPage]:
        """Have PDFium and an open page for this thread alone; `flat` has the values of form fields among its texts.

        Raises InputError for a page that cannot be read, of kind changed where the file is not what it was.
        """
        with LOCK:
            try:
                page = self._open_document().get_page(index)
                try:
                    if flat and _flatten(page):
                        page.close()
                        page = self._open_document().get_page(index)
                    self._uses += 1
                    yield page
                finally:
                    page.close()
            except pypdfium2.PdfiumError as error:
                message = f"is damaged or cut short ({str(error).rstrip('.')})"
                raise self._changed or InputError(message, "get a whole copy", kind=ErrorKind.TRUNCATED) from None
            if self._changed:
                raise self._changed

    @property
    def _changed(self) -> InputError | None:
        if _stamp(self._source) == self._stamp:
            return None
        return InputError("was changed while it was looked at", "run it again", kind=ErrorKind.CHANGED)

    # ---- the size of a page ----------------------------------------------------------------------------

    def _size_by_box(self, index: int, dpi: int) -> tuple[int, int]:
        """The size of a page in pixels at a resolution, without loading the page; 0 x 0 where it cannot be read."""
        size = pdfium.FS_SIZEF()
        with LOCK:
            if not pdfium.FPDF_GetPageSizeByIndexF(self._open_document(), index, size):
                return 0, 0
        max_pixels = self._max_pixels if self._pages.dpi else min(self._max_pixels, MAX_AUTO_PIXELS)
        raster = fit(size.width, size.height, dpi, max_pixels)
        return (raster.width, raster.height) if raster else (0, 0)

    def _raster(self, index: int, page: pypdfium2.PdfPage) -> Raster:
        """How an open page is rendered. Raises InputError for one without an area."""
        if index in self._rasters:
            return self._rasters[index]
        max_pixels = self._max_pixels
        dpi = float(self._pages.dpi or 0)
        if not dpi:
            dpi, max_pixels = automatic_dpi(pdf_content.survey(page)), min(max_pixels, MAX_AUTO_PIXELS)
        width, height = page.get_size()
        raster = fit(width, height, dpi, max_pixels)
        if raster is None:
            raise InputError("has no area", "make it anew", kind=ErrorKind.TRUNCATED)
        if raster.dpi < dpi:
            self._tell_lowered(index, raster, dpi, "--max-pixels" if max_pixels == self._max_pixels else "--dpi")
        self._rasters[index] = raster
        return raster

    def _tell_lowered(self, index: int, raster: Raster, dpi: float, option: str) -> None:
        """Note that a page is rendered at less than `dpi`; `option` allows more. After a few pages no more is told."""
        self._lowered += 1
        what = f"was read at {raster.dpi:.0f} dpi and not at {dpi:.0f}, since it is so large; {option} allows more"
        if self._lowered <= MAX_MESSAGES:
            self.faults.append(f"page {index + 1} {what}")
        elif self._lowered == MAX_MESSAGES + 1:
            self.faults.append("other large pages were read at less than their resolution too")


def fit(width: float, height: float, dpi: float, max_pixels: int) -> Raster | None:
    """How a page of `width` x `height` points is rendered at `dpi`, or at less to have `max_pixels` at most.

    None for a page without an area.
    """
    if not (0 < width < math.inf and 0 < height < math.inf):
        return None
    columns, rows = (max(1, math.ceil(length * dpi / POINTS - 1e-3)) for length in (width, height))
    if columns * rows <= max_pixels:
        return Raster(columns, rows, dpi)
    dpi = math.sqrt(max_pixels / width / height) * POINTS
    columns = min(max_pixels, max(1, math.floor(width * dpi / POINTS)))
    rows = max(1, min(math.floor(height * dpi / POINTS), max_pixels // columns))
    return Raster(columns, rows, dpi)


def automatic_dpi(content: pdf_content.PageContent) -> float:
    """The resolution for a page by what it has: that of the scan of which it consists, or VECTOR_DPI."""
    if not content.is_picture:
        return VECTOR_DPI
    scan_dpi = min(max(content.image_dpi, MIN_DPI), MAX_SCAN_DPI)
    is_scan_alone = content.visible_texts < pdf_content.FEW_TEXTS and not content.fields
    return scan_dpi if is_scan_alone else max(scan_dpi, VECTOR_DPI)


def _render(page: pypdfium2.PdfPage, raster: Raster) -> Frame:
    """Draw a page on white, with its annotations and the values of its fields."""
    width, height = raster.width, raster.height
    bitmap = pypdfium2.PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_BGR, rev_byteorder=True)
    try:
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
        pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, FLAGS)
        if page.formenv:
            pdfium.FPDF_FFLDraw(page.formenv, bitmap, page, 0, 0, width, height, 0, FLAGS)
        rows = np.frombuffer(bitmap.buffer, np.uint8).reshape(height, bitmap.stride)
        rgb = rows[:, : width * 3].tobytes()  # copied before the bitmap is closed
        del rows
    finally:
        bitmap.close()
    return Frame(rgb, width, height)


def _flatten(page: pypdfium2.PdfPage) -> bool:
    """Make what annotations show a part of the page's content, in memory. Returns whether there was anything."""
    if not pdfium.FPDFPage_GetAnnotCount(page):
        return False
    return bool(pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) == pdfium.FLATTEN_SUCCESS)


def _open(source: str | bytes, password: str | None) -> pypdfium2.PdfDocument:
    """Open a document; if it is bytes, they must stay where they are. Raises InputError."""
    secret = None if password is None else password.encode()
    if isinstance(source, bytes):
        handle = pdfium.FPDF_LoadMemDocument64(source, len(source), secret)
    else:
        handle = pdfium.FPDF_LoadDocument(os.path.abspath(source).encode("utf-8", "surrogateescape"), secret)
    if not handle:
        raise _not_opened(pdfium.FPDF_GetLastError(), password)
    if pdfium.FPDF_GetPageCount(handle) < 1:
        pdfium.FPDF_CloseDocument(handle)
        raise _not_opened(pdfium.FPDF_ERR_PAGE, password)
    return pypdfium2.PdfDocument(handle)


def _not_opened(code: int, password: str | None) -> InputError:
    """The error for a document that PDFium does not open, by its error code."""
    if code == pdfium.FPDF_ERR_PASSWORD and not password:
        return InputError("is encrypted", "give its password with --password", kind=ErrorKind.UNSUPPORTED)
    if code == pdfium.FPDF_ERR_PASSWORD:
        return InputError("is encrypted with another password", "check --password", kind=ErrorKind.UNSUPPORTED)
    if code == pdfium.FPDF_ERR_SECURITY:
        message = "is encrypted in a way that PDFium does not know"
        return InputError(message, "save it without encryption", kind=ErrorKind.UNSUPPORTED)
    return InputError("is a PDF without pages that can be read", "get a whole copy", kind=ErrorKind.TRUNCATED)


def _stamp(source: str | bytes) -> str:
    return "" if isinstance(source, bytes) else stamp_of(source)
