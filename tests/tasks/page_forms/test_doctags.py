"""tasks/page_forms/doctags.py, otsl.py and doctags_writer.py: replies of docling's models, whole and cut."""

import random
import re

import pytest

from smolcli.inputs.page import Cell, Page
from smolcli.tasks.page_forms.doctags import pages_from_doctags
from smolcli.tasks.page_forms.doctags_writer import doctags
from smolcli.tasks.page_forms.forms import FORMS, render
from smolcli.tasks.page_forms.markdown import markdown
from smolcli.tasks.page_forms.otsl import parse_otsl
from smolcli.tasks.page_forms.tables import grid, tables_of
from smolcli.types import Box
from tests.tasks.page_forms.pages import page, printed_words, random_page, region, table, without_lists

REPLY = """<doctag><page_header><loc_115><loc_27><loc_385><loc_34>Annual report 2025</page_header>
<title><loc_57><loc_40><loc_443><loc_62>Energy use in small towns</title>
<section_header_level_1><loc_57><loc_80><loc_200><loc_90>1 Introduction</section_header_level_1>
<text><loc_57><loc_95><loc_240><loc_180>Towns of fewer than 5,000 people use 12 % of all energy.</text>
<unordered_list><list_item><loc_60><loc_185><loc_240><loc_195>Heating of homes</list_item>
<list_item><loc_60><loc_196><loc_240><loc_206>Transport</list_item>
</unordered_list>
<ordered_list><list_item><loc_60><loc_210><loc_240><loc_220>First step</list_item>
<list_item><loc_60><loc_221><loc_240><loc_230>Second step</list_item>
</ordered_list>
<otsl><loc_260><loc_95><loc_443><loc_180><ched>Sector<ched>Use<lcel><nl><ucel><ched>GWh<ched>%<nl><fcel>Homes\
<fcel>310<fcel>41<nl><fcel>Roads<ecel><fcel>22<nl><caption><loc_260><loc_85><loc_443><loc_93>Table 1</caption></otsl>
<picture><loc_260><loc_190><loc_443><loc_300><bar_chart><caption><loc_260><loc_302><loc_443><loc_310>Figure 2: Growth\
</caption></picture>
<formula><loc_57><loc_240><loc_240><loc_255>E = mc^{2}</formula>
<code><loc_57><loc_260><loc_240><loc_300><_Python_>def use(x):
    return x * 2</code>
<footnote><loc_57><loc_470><loc_240><loc_480>a All figures are estimates.</footnote>
<page_footer><loc_240><loc_485><loc_260><loc_492>12</page_footer>
</doctag><end_of_utterance>"""
MARKDOWN = """\
Annual report 2025

# Energy use in small towns

## 1 Introduction

Towns of fewer than 5,000 people use 12 % of all energy.

- Heating of homes
- Transport

1. First step
2. Second step

Table 1

| Sector | Use |  |
| --- | --- | --- |
|  | GWh | % |
| Homes | 310 | 41 |
| Roads |  | 22 |

Figure 2: Growth

$$
E = mc^{2}
$$

```
def use(x):
    return x * 2
```

a All figures are estimates.

12"""


def read(text: str) -> Page:
    [found] = pages_from_doctags(text, 1000, 2000)
    return found


def test_a_whole_reply() -> None:
    found = read(REPLY)
    assert markdown([found]) == MARKDOWN
    assert found.regions[1].box == Box(114, 160, 886, 248)
    assert [part.kind for part in found.regions if not part.lines] == ["picture"]


@pytest.mark.parametrize("at", range(0, len(REPLY), 7))
def test_a_reply_that_was_cut_keeps_its_text(at: int) -> None:
    text = re.sub(r"<[^<>]*(>|\Z)", " ", REPLY[:at])  # without tags, and one that is cut
    words = [word for word in printed_words([read(REPLY[:at])]) if word not in ("\u2022", "1.", "2.")]
    assert sorted(words) == sorted(text.split())


def test_other_tables_than_squares() -> None:
    [ragged] = tables_of([read("<otsl><fcel>a<fcel>b<fcel>c<nl><fcel>d<nl><nl><fcel>e<fcel>f")])
    assert grid(ragged) == [["a", "b", "c"], ["d", "", ""], ["e", "f", ""]]
    [orphans] = tables_of([read("<otsl><lcel>x<ucel>y<nl><xcel>z<fcel>w<nl></otsl>")])
    assert sorted(" ".join(map(" ".join, grid(orphans))).split()) == ["w", "x", "y", "z"]
    [spanning] = tables_of([read("<otsl><fcel>a<lcel>b<nl><ucel>c<xcel><nl><fcel>d<fcel>e<nl></otsl>")])
    assert grid(spanning)[0][0].split() == ["a", "b", "c"]
    assert read("<otsl><loc_1><loc_2><loc_3><loc_4></otsl>").regions[0].lines == ()


@pytest.mark.parametrize("seed", range(50))
def test_any_tokens_make_a_table_without_overlaps(seed: int) -> None:
    chosen = random.Random(seed)
    kinds = ["fcel", "ecel", "lcel", "ucel", "xcel", "nl", "ched", "srow"]
    tokens = [(chosen.choice(kinds), f"w{number}") for number in range(40)]
    made = parse_otsl(tokens)
    squares = [
        (y, x)
        for cell in made.cells
        for y in range(cell.row, cell.row + cell.row_span)
        for x in range(cell.column, cell.column + cell.column_span)
    ]
    assert sorted(squares) == [(y, x) for y in range(made.rows) for x in range(made.columns)]
    words = sorted(word for cell in made.cells for word in cell.text.split())
    assert words == sorted(text for token, text in tokens if token != "nl")


def test_text_that_is_not_closed_or_outside() -> None:
    text = "Outside <text>one<text>two <b>three</b></caption><list_item>four <page_break><text>five"
    first, second = pages_from_doctags(text)
    assert printed_words([first]) == ["Outside", "one", "two", "<b>three</b>", "four"]
    assert (second.number, printed_words([second])) == (2, ["five"])
    assert (first.width, first.height) == (500, 500)


def test_nested_lists() -> None:
    text = (
        "<unordered_list><list_item>a<unordered_list><list_item>b</list_item></unordered_list></list_item>"
        "<list_item><text>c</text></list_item><unordered_list><list_item>d</list_item></unordered_list></unordered_list>"
    )
    assert markdown([read(text)]) == "- a\n  - b\n- c\n  - d"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<",
        "plain",
        "<doctag>",
        "</doctag>",
        "<loc_999999999999>",
        "<unordered_list>" * 3000,
        "<nl>" * 100,
        "<otsl><nl>",
    ],
)
def test_hostile_replies(text: str) -> None:
    found = read(text)
    for form in FORMS:
        render(form, [found], "x")
    assert printed_words([found]) == (["plain"] if text == "plain" else [])


@pytest.mark.parametrize("seed", range(25))
def test_what_is_written_is_read_again(seed: int) -> None:
    document = [
        without_lists(random_page(seed)),
        Page(2, 100, 100, kind="blank"),
        without_lists(random_page(seed + 1, 3)),
    ]
    again = pages_from_doctags(doctags(document), 2480, 3508)
    assert [number.number for number in again] == [1, 2, 3]
    assert printed_words(again) == printed_words(document)
    assert [grid(made) for made in tables_of(again)] == [
        [[cell.replace("\n", " ") for cell in row] for row in grid(made)] for made in tables_of(document)
    ]


def test_written_lists() -> None:
    texts = ["\u2022 One", "\u2022 Two", "1. First", "2. Second", "7. Seventh", "(a) Letter"]
    written = doctags([page(region(texts, kind="list"))])
    assert re.findall(r"<(?:un)?ordered_list>|[^<>\n]+(?=</list_item>)", written) == [
        *("<unordered_list>", "One", "Two", "<ordered_list>", "First", "Second", "7. Seventh"),
        *("<unordered_list>", "(a) Letter"),
    ]
    again = pages_from_doctags(written, 2480, 3508)
    assert [line.text for line in again[0].lines] == texts


def test_written_merged_cells_and_tags_in_texts() -> None:
    document = [page(table([["a", None, "b"], ["c", "d", "e"], [None, "f", "g"]]), region(["No <text> tag"], top=600))]
    written = doctags(document)
    assert "<ched>a<lcel><ched>b<nl><fcel>c<fcel>d<fcel>e<nl><ucel><fcel>f<fcel>g<nl>" in written
    again = pages_from_doctags(written, 2480, 3508)
    assert [(cell.row_span, cell.column_span) for cell in again[0].regions[0].cells] == [
        *((1, 2), (1, 1), (2, 1), (1, 1), (1, 1), (1, 1), (1, 1))
    ]
    assert isinstance(again[0].regions[0].cells[0], Cell)
    assert "No < text> tag" in markdown(again).replace("\\", "")


def test_docling_reads_the_same() -> None:
    document = pytest.importorskip("docling_core.types.doc.document")

    def docling(text: str) -> str:
        tags = document.DocTagsDocument.from_doctags_and_image_pairs([text], None)
        loaded = document.DoclingDocument.load_from_doctags(tags, document_name="x")
        rows = loaded.tables[0].export_to_dataframe(loaded).values.tolist()
        # It repeats the text of a merged cell in each of its squares.
        assert rows == [["Sector", "Use", "Use"], ["Sector", "GWh", "%"], ["Homes", "310", "41"], ["Roads", "", "22"]]
        return str(loaded.export_to_text())

    ours = render("doctags", [read(REPLY)], "x")
    assert docling(ours).split() == docling(REPLY.replace("<bar_chart>", "")).split()
