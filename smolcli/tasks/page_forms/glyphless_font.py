"""A font for invisible text in a PDF: every character is a box WIDTH wide, and searchers know which it is.

    text -> codes of two bytes -> CIDs -> one glyph (the font file); codes -> Unicode (the CMap ToUnicode)

The font file is embedded, as PDF/A wants, and its glyph has a real width: PDFium leaves out letters that have none.
"""

from __future__ import annotations

import struct

from pikepdf import Array, Dictionary, Name, Object, Pdf, String

NAME = Name("/SmolcliGlyphless")
WIDTH, ASCENT, DESCENT, BOX_HEIGHT = 500, 800, -200, 500  # in thousandths of the font size
BLOCK = 100  # entries of a CMap that may stand in one block: Adobe technical note 5014, 1.4.1
CMAP = """\
/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def
/CMapName /Adobe-Identity-UCS def
/CMapType 2 def
1 begincodespacerange
<0000> <FFFF>
endcodespacerange
{}endcmap
CMapName currentdict /CMap defineresource pop
end
end
"""


class GlyphlessFont:
    """A font of one PDF; characters get codes as they are encoded, and `write` writes what those that came up need."""

    def __init__(self, pdf: Pdf) -> None:
        self._pdf = pdf
        self._codes: dict[str, int] = {}
        self.object: Object = pdf.make_indirect(Dictionary(Type=Name.Font, Subtype=Name.Type0))

    def encode(self, text: str) -> str:
        """Return the codes of a text as hexadecimal digits; past 65,535 different characters they are U+FFFD."""
        return "".join(f"{self._code(char):04X}" for char in text)

    def _code(self, char: str) -> int:
        if char not in self._codes and len(self._codes) >= 0xFFFE:
            char = "\N{REPLACEMENT CHARACTER}"
        return self._codes.setdefault(char, len(self._codes) + 1)  # 0 is the glyph that stands for none

    def write(self) -> None:
        """Complete the font in the PDF."""
        font = font_file()
        descriptor = Dictionary(
            Type=Name.FontDescriptor,
            FontName=NAME,
            Flags=5,  # one width, and other characters than those of Latin text
            FontBBox=[0, DESCENT, WIDTH, ASCENT],
            ItalicAngle=0,
            Ascent=ASCENT,
            Descent=DESCENT,
            CapHeight=ASCENT,
            StemV=80,
            FontFile2=self._pdf.make_stream(font, Length1=len(font)),
        )
        descendant = Dictionary(
            Type=Name.Font,
            Subtype=Name.CIDFontType2,
            BaseFont=NAME,
            CIDSystemInfo=Dictionary(Registry=String("Adobe"), Ordering=String("Identity"), Supplement=0),
            DW=WIDTH,
            FontDescriptor=self._pdf.make_indirect(descriptor),
            CIDToGIDMap=self._pdf.make_stream(b"\0\0" + b"\0\1" * len(self._codes)),
        )
        self.object.BaseFont = NAME
        self.object.Encoding = Name("/Identity-H")
        self.object.DescendantFonts = Array([self._pdf.make_indirect(descendant)])
        self.object.ToUnicode = self._pdf.make_stream(to_unicode(self._codes).encode())


def to_unicode(codes: dict[str, int]) -> str:
    """Return the CMap that says which character each code stands for, in UTF-16."""
    rows = [f"<{code:04X}> <{char.encode('utf-16-be', 'replace').hex().upper()}>\n" for char, code in codes.items()]
    blocks = (rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK))
    return CMAP.format("".join(f"{len(block)} beginbfchar\n{''.join(block)}endbfchar\n" for block in blocks))


def font_file() -> bytes:
    """Return a TrueType font of an empty glyph and a box, with the tables that a PDF wants of it (ISO 32000, 9.9).

    The box is never drawn. PDFium finds no text on a sideways page whose glyphs have no height, and takes lines of a
    skewed page for one where glyphs are so high that the end of a line overlaps the start of the next.

    The tables are described in https://learn.microsoft.com/typography/opentype/spec/.
    """
    box = struct.pack(">h4h", 1, 0, 0, WIDTH, BOX_HEIGHT)  # one contour, and its extent
    box += struct.pack(">HH4B", 3, 0, 1, 1, 1, 1)  # the last of its points, no instructions, points on the curve
    box += struct.pack(">8h", 0, WIDTH, 0, -WIDTH, 0, 0, BOX_HEIGHT, 0)  # steps in x, then in y
    tables = {
        b"glyf": box,
        b"head": struct.pack(
            ">IIIIHHqqhhhhHHhhh", 0x10000, 0x10000, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 0, 0, WIDTH, BOX_HEIGHT, 0, 8, 2, 0, 0
        ),
        b"hhea": struct.pack(">IhhhHhhhhhh8xhH", 0x10000, ASCENT, DESCENT, 0, WIDTH, 0, 0, WIDTH, 1, 0, 0, 0, 1),
        b"hmtx": struct.pack(">Hhh", WIDTH, 0, 0),
        b"loca": struct.pack(">3H", 0, 0, len(box) // 2),
        b"maxp": struct.pack(">IHHH4xH16x", 0x10000, 2, 4, 1, 2),
    }
    offset = 12 + 16 * len(tables)
    directory, body, head = b"", b"", 0
    for tag, data in tables.items():
        padded = data + bytes(-len(data) % 4)
        head = offset + len(body) if tag == b"head" else head
        directory += struct.pack(">4sIII", tag, _checksum(padded), offset + len(body), len(data))
        body += padded
    font = struct.pack(">IHHHH", 0x10000, len(tables), 64, 2, 32) + directory + body
    adjustment = (0xB1B0AFBA - _checksum(font)) % 2**32
    return font[: head + 8] + struct.pack(">I", adjustment) + font[head + 12 :]


def _checksum(data: bytes) -> int:
    words: tuple[int, ...] = struct.unpack(f">{len(data) // 4}I", data)
    return sum(words) % 2**32
