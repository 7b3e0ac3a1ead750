"""Layouts of pages.py --hard: what is known to break the finding of lines, on pages as they are printed.

A photograph with a caption between three columns and a capital of three lines; underlines, notes in small print below a
short rule and a lone page number; white print on black beside the largest and the smallest print; lines so tight that
they touch; a photocopy with black edges, punch holes and specks.
"""

from __future__ import annotations

import random

from page_column import Column, page_column
from page_sheet import Print, Sheet, wrapped
from page_text import Writer
from PIL import Image, ImageFilter


def magazine(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A title, and three columns; the second and third begin below a photograph with a caption."""
    page, body = page_column(sheet), sheet.print()
    page.text(writer.heading(), sheet.print(2.2, bold=True), "heading")
    page.skip(1.5)
    gutter = 2.2 * sheet.x_height
    width = (page.width - 2 * gutter) / 3
    bottom = page.y + rng.uniform(0.7, 1.0) * (page.bottom - page.y)
    lefts = [page.left + number * (width + gutter) for number in range(3)]
    first = Column(sheet, lefts[0], lefts[0] + width, page.y, bottom)
    rest = _drop_capital(first, writer.paragraph(5, 6), 3)
    rest = _fill(first, writer, rest)
    top = page.y + body.pitch / 2
    photo_height = round(0.4 * (bottom - page.y))
    _photograph(sheet, (round(lefts[1]), round(top), round(page.right), round(top + photo_height)), rng)
    caption = Column(sheet, lefts[1], page.right, top + photo_height, bottom)
    caption.text(writer.sentence(), sheet.print(0.85), "note")
    for left in lefts[1:]:
        column = Column(sheet, left, left + width, caption.y + 1.5 * sheet.x_height, bottom)
        rest = _fill(column, writer, rest)


def _fill(column: Column, writer: Writer, rest: str) -> str:
    """Fill the column with `rest` and new paragraphs, and return what is left of the last."""
    body = column.sheet.print()
    while column.lines_left(body) > 1:
        rest = column.text(rest or writer.paragraph(), body, justified=True, hyphenate=True)
    return rest


def _drop_capital(column: Column, text: str, depth: int) -> str:
    """Print a paragraph whose first letter is `depth` lines high; returns what had no room beside it."""
    sheet, body = column.sheet, column.sheet.print()
    letter = sheet.print((depth - 1) * body.pitch / sheet.x_height * 0.62)
    if not text[0].isalpha():
        text = text[1:]
    sheet.begin("text")
    baseline = round(column.y + depth * body.pitch - 0.3 * body.em)
    left, _, right, _ = letter.font.getbbox(text[0], anchor="ls")
    sheet.draw.text((column.left, baseline), text[0], sheet.ink, letter.font, anchor="ls")
    indent = right + 0.6 * sheet.x_height
    lines = wrapped(text[1:], body, column.width - indent)
    for number, line in enumerate(lines[:depth]):
        column.line(line, body, indent=indent)
        if number == 0:  # the capital is the beginning of the first word
            printed = sheet.lines[-1]
            start, (word, box) = round(column.left + left), printed.words[0]
            if text[1] == " ":
                printed.text = f"{text[0]} {printed.text}"
                printed.words.insert(0, (text[0], (start, box[1], round(column.left + right), box[3])))
            else:
                printed.text = text[0] + printed.text
                printed.words[0] = (text[0] + word, (start, *box[1:]))
            printed.box = (start, *printed.box[1:])
    return " ".join(lines[depth:])


def _photograph(sheet: Sheet, box: tuple[int, int, int, int], rng: random.Random) -> None:
    """A blurred picture of grey levels with some hard edges, as a halftone print is after scanning."""
    width, height = box[2] - box[0], box[3] - box[1]
    coarse = Image.frombytes("L", (12, 8), bytes(rng.randint(20, 235) for _ in range(96)))
    photo = coarse.resize((width, height), Image.Resampling.BICUBIC)
    fine = Image.frombytes("L", (width // 2, height // 2), rng.randbytes((width // 2) * (height // 2)))
    grain = fine.resize((width, height)).filter(ImageFilter.GaussianBlur(0.8))
    sheet.image.paste(Image.blend(photo, grain, 0.25).convert("RGB"), box[:2])
    for _ in range(6):
        x, y = rng.randint(box[0], box[2] - 30), rng.randint(box[1], box[3] - 30)
        sheet.draw.ellipse((x, y, x + rng.randint(8, 28), y + rng.randint(8, 28)), (rng.randint(0, 255),) * 3)


def notes(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """Prose with underlined headings, two notes below a short rule, and a lone page number."""
    column, body, small = page_column(sheet), sheet.print(), sheet.print(max(0.75, 8 / sheet.x_height))
    foot = Column(sheet, column.left, column.right, column.bottom - 6 * small.pitch, column.bottom)
    column.bottom = foot.y - body.pitch
    while column.lines_left(body) > 4:
        _underlined(column, writer.heading(), body)
        column.skip(0.8)
        column.text(writer.paragraph(3, 5), body, indent=2 * sheet.x_height, justified=True)
        column.skip(1.2)
    sheet.rule(foot.left, foot.y, foot.left + 0.25 * foot.width, foot.y)
    for number in (1, 2):
        foot.text(f"{number} {writer.sentence()}", small, "note")
    sheet.begin("footer")
    sheet.line(str(rng.randint(1, 9)), sheet.width / 2, sheet.height - 0.35 * sheet.margin, body, "center")


def _underlined(column: Column, text: str, style: Print) -> None:
    """A heading with a line just below its baseline, which cuts the descenders."""
    column.text(text, style, "heading")
    box, baseline = column.sheet.lines[-1].box, column.y - 0.3 * style.em
    y = baseline + 0.18 * column.sheet.x_height + 1
    column.sheet.rule(box[0], y, box[2], y)


def notice(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """White print on a black bar, print four times as large as the text, and a paragraph of half its size."""
    column, body = page_column(sheet), sheet.print()
    white = sheet.print(1.3, bold=True, ink=sheet.paper)
    bar = 2.2 * white.pitch
    sheet.draw.rectangle((column.left, column.y, column.right, column.y + bar), sheet.ink)
    sheet.begin("heading")
    heading = writer.heading()
    sheet.line(heading, (column.left + column.right) / 2, column.y + 1.4 * white.pitch, white, "center")
    column.y += bar + body.pitch
    column.text(
        rng.choice(("SALE", "CLOSED", "No. 17", "OPEN DAY")), sheet.print(4, bold=True), "heading", align="center"
    )
    column.skip(2)
    column.text(writer.paragraph(3, 4), body)
    column.skip(2)
    column.text(f"{rng.randint(8, 11)}:00 - {rng.randint(14, 19)}:30", sheet.print(2.5), align="center")
    column.skip(2)
    column.text(writer.paragraph(3, 5), sheet.print(max(0.5, 8 / sheet.x_height)), "note")


def tight(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """Prose set so tight that descenders meet the ascenders below, down to the last line of the page."""
    sheet.leading = 0.8
    column = page_column(sheet)
    body = sheet.print()
    while column.lines_left(body) > 2:
        column.text(writer.paragraph(4, 7), body, indent=2 * sheet.x_height, justified=True)


def photocopy(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """Prose on a copy with black edges of two sides, punch holes, specks and a faint fold."""
    column = page_column(sheet)
    column.left += sheet.margin
    column.bottom -= rng.uniform(0.0, 0.4) * column.bottom
    while column.lines_left(sheet.print()) > 2:
        column.text(writer.paragraph(3, 6), sheet.print())
        column.skip(1)
    width, height, edge = sheet.width, sheet.height, sheet.margin // 3
    slant = rng.randint(0, edge)
    sheet.draw.polygon(((0, 0), (edge + slant, 0), (edge // 2, height), (0, height)), (8, 8, 8))
    sheet.draw.polygon(((0, height), (0, height - edge), (width, height - edge // 2), (width, height)), (8, 8, 8))
    for y in (0.3, 0.7):
        radius, x = sheet.margin // 5, round(0.95 * sheet.margin)
        middle = round(y * height)
        sheet.draw.ellipse((x - radius, middle - radius, x + radius, middle + radius), (20, 20, 20))
    for _ in range(150):
        x, y = rng.randint(0, width), rng.randint(0, height)
        sheet.draw.rectangle((x, y, x + rng.randint(0, 2), y + rng.randint(0, 2)), (60, 60, 60))
    sheet.rule(0, height / 2, width, height / 2 + rng.uniform(-3, 3), thickness=1, ink=(190, 190, 190))


HARD_LAYOUTS = {
    "magazine": magazine,
    "notes": notes,
    "notice": notice,
    "tight": tight,
    "photocopy": photocopy,
}
