"""Draws windows of programs with Pillow: terminals, editors, browsers, tables, chats, folders, settings and phones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smolcli.nano.fonts import fonts, load_font, words
from smolcli.nano.part_cells import characters, is_legible
from smolcli.nano.synthetic_images import TILE, Annotation, Colour, Rng, pick

Box = tuple[float, float, float, float]
HELD_OUT_PAPERS = ((0, 43, 54), (253, 246, 227), (40, 42, 54), (236, 239, 244))
LINE_COUNTS = (0, 1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 70)  # of text; from ten on a count varies by two


@dataclass(frozen=True)
class Theme:
    """The colours of a program: of its window, its print, its bars, and of what stands out."""

    is_dark: bool
    paper: Colour
    ink: Colour
    bar: Colour
    accent: Colour

    @property
    def faint(self) -> Colour:
        """A colour between the paper's and the ink's."""
        return mixed(self.paper, self.ink, 0.2)


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """The colour that lies `share` of the way from `a` to `b`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def theme(rng: Rng, held_out: bool) -> Theme:
    """A dark or a light theme; some papers are held out."""
    is_dark = rng.random() < 0.45
    if held_out:
        paper = pick(rng, [paper for paper in HELD_OUT_PAPERS if (sum(paper) < 380) == is_dark])
    else:
        level = int(rng.integers(0, 56) if is_dark else 255 - rng.integers(0, 26) * (rng.random() < 0.6))
        paper = _near(rng, level, 7)
    ink = _near(rng, int(rng.integers(190, 250) if is_dark else rng.integers(10, 80)), 12)
    if is_dark and rng.random() < 0.15:
        ink = (90, 230, 110)
    accent_channels = rng.permutation(
        [int(rng.integers(20, 70)), int(rng.integers(80, 150)), int(rng.integers(170, 240))]
    )
    accent = int(accent_channels[0]), int(accent_channels[1]), int(accent_channels[2])
    bar = (
        accent
        if rng.random() < 0.25
        else mixed(paper, pick(rng, ((255, 255, 255), (0, 0, 0), ink)), rng.uniform(0.06, 0.22))
    )
    return Theme(is_dark, paper, ink, bar, accent)


def _near(rng: Rng, level: int, by: int) -> Colour:
    red, green, blue = (int(np.clip(level + rng.integers(-by, by + 1), 0, 255)) for _ in range(3))
    return red, green, blue


@dataclass
class Sheet:
    """A picture that is drawn on, the characters on it that are legible in a tile, and the boxes of its parts."""

    image: Image.Image
    annotations: list[Annotation] = field(default_factory=list)
    parts: list[tuple[str, Box]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pen = ImageDraw.Draw(self.image)

    def print(self, x: float, y: float, text: str, font: ImageFont.FreeTypeFont, ink: Colour) -> bool | None:
        """Print a line with its top left corner at (x, y); whether it is legible in a tile, None if doubtful."""
        if not text:
            return True
        self.pen.text((x, y), text, fill=ink, font=font)
        length, size = font.getlength(text), font.size
        self.parts.append(("print", (x, y, x + length, y + 1.1 * size)))
        fx, fy = TILE / self.image.width, TILE / self.image.height
        is_readable = is_legible(text, length * fx, size * fy)
        if is_readable:
            self.annotations += characters(text, font, x, x + length, y + 0.62 * size, size)
        return is_readable


def line_count(rng: Rng) -> int:
    """A number of lines that is clearly one of LINE_COUNTS or about it."""
    count = pick(rng, LINE_COUNTS)
    return count + int(rng.integers(-2, 3)) if count >= 10 else count


def phrase(rng: Rng, held_out: bool, most: int) -> str:
    """Words of at most `most` characters together, at least one character."""
    text = pick(rng, words(held_out))
    while len(text) < most and rng.random() < 0.85:
        text += f" {pick(rng, words(held_out))}" if rng.random() < 0.85 else f" {rng.integers(1000)}"
    return text[: max(1, most)].strip()


# ---- windows -------------------------------------------------------------------------------------


def window(
    rng: Rng, sheet: Sheet, box: Box, colours: Theme, app: str, lines: int, held_out: bool, is_phone: bool = False
) -> tuple[str, bool | None]:
    """Draw a window of the program `app`, with `lines` lines of text; its title, and whether it is legible."""
    left, top, right, bottom = box
    sheet.pen.rectangle(box, fill=colours.paper, outline=mixed(colours.paper, colours.ink, 0.35))
    name: str = ""
    is_readable: bool | None = False
    if is_phone:
        box = _phone(rng, sheet, box, colours, held_out)
    elif rng.random() < 0.85:
        height = max(5.0, sheet.image.height * rng.uniform(0.03, 0.06))
        if rng.random() < 0.3:
            height = min(0.16 * sheet.image.height, 0.3 * (bottom - top))
        name, is_readable = _title_bar(rng, sheet, (left, top, right, top + height), colours, held_out)
        box = left, top + height, right, bottom
    APPS[app](rng, sheet, box, colours, lines, held_out)
    return name, is_readable


def _title_bar(rng: Rng, sheet: Sheet, box: Box, colours: Theme, held_out: bool) -> tuple[str, bool | None]:
    """A bar with a title and two or three small buttons at one end; its title and whether that is legible."""
    left, top, right, bottom = box
    height = bottom - top
    sheet.pen.rectangle(box, fill=colours.bar)
    ink = (250, 250, 250) if sum(colours.bar) < 380 else (20, 20, 20)
    is_mac = rng.random() < 0.4
    radius, count = 0.22 * height, int(rng.integers(2, 4))
    lights = ((255, 95, 87), (254, 188, 46), (40, 200, 64))
    for index in range(count):
        x, y = (left if is_mac else right) + (1 if is_mac else -1) * (index + 0.7) * 3.2 * radius, (top + bottom) / 2
        if is_mac:
            sheet.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=lights[index])
        elif index == 0:
            sheet.pen.line((x - radius, y - radius, x + radius, y + radius), fill=ink)
            sheet.pen.line((x - radius, y + radius, x + radius, y - radius), fill=ink)
        else:
            sheet.pen.rectangle((x - radius, y - radius * (index == 1), x + radius, y + radius), outline=ink)
    room = right - left - count * 3.2 * radius - height
    font = load_font(pick(rng, fonts(held_out)), max(4, round(0.72 * height)))
    text = phrase(rng, held_out, 12)
    if font.getlength(text) > room:
        return "", False
    x = left + (count * 3.2 * radius + 0.5 * height if is_mac else 0.4 * height)
    return text, sheet.print(x, top + 0.08 * height, text, font, ink)


def _lines(
    rng: Rng, sheet: Sheet, box: Box, inks: list[Colour], count: int, held_out: bool, indent: float = 0.0
) -> None:
    """Print `count` lines of text from the top of the box down, small enough to fit."""
    left, top, right, bottom = box
    if not count:
        return
    pitch = min((bottom - top) / count, sheet.image.height * rng.uniform(0.03, 0.07))
    size = max(2, int(pitch * rng.uniform(0.62, 0.8)))
    font = load_font(pick(rng, fonts(held_out)), size)
    depth = 0
    for index in range(count):
        depth = max(0, min(4, depth + int(rng.integers(-1, 2)))) if indent else 0
        x = left + depth * indent * size
        most = int((right - x) / (0.6 * size) * rng.uniform(0.35, 0.95))
        if most > 0:
            sheet.print(x, top + index * pitch, phrase(rng, held_out, most), font, pick(rng, inks))


def _terminal(rng: Rng, sheet: Sheet, box: Box, colours: Theme, lines: int, held_out: bool) -> None:
    left, top, right, bottom = box
    inks = [colours.ink] * 4 + ([colours.accent] if rng.random() < 0.4 and not colours.is_dark else [])
    _lines(rng, sheet, (left + 3, top + 2, right - 3, bottom - 2), inks, lines, held_out)


def _editor(rng: Rng, sheet: Sheet, box: Box, colours: Theme, lines: int, held_out: bool) -> None:
    """A program's text in several colours, with a bar at the side and perhaps one below."""
    left, top, right, bottom = box
    side = (right - left) * rng.uniform(0.04, 0.22)
    sheet.pen.rectangle((left, top, left + side, bottom), fill=mixed(colours.paper, colours.ink, 0.1))
    if rng.random() < 0.6:
        sheet.pen.rectangle((left, bottom - 0.04 * (bottom - top), right, bottom), fill=colours.accent)
        bottom -= 0.05 * (bottom - top)
    inks = [mixed(colours.ink, tint, 0.45) for tint in ((240, 90, 90), (90, 200, 90), (90, 130, 240), (220, 170, 60))]
    _lines(rng, sheet, (left + side + 3, top + 2, right - 3, bottom - 2), [colours.ink, *inks], lines, held_out, 1.6)


def _browser(rng: Rng, sheet: Sheet, box: Box, colours: Theme, lines: int, held_out: bool) -> None:
    """An address bar, then text, perhaps beside pictures."""
    left, top, right, bottom = box
    height = max(5.0, 0.05 * sheet.image.height)
    sheet.pen.rectangle((left, top, right, top + height), fill=mixed(colours.bar, colours.paper, 0.5))
    field_box = left + 3 * height, top + 0.15 * height, right - 2 * height, top + 0.85 * height
    sheet.pen.rounded_rectangle(field_box, 0.35 * height, fill=colours.paper, outline=colours.faint)
    for index in range(2):
        x, y = left + (0.8 + 1.1 * index) * height, top + height / 2
        sheet.pen.polygon((x - 3, y, x + 2, y - 3, x + 2, y + 3), fill=colours.ink)
    top += 1.4 * height
    edge = (right - left) * rng.uniform(0.03, 0.2)
    if rng.random() < 0.5:
        height = (bottom - top) * rng.uniform(0.1, 0.25)
        sheet.pen.rectangle(
            (left + edge, top, right - edge, top + height), fill=mixed(colours.accent, colours.paper, 0.3)
        )
        top += 1.1 * height
    _lines(rng, sheet, (left + edge, top, right - edge, bottom - 3), [colours.ink], lines, held_out)


def _table(rng: Rng, sheet: Sheet, box: Box, colours: Theme, lines: int, held_out: bool) -> None:
    """A grid with numbers in a part of its fields."""
    left, top, right, bottom = box
    columns, rows = int(rng.integers(4, 12)), int(rng.integers(6, 26))
    width, height = (right - left) / columns, (bottom - top) / rows
    sheet.pen.rectangle((left, top, right, top + height), fill=mixed(colours.paper, colours.ink, 0.12))
    sheet.pen.rectangle((left, top, left + 0.5 * width, bottom), fill=mixed(colours.paper, colours.ink, 0.12))
    for column in range(columns):
        sheet.pen.line((left + (column + 0.5) * width, top, left + (column + 0.5) * width, bottom), fill=colours.faint)
    for row in range(rows):
        sheet.pen.line((left, top + row * height, right, top + row * height), fill=colours.faint)
    font = load_font(pick(rng, fonts(held_out)), max(3, int(min(0.7 * height, width / 3))))
    used_rows, used_columns = int(rng.integers(2, rows)), int(rng.integers(1, columns))
    for row in range(1, used_rows):
        for column in range(used_columns):
            place = left + (column + 0.6) * width, top + row * height + 1
            sheet.pen.text(place, str(rng.integers(10, 10**4)), fill=colours.ink, font=font)
    sheet.parts.append(
        ("print", (left + width / 2, top + height, left + (used_columns + 0.4) * width, top + used_rows * height))
    )


def _chat(rng: Rng, sheet: Sheet, box: Box, colours: Theme, lines: int, held_out: bool) -> None:
    """Messages in bubbles at the left and the right."""
    left, top, right, bottom = box
    height = max(8.0, sheet.image.height * rng.uniform(0.06, 0.11))
    font = load_font(pick(rng, fonts(held_out)), max(3, int(0.5 * height)))
    y = top + 0.3 * height
    while y + height < bottom:
        width = (right - left) * rng.uniform(0.25, 0.65)
        is_own = rng.random() < 0.5
        x = right - width - 4 if is_own else left + 4
        fill = colours.accent if is_own else mixed(colours.paper, colours.ink, 0.14)
        sheet.pen.rounded_rectangle((x, y, x + width, y + height), 0.35 * height, fill=fill)
        ink = (250, 250, 250) if is_own else colours.ink
        sheet.print(
            x + 0.4 * height, y + 0.2 * height, phrase(rng, held_out, int(width / (0.34 * height)) - 2), font, ink
        )
        y += 1.25 * height


def _folder(rng: Rng, sheet: Sheet, box: Box, colours: Theme, lines: int, held_out: bool) -> None:
    """Icons in rows, each with a name."""
    left, top, right, bottom = box
    step = sheet.image.height * rng.uniform(0.14, 0.26)
    font = load_font(pick(rng, fonts(held_out)), max(3, int(0.16 * step)))
    fill = pick(rng, (colours.accent, (240, 190, 80), (90, 160, 230)))
    for y in np.arange(top + 0.15 * step, bottom - step, step):
        for x in np.arange(left + 0.2 * step, right - 0.8 * step, step):
            if rng.random() < 0.92:
                sheet.pen.rectangle((x, y + 0.1 * step, x + 0.3 * step, y + 0.2 * step), fill=fill)
                sheet.pen.rectangle((x, y + 0.16 * step, x + 0.6 * step, y + 0.6 * step), fill=fill)
                sheet.parts.append(("icon", (x, y, x + 0.6 * step, y + 0.6 * step)))
                sheet.print(x, y + 0.66 * step, phrase(rng, held_out, 7)[:7], font, colours.ink)


def _settings(rng: Rng, sheet: Sheet, box: Box, colours: Theme, lines: int, held_out: bool) -> None:
    """Rows with a name and a switch each."""
    left, top, right, bottom = box
    height = sheet.image.height * rng.uniform(0.07, 0.13)
    font = load_font(pick(rng, fonts(held_out)), max(3, int(0.45 * height)))
    for y in np.arange(top + 0.3 * height, bottom - height, height):
        sheet.print(left + 0.4 * height, y, phrase(rng, held_out, 12), font, colours.ink)
        is_on = rng.random() < 0.5
        x = right - 1.2 * height
        sheet.pen.rounded_rectangle((x, y, x + 0.9 * height, y + 0.45 * height), 0.22 * height,
                                    fill=colours.accent if is_on else colours.faint)  # fmt: skip
        start = x + 0.45 * height * is_on
        sheet.pen.ellipse((start, y, start + 0.45 * height, y + 0.45 * height), fill=(250, 250, 250))
        sheet.pen.line((left, y + 0.72 * height, right, y + 0.72 * height), fill=colours.faint)


def _phone(rng: Rng, sheet: Sheet, box: Box, colours: Theme, held_out: bool) -> Box:
    """Draw a bar with the time and perhaps a row of icons below; the box that is left."""
    left, top, right, bottom = box
    height = 0.035 * (bottom - top)
    font = load_font(pick(rng, fonts(held_out)), max(4, int(0.8 * height)))
    sheet.print(left + 4, top + 1, f"{rng.integers(24)}:{rng.integers(60):02d}", font, colours.ink)
    sheet.pen.rectangle((right - 2 * height, top + 2, right - 0.6 * height, top + height), outline=colours.ink)
    if rng.random() < 0.6:
        bar = 2.4 * height
        sheet.pen.rectangle((left, bottom - bar, right, bottom), fill=mixed(colours.paper, colours.ink, 0.08))
        for x in np.linspace(left + bar, right - bar, 4):
            icon = x - 0.25 * bar, bottom - 0.75 * bar, x + 0.25 * bar, bottom - 0.25 * bar
            sheet.pen.ellipse(icon, fill=colours.accent)
        bottom -= bar
    return left, top + 1.8 * height, right, bottom


App = Callable[[Rng, Sheet, Box, Theme, int, bool], None]
APPS: dict[str, App] = {
    "terminal": _terminal, "editor": _editor, "browser": _browser, "table": _table, "chat": _chat, "folder": _folder,
    "settings": _settings,
}  # fmt: skip
WITH_LINES = ("terminal", "editor", "browser")  # programs whose lines of text are counted
