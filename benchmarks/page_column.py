"""A column of a drawn page, which layouts fill from the top."""

from __future__ import annotations

from dataclasses import dataclass

from page_sheet import Align, Print, Sheet, wrapped


@dataclass
class Column:
    """A column of the page that is filled from the top; `y` is the lower edge of what is printed."""

    sheet: Sheet
    left: float
    right: float
    y: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    def lines_left(self, style: Print) -> int:
        return int((self.bottom - self.y) / style.pitch)

    def skip(self, x_heights: float) -> None:
        self.y += x_heights * self.sheet.x_height

    def line(self, text: str, style: Print, align: Align = "left", indent: float = 0, justify: float = 0) -> None:
        """Print a line below what is there."""
        self.y += style.pitch
        x = {"left": self.left + indent, "right": self.right, "center": (self.left + self.right) / 2}[align]
        self.sheet.line(text, x, self.y - 0.3 * style.em, style, align, justify)

    def text(
        self,
        text: str,
        style: Print,
        kind: str = "text",
        *,
        indent: float = 0,
        justified: bool = False,
        align: Align = "left",
        hyphenate: bool = False,
        hanging: float = 0,
    ) -> str:
        """Print a region and return what had no room. `hanging` indents the lines after the first."""  # fmt: skip
        lines = wrapped(text, style, self.width - hanging, indent - hanging, hyphenate)
        room = self.lines_left(style)
        if room <= 0 or not lines:
            return text
        self.sheet.begin(kind)
        for number, line in enumerate(lines[:room]):
            offset = indent if number == 0 else hanging
            is_full = justified and number < len(lines) - 1 and len(line.split()) > 3
            self.line(line, style, align, offset, self.width - offset if is_full else 0)
        rest = lines[room:]
        return " ".join(rest)


def page_column(sheet: Sheet) -> Column:
    return Column(sheet, sheet.margin, sheet.width - sheet.margin, 0.8 * sheet.margin, sheet.height - sheet.margin)
