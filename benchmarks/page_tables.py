"""The layouts of pages.py that have cells: tables, forms, receipts. Cells are printed row by row."""

from __future__ import annotations

import random
from collections.abc import Sequence

from page_column import Column, page_column
from page_sheet import Print, Sheet, wrapped
from page_text import FOODS, Writer


def table_ruled(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A caption, a table with rules, whose long cells have two lines on some pages, and a paragraph."""
    _table_page(sheet, writer, rng, ruled=True)


def table_plain(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A caption, a table without rules, and a paragraph."""
    _table_page(sheet, writer, rng, ruled=False)


def _table_page(sheet: Sheet, writer: Writer, rng: random.Random, ruled: bool) -> None:
    column, body = page_column(sheet), sheet.print()
    column.text(f"Table {rng.randint(1, 9)}. {writer.heading()}", sheet.print(1.1, bold=True), "heading")
    column.skip(1.5)
    room = column.lines_left(body)
    rows = writer.table(max(3, min(20, rng.randint(room // 4, max(4, room // 2)))))
    _table(column, rows, rng, ruled)
    column.skip(2.5)
    if column.lines_left(body) > 3:
        column.text(writer.paragraph(1, 3), body)


def _fit(rows: list[list[str]], body: Print, gap: float, width: float) -> tuple[list[list[str]], list[float]]:
    """The table without its last columns if they have no room, and the widths of the columns."""
    while True:
        widths = [max(body.width(row[c]) for row in rows) for c in range(len(rows[0]))]
        if sum(widths) + gap * len(widths) <= width or len(widths) == 2:
            return rows, widths
        rows = [row[:-1] for row in rows]


def _table(column: Column, rows: list[list[str]], rng: random.Random, ruled: bool) -> None:
    """Print a table cell by cell; numbers are aligned at the right."""
    sheet, body = column.sheet, column.sheet.print()
    head = sheet.print(1.0, bold=True)
    gap = (2.0 if ruled else 3.0) * sheet.x_height
    rows, widths = _fit(rows, head if head.em >= body.em else body, gap, column.width)
    if ruled and rng.random() < 0.5:  # a narrow column, so that its cells have two lines
        wide = max(range(len(widths)), key=lambda c: max(row[c].count(" ") for row in rows[1:]))
        longest = max((word for row in rows for word in row[wide].split()), key=head.width)
        widths[wide] = max(0.7 * widths[wide], head.width(longest), body.width(longest))
    spare = max(0.0, column.width - sum(widths) - gap * len(widths))
    gap += rng.uniform(0, 0.9) * spare / len(widths)
    edges = [column.left]
    for width in widths:
        edges.append(edges[-1] + width + gap)
    is_number = [all(row[c][:1] in "+-$0123456789" for row in rows[1:]) for c in range(len(widths))]
    style_of_rules = rng.choice(("grid", "grid", "lines")) if ruled else ""
    padding = 0.5 * sheet.x_height if ruled else rng.uniform(0, 0.4) * sheet.x_height
    sheet.begin("table")
    top = column.y
    tops = [top]
    for number, row in enumerate(rows):
        style = head if number == 0 else body
        cells = [wrapped(cell, style, widths[c] + 1) for c, cell in enumerate(row)]
        height = max(map(len, cells)) * style.pitch + 2 * padding
        if top + height > column.bottom:
            break
        for c, lines in enumerate(cells):
            x = edges[c + 1] - gap / 2 if is_number[c] else edges[c] + gap / 2
            for k, line in enumerate(lines, 1):
                baseline = top + padding + k * style.pitch - 0.3 * style.em
                sheet.line(line, x, baseline, style, "right" if is_number[c] else "left", row=number, column=c)
        top += height
        tops.append(top)
    _rules(sheet, edges, tops, style_of_rules)
    column.y = top


def _rules(sheet: Sheet, edges: Sequence[float], tops: Sequence[float], style: str) -> None:
    """All rules of a table ("grid"), or those under its rows ("lines")."""
    if style:
        for y in tops:
            sheet.rule(edges[0], y, edges[-1], y)
    if style == "grid":
        for x in edges:
            sheet.rule(x, tops[0], x, tops[-1])


def form(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A form: frames with a small label above what is filled in, or labels beside frames; and boxes to tick."""
    column, body = page_column(sheet), sheet.print()
    column.text(
        rng.choice(("Application for membership", "Change of address", "Claim form")), sheet.print(1.6, True), "heading"
    )
    column.skip(1)
    column.text(writer.sentence(), body)
    column.skip(1.5)
    per_row = 2 if column.width > 55 * sheet.x_height else 1
    room = int((column.bottom - column.y) / (3.2 * body.pitch)) - 2
    fields = writer.form_fields(max(2, min(16, room * per_row)))
    sheet.begin("table")
    place = _field_labelled_above if rng.random() < 0.5 else _field_beside
    for number, (label, value) in enumerate(fields):
        row, side = divmod(number, per_row)
        width = column.width / per_row
        place(column, column.left + side * width, width, row, side, label, value)
        if side == per_row - 1 or number == len(fields) - 1:
            column.y += (2.6 if place is _field_labelled_above else 1.9) * body.pitch
    column.skip(1.5)
    for text in rng.sample(("I agree to the rules", "Send me the yearly report", "I am over 18 years old"), 2):
        if column.lines_left(body) > 1:
            _tick_box(column, text, rng.random() < 0.5)


def _field_labelled_above(
    column: Column, left: float, width: float, row: int, side: int, label: str, value: str
) -> None:
    sheet, body = column.sheet, column.sheet.print()
    small = sheet.print(max(0.75, 9 / sheet.x_height))
    sheet.frame(left, column.y, left + width, column.y + 2.6 * body.pitch)
    x = left + 0.7 * sheet.x_height
    sheet.line(label, x, column.y + 0.9 * small.em, small, row=row, column=2 * side)
    if value and body.width(value) < width - 2 * sheet.x_height:
        sheet.line(value, x, column.y + 2.2 * body.pitch, body, row=row, column=2 * side + 1)


def _field_beside(column: Column, left: float, width: float, row: int, side: int, label: str, value: str) -> None:
    sheet, body = column.sheet, column.sheet.print()
    baseline = column.y + 1.15 * body.pitch
    sheet.line(label, left, baseline, body, row=row, column=2 * side)
    edge = left + max(0.45 * width, body.width(label) + sheet.x_height)
    sheet.frame(edge, column.y + 0.1 * body.pitch, left + width - sheet.x_height, column.y + 1.6 * body.pitch)
    if value and body.width(value) < left + width - edge - 3 * sheet.x_height:
        sheet.line(value, edge + sheet.x_height, baseline, body, row=row, column=2 * side + 1)


def _tick_box(column: Column, text: str, is_ticked: bool) -> None:
    """A square, crossed or not, and what it stands for."""
    sheet, body = column.sheet, column.sheet.print()
    sheet.begin("list")
    column.line(text, body, indent=2.5 * sheet.x_height)
    side, bottom = 1.3 * sheet.x_height, column.y - 0.25 * body.em
    left, top = round(column.left), round(bottom - side)
    sheet.frame(left, top, left + side, bottom)
    if is_ticked:
        sheet.draw.line((left, top, left + side, bottom), sheet.ink, 2)
        sheet.draw.line((left, bottom, left + side, top), sheet.ink, 2)


def receipt(sheet: Sheet, writer: Writer, rng: random.Random) -> None:
    """A till receipt: the shop's name and address, goods and sums with prices at the right, and thanks."""
    column, body = page_column(sheet), sheet.print()
    name, street, town = writer.address()
    column.text(f"{name.split()[1].upper()} STORES", sheet.print(1.3, bold=True), "heading", align="center")
    sheet.begin("text")
    for text in (street, town, f"Tel. {rng.randint(100, 999)} {rng.randint(1000, 9999)}"):
        column.line(text, body, "center")
    column.skip(1)
    sheet.begin("text")
    column.line(f"{writer.date()} {rng.randint(8, 20):02}:{rng.randint(0, 59):02}", body)
    count = max(3, min(len(FOODS), rng.randint(4, 14), column.lines_left(body) - 11))
    for rows in writer.receipt_rows(count):
        column.skip(0.7)
        sheet.rule(column.left, column.y, column.right, column.y, dash=sheet.x_height // 2)
        sheet.begin("table")
        for number, (label, price) in enumerate(rows):
            column.y += body.pitch
            style = sheet.print(1.0, bold=label == "TOTAL")
            sheet.line(label, column.left, column.y - 0.3 * body.em, style, row=number, column=0)
            sheet.line(price, column.right, column.y - 0.3 * body.em, style, "right", row=number, column=1)
    column.skip(1.5)
    sheet.begin("footer")
    column.line("Thank you for your visit!", body, "center")
