"""Draws dialogs and error boxes with Pillow, most with print that can be read in a tile."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageFont

from smolcli.nano.fonts import fonts, load_font, words
from smolcli.nano.screen_drawing import Sheet, Theme, mixed, theme
from smolcli.nano.synthetic_images import TILE, Colour, Rng, pick

BUTTONS = tuple(  # the labels of each dialog's buttons
    tuple(row.split())
    for row in (
        "OK", "OK", "Close", "Stop", "Done", "OK Cancel", "Cancel OK", "Yes No", "No Yes", "Cancel Save", "Save Cancel",
        "Retry Quit", "Back Next", "Allow Deny", "Later Now", "Undo Redo", "Yes No Help", "Open Edit Skip",
        "Add Copy Exit", "",
    )
)  # fmt: skip
HELD_OUT_BUTTONS = tuple(
    tuple(row.split()) for row in ("Apply", "Print Close", "OK Apply", "No Later", "Yes Skip No", "Delete Keep")
)
ERROR_TITLES = ("Error", "Error", "Fatal error", "System error", "Failure")
ERROR_ENDS = ("not found", "failed", "is full", "denied", "is missing", "lost", "is invalid", "error", "crashed")
ERRORS = ("Disk full", "File not found", "Access denied", "No connection", "Out of memory", "Login failed")
TITLES = ("Save file", "Open file", "Settings", "Confirm", "Update", "Print", "Login", "Export", "Welcome", "Warning")


@dataclass
class Dialog:
    """What a drawn dialog shows; the booleans tell what is legible in a tile."""

    sheet: Sheet
    colours: Theme
    is_error: bool
    title: str
    message: list[str]
    buttons: tuple[str, ...]
    title_is_legible: bool = False
    message_is_legible: bool = False
    buttons_are_legible: bool = True
    is_doubtful: bool = False  # whether some print might be read or not


def dialog(rng: Rng, held_out: bool) -> Dialog:
    """A dialog whose print is clearly legible in a tile or clearly not."""
    return next(made for made in iter(lambda: _dialog(rng, held_out), None) if not made.is_doubtful)


def _dialog(rng: Rng, held_out: bool) -> Dialog:
    """A dialog that fills the picture, 130 to 400 pixels wide: a title, a message, and up to three buttons."""
    colours = theme(rng, held_out)
    width, height = int(TILE * rng.uniform(1, 3)), int(TILE * rng.uniform(1, 1.9))
    sheet = Sheet(Image.new("RGB", (width, height), colours.paper))
    is_error = rng.random() < 0.4
    font_size = height / TILE * (rng.uniform(11.5, 17) if rng.random() < 0.8 else rng.uniform(6, 9))
    path = pick(rng, fonts(held_out))
    buttons = pick(rng, HELD_OUT_BUTTONS if held_out else BUTTONS)
    made = Dialog(sheet, colours, is_error, _title(rng, held_out, is_error), _message(rng, held_out, is_error), buttons)
    _draw_title(rng, made, path, round(font_size))
    _draw_message(rng, made, path, round(font_size * rng.uniform(0.95, 1.15)))
    _draw_buttons(rng, made, path, round(font_size))
    if rng.random() < 0.5:
        sheet.pen.rectangle((0, 0, width - 1, height - 1), outline=mixed(colours.paper, colours.ink, 0.5))
    return made


def _title(rng: Rng, held_out: bool, is_error: bool) -> str:
    if is_error:
        return pick(rng, ERROR_TITLES) if rng.random() < 0.6 else pick(rng, words(held_out)).capitalize()
    if rng.random() < 0.12:
        return ""
    if rng.random() < 0.3 and not held_out:
        return pick(rng, TITLES)
    first = pick(rng, words(held_out)).capitalize()
    return f"{first} {pick(rng, words(held_out))}" if rng.random() < 0.3 else first


def _message(rng: Rng, held_out: bool, is_error: bool) -> list[str]:
    """One or two lines."""
    if is_error and rng.random() < 0.4 and not held_out:
        return [pick(rng, ERRORS)]
    word = pick(rng, words(held_out))
    if is_error:
        text = f"{word.capitalize()} {pick(rng, ERROR_ENDS)}"
        return [text] if len(text) < 17 else [word.capitalize(), text[len(word) + 1 :]]
    if rng.random() < 0.3:
        return []
    first = f"{pick(rng, ('Delete', 'Save', 'Open', 'Close', 'Replace', 'Keep', 'Use'))} {word}?"
    return [first] if rng.random() < 0.7 else [word.capitalize(), pick(rng, words(held_out))]


def _fitting(text: str, path: str, size: int, room: float) -> int:
    """The greatest size up to `size` at which the text is at most `room` pixels wide."""
    length = load_font(path, max(4, size)).getlength(text)
    return max(4, int(size * min(1.0, room / max(1.0, length))))


def _print(made: Dialog, x: float, y: float, text: str, font: ImageFont.FreeTypeFont, ink: Colour) -> bool:
    """Print a line; whether it is legible."""
    is_readable = made.sheet.print(x, y, text, font, ink)
    made.is_doubtful |= is_readable is None
    return bool(is_readable)


def _draw_title(rng: Rng, made: Dialog, path: str, size: int) -> None:
    """The bar at the top, with the title if there is one."""
    sheet, colours = made.sheet, made.colours
    width = sheet.image.width
    bar = colours.bar if rng.random() < 0.75 else colours.paper
    sheet.pen.rectangle((0, 0, width, 1.35 * size), fill=bar)
    if not made.title:
        return
    ink = (250, 250, 250) if sum(bar) < 380 else (20, 20, 20)
    has_cross = rng.random() < 0.4
    size = _fitting(made.title, path, size, width * (0.8 if has_cross else 0.94))
    font = load_font(path, size)
    room = width * (0.84 if has_cross else 0.97) - font.getlength(made.title)
    x = 0.03 * width + (0 if rng.random() < 0.6 else max(0.0, room) / 2)
    made.title_is_legible = _print(made, x, 0.08 * size, made.title, font, ink)
    if has_cross:
        x, y, reach = 0.94 * width, 0.65 * size, 0.3 * size
        sheet.pen.line((x - reach, y - reach, x + reach, y + reach), fill=ink, width=1 + width // 200)
        sheet.pen.line((x - reach, y + reach, x + reach, y - reach), fill=ink, width=1 + width // 200)


def _draw_message(rng: Rng, made: Dialog, path: str, size: int) -> None:
    """The lines of the message below the title, with an icon at the left or above; an error always has its icon."""
    sheet, colours = made.sheet, made.colours
    width, height = sheet.image.size
    top = height * rng.uniform(0.24, 0.34)
    left = 0.05 * width
    if made.is_error or rng.random() < 0.4:
        reach = height * rng.uniform(0.07, 0.1)
        if rng.random() < 0.5:
            x, y = left + reach, top + reach * 1.1
            left += 2.5 * reach
        else:
            x, y = width / 2, top + reach * 0.6
            top += 2.1 * reach
        _draw_icon(rng, sheet, x, y, reach, made.is_error)
    longest = max(made.message, key=lambda line: load_font(path, 20).getlength(line), default="")
    size = _fitting(longest, path, size, 0.97 * width - left)
    font = load_font(path, size)
    made.message_is_legible = bool(made.message)
    for index, line in enumerate(made.message):
        made.message_is_legible &= _print(made, left, top + 1.15 * size * index, line, font, colours.ink)


def _draw_icon(rng: Rng, sheet: Sheet, x: float, y: float, r: float, is_error: bool) -> None:
    """A red disc or octagon with a cross or a bar for an error; else a blue disc or a yellow triangle."""
    pen, white = sheet.pen, (255, 255, 255)
    stroke = max(1, round(0.22 * r))
    sheet.parts.append(("icon", (x - r, y - r, x + r, y + r)))
    if is_error:
        red = (int(rng.integers(190, 240)), int(rng.integers(20, 60)), int(rng.integers(20, 60)))
        pen.regular_polygon((x, y, r), pick(rng, (8, 24)), rotation=22, fill=red)
        reach = 0.42 * r
        pen.line((x - reach, y - reach, x + reach, y + reach), fill=white, width=stroke)
        pen.line((x - reach, y + reach, x + reach, y - reach), fill=white, width=stroke)
    elif rng.random() < 0.5:
        pen.polygon((x, y - r, x + r, y + 0.8 * r, x - r, y + 0.8 * r), fill=(245, 200, 30))
        pen.line((x, y - 0.4 * r, x, y + 0.5 * r), fill=(30, 30, 30), width=stroke)
    else:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(40, 110, 220))
        pen.line((x, y - 0.2 * r, x, y + 0.6 * r), fill=white, width=stroke)


def _draw_buttons(rng: Rng, made: Dialog, path: str, size: int) -> None:
    """The buttons in a row at the bottom, at the right or in the middle."""
    sheet, colours = made.sheet, made.colours
    width, height = sheet.image.size
    if not made.buttons:
        return
    gap = 0.03 * width
    room = (width - gap) / len(made.buttons) - gap
    size = min(_fitting(label, path, size, 0.9 * room) for label in made.buttons)
    font = load_font(path, size)
    lengths = [font.getlength(label) for label in made.buttons]
    each = min(room, max(lengths) * rng.uniform(1.15, 1.9))
    total = len(made.buttons) * (each + gap) - gap
    x = (width - total) / 2 if rng.random() < 0.5 else width - gap - total
    bottom = height * 0.96
    top = bottom - 1.45 * size
    is_filled = rng.random() < 0.5
    for index, (label, length) in enumerate(zip(made.buttons, lengths, strict=True)):
        is_chosen = is_filled and index == 0
        fill = colours.accent if is_chosen else mixed(colours.paper, colours.ink, 0.12)
        outline = mixed(colours.paper, colours.ink, 0.45)
        sheet.pen.rounded_rectangle((x, top, x + each, bottom), 0.2 * size, fill=fill, outline=outline)
        ink = (250, 250, 250) if is_chosen and sum(colours.accent) < 450 else (10, 10, 10) if is_chosen else colours.ink
        made.buttons_are_legible &= _print(made, x + (each - length) / 2, top + 0.15 * size, label, font, ink)
        sheet.parts.append(("button", (x, top, x + each, bottom)))
        x += each + gap
