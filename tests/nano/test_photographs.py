"""Lessons about photographs, patterns and noise, on pictures that the tests make themselves."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolcli.nano import dataset, materials, open_questions, photograph_sources, photographs, textures
from smolcli.nano.colours import name_pixels
from smolcli.nano.kinds import CANNOT_TELL, NOISE, PATTERN

GREEN, BLUE = (40, 160, 50), (35, 80, 215)


def _halves(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (128, 128), bottom)
    image.paste(top, (0, 0, 128, 64))
    return image


def _answers(lesson: dataset.Lesson) -> dict[str, str]:
    question = lesson.prompt.turns[0].parts[1]
    assert isinstance(question, str)
    return {question: lesson.answer, **dict(lesson.follow_ups)}


def _all_answers(image: Image.Image, held_out: bool = False) -> dict[str, str]:
    """The answers of many lessons about one picture: the same question never has two answers."""
    answers: dict[str, str] = {}
    for seed in range(60):
        for question, answer in _answers(photographs.about(np.random.default_rng(seed), image, held_out)).items():
            assert answers.setdefault(question, answer) == answer
    return answers


def test_a_photograph_is_captioned_by_its_colours_and_brighter_side() -> None:
    image = _halves((140, 180, 250), GREEN)
    image.paste((140, 180, 250), (0, 64, 128, 70))  # a little more blue than green
    answers = _all_answers(image)
    assert answers["Describe this image."] == "a photograph, mostly blue and green, brighter at the top"
    assert answers["What is the main colour?"] == "blue"
    assert answers["Where is it darker?"] == "at the bottom"
    assert answers[dataset.TAGS] == "photograph, blue, green"
    assert answers["Read the text."] == dataset.NO_TEXT
    assert answers["Is this black and white?"] == "no"


def test_a_photograph_without_colours_is_black_and_white() -> None:
    image = _halves((60, 60, 60), (230, 230, 230)).rotate(90)  # the dark half is turned to the left
    answers = _all_answers(image)
    assert answers["Describe this image."] == "a black and white photograph, brighter at the right"
    assert answers["Is this black and white?"] == "yes"


@pytest.mark.parametrize(
    ("top", "bottom", "side"),
    [(200, 100, "top"), (100, 200, "bottom"), (100, 104, None), (100, 118, "")],
)
def test_a_side_is_named_where_it_is_clear(top: int, bottom: int, side: str | None) -> None:
    assert photographs.brighter_side(np.asarray(_halves((top,) * 3, (bottom,) * 3))) == side


def test_a_corner_is_no_side() -> None:
    ramp = np.add.outer(np.arange(128), np.arange(128)).astype(np.uint8)
    assert photographs.brighter_side(np.repeat(ramp[..., None], 3, 2)) == ""


def test_cells_have_the_colours_under_them() -> None:
    image = _halves(BLUE, GREEN)
    image.paste((250, 250, 250), (0, 0, 8, 16))  # half of the first cell
    cells = photographs.colour_cells(name_pixels(np.asarray(image)), "<photograph>").reshape(8, 8, 2)
    assert (cells[..., 0] == dataset.CELL_CLASS["<photograph>"]).all()
    assert cells[0, 0, 1] == dataset.IGNORE
    assert (cells[:4, 1:, 1] == dataset.CELL_CLASS["<blue>"]).all()
    assert (cells[4:, :, 1] == dataset.CELL_CLASS["<green>"]).all()


def test_questions_of_evaluation_are_not_of_training() -> None:
    assert len(set(open_questions.WHOLE)) >= 120
    for table in (open_questions.whole_questions, open_questions.templates):
        assert table(True) and table(False) and not set(table(True)) & set(table(False))
    asked = {question for question, answer in _all_answers(_halves(BLUE, GREEN)).items() if answer == CANNOT_TELL}
    assert len(asked) > 30 and not asked & set(open_questions.whole_questions(True))


def test_templates_are_filled() -> None:
    rng = np.random.default_rng(0)
    asked = {open_questions.open_question(rng, held_out) for held_out in (False, True) for _ in range(400)}
    assert not any(mark in question for question in asked for mark in "{}")
    assert any("an umbrella" in text for text in asked) and not any("a umbrella" in text for text in asked)


def test_near_duplicates_are_found() -> None:
    rng = np.random.default_rng(1)
    first, other = (np.asarray(textures.pattern(rng, False)) for _ in range(2))
    noisy = np.clip(np.asarray(Image.fromarray(first).resize((90, 60))).astype(int) + 20, 0, 255).astype(np.uint8)
    code = photograph_sources.difference_hash(first)
    assert photograph_sources.is_near_duplicate(code, photograph_sources.difference_hash(noisy))
    assert not photograph_sources.is_near_duplicate(code, photograph_sources.difference_hash(other))


def test_packages_of_training_and_evaluation_differ() -> None:
    training, held_out = ({source.package.name for source in table} for table in
                          (photograph_sources.TRAINING, photograph_sources.HELD_OUT))  # fmt: skip
    assert not training & held_out
    assert not any(word in licence for _, _, _, licence, *_ in photographs.sources() for word in ("SA", "NC", "ND"))


def test_photographs_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((60, 90), (40, 30))]
    with open(tmp_path / "photographs.npz", "wb") as file:
        photograph_sources.write_pictures(file, [(0, pictures[0]), (1, pictures[1])])
    monkeypatch.setenv("SMOLCLI_NANO_MATERIALS", str(tmp_path))
    photographs.load.cache_clear()
    try:
        assert all(
            np.array_equal(read, written) for read, written in zip(photographs.load(False), pictures, strict=True)
        )
        lesson = photographs.lesson(np.random.default_rng(3), False)
        assert lesson.tiles.shape == (1, 128, 128, 3) and lesson.cells.shape == (1, 64, 2)
        assert np.array_equal(lesson.tiles, photographs.lesson(np.random.default_rng(3), False).tiles)
        assert photographs.ground(rng, 50, 70, False).size == (50, 70)
        with pytest.raises(FileNotFoundError, match=r"python -m smolcli\.nano\.materials photographs-held-out\.npz"):
            photographs.load(True)
    finally:
        photographs.load.cache_clear()


def test_materials_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLCLI_NANO_MATERIALS", str(tmp_path / "new"))
    monkeypatch.setattr(photograph_sources, "make_training", lambda file: file.write(b"made"))
    assert materials.make("photographs.npz") and not materials.make("photographs.npz")
    assert (tmp_path / "new" / "photographs.npz").read_bytes() == b"made"


def test_a_package_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], cwd: Path, **_: object) -> None:
        assert command == ["npm", "pack", "--silent", "@a/b@1.0"]
        (tmp_path / "picture.txt").write_text("x")
        with tarfile.open(cwd / "a-b-1.0.tgz", "w:gz") as tar:
            tar.add(tmp_path / "picture.txt", "package/picture.txt")

    monkeypatch.setattr(subprocess, "run", download)
    files = materials.Package("npm", "@a/b", "1.0").unpack(tmp_path / "into")
    assert (files / "package/picture.txt").read_text() == "x"


def test_a_camera_looks_where_it_is_turned(tmp_path: Path) -> None:
    panorama = np.zeros((64, 128, 3), np.float32)
    panorama[:32] = (0.2, 0.4, 1.0)  # the sky
    panorama[32:, :64], panorama[32:, 64:] = (0.1, 0.6, 0.1), (0.6, 0.1, 0.1)
    left = photograph_sources.view(np.random.default_rng(4), panorama, -90).astype(int)
    right = photograph_sources.view(np.random.default_rng(4), panorama, 90).astype(int)
    assert (left[0, :, 2] > left[0, :, 0]).all()
    assert (left[-1, :, 1] > left[-1, :, 0]).all() and (right[-1, :, 0] > right[-1, :, 1]).all()


def test_patterns_and_noise_are_named() -> None:
    rng = np.random.default_rng(5)
    is_red = np.arange(128)[None, :, None] % 32 < 20
    striped = Image.fromarray(np.where(is_red, (214, 39, 40), (250, 250, 250)).repeat(128, 0).astype(np.uint8))
    captions = [textures.about(rng, striped, PATTERN, False) for _ in range(20)]
    assert "a pattern, mostly red and white" in {answer for lesson in captions for answer in _answers(lesson).values()}
    gray = Image.fromarray(rng.integers(0, 256, (128, 128, 1), np.uint8).repeat(3, 2))
    coloured = Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8))
    for image, caption in ((gray, "noise, mostly gray"), (coloured, "coloured noise")):
        answers = {answer for _ in range(20) for answer in _answers(textures.about(rng, image, NOISE, False)).values()}
        assert any(answer.startswith(caption) for answer in answers)


@pytest.mark.parametrize("kind", sorted(textures.FIELDS))
def test_fields_stay_between_0_and_1(kind: str) -> None:
    for seed in range(10):
        field = textures.FIELDS[kind](np.random.default_rng(seed))
        assert field.shape == (128, 128) and field.min() >= 0 and field.max() <= 1
        assert field.max() - field.min() > 0.3


def test_a_pattern_follows_from_its_seed() -> None:
    first, second = (np.asarray(textures.pattern(np.random.default_rng(6), True)) for _ in range(2))
    assert np.array_equal(first, second)


def test_photographs_of_evaluation_are_not_of_training() -> None:
    try:
        training, held_out = photographs.load(False), photographs.load(True)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    for table, pictures in ((photograph_sources.TRAINING, training), (photograph_sources.HELD_OUT, held_out)):
        assert sum(source.pictures for source in table) == len(pictures)

    def thumbnail(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BOX), np.float32)

    seen = np.stack([thumbnail(pixels) for pixels in training])
    for pixels in held_out:
        for turned in (thumbnail(pixels), thumbnail(pixels)[:, ::-1]):
            assert np.abs(seen - turned).mean((1, 2, 3)).min() > 8  # of 255; the same photograph in JPEG has about 2
