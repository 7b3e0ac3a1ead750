"""Writes small PDFs by hand, for tests."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

A4 = (0, 0, 595, 842)
Number = int | float


@dataclass(frozen=True)
class PdfPage:
    """A page: what is drawn, its boxes, and `more` entries of its dictionary. `image` is drawn by `/I Do`."""

    content: bytes = b""
    media: Sequence[Number] = A4
    crop: Sequence[Number] | None = None
    rotate: int = 0
    image: bytes | None = None  # the object of an image, or None
    more: bytes = b""
    fonts: dict[str, bytes] = field(default_factory=dict)


def make_pdf(*pages: PdfPage, objects: Sequence[bytes] = (), catalog: bytes = b"") -> bytes:
    """Make a PDF; `objects` have the numbers from 3 on, and `catalog` are more entries of the catalog."""
    numbered: dict[int, bytes] = dict(enumerate(objects, 3))
    kids, following = [], 3 + len(objects)
    for page in pages:
        number, contents, image = following, following + 1, following + 2
        following += 3
        kids.append(b"%d 0 R" % number)
        fonts = page.fonts or {"F": b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"}
        font = b"".join(b"/%s %s" % (name.encode(), body) for name, body in fonts.items())
        crop = b"" if page.crop is None else b"/CropBox[%s]" % _numbers(page.crop)
        xobject = b"" if page.image is None else b"/XObject<</I %d 0 R>>" % image
        numbered[number] = (
            b"<</Type/Page/Parent 2 0 R/MediaBox[%s]%s/Rotate %d/Resources<</Font<<%s>>%s>>/Contents %d 0 R%s>>"
            % (_numbers(page.media), crop, page.rotate, font, xobject, contents, page.more)
        )
        numbered[contents] = stream(page.content)
        numbered[image] = page.image or b"null"
    numbered[1] = b"<</Type/Catalog/Pages 2 0 R%s>>" % catalog
    numbered[2] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(pages), b" ".join(kids))
    return assemble(numbered)


def assemble(numbered: dict[int, bytes]) -> bytes:
    """A PDF of objects by number, of which number 1 is the catalog, with a table of their places."""
    data = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = {}
    for number, body in sorted(numbered.items()):
        places[number] = len(data)
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    size = max(numbered) + 1
    data += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        data += b"%010d 00000 n \n" % places[number] if number in places else b"0000000000 65535 f \n"
    data += b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, start)
    return bytes(data)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """The object of a stream."""
    packed = zlib.compress(data)
    return b"<<%s/Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream" % (entries, len(packed), packed)


def gray_image(width: int, height: int, value: int = 200) -> bytes:
    """The object of a gray picture of one value."""
    entries = b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8" % (
        width,
        height,
    )
    return stream(bytes([value]) * (width * height), entries)


def text(lines: Iterable[str], x: float = 72, y: float = 760, size: float = 12, pitch: float = 14.4) -> bytes:
    """What draws lines of text, the first one at (x, y) in points."""
    body = b"".join(b"(%s) Tj T* " % escape(line) for line in lines)
    return b"BT /F %g Tf %g TL %g %g Td %s ET\n" % (size, pitch, x, y, body)


def escape(line: str) -> bytes:
    """A text as it stands in parentheses."""
    return line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _numbers(values: Sequence[Number]) -> bytes:
    return b" ".join(b"%g" % value for value in values)
