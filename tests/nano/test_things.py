"""Lessons about things: names and plurals, which icons are one thing, and answers that agree with what was drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolcli.nano import icon_sets, materials, questions, thing_images, thing_names, things
from smolcli.nano.dataset import CELL_CLASS, CELL_CLASSES, GROUND_CLASSES, NO_TEXT, UNKNOWN, Lesson
from smolcli.nano.icon_sets import Icons, IconSet
from smolcli.nano.kinds import CANNOT_TELL
from smolcli.nano.synthetic_images import COLOURS, GROUNDS, NUMBERS, SHAPES, TILE, Annotation, Picture
from smolcli.nano.tokenizer import tokenizer


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def made_up(is_held_out: bool) -> Icons:
    """A set in which every thing and the unknown one is a disc; its colour is red in training and blue if held out."""
    y, x = np.mgrid[:80, :80]
    disc = np.zeros((80, 80, 4), np.uint8)
    disc[..., :3] = COLOURS["blue" if is_held_out else "red"]
    disc[..., 3] = 255 * (np.hypot(x - 39.5, y - 39.5) < 40)
    icon_set = IconSet("made-up", "1", "CC0", "nobody", is_held_out=is_held_out)
    return Icons(icon_set, {name: [disc] for name in ("", *thing_names.NAMES)})


@pytest.fixture
def discs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lessons drawn from made-up icons, since the real ones are downloads."""
    monkeypatch.setattr(icon_sets, "icons", lambda held_out: (made_up(held_out),))


def pairs_of(lesson: Lesson) -> list[tuple[str, str]]:
    """The questions about a lesson and their answers."""
    return [(str(lesson.prompt.turns[0].parts[-1]), lesson.answer), *lesson.follow_ups]


def scene(*annotations: Annotation, ground: str = "white") -> Picture:
    return Picture(Image.new("RGB", (TILE, TILE), "white"), list(annotations), ground=ground)


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "one", "several"),
    [
        ("cat", "a cat", "cats"), ("bus", "a bus", "buses"), ("apple", "an apple", "apples"),
        ("knife", "a knife", "knives"),
        ("umbrella", "an umbrella", "umbrellas"), ("sheep", "a sheep", "sheep"), ("cherry", "a cherry", "cherries"),
        ("monkey", "a monkey", "monkeys"), ("unicorn", "a unicorn", "unicorns"),
        ("hourglass", "an hourglass", "hourglasses"),
        ("cup of coffee", "a cup of coffee", "cups of coffee"), ("man", "a man", "men"), ("tooth", "a tooth", "teeth"),
        ("arrow to the left", "an arrow to the left", "arrows to the left"), ("tomato", "a tomato", "tomatoes"),
        ("pair of scissors", "a pair of scissors", "pairs of scissors"), ("sandwich", "a sandwich", "sandwiches"),
        ("snowman", "a snowman", "snowmen"), ("red cross", "a red cross", "red crosses"), ("box", "a box", "boxes"),
    ],
)  # fmt: skip
def test_article_and_plural(name: str, one: str, several: str) -> None:
    assert thing_names.with_article(name) == one
    assert thing_names.plural(name) == several


def test_names_are_distinct_from_shapes_and_one_another() -> None:
    assert len(thing_names.COMMON) == 200
    assert thing_names.COMMON.issubset(thing_names.NAMES)
    assert not set(thing_names.NAMES) & {*SHAPES, UNKNOWN}
    assert all(re.fullmatch(r"[A-Za-z -]+", name) for name in thing_names.NAMES)
    assert thing_names.DIRECTED.issubset(thing_names.NAMES)
    assert len({thing_names.plural(name) for name in thing_names.NAMES}) == len(thing_names.NAMES)


def test_names_of_icons_join_what_sets_call_differently() -> None:
    names = thing_names.names_of_icons()
    for name, icons in {
        "dog": ("dog", "dog-face", "dogface", "dogside", "dog-fill"),
        "pear": ("pear",),
        "smiling face": ("grinning-face", "smileeyes"),
        "thumbs up": ("thumbs-up-medium-dark-skin-tone", "thumbsup", "thumbs-up-dark"),
        "traffic light": ("vertical-traffic-light", "horizontal-traffic-light", "verticaltrafficlight"),
        "computer mouse": ("computer-mouse", "onebuttonmouse"),
    }.items():
        assert {names[thing_names.normalised(icon)] for icon in icons} == {name}
    assert "policecarlight" not in names


# ---- icons ---------------------------------------------------------------------------------------


def test_make_renders_the_wanted_icons_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py", reason="renders icons with resvg-py, of the extra nano")
    square = '<path fill="{}" d="M2 4h16v8H2z"/>'
    bodies = {"cat": "#f00", "cat-face": "#00f", "abacus": "#0f0", "a-button": "#0f0", "red-heart": "#f00"}
    definitions = {
        "width": 20, "height": 20, "icons": {name: {"body": square.format(fill)} for name, fill in bodies.items()},
    }  # fmt: skip
    icon_set = IconSet("made-up", "1", "CC0", "nobody")
    (tmp_path / "unpacked" / "package").mkdir(parents=True)
    (tmp_path / "unpacked" / "package" / "icons.json").write_text(json.dumps(definitions))
    monkeypatch.setenv("SMOLCLI_NANO_MATERIALS", str(tmp_path))
    monkeypatch.setattr(icon_sets, "SETS", (icon_set,))
    monkeypatch.setattr(materials.Package, "unpack", lambda package, into: tmp_path / "unpacked")
    assert materials.make("icons.npz")
    icon_sets.icons.cache_clear()
    [icons] = icon_sets.icons(False)
    icon_sets.icons.cache_clear()
    assert {name: len(images) for name, images in icons.of_name.items()} == {"cat": 2, "": 1}
    for image in icons.of_name["cat"]:
        assert image.shape[1] == pytest.approx(0.8 * icon_sets.SIDE, abs=2)  # cropped to 16 of 20 units
        assert image.shape[0] == pytest.approx(0.4 * icon_sets.SIDE, abs=2)
    assert {tuple(int(v) for v in image[20, 40]) for image in icons.of_name["cat"]} == {
        (255, 0, 0, 255),
        (0, 0, 255, 255),
    }


def test_one_set_alone_is_held_out() -> None:
    assert [icon_set.name for icon_set in icon_sets.SETS if icon_set.is_held_out] == ["noto"]
    assert not any("SA" in icon_set.licence or "NC" in icon_set.licence for icon_set in icon_sets.SETS)


def test_every_name_is_in_the_held_out_set_and_three_others() -> None:
    if not (materials.folder() / "icons.npz").exists():
        pytest.skip("needs the icons: python -m smolcli.nano.materials icons.npz")
    [held_out] = icon_sets.icons(True)
    for name in thing_names.NAMES:
        assert name in held_out.of_name
        assert sum(name in icons.of_name for icons in icon_sets.icons(False)) >= 3, name


# ---- answers -------------------------------------------------------------------------------------

CAT, DOG = Annotation("cat", 20, 60, 30, "black"), Annotation("dog", 100, 60, 30)
STAR = Annotation("star", 64, 60, 30, "red")


@pytest.mark.parametrize(
    ("annotations", "layout", "ground", "caption"),
    [
        ([CAT], "free", "white", "a cat on a white background"),
        ([CAT, CAT], "free", "green", "two cats on a green background"),
        ([CAT, DOG], "row", "busy", "a cat to the left of a dog on a busy background"),
        ([CAT, STAR, DOG], "row", "white", "from left to right: a cat, a red star and a dog on a white background"),
        ([CAT, DOG, CAT], "free", "white", "two cats and one dog on a white background"),
        ([CAT, STAR, DOG], "free", "white", "one cat, one dog and one red star on a white background"),
    ],
)
def test_caption(annotations: list[Annotation], layout: str, ground: str, caption: str) -> None:
    assert questions.scene_caption(scene(*annotations, ground=ground), layout) == caption


def test_answers_about_a_scene() -> None:
    picture = scene(CAT, STAR, DOG)
    answers = {
        "What is on the left?": "a cat", "What is on the right?": "a dog", "How many cats?": "1",
        "What is to the left of the red star?": "a cat",
        "Is there a cat?": "yes", "How many things are there?": "3", "Is there a red star?": "yes",
        "What colour is the cat?": "black", "Where is the dog?": "right", "Is the dog to the right of the cat?": "yes",
        "Is there a lion?": "no", "What color is the bus?": "there is no bus",
    }  # fmt: skip
    seen = set()
    for seed in range(3000):
        question, answer = questions.ABOUT_THINGS[seed % len(questions.ABOUT_THINGS)](rng(seed), picture, "row")
        assert answers.get(question, answer) == answer
        assert not re.fullmatch(r"What colou?r is the dog\?", question)  # it has none that is clear
        seen.add(question)
    assert len(seen & set(answers)) >= 10


@pytest.mark.usefixtures("discs")
@pytest.mark.parametrize("held_out", [False, True])
def test_lessons_agree_with_the_pixels(held_out: bool) -> None:
    """The discs of a scene are counted and their colour is named; an unknown drawing is never named."""
    counted = 0
    for seed in range(120):
        lesson = things.lesson(rng(seed), held_out)
        assert lesson.tiles.shape == (1, TILE, TILE, 3)
        pairs = pairs_of(lesson)
        assert len({question for question, _ in pairs}) >= 3
        named = {CELL_CLASSES[number] for number in lesson.cells[0][:, 0] if number > 0}
        captions = [answer for _, answer in pairs if answer.endswith("background")]
        for question, answer in pairs:
            assert answer
            if question.startswith(("What is written", "Read the")):
                assert answer == NO_TEXT
        if f"<a {UNKNOWN}>" in named:
            assert named == {f"<a {UNKNOWN}>"}
            assert all(answer.startswith("a drawing, mostly ") for answer in captions)
            assert all(
                answer == CANNOT_TELL for question, answer in pairs if question in ("What is this?", "What is it?")
            )
        for caption in captions:
            if found := re.match(rf"({'|'.join(NUMBERS[2:])}) ([\w -]+?) on a", caption):
                [name] = {name for name in thing_names.NAMES if thing_names.plural(name) == found[2]} or {""}
                assert not name or CELL_CLASS[f"<a {name}>"] in lesson.cells[0]
                counted += bool(name)
    assert counted > 5


@pytest.mark.usefixtures("discs")
def test_held_out_lessons_draw_from_the_held_out_set() -> None:
    for held_out, colour in ((False, "red"), (True, "blue")):
        clear = [
            answer
            for seed in range(60)
            for question, answer in pairs_of(things.single(rng(seed), held_out))
            if re.match(r"What colou?r is the (?!background)", question) and "there is no" not in answer
        ]
        assert len(clear) > 10
        assert clear.count(colour) > 0.7 * len(clear)  # a few are restyled: gray, or lines


@pytest.mark.usefixtures("discs")
def test_a_seed_gives_one_lesson() -> None:
    for seed in range(5):
        first, again = (things.lesson(rng(seed), False) for _ in range(2))
        assert np.array_equal(first.tiles, again.tiles)
        assert np.array_equal(first.cells, again.cells)
        assert pairs_of(first) == pairs_of(again)


@pytest.mark.usefixtures("discs")
def test_a_busy_background_may_be_given() -> None:
    def gray(_: np.random.Generator, width: int, height: int) -> Image.Image:
        return Image.new("RGB", (width, height), (99, 99, 99))

    lessons = [things.lesson(rng(seed), False, gray) for seed in range(60)]
    busy = [lesson for lesson in lessons if CELL_CLASS["<on busy>"] in lesson.cells[0][:, 1]]
    assert len(busy) > 5
    assert all(np.median(np.abs(lesson.tiles[0].astype(int) - 99)) < 60 for lesson in busy)


def test_styles_keep_the_thing_opaque() -> None:
    disc = Image.fromarray(made_up(False).of_name["cat"][0])
    for seed in range(80):
        drawing = thing_images.varied(rng(seed), "cat", disc, False)
        opacity = np.asarray(drawing.image)[..., 3]
        assert (opacity > 127).mean() > 0.03
        assert max(drawing.image.size) < 160


def test_every_word_can_be_written() -> None:
    def words() -> Iterator[str]:
        for name in thing_names.NAMES:
            yield thing_names.with_article(name)
            yield thing_names.plural(name)

    for word in words():
        assert tokenizer().decode(tokenizer().encode(word, add_special_tokens=False).ids) == word


def test_grounds_lie_between_contents() -> None:
    assert {CELL_CLASSES[number] for number in GROUND_CLASSES} == {f"<on {ground}>" for ground in (*GROUNDS, "busy")}
