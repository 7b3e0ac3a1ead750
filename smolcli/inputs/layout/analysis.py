"""From the pixels of a page to its regions, lines and words, in reading order.

grey -> rough ink -> scale, turns and skew -> upright grey -> ground -> ink -> rules, pictures -> lines -> regions
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from smolcli.inputs.layout.chains import Chain
from smolcli.inputs.layout.components import Components, Mask, find_components, keep
from smolcli.inputs.layout.ground import Grey, Ground, contrast_of, find_ground, find_ink
from smolcli.inputs.layout.lines import find_lines
from smolcli.inputs.layout.metrics import settle
from smolcli.inputs.layout.orientation import evidence
from smolcli.inputs.layout.pictures import is_texture, set_pictures_apart
from smolcli.inputs.layout.regions import make_regions, union
from smolcli.inputs.layout.rules import Rules, find_rules
from smolcli.inputs.layout.signs import find_leaders, find_tick_boxes
from smolcli.inputs.layout.skew import find_skew, is_sideways, letter_like, scale_of
from smolcli.inputs.layout.touching import split_touching
from smolcli.inputs.layout.words import letters_of, split_words, usual_pitch, usual_threshold
from smolcli.inputs.page import Line, Page, PageKind, Region, Word
from smolcli.types import Box, Frame

ROUGH_EDGE = 1800  # pixels: the longest edge of the picture in which scale, turn and ground are found
QUARTERS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
NO_LETTER = 8.0  # pixels: taken for the height of a small letter where there is nothing like one
LETTER_HEIGHT = 10  # pixels: print is analysed with small letters of at least this height, if it has them


@dataclass
class UprightPage:
    """A page and its pixels: `grey`, of shape (page.height, page.width), is dark print on white, without rules."""

    page: Page
    grey: Grey


@dataclass(frozen=True)
class Rough:
    """What a look at the reduced picture says: the height of small letters in its pixels, turn and skew."""

    scale: float
    turn: int
    skew: float


def lay_out(frame: Frame, number: int = 1, dpi: float = 0.0, half_turn: bool = False) -> UprightPage:
    """Find what is printed where on a page. `number` and `dpi` are passed on to the Page.

    With `half_turn` the page is taken to stand on its head, whichever way up it seems to be without.
    """
    image = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb).convert("L")
    factor = -(-max(image.size) // ROUGH_EDGE)
    ground = find_ground(np.asarray(image.reduce(factor)))
    rough = look(np.asarray(image.reduce(factor)), ground)
    is_upright = not rough.turn and not rough.skew
    print_ = find_print(turned(image, rough.turn, rough.skew), rough.scale * factor, ground if is_upright else None)
    upright = evidence(print_.parts, print_.chains)
    if upright.is_doubtful or half_turn:
        over = replace(rough, turn=(rough.turn + 180) % 360)
        other = find_print(turned(image, over.turn, over.skew), over.scale * factor)
        is_over = upright.is_doubtful and evidence(other.parts, other.chains).is_better(upright)
        if is_over != half_turn:
            rough, print_ = over, other
    height, width = print_.contrast.shape
    regions = regions_of(print_, (width, height))
    has_lines = any(region.lines for region in regions)
    kind: PageKind = "print" if has_lines else "picture" if regions else "blank"
    page = Page(number, width, height, tuple(regions), kind, rough.turn, rough.skew, dpi)
    return UprightPage(page, clean(print_))


def turned(image: Image.Image, turn: int, skew: float) -> Image.Image:
    """Turn a picture clockwise by `turn` degrees, a quarter or several, then by `skew` degrees about its centre."""
    if turn:
        image = image.transpose(QUARTERS[turn])
    if skew:
        paper = int(np.median(np.asarray(image)[::4, ::4]))
        image = image.rotate(-skew, Image.Resampling.BICUBIC, fillcolor=paper)
    return image


def look(grey: Grey, ground: Ground) -> Rough:
    """Estimate the size of print, and how the page is turned, from a picture of up to two megapixels."""
    ink = find_ink(contrast_of(grey, ground), ground.noise, 8)
    parts = find_components(ink)
    scale = scale_of(parts)
    letters = letter_like(parts)
    if not letters.any():
        return Rough(0.0, 0, 0.0)
    print_ = parts.paint(letters)
    if not is_sideways(parts, letters):
        middles = (parts.left[letters] + parts.right[letters]) / 2
        return Rough(scale, 0, find_skew(print_, middles, parts.bottom[letters].astype(np.float64)))
    # Turned clockwise, the right edge is the lower one, and the lower edge the left one.
    middles = grey.shape[0] - (parts.top[letters] + parts.bottom[letters]) / 2
    return Rough(scale, 90, find_skew(np.rot90(print_, -1), middles, parts.right[letters].astype(np.float64)))


@dataclass(frozen=True)
class Print:
    """The print of an upright page: the contrast of its pixels, and what was found at 1 / `factor` of their number."""

    contrast: Grey
    factor: int
    parts: Components
    rules: Rules
    chains: list[Chain]
    pictures: list[Box]


def find_print(image: Image.Image, scale: float, ground: Ground | None = None) -> Print:
    """Find the lines of an upright page. `scale` is the height of its small letters in pixels, 0 if it has none."""
    ground = ground or find_ground(np.asarray(image.reduce(-(-max(image.size) // ROUGH_EDGE))))
    whole = contrast_of(np.asarray(image), ground)
    factor = max(1, int(scale // LETTER_HEIGHT))
    contrast = np.asarray(Image.fromarray(whole).reduce(factor))
    scale = scale / factor or NO_LETTER
    ink = find_ink(contrast, ground.noise, scale)
    rules = find_rules(ink, scale)
    parts = find_components(ink & ~rules.mask)
    parts, pictures = set_pictures_apart(parts, scale)
    parts = keep(parts, ~(find_leaders(parts, scale) | find_tick_boxes(parts, scale)))
    parts = split_touching(parts, scale)
    chains = find_lines(parts, scale, rules.upright)
    if is_texture(parts, chains):
        height, width = contrast.shape
        chains, pictures = [], [Box(0, 0, width, height)]
    return Print(whole, factor, parts, rules, chains, pictures)


def regions_of(print_: Print, size: tuple[int, int]) -> list[Region]:
    """Make the regions of a page of `size` (width, height) of its print, in its pixels."""
    factor = print_.factor
    lines = [scaled(line, factor) for line in make_lines(print_.parts, print_.chains)]
    level = [scaled_box(box, factor) for box in print_.rules.level]
    upright = [scaled_box(box, factor) for box in print_.rules.upright]
    pictures = [scaled_box(box, factor) for box in print_.pictures]
    return make_regions(lines, pictures, (level, upright), size)


def make_lines(parts: Components, chains: list[Chain]) -> list[Line]:
    """Cut lines into words, and give each line the x-height that its neighbours say."""
    places = np.array([(chain.left, chain.zone.baseline) for chain in chains], np.float64).reshape(-1, 2)
    zones = settle([chain.zone for chain in chains], places)
    letters = letters_of(parts, chains, zones)
    usual = usual_threshold(np.concatenate([line.gaps for line in letters] or [np.zeros(0)]))
    pitch = usual_pitch(letters, zones)
    lines = []
    for line, zone in zip(letters, zones, strict=True):
        words = split_words(line, zone.x_height, usual, pitch)
        lines.append(Line(union(words), tuple(Word(box) for box in words), zone.x_height, round(zone.baseline)))
    return lines


def scaled(line: Line, factor: int) -> Line:
    """Return a line in the pixels of a picture that is `factor` times as large."""
    return replace(
        line,
        box=scaled_box(line.box, factor),
        words=tuple(replace(word, box=scaled_box(word.box, factor)) for word in line.words),
        x_height=line.x_height * factor,
        baseline=line.baseline * factor,
    )


def scaled_box(box: Box, factor: int) -> Box:
    """Return a box in the pixels of a picture that is `factor` times as large."""
    return Box(*(edge * factor for edge in box))


def clean(print_: Print) -> Grey:
    """Dark print on white, without rules."""
    grey = 255 - print_.contrast
    mask = _grown(print_.rules.mask)
    for box in print_.pictures:
        mask[box.top : box.bottom, box.left : box.right] = False
    if mask.any():
        mask = np.repeat(np.repeat(mask, print_.factor, 0), print_.factor, 1)
        grey[mask[: grey.shape[0], : grey.shape[1]]] = 255
    return grey


def _grown(mask: Mask) -> Mask:
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return np.asarray(grown)
