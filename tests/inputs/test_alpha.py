"""inputs/alpha.py: what is drawn on nothing can be seen."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from smolcli.inputs.alpha import flatten


def text(color: str | tuple[int, ...], size: tuple[int, int] = (120, 40)) -> Image.Image:
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    ImageDraw.Draw(image).text((10, 5), "EXIT 27", fill=color, font_size=24)
    return image


@pytest.mark.parametrize(
    ("color", "ground"),
    [
        ("white", 0), ("yellow", 0), ("cyan", 0), ("lightgray", 0), ((255, 255, 255, 100), 0),
        ("black", 255), ("red", 255), ("blue", 255), ("gray", 255), ((0, 0, 0, 100), 255),
    ],
)  # fmt: skip
def test_text_of_any_color_can_be_told_from_its_ground(color: str, ground: int) -> None:
    shown = np.asarray(flatten(text(color)))
    assert shown[0, 0].tolist() == [ground] * 3
    assert np.abs(shown.astype(int) - ground).max() >= 90


def test_colors_of_transparent_pixels_do_not_count() -> None:
    """Many programs leave the transparent part white, or any other color."""
    black_text = text("black")
    hidden = Image.new("RGBA", black_text.size, "white")
    hidden.putalpha(0)
    hidden.paste(black_text, mask=black_text)
    assert flatten(hidden).getpixel((0, 0)) == (255, 255, 255)


def test_a_light_page_with_a_small_transparent_part_stays_on_white() -> None:
    """As a screenshot of a window with round corners."""
    page = Image.new("RGBA", (100, 100), "white")
    page.paste((0, 0, 0, 0), (0, 0, 20, 100))
    assert flatten(page).getpixel((0, 0)) == (255, 255, 255)


def test_half_transparent_pixels_are_mixed_with_the_ground() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(flatten(image)).tolist() == [[[255, 127, 127], [255, 255, 255]]]
    assert np.asarray(flatten(image, "black")).tolist() == [[[128, 0, 0], [0, 0, 0]]]


def test_nothing_drawn_and_nothing_transparent() -> None:
    assert flatten(Image.new("RGBA", (3, 3), (255, 255, 255, 0))).getcolors() == [(9, (255, 255, 255))]
    assert flatten(Image.new("RGBA", (3, 3), (250, 250, 250, 255))).getcolors() == [(9, (250, 250, 250))]
