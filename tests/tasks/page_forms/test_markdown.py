"""tasks/page_forms/markdown.py, as a parser of Markdown reads it."""

from collections.abc import Iterator, Sequence

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from smolcli.tasks.page_forms.markdown import escaped_line, markdown, markdown_tables
from tests.tasks.page_forms.pages import WORDS, page, printed_words, random_page, region, table, without_lists

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
CODE = ["def area(r):", "    if r < 0:", "        return None", "    return PI * r ** 2", "", "print(area(2))"]


def shown(tokens: Sequence[Token]) -> Iterator[str]:
    """The text that a reader sees."""
    for token in tokens:
        if token.type in ("softbreak", "hardbreak"):
            yield "\n"
        elif token.children:
            yield from shown(token.children)
            yield "\n"
        elif token.type in ("text", "fence", "text_special", "code_inline"):
            yield token.content
        else:
            assert not token.type.startswith(("html", "image", "code")), token


def words(text: str) -> list[str]:
    return "".join(shown(PARSER.parse(text))).split()


def outline(text: str) -> list[str]:
    return [token.tag + ("" if token.nesting else "/") for token in PARSER.parse(text) if token.nesting >= 0]


@pytest.mark.parametrize("seed", range(60))
def test_every_word_is_shown_once_and_in_order(seed: int) -> None:
    document = [without_lists(random_page(seed, 1)), without_lists(random_page(seed + 1000, 2))]
    assert words(markdown(document)) == printed_words(document)


@pytest.mark.parametrize(
    "text",
    [
        *WORDS,
        *(f"{word} text" for word in WORDS),
        *(
            "## two",
            "#hash",
            "- item",
            "+ item",
            "* item",
            "12. item",
            "1) item",
            "1.5 kg",
            "> quote",
            "---",
            "===",
            "-",
        ),
        *(
            "- - -",
            "=",
            ":--",
            "| a | b |",
            "--- | ---",
            "~~~",
            "```",
            "<br>",
            "&copy;",
            "[a]: b",
            "![x](y)",
            "\\",
            "a\\",
        ),
        *("    code", "*", "**", "a*b*c", "snake_case", "_a_", "<http://a.b>", "x  ", "#", "# #", "1986. A year"),
    ],
)
@pytest.mark.parametrize("before", ["", "A line above"])
def test_a_line_is_shown_as_it_is(text: str, before: str) -> None:
    lines = f"{before}\n{escaped_line(text)}" if before else escaped_line(text)
    assert outline(lines) == ["p", "/"]
    assert words(lines) == [*before.split(), *text.split()]


def test_headings() -> None:
    document = [
        page(
            region(["A #1 title", "of two lines #"], kind="heading", level=1),
            region(["Part"], top=300, kind="heading", level=3),
            region(["Any"], top=400, kind="heading"),
            region(["Deep"], top=500, kind="heading", level=9),
        )
    ]
    assert markdown(document) == "# A #1 title of two lines \\#\n\n### Part\n\n# Any\n\n###### Deep"


def test_lists_are_nested_and_numbered() -> None:
    texts = [
        "\u2022 One",
        "  goes on",
        "    \u2022 Deeper",
        "      here",
        "\u2022 Two *",
        "",
        "    1. Number",
        "    2) Other",
        "(a) Letter",
    ]
    listed = markdown([page(region(texts, kind="list"))])
    assert listed.splitlines() == [
        *("- One", "  goes on", "  - Deeper", "    here", "- Two \\*", "  1. Number", "  2) Other", "- (a) Letter")
    ]
    assert outline(listed).count("ul") == 2
    flowing = markdown([page(region(texts, kind="list"))], dehyphenate=True)
    assert flowing.splitlines()[:2] == ["- One goes on", "  - Deeper here"]


def test_two_lists_are_apart() -> None:
    first, second = region(["\u2022 One"], kind="list"), region(["\u2022 Two"], top=400, kind="list")
    assert markdown([page(first, second)]) == "- One\n\n- Two"


def test_tables() -> None:
    rows: list[list[str | None]] = [["Fruit", "a|b"], ["Both", None], [None, "x"], ["<b>", ""]]
    document = [page(region(["Text"], top=10), table(rows))]
    expected = "| Fruit | a\\|b |\n| --- | --- |\n| Both |  |\n|  | x |\n| \\<b> |  |"
    assert markdown(document) == f"Text\n\n{expected}"
    assert markdown_tables(document) == expected
    assert outline(expected).count("td") == 6
    assert markdown_tables([page(region(["Text"]))]) == ""


def test_code_is_kept() -> None:
    document = [page(region(["Some text."], top=10), region(CODE))]
    expected = "\n".join(CODE)
    assert markdown(document) == f"Some text.\n\n```\n{expected}\n```"
    assert markdown(document, dehyphenate=True) == markdown(document)
    ticks = page(region(["a = `x`;", "b = ```y```;", "c(d);"]))
    assert markdown([ticks]).startswith("````\n")


@pytest.mark.parametrize(
    "texts",
    [
        ["(a) the first of these conditions;", "(b) any other of these;", "(c) none;"],
        ["Dear Sir,", "thank you for your letter (of May 1)", "and for the pictures (see page 3)."],
        ["Total = 3", "A plain line of prose", "Another plain line of prose"],
        ["for the sake of argument we", "return to the question, which", "if true would end it"],
    ],
)
def test_prose_is_no_code(texts: list[str]) -> None:
    assert "```" not in markdown([page(region(texts))])


def test_a_paragraph_goes_on_over_pages() -> None:
    first = page(region(["It goes on the next pa-"]), region(["12"], top=3400, kind="footer"))
    second = page(region(["A header"], top=10, kind="header"), region(["ge of the book."]), number=2)
    assert markdown([first, second], dehyphenate=True) == "It goes on the next page of the book.\n\n12\n\nA header"
    assert words(markdown([first, second])) == printed_words([first, second])
