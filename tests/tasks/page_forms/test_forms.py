"""tasks/page_forms/forms.py: every form of every page, also of odd ones."""

import pytest

from smolcli.errors import UsageError
from smolcli.inputs.page import Line, Page, Region
from smolcli.tasks.page_forms.forms import FORMS, render
from smolcli.types import Box
from tests.tasks.page_forms.pages import page, random_page, region

NOTHING = Box(0, 0, 0, 0)
ODD = [
    [],
    [Page(1, 0, 0)],
    [Page(1, 9, 9, kind="blank"), Page(1, 9, 9, kind="picture")],
    [Page(1, 9, 9, (Region("table", NOTHING, (Line(NOTHING, (), 0.0, 0, "a b", 0.0, cell=5),)),))],
    [Page(1, 9, 9, (Region("list", NOTHING, (Line(NOTHING, (), 0.0, 0, "\u2022"), Line(NOTHING, (), 0.0, 0, " "))),))],
    [Page(1, 9, 9, (Region("heading", NOTHING, (Line(NOTHING, (), 0.0, 0, "#"),), level=-3),))],
    [random_page(3), random_page(4, 2)],
]


@pytest.mark.parametrize("dehyphenate", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pages", ODD, ids=range(len(ODD)))
def test_every_form_of_any_pages(pages: list[Page], form: str, dehyphenate: bool) -> None:
    assert isinstance(render(form, pages, "a.png", dehyphenate), str)


@pytest.mark.parametrize(
    "form", [form for form in FORMS if "dehyphenate" in FORMS[form].arguments and form != "tables"]
)
def test_forms_of_running_text_join_words(form: str) -> None:
    pages = [page(region(["an exam-", "ple"]))]
    assert "an example" in render(form, pages, "a.png", dehyphenate=True)
    assert "an example" not in render(form, pages, "a.png")


def test_an_unknown_form() -> None:
    with pytest.raises(UsageError, match="choose one of text"):
        render("poem", [], "a.png")
