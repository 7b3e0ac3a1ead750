"""The rules that judge nano's replies, and the search for its most likely names."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from PIL import Image

from smolcli.nano import dataset, evaluate, judges, kinds, suites, thing_names
from smolcli.nano.suites import Case
from smolcli.nano.synthetic_images import TILE
from smolcli.nano.tokenizer import tokenizer
from smolcli.types import Finish, Prompt, Reply, Tokens


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def case(answer: str = "", picture: Image.Image | None = None, question: str = "What is it?") -> Case:
    return Case(Prompt.user(question), answer, picture or Image.new("RGB", (1, 1)))


def striped(**shares: int) -> Image.Image:
    """A picture of 100 rows, so many of each colour."""
    rgb = {"red": (220, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 220), "gray": (128, 128, 128)}
    rows = [rgb[name] for name, count in shares.items() for _ in range(count)]
    return Image.fromarray(np.repeat(np.array(rows, np.uint8)[:, None], 4, axis=1))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a black and white photograph, brighter at the left", kinds.PHOTOGRAPH),
        ("an error message", kinds.SCREENSHOT), ('the text "a photograph"', kinds.PAGE),
        ("a bar chart with two bars", kinds.CHART), ("a bar chart on a white background", kinds.DRAWING),
        ("a cat on a busy background", kinds.DRAWING), ("a drawing, mostly blue, on a white background", kinds.DRAWING),
        ("(blank)", kinds.BLANK), ("coloured noise", kinds.NOISE), ("a pattern, mostly red", kinds.PATTERN),
        ("yes", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_kind_that_a_caption_says(text: str, kind: str) -> None:
    assert judges.kind_said(text) == kind


def test_each_kind_is_told_from_the_right_captions_of_the_lessons() -> None:
    said = [judges.kind_said(f"a blank {name} picture") for name in ("white", "blue")]
    for seed in range(40):
        lesson = dataset.shapes(rng(seed), True, caption=1.0)
        assert judges.kind_said(lesson.answer) == kinds.DRAWING
    assert said == [kinds.BLANK] * 2


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("a photograph, mostly green and blue, brighter at the top", True), ("photograph, black and white", True),
        ("a photograph of a dog", False), ("a photograph, mostly green, on a white background", False), ("", False),
    ],
)  # fmt: skip
def test_a_word_that_no_caption_of_photographs_has_is_invented(text: str, is_right: bool) -> None:
    assert judges.invents_nothing(case(), text) == is_right


@pytest.mark.parametrize(
    ("picture", "text", "is_right"),
    [
        (striped(green=60, blue=40), "a photograph, mostly green and blue", True),
        (striped(green=60, blue=40), "photograph, green, blue", True),
        (striped(green=60, blue=40), "a photograph, mostly blue and green", False),
        (striped(green=60, blue=40), "a photograph, mostly green", False),
        (striped(green=60, blue=40), "a photograph, mostly green and red", False),
        (striped(green=52, blue=48), "a photograph, mostly blue and green", True),  # nearly as much
        (striped(green=81, blue=19), "a photograph, mostly green", True),
        (striped(green=81, blue=19), "a photograph, mostly green and blue", True),  # nearly a fifth
        (striped(green=90, blue=10), "a photograph, mostly green and blue", False),
        (striped(green=50, blue=30, red=20), "a photograph, mostly green and red", False),
        (striped(green=60, blue=40), "a photograph, mostly green and green", False),
        (striped(green=60, blue=40), "a photograph", False),
        (striped(green=60, blue=40), "a black and white photograph", False),
        (striped(gray=100), "a black and white photograph", True),
        (striped(gray=100), "a photograph, mostly gray", False),
    ],
)  # fmt: skip
def test_colours_are_judged_by_the_pixels(picture: Image.Image, text: str, is_right: bool) -> None:
    assert judges.says_right_colours(case(picture=picture), text) == is_right


def test_shapes_may_be_named_in_any_order_and_place() -> None:
    wanted = case("two red stars and one blue ring on a white background")
    assert judges.names_same_shapes(wanted, "from left to right: a red star, a blue ring and a red star on a white")
    assert not judges.names_same_shapes(wanted, "a red star to the left of a blue ring on a white background")
    assert judges.names_same_shapes(case("3"), "3") and not judges.names_same_shapes(case("3"), "2")


def test_a_name_is_not_taken_for_one_that_it_begins_with() -> None:
    assert judges.name_said("a hot dog on a white background", thing_names.NAMES) == "hot dog"
    assert judges.name_said("a car on a busy background", thing_names.NAMES) == "car"
    assert judges.name_said("a drawing, mostly red, on a white background", thing_names.NAMES) == ""


def test_likely_names_are_those_of_a_search_through_all() -> None:
    """A model whose logits follow from the tokens before by chance alone."""
    size = len(tokenizer().get_vocab())
    names = ["cat", "car", "cup", "computer", "dog", "apple", "owl"]
    tokens = {name: tuple(tokenizer().encode(f" {judges.beginning(name)}").ids) for name in names}

    def logits(before: tuple[int, ...]) -> np.ndarray:
        return rng(*before).normal(0, 3, size)

    def log_probability(ids: tuple[int, ...]) -> float:
        parts = ((logits(ids[:place]), token) for place, token in enumerate(ids))
        return sum(float(row[token] - np.log(np.exp(row).sum())) for row, token in parts)

    ranked = sorted(names, key=lambda name: -log_probability(tokens[name]))
    assert judges.likely_names(logits, tokens, 3) == ranked[:3]
    assert judges.likely_names(logits, tokens, 99) == ranked


def test_endings_count_loops_and_long_answers_that_do_not_read() -> None:
    def reply(reason: str, new: int, text: str | None = None) -> Reply:
        return Reply("x", Finish(reason, Tokens(new=new), text=text))  # type: ignore[arg-type]

    read, ask = case(question="Read the text."), case()
    replies = [reply("stop", 9), reply("repetition", 300), reply("stop", 300, "second attempt"), reply("stop", 70)]
    assert evaluate.endings(None, [ask, read, read, ask], replies) == {"nano": 0.5, "in time": 0.75}


def test_first_answers_are_right_wrong_or_the_kind_alone() -> None:
    texts = (
        "a cat on a",
        "a drawing, mostly red, on a white background",
        "a dog on a white background",
        "a cat on a b",
    )
    replies = [Reply(text, Finish("stop")) for text in texts]
    measured = evaluate.first_answer(None, [case("cat")] * 4, replies)
    assert measured == {"nano": 0.5, "kind alone": 0.25, "wrong name": 0.25}


@pytest.mark.parametrize("name", ["captions", "order of three", "in no row or column", "direction of motion"])
def test_the_cases_of_a_suite_follow_from_the_seed(name: str) -> None:
    first, again, other = (evaluate.cases(name, 5, seed) for seed in (1, 1, 2))
    assert [c.answer for c in first] == [c.answer for c in again] != [c.answer for c in other]
    assert all(c.prompt == d.prompt for c, d in zip(first, again, strict=True))


def test_three_shapes_in_order_are_three_in_the_answer() -> None:
    for seed in range(20):
        answer = suites.order_of_three(rng(seed)).answer
        assert answer.startswith(("from left to right: ", "from top to bottom: "))
        assert sum(judges.shapes_named(answer).values()) == 3


def test_every_suite_has_a_seed_of_its_own_and_pictures_of_one_tile() -> None:
    drawn = [evaluate.cases(name, 2, 1) for name in ("captions", "pairs never seen together", "blank, caption")]
    assert all(c.picture.size == (TILE, TILE) for c in itertools.chain(*drawn))
    assert drawn[0][0].prompt != drawn[1][0].prompt


def test_the_table_has_a_row_for_every_measure_and_skips_what_is_no_result() -> None:
    lines = [{"suite": "things", "metric": "right", "count": 40, "wanted": None, "nano": 0.5, "kind alone": 0.333}]
    rows = evaluate.table(["    'a reply'", *map(json.dumps, lines)]).splitlines()[2:]
    assert rows == ["| things | 50 % |  |  |", "| things: kind alone | 33.3 % | | |"]
