"""The fonts and words that pages are printed with, and which of them are held out for evaluation.

HELD_OUT_FONTS and one word in ten (by checksum) never appear in training. docs/models.md names the Debian packages.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

FONT_ROOT = Path("/usr/share/fonts")
WORD_LIST = Path("/usr/share/dict/words")  # Debian's wamerican
FONT_FAMILIES = (
    "DejaVuSans", "DejaVuSerif", "LiberationMono", "LiberationSans", "LiberationSansNarrow", "FreeSans", "FreeSerif",
    "FreeMono", "Roboto-", "RobotoCondensed", "OpenSans", "Lato-", "Inconsolata", "Hack-", "FiraCode", "Cantarell",
    "NimbusRoman", "NimbusSans", "NimbusMonoPS", "C059", "P052", "URWBookman", "URWGothic", "LinLibertine_R",
    "LinBiolinum_R", "Caladea", "EBGaramond", "NotoSans-", "NotoSerif-", "NotoSansMono", "NotoSansDisplay",
    "NotoSerifDisplay", "texgyreadventor", "texgyrebonum", "texgyrecursor", "texgyreheros", "texgyrepagella",
    "texgyreschola", "texgyretermes", "Cabin", "Play", "JunicodeTwoBeta-", "GenBas", "GenBkBas", "OldStandard",
    "Go-", "Inter-", "JetBrainsMono", "Courier", "cmunrm", "cmunbx", "cmunss", "cmuntt", "cmunti", "CharisSIL",
    "Quattrocento", "PTS", "PTF", "PTM", "PTC", "PTN", "cmunbi", "cmunit", "cmuntb", "cmunsl", "cmunsi", "cmunvt",
    "Gentium-",
)  # fmt: skip
HELD_OUT_FONTS = ("LiberationSerif-Regular", "DejaVuSans-Bold", "Carlito-Regular", "Karla-Regular")
HELD_OUT_FAMILIES = ("LiberationSerif", "Carlito", "Karla", "Tinos")
UNUSABLE = (  # parts of file names: too thin, too wide, or not plain Latin print
    "Thin", "Hairline", "Light", "Math", "Smallcaps", "Initials", "Keyboard", "Black", "Heavy", "Condensed", "Narrow",
    "Medium", "SemiBold", "Semibold", "DemiBold", "ExtraBold", "Extrabold", "Retina", "Display", "Expanded", "Junicode",
    "Oblique", "BoldItalic", "BoldIta", "PTC", "PTN", "Demi", "-BdIta", "DejaVuSerifCond", "bolditalic",
)  # fmt: skip

# What `faces` leaves out; the faces of the families' other widths, weights and slopes are in it.
NO_FACE = (
    "Thin", "Hairline", "ExtraLight", "Lato-Light", "Roboto-Light", "OpenSans-Light", "OpenSans-CondLight", "-Light",
    "Math", "Initials", "Keyboard", "Black", "Heavy", "Retina", "Expanded", "Junicode", "[wght]", "Tamil",
    "LightItalic", "DejaVuSansCondensed-Bold",
)  # fmt: skip


def is_held_out(text: str, modulus: int = 10) -> bool:
    """Whether `text` (a word, or a colour and a shape) is held out for evaluation: one in `modulus`, by CRC-32."""
    return zlib.crc32(text.encode()) % modulus == 0


@lru_cache
def fonts(held_out: bool) -> tuple[str, ...]:
    """Paths of the font files for evaluation (`held_out`) or for training.

    Raises FileNotFoundError if a font for evaluation is not installed.
    """
    paths = {path.stem: str(path) for path in sorted(FONT_ROOT.rglob("*")) if path.suffix in (".ttf", ".otf")}
    if held_out:
        if missing := [name for name in HELD_OUT_FONTS if name not in paths]:
            raise FileNotFoundError(f"{FONT_ROOT} has no {missing[0]}; docs/models.md names its Debian package")
        return tuple(paths[name] for name in HELD_OUT_FONTS)
    return tuple(
        path
        for name, path in paths.items()
        if name.startswith(FONT_FAMILIES)
        and not name.startswith(HELD_OUT_FAMILIES)
        and name not in HELD_OUT_FONTS
        and not any(part in name for part in UNUSABLE)
    )


@lru_cache
def faces(held_out: bool) -> tuple[str, ...]:
    """Paths of the faces of pieces: `fonts`, with more italics, bold italics, typewriters, narrow and small capitals.

    Held out are all faces of HELD_OUT_FAMILIES and of HELD_OUT_FONTS.
    """
    paths = {path.stem: str(path) for path in sorted(FONT_ROOT.rglob("*")) if path.suffix in (".ttf", ".otf")}
    unseen = (*HELD_OUT_FAMILIES, *HELD_OUT_FONTS)
    families = unseen if held_out else FONT_FAMILIES
    return tuple(
        path
        for name, path in paths.items()
        if name.startswith(families)
        and name.startswith(unseen) == held_out
        and not any(part in name for part in NO_FACE)
    )


@lru_cache
def upright_faces(held_out: bool) -> tuple[str, ...]:
    """Those of `faces` that are not italics."""
    return tuple(
        path
        for path in faces(held_out)
        if not any(slope in (load_font(path, 24).getname()[1] or "") for slope in ("Italic", "Oblique"))
    )


@lru_cache
def relatives(path: str, held_out: bool) -> tuple[str, ...]:
    """The faces of the same family as `path`, itself among them."""
    families = HELD_OUT_FAMILIES if held_out else FONT_FAMILIES
    family = max((name for name in families if Path(path).stem.startswith(name)), key=len, default=Path(path).stem)
    return tuple(face for face in faces(held_out) if Path(face).stem.startswith(family))


def has_small_capitals(path: str) -> bool:
    """Whether a face prints small letters as small capitals."""
    return "Smallcaps" in Path(path).stem


@lru_cache
def printable(path: str, chars: str) -> frozenset[str]:
    """Those of `chars` for which a font has a glyph: they print otherwise than a character that no font has."""
    font = load_font(path, 24)
    missing = bytes(font.getmask("\uffff"))
    return frozenset(char for char in chars if char == " " or bytes(font.getmask(char)) not in (missing, b""))


@lru_cache(maxsize=6000)
def load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """The font at `size` pixels, with Pillow's basic layout, so that libraqm, if installed, changes nothing."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache
def words(held_out: bool) -> tuple[str, ...]:
    """The ASCII words of at most 11 letters in the system's word list that are, or are not, held out."""
    lines = WORD_LIST.read_text(encoding="utf-8").split()
    return tuple(
        word
        for word in lines
        if word.isascii() and word.isalpha() and len(word) <= 11 and is_held_out(word.lower()) == held_out
    )


@lru_cache(maxsize=400_000)
def advance(font: ImageFont.FreeTypeFont, char: str) -> float:
    """The width of one character in pixels."""
    return font.getlength(char)
