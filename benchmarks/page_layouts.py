"""The layouts of pages.py: each prints made-up text on a sheet, in the order in which a person reads it aloud.

A region is a paragraph, a heading, a list, a table, a form. What is drawn but is no text
(rules, frames, leaders of dots, boxes to tick) is in no line.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from page_column import Column, page_column
from page_sheet import Align, Sheet
from page_tables import form, receipt, table_plain, table_ruled
from page_text import FOODS, Writer


def _page_number(sheet: Sheet, rng: random.Random) -> None:
    """A page number in the bottom margin, the last line of the page."""
    sheet.begin("footer")
    number = str(rng.randint(2, 480))
    text = rng.choice((number, f"- {number} -", f"Page {number}"))
    sheet.line(text, sheet.width / 2, sheet.height - 0.35 * sheet.margin, sheet.print(0.9), "center")


def _running_head(sheet: Sheet, writer: Writer) -> None:
    sheet.begin("header")
    sheet.line(writer.heading(), sheet.width / 2, 0.6 * sheet.margin, sheet.print(0.85), "center")


def _fill(column: Column, writer: Writer, rng: random.Random, share: float = 1.0, indented: bool = True) -> None:
    """Fill the column with paragraphs down to `share` of its height."""
    body, justified = column.sheet.print(), rng.random() < 0.5
    column.bottom = column.y + share * (column.bottom - column.y)
    indent = 2.5 * column.sheet.x_height if indented else 0.0
    while column.lines_left(body) > 2:
        column.text(writer.paragraph(), body, indent=indent, justified=justified)
        column.skip(0 if indented else 1.2)


def prose(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """One column of paragraphs, indented or set apart, with a running head or a page number."""
    column = page_column(sheet)
    if rng.random() < 0.4:
        _running_head(sheet, writer)
        column.y = sheet.margin
    _fill(column, writer, rng, rng.uniform(0.4, 1.0), indented=rng.random() < 0.5)
    if rng.random() < 0.6:
        _page_number(sheet, rng)


def headings(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A title and sections with headings, some numbered."""
    column, body = page_column(sheet), sheet.print()
    title, section = sheet.print(1.8, bold=True), sheet.print(1.25, bold=True)
    column.text(writer.heading(), title, "heading", align=rng.choice(("left", "center")))
    number, is_numbered, justified = 1, rng.random() < 0.5, rng.random() < 0.5
    column.bottom -= rng.uniform(0, 0.4) * column.bottom
    while column.lines_left(body) > 5:
        column.skip(1.5)
        heading = writer.heading()
        column.text(f"{number}. {heading}" if is_numbered else heading, section, "heading")
        column.skip(0.5)
        for _ in range(rng.randint(1, 2)):
            column.text(writer.paragraph(2, 4), body, justified=justified)
            column.skip(1)
        number += 1


def two_columns(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A title over the whole width, then two columns; words are broken at the ends of lines on half the pages."""
    page, body = page_column(sheet), sheet.print()
    page.text(writer.heading(), sheet.print(1.7, bold=True), "heading", align="center")
    page.text(f"{writer.name()} and {writer.name()}", sheet.print(1.1), align="center")
    page.skip(2)
    hyphenate, justified = rng.random() < 0.5, rng.random() < 0.7
    gutter = rng.uniform(2.0, 4.0) * sheet.x_height
    middle = (page.left + page.right) / 2
    bottom = page.y + rng.uniform(0.5, 1.0) * (page.bottom - page.y)
    columns = (
        Column(sheet, page.left, middle - gutter / 2, page.y, bottom),
        Column(sheet, middle + gutter / 2, page.right, page.y, bottom),
    )
    if rng.random() < 0.25:
        sheet.rule(middle, page.y + body.em / 2, middle, bottom)
    rest = ""
    for column in columns:
        while column.lines_left(body) > 1:
            if not rest and rng.random() < 0.15 and column.lines_left(body) > 6:
                column.skip(1)
                column.text(writer.heading(), sheet.print(1.1, bold=True), "heading")
            indent = 0 if rest else 2 * sheet.x_height
            rest = column.text(
                rest or writer.paragraph(), body, indent=indent, justified=justified, hyphenate=hyphenate
            )
    if rng.random() < 0.6:
        _page_number(sheet, rng)


def letter(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """Sender at the right, recipient at the left, date, subject, text, and a name below."""
    column, body = page_column(sheet), sheet.print()

    def block(lines: Sequence[str], align: Align = "left", bold: bool = False) -> None:
        sheet.begin("text")
        for line in lines:
            column.line(line, sheet.print(1.0, bold), align)
        column.skip(2.5)

    sender = writer.address()
    block(sender, "right")
    block(writer.address())
    block([f"{sender[2].split()[0]}, {writer.date()}"], "right")
    block([f"Your order no. {rng.randint(1000, 99999)} of {writer.date()}"], bold=True)
    block([f"Dear {rng.choice(('Mr.', 'Mrs.', 'Dr.'))} {writer.name().split()[1]},"])
    closing_height = 8 * body.pitch
    for _ in range(rng.randint(1, 4)):
        if (column.bottom - column.y - closing_height) / body.pitch < 2:
            break
        text = column.text(writer.paragraph(2, 4), body)
        column.skip(1.5)
        if text:
            break
    block(["Yours sincerely,"])
    block([sender[0]])


def contents(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A table of contents with dots before the page numbers, or a list with numbers, dashes or bullets."""
    column, body = page_column(sheet), sheet.print()
    has_pages = rng.random() < 0.6
    column.text("Contents" if has_pages else writer.heading(), sheet.print(1.6, bold=True), "heading")
    column.skip(1.5)
    if not has_pages:
        _bullets(column, writer, rng)
        return
    sheet.begin("list")
    has_dots, page, part = rng.random() < 0.7, rng.randint(3, 9), 0
    entries = min(column.lines_left(body), rng.randint(8, 28))
    for number in range(entries):
        page += rng.randint(1, 12)
        part += number % 4 == 0
        indent = 0 if number % 4 == 0 else 2 * sheet.x_height
        label = f"{part}." if number % 4 == 0 else f"{part}.{number % 4}"
        column.y += body.pitch
        baseline = column.y - 0.3 * body.em
        title = sheet.line(f"{label} {writer.heading()}", column.left + indent, baseline, body, row=number, column=0)
        number_line = sheet.line(str(page), column.right, baseline, body, "right", row=number, column=1)
        if has_dots:
            _leader(sheet, title.box[2] + sheet.x_height, number_line.box[0] - sheet.x_height, round(baseline))


def _leader(sheet: Sheet, left: int, right: int, baseline: int) -> None:
    """A row of dots on the baseline."""
    dot = max(1, sheet.x_height // 6)
    places = range(left, right, sheet.x_height)
    for x in places:
        sheet.draw.rectangle((x, baseline - dot, x + dot - 1, baseline - 1), sheet.ink)
    if places:
        sheet.leaders.append((left, baseline - dot, places[-1] + dot, baseline))


def _bullets(column: Column, writer: Writer, rng: random.Random) -> None:
    body = column.sheet.print()
    kind, number = rng.choice(("number", "-", "-" if column.sheet.face.mono else "\u2022")), 1
    while column.lines_left(body) > 2 and number < 16:
        label = f"{number}." if kind == "number" else kind
        indent = body.width(f"{label} ")
        column.text(f"{label} {writer.sentence()}", body, "list", hanging=indent)
        column.skip(0.8)
        number += 1


def code(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A heading, a sentence, and functions of the standard library with their indentation."""
    column, body = page_column(sheet), sheet.print()
    columns = int(column.width / body.width("m"))
    column.text(f"Listing {rng.randint(1, 9)}", sheet.print(1.2, bold=True), "heading")
    column.skip(1)
    while column.lines_left(body) > 6:
        sheet.begin("text")
        previous = ""
        for line in writer.code(columns)[: column.lines_left(body)]:
            if line.strip():
                if previous == "blank":
                    sheet.begin("text")
                column.line(line, body)
                previous = "line"
            else:
                column.y += body.pitch
                previous = "blank"
        column.y += 2 * body.pitch
        if rng.random() < 0.4:
            break


def screen(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A window, light on dark: a title bar, a menu, a list at the left, a text and a button at the right."""
    body, unit = sheet.print(), sheet.x_height
    bar, menu = 2.6 * body.pitch / 1.5, 1.5 * body.pitch
    sheet.draw.rectangle((0, 0, sheet.width, bar), (70, 74, 84))
    sheet.begin("header")
    sheet.line(f"{writer.heading()} - Reader", 2 * unit, bar - 0.5 * body.em, sheet.print(1.0, bold=True))
    sheet.begin("header")
    x = 2.0 * unit
    for number, text in enumerate(("File", "Edit", "View", "Help")):
        sheet.line(text, x, bar + menu - 0.5 * body.em, body, row=0, column=number)
        x += body.width(text) + 3 * unit
    top, split = bar + menu + unit, round(0.3 * sheet.width)
    sheet.rule(split, bar + menu, split, sheet.height)
    side = Column(sheet, 2 * unit, split - unit, top, sheet.height - 2 * unit)
    entries = [name for name in rng.sample(FOODS, 12) if body.width(name) < side.width]
    sheet.begin("list")
    for text in entries[: max(1, side.lines_left(body) - 1)]:
        side.line(text, body)
    main = Column(sheet, split + 2 * unit, sheet.width - 2 * unit, top, sheet.height - 6 * unit)
    main.text(writer.heading(), sheet.print(1.4, bold=True), "heading")
    for _ in range(rng.randint(1, 3)):
        main.skip(1)
        main.text(writer.paragraph(2, 3), body)
    width, left = body.width("Continue") + 3 * unit, main.left
    if main.bottom - main.y > 0:
        sheet.draw.rectangle((left, main.y + unit, left + width, main.y + unit + 1.5 * body.pitch), (235, 235, 235))
        sheet.begin("text")
        dark = sheet.print(ink=(20, 20, 20))
        sheet.line("Continue", left + 1.5 * unit, main.y + unit + 1.05 * body.pitch, dark)


LAYOUTS: dict[str, Callable[[Sheet, Writer, random.Random], None]] = {
    "prose": prose,
    "headings": headings,
    "two-columns": two_columns,
    "letter": letter,
    "table-ruled": table_ruled,
    "table-plain": table_plain,
    "form": form,
    "contents": contents,
    "code": code,
    "receipt": receipt,
    "screen": screen,
}
