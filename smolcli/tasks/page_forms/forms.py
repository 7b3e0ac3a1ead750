"""The table of forms: what --layout can make of pages that were read. To add one: a file, and a line here.

>>> render("text", [], "scan.png")
''
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from smolcli.errors import UsageError
from smolcli.inputs.page import Page


class Form(NamedTuple):
    """A form: the function that makes it (`module:attribute`), the suffix of its files, and its line in help.

    `arguments` are those that the function takes after the pages: `source_name`, `dehyphenate`. `is_document` says that
    a file holds one: what follows it would not be valid.
    """

    target: str
    suffix: str
    about: str
    arguments: tuple[str, ...] = ("dehyphenate",)
    is_document: bool = False


PACKAGE = "smolcli.tasks.page_forms"
FORMS = {
    "text": Form(f"{PACKAGE}.text:text", ".txt", "lines as they are printed, pages with a form feed between them"),
    "markdown": Form(f"{PACKAGE}.markdown:markdown", ".md", "headings, lists, tables and listings in Markdown"),
    "tables": Form(f"{PACKAGE}.markdown:markdown_tables", ".md", "the tables alone, as Markdown or rows of -f csv"),
    "html": Form(f"{PACKAGE}.html:html_document", ".html", "one HTML document", ("source_name", "dehyphenate"), True),
    "hocr": Form(f"{PACKAGE}.hocr:hocr", ".hocr", "hOCR 1.2: words with their places", ("source_name",), True),
    "alto": Form(
        f"{PACKAGE}.alto:alto", ".xml", "ALTO 4.4: words with their places, for libraries", ("source_name",), True
    ),
    "json": Form(
        f"{PACKAGE}.page_json:json_text", ".json", "pages, regions, lines and words with their places", is_document=True
    ),
    "doctags": Form(f"{PACKAGE}.doctags_writer:doctags", ".dt", "DocTags, which docling reads", is_document=True),
}


def render(form: str, pages: Sequence[Page], source_name: str, dehyphenate: bool = False) -> str:
    """Return the pages in a form, a name of FORMS; `source_name` is the input that they are from.

    With `dehyphenate`, words that a line end divides are joined, and a paragraph is one line. Raises UsageError if
    there is no such form.
    """
    if form not in FORMS:
        raise UsageError(f"{form} is no layout of ocr", f"choose one of {', '.join(FORMS)}")
    module, attribute = FORMS[form].target.split(":")
    make: Callable[..., str] = getattr(import_module(module), attribute)
    given: dict[str, Any] = {"source_name": source_name, "dehyphenate": dehyphenate}
    return make(pages, **{name: given[name] for name in FORMS[form].arguments})
