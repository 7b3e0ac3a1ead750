"""One PDF of all inputs with their text where it is printed, invisible, so that it can be searched and copied.

    PDF     -> its own pages, each with a layer of text
    picture -> a new page with the picture, and a layer of text

    with SearchablePdf(Path("out.pdf")) as pdf:
        pdf.add(Source("scan.jpg"), pages)

Pages that were not read, or whose own text was taken, stay as they are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pikepdf
from pikepdf import Dictionary, Name, Object

from smolcli.errors import ErrorKind, InputError, no_such_file
from smolcli.inputs.page import Page
from smolcli.options import Input
from smolcli.system.atomic_file import atomic_write
from smolcli.tasks.page_forms.glyphless_font import GlyphlessFont
from smolcli.tasks.page_forms.original import Matrix, Original
from smolcli.tasks.page_forms.picture_pages import add_pictures
from smolcli.tasks.page_forms.text_layer import FONT, layer
from smolcli.types import Source

PDF_HEAD = b"%PDF-"
HEAD_BYTES = 1024  # in which the head of a PDF may stand, after what a mail program or a server put before it
MIN_SKEW = 0.29  # degrees: a slope of 0.005, under which viewers select flat lines better
Rectangle = tuple[float, float, float, float]  # left, bottom, right, top, in points


def write_searchable(
    out: Path, sources: Sequence[Source], pages: Sequence[Sequence[Page]], max_pixels: int = Input.max_pixels
) -> None:
    """Write one PDF of the sources in their order; `pages` are those that were read of each.

    Raises InputError as SearchablePdf.add does, and OSError if it cannot be written.
    """
    with SearchablePdf(out, max_pixels) as pdf:
        for source, read in zip(sources, pages, strict=True):
            pdf.add(source, read)


class SearchablePdf:
    """A PDF that inputs are added to; it is written when the block ends, whole or not at all.

    Encrypted inputs are opened with `password`; what is written is not encrypted.
    The first input, if it is a PDF, stays the document that the others are added to, with its bookmarks and forms.
    """

    def __init__(self, out: Path, max_pixels: int = Input.max_pixels, password: str | None = None) -> None:
        self._out, self._max_pixels, self._password = out, max_pixels, password or ""
        self._pdf: pikepdf.Pdf | None = None
        self._font: GlyphlessFont | None = None
        self._sources: list[pikepdf.Pdf] = []  # their streams are read when the PDF is written

    def add(self, source: Source, pages: Sequence[Page]) -> None:
        """Add the pages of an input. Raises InputError (missing, unreadable, unsupported, truncated, too-large)."""
        data = _read(source)
        if PDF_HEAD in data[:HEAD_BYTES]:
            added = self._append(data)
            pairs = [(added[page.number - 1], page) for page in pages if 1 <= page.number <= len(added)]
        else:
            pdf = self._pdf = self._pdf or pikepdf.new()
            pairs = list(zip(add_pictures(pdf, data, pages, self._max_pixels), pages, strict=True))
        for target, page in pairs:
            if page.lines and not page.has_text_layer:
                self._add_layer(target, page)

    def _append(self, data: bytes) -> list[pikepdf.Page]:
        """Append all pages of a PDF and return them."""
        try:
            source = pikepdf.open(io.BytesIO(data), password=self._password)
            if self._pdf is None:
                self._pdf = source
                return list(source.pages)
            self._sources.append(source)
            first = len(self._pdf.pages)
            self._pdf.pages.extend(source.pages)
            return list(self._pdf.pages)[first:]
        except pikepdf.PasswordError:
            raise InputError(
                "is locked with a password", "unlock it: qpdf --decrypt --password=... IN OUT",
                kind=ErrorKind.UNSUPPORTED,
            ) from None  # fmt: skip
        except (pikepdf.PdfError, ValueError) as error:
            reason = str(error).rpartition(">: ")[2]  # after the name of a stream that says nothing
            raise InputError(
                f"is a damaged PDF ({reason})", "get a whole copy", kind=ErrorKind.TRUNCATED
            ) from error  # fmt: skip

    def _add_layer(self, target: pikepdf.Page, page: Page) -> None:
        """Draw the text of a page over a page of the PDF, as a form that has the pixels of the upright page."""
        pdf = self._pdf
        assert pdf is not None
        font = self._font = self._font or GlyphlessFont(pdf)
        form = pdf.make_stream(
            layer(page, font.encode, page.skew if abs(page.skew) >= MIN_SKEW else 0.0).encode(),
            Type=Name.XObject,
            Subtype=Name.Form,
            BBox=[0, 0, page.width, page.height],
            Matrix=[round(number, 6) for number in placement(page, *_view(target))],
            Resources=Dictionary(Font=Dictionary({FONT: font.object})),
        )
        _own_resources(target)
        name = target.add_resource(form, Name.XObject, prefix="Text")
        target.contents_add(b"q\n", prepend=True)
        target.contents_add(f"\nQ q {name} Do Q\n".encode())

    def __enter__(self) -> SearchablePdf:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._pdf is not None:
                if self._font is not None:
                    self._font.write()
                with atomic_write(self._out) as file:
                    self._pdf.save(file)
        finally:
            for pdf in (self._pdf, *self._sources):
                if pdf is not None:
                    pdf.close()


def placement(page: Page, box: Rectangle, rotation: int) -> Matrix:
    """Return the map from the upright page, in pixels from its lower left corner, to the space of a page of a PDF.

    `box` is the part of that page that is shown, `rotation` how many degrees it is turned clockwise for that.
    """
    left, bottom, right, top = box
    width, height = (top - bottom, right - left) if rotation % 180 == 90 else (right - left, top - bottom)
    original = Original(page, MIN_SKEW)
    shown = Matrix(width / max(1, original.width), 0, 0, -height / max(1, original.height), 0, height)
    turned = {
        0: Matrix(1, 0, 0, 1, left, bottom),
        90: Matrix(0, 1, -1, 0, left + height, bottom),
        180: Matrix(-1, 0, 0, -1, left + width, bottom + height),
        270: Matrix(0, -1, 1, 0, left, bottom + width),
    }[rotation]
    return Matrix(1, 0, 0, -1, 0, page.height).then(original.matrix).then(shown).then(turned)


def _view(page: pikepdf.Page) -> tuple[Rectangle, int]:
    """Return the part of a page that is shown, in points, and its rotation."""
    media = _rectangle(_inherited(page, "/MediaBox")) or (0.0, 0.0, 612.0, 792.0)
    crop = _rectangle(_inherited(page, "/CropBox")) or media
    shown = max(media[0], crop[0]), max(media[1], crop[1]), min(media[2], crop[2]), min(media[3], crop[3])
    try:
        rotation = int(_inherited(page, "/Rotate") or 0) % 360
    except (TypeError, ValueError):
        rotation = 0
    return shown if shown[0] < shown[2] and shown[1] < shown[3] else media, rotation // 90 * 90


def _inherited(page: pikepdf.Page, key: str) -> Object | None:
    """Return an entry of a page, or of the nodes above it."""
    node: Object | None = page.obj
    for _ in range(64):  # a damaged tree may go in circles
        if node is None:
            break
        if key in node:
            return node[key]
        node = node.get("/Parent")
    return None


def _rectangle(value: Object | None) -> Rectangle | None:
    """Return a box as numbers, its corners in order; None if it is none or empty."""
    try:
        x1, y1, x2, y2 = (float(number) for number in value)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        return None
    box = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    return box if box[0] < box[2] and box[1] < box[3] else None


def _own_resources(page: pikepdf.Page) -> None:
    """Give a page resources of its own, so that what is added to them does not show up in other pages."""
    resources = _inherited(page, "/Resources")
    own = Dictionary() if resources is None else Dictionary(dict(resources.items()))
    objects = own.get("/XObject")
    own["/XObject"] = Dictionary() if objects is None else Dictionary(dict(objects.items()))
    page.obj["/Resources"] = own


def _read(source: Source) -> bytes:
    if source.data is not None:
        return source.data
    try:
        return Path(source.word).read_bytes()
    except FileNotFoundError:
        raise no_such_file(source.word) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source.word} cannot be read ({error})", "check the path", kind=ErrorKind.UNREADABLE
        ) from error
