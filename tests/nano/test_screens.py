"""What nano's lessons say of screenshots is what the screenshots show."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from smolcli.nano import fonts, screen_dialogs, screen_drawing, screens
from smolcli.nano.dataset import CELL_CLASS, CELL_CLASSES
from smolcli.nano.kinds import CANNOT_TELL
from smolcli.nano.screens import Screen
from smolcli.nano.synthetic_images import TILE

pytestmark = pytest.mark.usefixtures("made_up_print")


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def a_dialog(title: str = "Save file", **changes: object) -> Screen:
    known = {"title": title, "title_is_legible": True, "is_dialog": True, "buttons": ("OK", "Cancel")}
    return Screen(1, False, **{**known, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("screen", "caption"),
    [
        (Screen(1, True, "terminal", 38), "a screenshot with a dark window and about forty lines of text"),
        (Screen(1, False, "browser", 1), "a screenshot with a light window and one line of text"),
        (Screen(1, False, "editor", 5), "a screenshot with a light window and five lines of text"),
        (Screen(1, False, "editor", 72), "a screenshot with a light window and many lines of text"),
        (Screen(1, False, "terminal", 0), "a screenshot with a light window"),
        (Screen(1, True, "table"), "a screenshot with a dark window and a table"),
        (Screen(2, None), "a screenshot with two windows"),
        (Screen(3, True), "a screenshot with three dark windows"),
        (a_dialog(), 'a dialog with the title "Save file" and two buttons'),
        (a_dialog(title_is_legible=False, buttons=("OK",)), "a dialog with one button"),
        (a_dialog(buttons=()), 'a dialog with the title "Save file"'),
        (a_dialog("Error", is_error=True, message="Disk full"), 'an error message: "Disk full"'),
        (a_dialog("Error", is_error=True), "an error message"),
    ],
)
def test_caption(screen: Screen, caption: str) -> None:
    assert screens.caption(screen) == caption


def answers(screen: Screen) -> dict[str, str]:
    return dict(screens.about(rng(seed), screen) for seed in range(400))


def test_answers_about_a_dialog() -> None:
    found = answers(a_dialog(buttons_are_legible=True, text="Save file\nOK Cancel"))
    assert found["What is the title?"] == "Save file"
    assert found["How many buttons are there?"] == "2"
    assert found["What do the buttons say?"] == "OK, Cancel"
    assert found["Is there an error?"] == "no"
    assert found["Is the window dark or light?"] == "light"
    assert found["Read the text."] == "Save file\nOK Cancel"


def test_what_is_illegible_is_not_told() -> None:
    found = answers(a_dialog("Error", is_error=True, title_is_legible=False))
    assert found["What is the title?"] == found["What do the buttons say?"] == CANNOT_TELL
    assert found["What is the error?"] == CANNOT_TELL and found["Is there an error?"] == "yes"
    assert "Read the text." not in found


def test_lessons_about_the_kind_read_and_count_nothing_but_windows() -> None:
    for seed in range(60):
        lesson = screens.lesson(rng(seed), False, kind_alone=True)
        for answer in (lesson.answer, *(answer for _, answer in lesson.follow_ups)):
            assert '"' not in answer and "lines" not in answer and "button" not in answer and CANNOT_TELL not in answer


@pytest.mark.parametrize("app", screen_drawing.WITH_LINES)
@pytest.mark.parametrize("count", [0, 1, 4, 31, 70])
def test_as_many_lines_are_printed_as_are_told(app: str, count: int) -> None:
    sheet = screen_drawing.Sheet(Image.new("RGB", (480, 360)))
    colours = screen_drawing.theme(rng(2), False)
    screen_drawing.APPS[app](rng(count), sheet, (0, 0, 479, 359), colours, count, False)
    tops = [box[1] for part, box in sheet.parts if part == "print"]
    assert len(tops) == len(set(tops)) == count
    assert all(box[3] <= 365 for _, box in sheet.parts)


def test_dark_windows_are_dark() -> None:
    for seed in range(80):
        sheet, screen = screens.dialog_screen(rng(seed), False)
        middle = np.median(np.asarray(sheet.image))
        assert (middle < 110) == screen.is_dark


def test_an_error_shows_red_and_others_do_not() -> None:
    for seed in range(80):
        made = screen_dialogs.dialog(rng(seed), False)
        pixels = np.asarray(made.sheet.image).astype(int)
        icons = [box for part, box in made.sheet.parts if part == "icon"]
        if not made.is_error and not icons:
            continue
        [(left, top, right, bottom)] = icons
        red, green, blue = np.moveaxis(pixels[int(top) : int(bottom), int(left) : int(right)], -1, 0)
        assert (((red > 180) & (green < 70) & (blue < 70)).mean() > 0.3) == made.is_error


def test_held_out_words_and_papers() -> None:
    papers = {screen_drawing.theme(rng(seed), True).paper for seed in range(50)}
    assert papers <= set(screen_drawing.HELD_OUT_PAPERS)
    for held_out in (False, True):
        words = [word for seed in range(50) for word in screen_drawing.phrase(rng(seed), held_out, 40).split()[:-1]]
        assert all(fonts.is_held_out(word.lower()) == held_out for word in words if word.isalpha())
    assert not set(screen_dialogs.BUTTONS) & set(screen_dialogs.HELD_OUT_BUTTONS)


def test_a_lesson_follows_from_its_seed_and_labels_what_is_legible() -> None:
    parts = set()
    for seed in range(30):
        first, second = (screens.lesson(rng(seed), False) for _ in range(2))
        assert (first.tiles == second.tiles).all() and (first.cells == second.cells).all()
        assert (first.answer, first.follow_ups) == (second.answer, second.follow_ups)
        assert first.tiles.shape == (1, TILE, TILE, 3) and len(first.follow_ups) == 4
        parts |= {CELL_CLASSES[number] for number in first.cells[..., 0].ravel() if number >= 0}
    assert {"<print>", "<button>", "<icon>"} <= parts and len(parts & set("etaoinsrO")) > 5
    assert max(CELL_CLASS.values()) == len(CELL_CLASSES) - 1
