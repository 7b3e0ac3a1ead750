"""What is drawn on a page of a PDF: how much of it pictures cover, at which resolution, and how many texts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from ctypes import c_int, c_uint
from typing import Any, NamedTuple

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
from numpy.typing import NDArray

MAX_OBJECTS = 50_000  # of a page that are looked at; a map may have millions
MAX_DEPTH = 8  # of forms in forms
PICTURE_COVERAGE = 0.5  # of its area, from which a page is a picture
FEW_TEXTS = 10  # text objects on a picture, such as a stamp with a number
# The resolution of a page's pictures is the highest that this part of the page has: a mask with print in it lies over
# a coarser background, and a small logo may be finer than both.
FINE_COVERAGE = 0.2

Matrix = tuple[float, float, float, float, float, float]  # x' = a x + c y + e, y' = b x + d y + f
IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


class PlacedImage(NamedTuple):
    """A picture on a page: the part of the page's area that it covers, and its resolution in dpi."""

    coverage: float
    dpi: float


class PageContent(NamedTuple):
    """What is drawn on a page.

    `coverage` is the part of its area that pictures cover, at most 1. `image_dpi` is their resolution, 0 without any.
    `visible_texts` and `invisible_texts` count text objects, which are words or lines in most files, `paths` lines and
    outlines, `fields` those of a form.
    """

    coverage: float
    image_dpi: float
    visible_texts: int
    invisible_texts: int
    paths: int
    fields: int

    @property
    def is_picture(self) -> bool:
        """Whether the page is a picture in the main."""
        return self.coverage >= PICTURE_COVERAGE


def survey(page: pypdfium2.PdfPage) -> PageContent:
    """Look at the objects of an open page."""
    images: list[PlacedImage] = []
    visible = invisible = paths = 0
    box = page.get_bbox()
    for number, (item, matrix) in enumerate(_objects(page)):
        if number >= MAX_OBJECTS:
            break
        kind = pdfium.FPDFPageObj_GetType(item)
        if kind == pdfium.FPDF_PAGEOBJ_IMAGE:
            images.append(_place(item, matrix, box))
        elif kind == pdfium.FPDF_PAGEOBJ_TEXT:
            is_invisible = pdfium.FPDFTextObj_GetTextRenderMode(item) == pdfium.FPDF_TEXTRENDERMODE_INVISIBLE
            invisible += is_invisible
            visible += not is_invisible
        elif kind == pdfium.FPDF_PAGEOBJ_PATH:
            paths += 1
    coverage = min(1.0, sum(image.coverage for image in images))
    return PageContent(coverage, _dpi_of(images), visible, invisible, paths, _count_fields(page))


def _count_fields(page: pypdfium2.PdfPage) -> int:
    count = 0
    for number in range(min(pdfium.FPDFPage_GetAnnotCount(page), MAX_OBJECTS)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if annotation:
            count += pdfium.FPDFAnnot_GetSubtype(annotation) == pdfium.FPDF_ANNOT_WIDGET
            pdfium.FPDFPage_CloseAnnot(annotation)
    return count


def _objects(page: pypdfium2.PdfPage) -> Iterator[tuple[Any, Matrix]]:
    """Yield each object of a page, those in forms too, with the matrix from its form to the page."""
    stack = [(iter([pdfium.FPDFPage_GetObject(page, n) for n in range(pdfium.FPDFPage_CountObjects(page))]), IDENTITY)]
    while stack:
        items, matrix = stack[-1]
        item = next(items, None)
        if item is None:
            stack.pop()
        elif pdfium.FPDFPageObj_GetType(item) != pdfium.FPDF_PAGEOBJ_FORM:
            yield item, matrix
        elif len(stack) < MAX_DEPTH:
            inner = [pdfium.FPDFFormObj_GetObject(item, n) for n in range(pdfium.FPDFFormObj_CountObjects(item))]
            stack.append((iter(inner), multiply(_matrix_of(item), matrix)))


def _matrix_of(item: Any) -> Matrix:
    matrix = pdfium.FS_MATRIX()
    if not pdfium.FPDFPageObj_GetMatrix(item, matrix):
        return IDENTITY
    return matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f


def multiply(first: Matrix, then: Matrix) -> Matrix:
    """The matrix that applies `first`, and `then` to what that gives.

    >>> multiply((2, 0, 0, 2, 1, 0), (1, 0, 0, 1, 10, 0))  # twice the size, moved by 1, and by 10
    (2, 0, 0, 2, 11, 0)
    """
    a, b, c, d, e, f = first
    p, q, r, s, t, u = then
    return a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u


def _place(item: Any, matrix: Matrix, box: tuple[float, float, float, float]) -> PlacedImage:
    """Where a picture lies: it fills the unit square, which its matrix maps on the page. `box` is the visible page."""
    a, b, c, d, e, f = multiply(_matrix_of(item), matrix)
    columns, rows = _pixel_size(item)
    width, height = math.hypot(a, b), math.hypot(c, d)
    left, bottom, right, top = box
    xs, ys = (e, e + a, e + c, e + a + c), (f, f + b, f + d, f + b + d)
    seen_width = min(right, max(xs)) - max(left, min(xs))
    seen_height = min(top, max(ys)) - max(bottom, min(ys))
    area = (right - left) * (top - bottom)
    coverage = max(0.0, seen_width) * max(0.0, seen_height) / area if area > 0 else 0.0
    dpi = max(columns / width, rows / height) * 72 if width > 0 and height > 0 else 0.0
    return PlacedImage(min(1.0, coverage) if math.isfinite(coverage) else 0.0, dpi if math.isfinite(dpi) else 0.0)


def _pixel_size(item: Any) -> tuple[int, int]:
    columns, rows = c_uint(), c_uint()
    pdfium.FPDFImageObj_GetImagePixelSize(item, columns, rows)
    return columns.value, rows.value


def lost_coverage(page: pypdfium2.PdfPage, drawn: NDArray[np.uint8], max_pixels: int) -> float:
    """Return the part of an open page's area that has pictures which PDFium cannot decode, and draws nothing for.

    `drawn` is the rendered page, of shape (height, width, 3). Pictures are decoded, if they have no more than
    `max_pixels`, where it has one color alone.
    """
    coverage, box = 0.0, page.get_bbox()
    for number, (item, matrix) in enumerate(_objects(page)):
        if number >= MAX_OBJECTS:
            break
        if pdfium.FPDFPageObj_GetType(item) == pdfium.FPDF_PAGEOBJ_IMAGE and math.prod(_pixel_size(item)) <= max_pixels:
            part = _part_drawn(page, multiply(_matrix_of(item), matrix), drawn)
            if part.size and _is_plain(part[::16, ::16]) and _is_plain(part):
                coverage += 0.0 if _can_be_decoded(item) else _place(item, matrix, box).coverage
    return min(1.0, coverage)


def _part_drawn(page: pypdfium2.PdfPage, matrix: Matrix, drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part of a rendered page on which the unit square lies."""
    a, b, c, d, e, f = matrix
    height, width = drawn.shape[:2]
    xs, ys = [], []
    for x, y in ((e, f), (e + a, f + b), (e + c, f + d), (e + a + c, f + b + d)):
        column, row = c_int(), c_int()
        pdfium.FPDF_PageToDevice(page, 0, 0, width, height, 0, x, y, column, row)
        xs.append(max(0, column.value))
        ys.append(max(0, row.value))
    return drawn[min(ys) : max(ys), min(xs) : max(xs)]


def _is_plain(part: NDArray[np.uint8]) -> bool:
    return bool((part == part[0, 0]).all())


def _can_be_decoded(item: Any) -> bool:
    bitmap = pdfium.FPDFImageObj_GetBitmap(item)
    if bitmap:
        pdfium.FPDFBitmap_Destroy(bitmap)
    return bool(bitmap)


def _dpi_of(images: list[PlacedImage]) -> float:
    """The highest resolution that FINE_COVERAGE of the page has; the lowest of all where they cover less."""
    covered, dpi = 0.0, 0.0
    for image in sorted(images, key=lambda image: -image.dpi):
        covered, dpi = covered + image.coverage, image.dpi
        if covered >= FINE_COVERAGE:
            break
    return dpi
