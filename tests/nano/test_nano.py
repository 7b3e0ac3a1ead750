"""nano's lessons tell the truth and keep apart what is held out; a cut changes nothing in a training."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smolcli.models.files import BUILT_IN
from smolcli.nano import dataset, evaluate, synthetic_images, train
from smolcli.nano.dataset import CELL_CLASS, CELLS, Lesson
from smolcli.nano.synthetic_images import TILE, Mark, Picture
from smolcli.nano.tokenizer import tokenizer


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene(*things: tuple[str, str, int, int], layout: str = "row") -> Picture:
    """Things given as colour, shape, x, y."""
    image = synthetic_images.Image.new("RGB", (TILE, TILE), "white")
    return Picture(image, [Mark(s, x, y, 20, c) for c, s, x, y in things], ground="white")


@pytest.mark.parametrize(
    ("things", "layout", "says"),
    [
        ([("orange", "ring", 60, 60)], "free", "an orange ring"),
        ([("red", "cross", 20, 60), ("red", "cross", 90, 60)], "row", "two red crosses"),
        ([("red", "star", 20, 60), ("blue", "star", 90, 60)], "row", "a red star to the left of a blue star"),
        ([("red", "star", 60, 20), ("blue", "heart", 60, 90)], "column", "a red star above a blue heart"),
        (
            [("red", "star", 20, 60), ("blue", "ring", 60, 60), ("red", "star", 90, 60)], "row",
            "from left to right: a red star, a blue ring and a red star",
        ),
        (
            [("red", "star", 9, 9), ("red", "star", 60, 60), ("blue", "ring", 90, 9), ("red", "star", 9, 90)], "free",
            "three red stars and one blue ring",
        ),
    ],
)  # fmt: skip
def test_captions(things: list[tuple[str, str, int, int]], layout: str, says: str) -> None:
    assert dataset.scene_caption(scene(*things), layout) == f"{says} on a white background"


def colour_at(tile: np.ndarray, x: float, y: float) -> str:
    """The name of the nearest colour."""
    pixel = tile[int(y), int(x)].astype(float)
    return min(synthetic_images.COLOURS, key=lambda name: float(np.abs(pixel - synthetic_images.COLOURS[name]).sum()))


def test_cells_say_what_the_pixels_show() -> None:
    names = {number: name for name, number in CELL_CLASS.items()}
    seen = 0
    for seed in range(30):
        lesson = dataset.one(rng(seed), False)
        for cell, (shape, colour) in enumerate(lesson.cells[0]):
            if names[shape] in ("<square>", "<circle>"):  # both cover the middle of the cells they are said to be in
                x, y = (cell % CELLS + 0.5) * TILE / CELLS, (cell // CELLS + 0.5) * TILE / CELLS
                assert names[colour] == f"<{colour_at(lesson.tiles[0], x, y)}>"
                seen += 1
    assert seen > 20


@pytest.mark.parametrize("judging", [False, True])
def test_what_is_held_out_is_in_judging_alone(judging: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(100):
        for pair in synthetic_images.kinds(rng(seed), "white", 2, judging):
            assert synthetic_images.held_out(" ".join(pair), 8) == judging
    for name in (*synthetic_images.HELD_OUT_FONTS, "Tinos-Regular", "Lato-Regular", "DejaVuSans"):
        (tmp_path / f"{name}.ttf").touch()
    monkeypatch.setattr(synthetic_images, "FONT_ROOT", tmp_path)
    synthetic_images.fonts.cache_clear()
    wanted = set(synthetic_images.HELD_OUT_FONTS) if judging else {"Lato-Regular", "DejaVuSans"}
    assert {Path(path).stem for path in synthetic_images.fonts(judging)} == wanted
    synthetic_images.fonts.cache_clear()


MOVES = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1), "it does not move": (0, 0)}


def middle(tile: np.ndarray) -> np.ndarray:
    """The mean place of what is not the ground."""
    ground = np.median(tile.reshape(-1, 3), axis=0)
    down, across = np.nonzero(np.abs(tile - ground).sum(-1) > 60)
    return np.array([across.mean(), down.mean()])


def test_motion_is_what_the_frames_show() -> None:
    said = set()
    for seed in range(60):
        lesson = dataset.motion(rng(seed), False)
        asked = dict([(lesson.prompt.turns[0].parts[-1], lesson.answer), *lesson.further])
        [way] = [answer for question, answer in asked.items() if question in dataset.DIRECTION]
        first, last = (middle(lesson.tiles[k].astype(float)) for k in (0, -1))
        moved = np.where(np.abs(last - first) > 4, np.sign(last - first), 0)
        assert tuple(moved) == MOVES[way]
        said.add(way)
        for when, place in (("start", first), ("end", last)):
            shown = dataset.place(*place, TILE, TILE)  # empty near a border, where the two middles may differ
            assert not shown or asked.get(f"Where is it at the {when}?", shown) == shown
    assert said == set(MOVES)


def test_answers_are_weighed_by_the_root_of_their_length() -> None:
    lesson = replace(dataset.one(rng(1), False), answer="yes", further=[("How many?", "3"), ("What?", "a red star")])
    ids, weights = train._row(lesson)
    said = tokenizer().decode([i for i, w in zip(ids, weights, strict=True) if w], skip_special_tokens=False)
    assert said == " yes<end_of_utterance> 3<end_of_utterance> a red star<end_of_utterance>"
    assert sum(weights) == pytest.approx(5**0.5 + 3**0.5 + 12**0.5)


def only_scenes(r: synthetic_images.Rng, stage: int) -> Lesson:
    return dataset.objects(r, False)  # pages need fonts, which not every machine has


def test_a_batch_follows_from_seed_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_single", only_scenes)
    one, same, other = (train.lesson_batch(1, number, 2, 4) for number in (7, 7, 8))
    assert np.array_equal(one.tiles, same.tiles) and np.array_equal(one.ids, same.ids)
    assert one.tiles.shape != other.tiles.shape or not np.array_equal(one.tiles, other.tiles)


@pytest.mark.parametrize("painters", [1, 2])
def test_a_cut_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, painters: int) -> None:
    """Neither within a stage nor just after one was allowed, when painters have batches of the one before."""
    monkeypatch.setattr(train, "_single", only_scenes)
    monkeypatch.setattr(train, "_tiled", lambda r, tiles: [only_scenes(r, 3)])
    monkeypatch.setattr(train, "AHEAD", 4)

    def weights(out: Path, *stops: int) -> dict[str, torch.Tensor]:
        for stop in stops:
            train.train(
                argparse.Namespace(
                    out=out, pictures=stop, decay=1e-9, tiles=2, threads=1, painters=painters, save_every=1e9,
                    start=BUILT_IN, stage=1, seed=5,
                )
            )  # fmt: skip
            assert multiprocessing.active_children() == []
        kept = torch.load(out / "checkpoint.pt", weights_only=True)
        assert kept["state"]["stage"] > 1
        return {**kept["student"], **{f"mean {name}": value for name, value in kept["mean"].items()}}

    whole, cut = weights(tmp_path / "whole", 16), weights(tmp_path / "cut", 3, 10, 16)
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


@pytest.mark.parametrize(("a", "b", "edits"), [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2)])
def test_edits(a: str, b: str, edits: int) -> None:
    assert evaluate.edits(a, b) == evaluate.edits(b, a) == edits


def test_kl_is_nought_for_equal_and_right_for_known_distributions() -> None:
    class Fixed:
        def __init__(self, *shares: float) -> None:
            self.logits: Callable[[object], np.ndarray] = lambda _: np.log(np.array([shares])) + 3

    half = Fixed(0.5, 0.5)
    assert evaluate.kl([half, half], [None]) == pytest.approx([0])
    assert evaluate.kl([half, Fixed(0.25, 0.75)], [None]) == pytest.approx([0.5 * np.log(2) + 0.5 * np.log(2 / 3)])
