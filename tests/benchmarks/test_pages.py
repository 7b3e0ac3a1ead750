"""benchmarks/pages.py: what it says of its pages is what is on them. It needs the fonts of `pages.py --packages`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pages.py"


def draw(folder: Path, *words: str) -> Path:
    done = subprocess.run([sys.executable, str(SCRIPT), str(folder), *words], capture_output=True, text=True)
    if "install the fonts" in done.stderr:
        pytest.skip("the fonts are not installed")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("pages"), "--count", "1", "--damaged", "--seed", "3")


def about(folder: Path, damage: str = "") -> tuple[Image.Image, dict[str, Any]]:
    """The picture of the page with this damage, and its JSON."""
    path = next(path for path in folder.glob("000*.json") if json.loads(path.read_text())["damage"] == damage)
    picture = next(path.with_suffix(suffix) for suffix in (".png", ".jpg") if path.with_suffix(suffix).exists())
    return Image.open(picture), json.loads(path.read_text())


def ink(image: Image.Image) -> Any:
    """bool (height, width), where the picture is darker than its paper."""
    grey = np.asarray(image.convert("L"), np.int16)
    return grey < grey[2, 2] - 3


def test_boxes_touch_the_ink_on_every_side_and_hold_all_of_it(folder: Path) -> None:
    image, page = about(folder)
    inked, left_over = ink(image), ink(image)
    for line in page["lines"]:
        for left, top, right, bottom in (line["box"], *(word["box"] for word in line["words"])):
            part = inked[top:bottom, left:right]
            assert all(edge.any() for edge in (part[:2], part[-2:], part[:, :2], part[:, -2:]))  # one may be faint
            left_over[top:bottom, left:right] = False
    assert page["lines"] and not left_over.any()


def test_the_text_is_that_of_the_lines_in_their_order(folder: Path) -> None:
    _, page = about(folder)
    text = next(folder.glob("000*.txt")).read_text(encoding="utf-8")
    assert text.split() == [word["text"] for line in page["lines"] for word in line["words"]]
    assert [line for line in text.splitlines() if line] == [line["text"] for line in page["lines"]]
    assert len({line["region"] for line in page["lines"]}) == len(text.strip().split("\n\n"))


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_copy_is_the_page_once_it_is_turned_clockwise(folder: Path, turn: int) -> None:
    straight, page = about(folder)
    turned, turned_page = about(folder, f"turn{turn}")
    assert turned.rotate(-turn, expand=True).tobytes() == straight.tobytes()
    assert (turned_page["turn"], turned_page["lines"]) == (turn, page["lines"])


def test_a_skewed_copy_has_its_lines_where_they_are_said_to_be(folder: Path) -> None:
    image, page = about(folder, "skew")
    inked = ink(image.rotate(-page["skew"], Image.Resampling.BICUBIC, fillcolor=image.getpixel((2, 2))))
    inside = np.zeros_like(inked)
    for left, top, right, bottom in (line["box"] for line in page["lines"]):
        inside[top - 2 : bottom + 2, left - 2 : right + 2] = True
    assert abs(page["skew"]) == 5 and page["size"] == list(image.size)
    assert inked.sum() > 1000 and (inked & inside).sum() > 0.99 * inked.sum()


def test_the_same_seed_draws_the_same_page_whatever_is_drawn_beside_it(folder: Path, tmp_path: Path) -> None:
    again = draw(tmp_path, "--count", "2", "--seed", "3")
    first = next(again.glob("000*.png"))
    assert first.read_bytes() == (folder / first.name).read_bytes()
    assert len(list(again.glob("001*.png"))) == 1
