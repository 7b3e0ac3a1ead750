"""The form HTML: one document of headings, paragraphs, lists, tables with merged cells, and listings."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

from smolcli.inputs.page import Page
from smolcli.tasks.page_forms.code import code_text
from smolcli.tasks.page_forms.join import compounds, flow
from smolcli.tasks.page_forms.original import xml_text
from smolcli.tasks.page_forms.paragraphs import BETWEEN, BULLETS, MARKER, Paragraph, join_continued, paragraphs
from smolcli.tasks.page_forms.tables import Table, table_of

MAX_LEVEL = 6
TAGS = {"header": "header", "footer": "footer", "note": "aside", "code": "pre"}
DOCUMENT = """\
<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>{title}</title>
</head>
<body>
{body}
</body>
</html>
"""


def html_document(pages: Sequence[Page], source_name: str, dehyphenate: bool = False) -> str:
    """Return the pages as one document with `source_name` as its title; lines that are not joined end in a <br>."""
    known = compounds(pages) if dehyphenate else None
    parts = join_continued([part for page in pages for part in paragraphs(page)], BETWEEN if dehyphenate else ())
    blocks: list[str] = []
    for _, group in groupby(parts, key=lambda part: (part.kind, id(part.region))):
        same = list(group)
        blocks += [_list(same, known)] if same[0].kind == "list" else [_block(part, known) for part in same]
    return DOCUMENT.format(title=_escaped(source_name), body="\n".join(blocks))


def _escaped(text: str) -> str:
    return html.escape(xml_text(text), quote=False)


def _lines(part: Paragraph, known: Collection[str] | None) -> str:
    return _escaped(flow(part.lines, known)).replace("\n", "<br>\n")


def _block(part: Paragraph, known: Collection[str] | None) -> str:
    if part.kind == "table":
        return _table(table_of(part.region, known))
    tag = f"h{min(max(1, part.level), MAX_LEVEL)}" if part.kind == "heading" else TAGS.get(part.kind, "p")
    text = "\n" + _escaped(code_text(part.lines)) if part.kind == "code" else _lines(part, known)
    return f"<{tag}>{text}</{tag}>"


def _list(items: Iterable[Paragraph], known: Collection[str] | None) -> str:
    """Return the items of one list, nested by their levels; a bullet goes, any other marker stays in the text."""
    result, depth = "", -1
    for item in items:
        level = min(item.level, depth + 1)
        result += "</li>\n" if 0 <= level <= depth else ""
        result += "</ul>\n</li>\n" * (depth - level) + "<ul>\n" * (level - depth)
        text = flow(item.lines, known)
        marker = MARKER.match(text)
        if marker and marker[0] in BULLETS:
            text = text[marker.end() :].strip()
        result += "<li>" + _escaped(text).replace("\n", "<br>\n")
        depth = level
    return result + "</li>\n</ul>\n" * depth + "</li>\n</ul>"


def _table(table: Table) -> str:
    rows: list[list[str]] = [[] for _ in range(table.rows)]
    for cell in table.cells:
        tag = "th" if cell.row == 0 else "td"
        spans = "".join(
            f' {name}="{span}"'
            for name, span in (("rowspan", cell.row_span), ("colspan", cell.column_span))
            if span > 1
        )
        text = _escaped(cell.text).replace("\n", "<br>")
        rows[cell.row].append(f"<{tag}{spans}>{text}</{tag}>")
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table>\n{body}\n</table>"
