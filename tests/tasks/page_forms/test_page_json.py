"""tasks/page_forms/page_json.py: pages as data, and back."""

import json
from dataclasses import replace
from typing import Any

import pytest

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.page import Page, confidence_of
from smolcli.tasks.page_forms.page_json import json_text, page_from_json, pages_from_data, pages_to_data
from smolcli.tasks.page_forms.words import words_of
from tests.tasks.page_forms.pages import line, page, random_page, region, table


def with_words(whole: Page) -> Page:
    """The page with estimated boxes for the words of lines that have other numbers of boxes."""
    regions = [
        replace(part, lines=tuple(replace(text, words=tuple(words_of(text))) for text in part.lines))
        for part in whole.regions
    ]
    return replace(whole, regions=tuple(regions))


def test_the_shape_is_as_documented() -> None:
    document = [page(region(["Hi you"]), table([["a", None], ["b", "c"]], top=400), skew=0.4567, turn=90)]
    [data] = pages_to_data(document)["pages"]
    text, grid = data.pop("regions")
    assert data == {
        "page": 1, "width": 2480, "height": 3508, "turn": 90, "skew": 0.457, "dpi": 300.0, "kind": "print",
        "text": "Hi you\n\na\nb\tc", "confidence": 0.9, "source": "model",
    }  # fmt: skip
    assert text == {
        "kind": "text",
        "box": [100, 100, 220, 136],
        "lines": [
            {
                "text": "Hi you",
                "box": [100, 100, 220, 136],
                "confidence": 0.9,
                "baseline": 130,
                "x_height": 20.0,
                "words": [{"text": "Hi", "box": [100, 100, 140, 136]}, {"text": "you", "box": [160, 100, 220, 136]}],
            }
        ],
    }
    assert grid["cells"][0] == {"row": 0, "column": 0, "box": [100, 400, 500, 460], "column_span": 2}
    assert [part["cell"] for part in grid["lines"]] == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_stored_comes_back(seed: int) -> None:
    document = [with_words(random_page(seed)), Page(2, 10, 20, kind="blank")]
    assert pages_from_data(json.loads(json_text(document))) == document


def test_the_confidence_of_a_page_is_the_mean_of_its_lines_by_letters() -> None:
    lines = [line("aaaa", confidence=0.9), line("bb", confidence=0.5), line("no model", confidence=None)]
    assert confidence_of(lines) == pytest.approx((0.9**4 * 0.5**2) ** (1 / 6))
    assert confidence_of([]) is None
    assert confidence_of([line("a", confidence=0.0)]) == pytest.approx(1e-6)


def test_pages_with_an_error_are_left_out() -> None:
    data = pages_to_data([page(region(["x"]))])
    data["pages"].append({"page": 2, "text": "", "error": {"kind": "truncated", "message": "damaged"}})
    assert [read.number for read in pages_from_data(data)] == [1]


@pytest.mark.parametrize("data", [None, [], "x", {}, {"pages": None}, {"pages": [1]}])
def test_other_data_is_refused_in_one_line(data: Any) -> None:
    with pytest.raises(InputError) as refused:
        pages_from_data(data)
    assert refused.value.kind == ErrorKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("width",), -1),
        (("width",), 10**12),
        (("width",), float("inf")),
        (("skew",), float("nan")),
        (("turn",), 45),
        (("kind",), "poem"),
        (("regions", 0, "kind"), "script"),
        (("regions", 0, "box"), [0, 0, 1]),
        (("regions", 0, "box"), [9, 0, 1, 1]),
        (("regions", 0, "lines", 0, "text"), None),
        (("regions", 0, "lines", 0, "words"), 7),
        (("regions", 1, "cells", 0, "row"), -1),
        (("regions", 1, "cells", 0, "row"), "many"),
    ],
)
def test_damaged_data_is_refused(keys: tuple[str | int, ...], value: object) -> None:
    whole = pages_to_data([page(region(["Hi you"]), table([["a", "b"]], top=400))])
    inner: Any = whole["pages"][0]
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises(InputError):
        pages_from_data(whole)


def test_a_cell_that_does_not_exist_is_none() -> None:
    [data] = pages_to_data([page(table([["a", "b"]]))])["pages"]
    data["regions"][0]["lines"][0]["cell"] = 99
    assert page_from_json(data).lines[0].cell is None


def test_the_text_of_a_page_that_was_read_without_layout_is_spread_over_it() -> None:
    [read] = pages_from_data({"pages": [{"page": 2, "text": "a cat\non a mat"}]})
    assert (read.number, [line.text for line in read.lines]) == (2, ["a cat", "on a mat"])
    first, second = (line.box for line in read.lines)
    assert 0 < first.left < first.right < read.width and 0 < first.top < first.bottom <= second.top < read.height


@pytest.mark.parametrize("entry", [{"page": 1, "text": None}, {"page": -1, "text": ""}, {"text": ""}])
def test_damaged_data_of_a_page_without_layout_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        pages_from_data({"pages": [entry]})
