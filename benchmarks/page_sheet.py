"""A sheet of paper that notes what is printed on it: lines in reading order, with tight boxes of each line and word.

The faces are of Debian packages whose fonts nano (smolcli/nano/fonts.py) is not trained on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from page_text import hyphenated
from PIL import Image, ImageDraw, ImageFont

FONT_ROOT = Path("/usr/share/fonts")
BoxList = tuple[int, int, int, int]
Align = Literal["left", "right", "center"]


@dataclass(frozen=True)
class Face:
    """A typeface: the stems of its font files and their Debian package and licence. Without `bold` it has no bold."""

    name: str
    regular: str
    bold: str
    package: str
    licence: str
    mono: bool = False


FACES = (
    Face("cardo", "Cardo104s", "Cardob101", "fonts-cardo", "OFL-1.1"),
    Face("clearsans", "ClearSans-Regular", "ClearSans-Bold", "fonts-clear-sans", "Apache-2.0"),
    Face("baskervald", "BaskervaldADFStd", "BaskervaldADFStd-Bold", "fonts-adf-baskervald", "GPL-2+ with exception"),
    Face("gillius", "GilliusADF-Regular", "GilliusADF-Bold", "fonts-adf-gillius", "GPL-2+ with exception"),
    Face("fanwood", "Fanwood", "", "fonts-fanwood", "MIT"),
    Face("b612", "B612-Regular", "B612-Bold", "fonts-b612", "OFL-1.1, EPL-2.0, EDL-1.0"),
    Face("lindenhill", "LindenHill", "", "fonts-lindenhill", "MIT"),
    Face("switzera", "SwitzeraADF-Regular", "SwitzeraADF-Bold", "fonts-adf-switzera", "GPL-2+ with exception"),
    Face("goudy", "GoudyBookletter1911", "", "fonts-goudybookletter", "public domain"),
    Face("comicneue", "ComicNeue-Regular", "ComicNeue-Bold", "fonts-comic-neue", "OFL-1.1"),
    Face("vollkorn", "Vollkorn-Regular", "Vollkorn-Bold", "fonts-vollkorn", "OFL-1.1"),
    Face("manrope", "Manrope-Regular", "Manrope-Bold", "fonts-manrope", "OFL-1.1"),
    Face("yrsa", "Yrsa-Regular", "Yrsa-Bold", "fonts-yrsa-rasa", "OFL-1.1"),
    Face("oxygen", "Oxygen-Sans", "Oxygen-Sans-Bold", "fonts-oxygen", "OFL-1.1 or GPL-3+"),
    Face("stix", "STIX-Regular", "STIX-Bold", "fonts-stix", "OFL-1.1"),
    Face("tuffy", "Tuffy", "Tuffy_Bold", "fonts-tuffy", "public domain"),
    Face("gfsdidot", "GFSDidot", "GFSDidotBold", "fonts-gfs-didot", "OFL-1.1"),
    Face("andika", "Andika-Regular", "Andika-Bold", "fonts-sil-andika", "OFL-1.1"),
    Face("prociono", "Prociono", "", "fonts-prociono", "public domain"),
    Face("mplus", "Mplus1-Regular", "Mplus1-Bold", "fonts-mplus", "OFL-1.1"),
    Face("doulos", "DoulosSIL-Regular", "", "fonts-sil-doulos", "OFL-1.1"),
    Face("quicksand", "Quicksand-Regular", "Quicksand-Bold", "fonts-quicksand", "OFL-1.1"),
    Face("robotoslab", "RobotoSlab-Regular", "RobotoSlab-Bold", "fonts-roboto-slab", "Apache-2.0"),
    Face("anonymous", "Anonymous Pro", "Anonymous Pro B", "fonts-anonymous-pro", "OFL-1.1", mono=True),
    Face("mononoki", "mononoki-Regular", "mononoki-Bold", "fonts-mononoki", "OFL-1.1", mono=True),
    Face(
        "fantasque", "FantasqueSansMono-Regular", "FantasqueSansMono-Bold", "fonts-fantasque-sans", "OFL-1.1", mono=True
    ),
    Face("leaguemono", "LeagueMono-Regular", "LeagueMono-Bold", "fonts-league-mono", "OFL-1.1", mono=True),
    Face("oxygenmono", "OxygenMono-Regular", "", "fonts-oxygen", "OFL-1.1 or GPL-3+", mono=True),
    Face("b612mono", "B612Mono-Regular", "B612Mono-Bold", "fonts-b612", "OFL-1.1, EPL-2.0, EDL-1.0", mono=True),
    Face("ocrb", "OCRB", "", "fonts-ocr-b", "permissive", mono=True),
)  # fmt: skip


@lru_cache
def font_files() -> dict[str, str]:
    """The paths of all installed fonts by their stems."""
    return {path.stem: str(path) for path in sorted(FONT_ROOT.rglob("*")) if path.suffix in (".ttf", ".otf")}


@dataclass(frozen=True)
class Print:
    """A font at a size, in pixels: height of an x, size of the em, distance of two baselines; and its colour."""

    font: ImageFont.FreeTypeFont
    x_height: int
    em: int
    pitch: int
    ink: tuple[int, int, int]

    def width(self, text: str) -> float:
        return self.font.getlength(text)


@lru_cache(maxsize=1000)
def print_of(path: str, x_height: int, ink: tuple[int, int, int], leading: float = 1.0) -> Print:
    """The print whose small x is `x_height` pixels high, or the nearest size to that."""

    def loaded(em: int) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(path, em, layout_engine=ImageFont.Layout.BASIC)

    def height(em: int) -> int:
        _, top, _, bottom = loaded(em).getbbox("x", anchor="ls")
        return round(bottom - top)

    em = min(range(x_height, 4 * x_height), key=lambda em: abs(height(em) - x_height))
    return Print(loaded(em), height(em), em, round(max(1.18 * em, 2.3 * x_height) * leading), ink)


@dataclass
class PrintedLine:
    """A line in the order of reading; `row` and `column` are those of its cell in a table or a form."""

    text: str
    box: BoxList
    region: int
    kind: str
    x_height: int
    words: list[tuple[str, BoxList]]
    row: int | None = None
    column: int | None = None
    indent: int = 0


@dataclass
class Sheet:
    """A sheet of `width` x `height` pixels; regions and lines are printed on it in the order of reading."""

    width: int
    height: int
    dpi: int
    face: Face
    x_height: int
    paper: tuple[int, int, int] = (255, 255, 255)
    ink: tuple[int, int, int] = (0, 0, 0)
    leading: float = 1.0
    lines: list[PrintedLine] = field(default_factory=list)
    leaders: list[BoxList] = field(default_factory=list)  # rows of dots that are drawn and are in no line
    region: int = -1
    kind: str = "text"

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width, self.height), self.paper)
        self.draw = ImageDraw.Draw(self.image)

    def print(self, scale: float = 1.0, bold: bool = False, ink: tuple[int, int, int] | None = None) -> Print:
        """The sheet's face, `scale` times the size of its body text."""
        stem = self.face.bold if bold and self.face.bold else self.face.regular
        return print_of(font_files()[stem], round(self.x_height * scale), ink or self.ink, self.leading)

    @property
    def margin(self) -> int:
        return max(round(0.075 * self.width), 2 * self.x_height)

    def begin(self, kind: str) -> None:
        """Begin a region: text, heading, list, table, header, footer or note."""
        self.region, self.kind = self.region + 1, kind

    def line(
        self,
        text: str,
        x: float,
        baseline: float,
        style: Print,
        align: Align = "left",
        justify: float = 0,
        **where: Any,
    ) -> PrintedLine:
        """Print a line with its left end, right end or centre at `x`, spread to `justify` pixels if that is not 0."""
        width = style.width(text)
        left = x - (width if align == "right" else width / 2 if align == "center" else 0)
        gaps = len(text.split()) - 1
        spread = (justify - width) / gaps if justify and gaps else 0.0
        words = []
        for number, match in enumerate(re.finditer(r"\S+", text)):
            start = round(left + style.width(text[: match.start()]) + number * spread)
            words.append((match[0], self._word(match[0], start, round(baseline), style)))
        boxes = [box for _, box in words]
        box = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
        indent = len(text) - len(text.lstrip())
        printed = PrintedLine(
            " ".join(text.split()), box, self.region, self.kind, style.x_height, words, indent=indent, **where
        )
        self.lines.append(printed)
        return printed

    def _word(self, word: str, x: int, baseline: int, style: Print) -> BoxList:
        """Print a word and return the box of its ink."""
        mask, (left, top) = style.font.getmask2(word, mode="L", anchor="ls")
        ink = Image.frombytes("L", mask.size, bytes(mask)).getbbox()
        if ink is None:
            raise ValueError(f"{self.face.name} prints nothing for {word!r}")
        self.draw.text((x, baseline), word, style.ink, style.font, anchor="ls")
        return (x + left + ink[0], baseline + top + ink[1], x + left + ink[2], baseline + top + ink[3])

    def rule(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        thickness: int = 0,
        dash: int = 0,
        ink: tuple[int, int, int] | None = None,
    ) -> None:
        """Draw a horizontal or vertical rule; with `dash` a horizontal one in dashes of that many pixels."""
        thickness = thickness or max(1, round(self.x_height / 10))
        step = 2 * dash if dash else max(1, round(right - left))
        for x in range(round(left), max(round(left) + 1, round(right)), step):
            end = min(x + (dash or step), round(right))
            self.draw.line((x, round(top), max(x, end), round(bottom)), ink or self.ink, thickness)

    def frame(self, left: float, top: float, right: float, bottom: float) -> None:
        box = (round(left), round(top), round(right), round(bottom))
        self.draw.rectangle(box, outline=self.ink, width=max(1, round(self.x_height / 10)))


def wrapped(text: str, style: Print, width: float, first_indent: float = 0, hyphenate: bool = False) -> list[str]:
    """The text in lines of at most `width` pixels, the first shorter by `first_indent`."""
    lines: list[str] = []
    line = ""
    words = text.split()
    while words:
        room = width - (first_indent if not lines else 0)
        longer = f"{line} {words[0]}".lstrip()
        if style.width(longer) <= room:
            line = longer
            words.pop(0)
            continue
        parts = hyphenated(words[0]) if hyphenate else []
        fitting = [part for part in parts if style.width(f"{line} {part[0]}".lstrip()) <= room]
        if fitting and room - style.width(line) > 4 * style.x_height:
            lines.append(f"{line} {fitting[-1][0]}".lstrip())
            words[0] = fitting[-1][1]
        elif line:
            lines.append(line)
        else:  # a word that is wider than the line
            lines.append(words.pop(0))
        line = ""
    return [*lines, line] if line else lines
