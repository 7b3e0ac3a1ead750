"""nano's lessons are right, nothing held out is trained on, and an interrupted training continues unchanged."""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smolcli.models.files import BUILT_IN
from smolcli.nano import batches, dataset, evaluate, fonts, judges, questions, suites, synthetic_images, train
from smolcli.nano.dataset import CELL_CLASS, CELLS, Lesson
from smolcli.nano.kinds import BLANK, DRAWING, KIND_QUESTIONS, PAGE
from smolcli.nano.model import WIDTH, Student
from smolcli.nano.synthetic_images import TILE, Annotation, Picture
from smolcli.nano.tokenizer import tokenizer
from smolcli.types import Prompt


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene(*shapes: tuple[str, str, int, int]) -> Picture:
    """A white picture with shapes given as colour, name, x and y."""
    image = Image.new("RGB", (TILE, TILE), "white")
    return Picture(image, [Annotation(name, x, y, 20, colour) for colour, name, x, y in shapes], ground="white")


@pytest.mark.parametrize(
    ("shapes", "layout", "caption"),
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
def test_scene_caption(shapes: list[tuple[str, str, int, int]], layout: str, caption: str) -> None:
    assert questions.scene_caption(scene(*shapes), layout) == f"{caption} on a white background"


def colour_at(tile: np.ndarray, x: float, y: float) -> str:
    """The name of the colour nearest to that of a pixel."""
    pixel = tile[int(y), int(x)].astype(float)
    return min(synthetic_images.COLOURS, key=lambda name: float(np.abs(pixel - synthetic_images.COLOURS[name]).sum()))


def test_cell_classes_match_the_pixels() -> None:
    names = {number: name for name, number in CELL_CLASS.items()}
    compared = 0
    for seed in range(30):
        lesson = dataset.single_shape(rng(seed), False)
        for cell, (shape, colour) in enumerate(lesson.cells[0]):
            if names[shape] in ("<square>", "<circle>"):  # both cover the middle of their cells
                x, y = (cell % CELLS + 0.5) * TILE / CELLS, (cell // CELLS + 0.5) * TILE / CELLS
                assert names[colour] == f"<{colour_at(lesson.tiles[0], x, y)}>"
                compared += 1
    assert compared > 20


@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_kinds_and_fonts_are_only_in_evaluation(
    held_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(100):
        for pair in synthetic_images.kinds(rng(seed), "white", 2, held_out):
            assert fonts.is_held_out(" ".join(pair), 8) == held_out
    for name in (*fonts.HELD_OUT_FONTS, "Tinos-Regular", "Lato-Regular", "DejaVuSans"):
        (tmp_path / f"{name}.ttf").touch()
    monkeypatch.setattr(fonts, "FONT_ROOT", tmp_path)
    fonts.fonts.cache_clear()
    expected = set(fonts.HELD_OUT_FONTS) if held_out else {"Lato-Regular", "DejaVuSans"}
    assert {Path(path).stem for path in fonts.fonts(held_out)} == expected
    fonts.fonts.cache_clear()


MOVES = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1), "it does not move": (0, 0)}


def centre_of_shape(tile: np.ndarray) -> np.ndarray:
    """The mean position (x, y) of the pixels that are not the ground."""
    ground = np.median(tile.reshape(-1, 3), axis=0)
    down, across = np.nonzero(np.abs(tile - ground).sum(-1) > 60)
    return np.array([across.mean(), down.mean()])


def test_motion_answers_match_the_frames() -> None:
    directions = set()
    for seed in range(60):
        lesson = dataset.motion(rng(seed), False)
        answers = dict([(lesson.prompt.turns[0].parts[-1], lesson.answer), *lesson.follow_ups])
        [direction] = [answer for question, answer in answers.items() if question in dataset.DIRECTION]
        first, last = (centre_of_shape(lesson.tiles[k].astype(float)) for k in (0, -1))
        moved = np.where(np.abs(last - first) > 4, np.sign(last - first), 0)
        assert tuple(moved) == MOVES[direction]
        directions.add(direction)
        for when, centre in (("start", first), ("end", last)):
            x, y = centre
            region = questions.region(x, y, TILE, TILE)  # "" near a border, where the two centres may differ
            assert not region or answers.get(f"Where is it at the {when}?", region) == region
    assert directions == set(MOVES)


def test_answer_tokens_are_weighted_by_the_root_of_their_count() -> None:
    follow_ups = [("How many?", "3"), ("What?", "a red star")]
    lesson = replace(dataset.single_shape(rng(1), False), answer="yes", follow_ups=follow_ups)
    ids, weights = batches.tokens_and_weights(lesson)
    answers = tokenizer().decode([i for i, w in zip(ids, weights, strict=True) if w], skip_special_tokens=False)
    assert answers == " yes<end_of_utterance> 3<end_of_utterance> a red star<end_of_utterance>"
    assert sum(weights) == pytest.approx(5**0.5 + 3**0.5 + 12**0.5)


def test_lessons_of_a_seed_never_change() -> None:
    """The random stream is part of what docs/models.md says of nano; scenes alone, since they need no fonts."""
    digest = hashlib.sha256()
    for draw in (dataset.single_shape, dataset.shapes, dataset.motion, dataset.blank):
        for seed in range(8):
            lesson = draw(rng(seed), seed % 2 == 1)
            digest.update(" ".join(dataset.CELL_CLASSES[number] for number in lesson.cells.ravel()).encode())
            digest.update(repr((lesson.prompt.turns[0].parts[-1], lesson.answer, *lesson.follow_ups)).encode())
    assert digest.hexdigest() == "195fbf3eb8d734692d30c1c0f056aca0b4a058df1c1ef737c9b144fca3be640b"


def scene_lesson(r: synthetic_images.Rng, stage: int) -> Lesson:
    return dataset.shapes(r, False)  # pages need fonts, which not every machine has


def test_batch_follows_from_seed_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_single_lesson", scene_lesson)
    batch, repeated, other = (batches.lesson_batch(1, number, 2, 4) for number in (7, 7, 8))
    assert batch.tiles is not None and repeated.tiles is not None and other.tiles is not None
    assert batch.ids is not None and repeated.ids is not None
    assert np.array_equal(batch.tiles, repeated.tiles) and np.array_equal(batch.ids, repeated.ids)
    assert batch.tiles.shape != other.tiles.shape or not np.array_equal(batch.tiles, other.tiles)


@torch.no_grad()
def test_text_loss_is_that_of_each_row_alone_in_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are sorted, computed in groups and padded; transformers' own attention gets each row without padding."""
    monkeypatch.setattr(batches, "_single_lesson", scene_lesson)
    batch = batches.lesson_batch(3, 1, 2, 2 * train.GROUP + 1)
    assert batch.ids is not None and batch.labels is not None and batch.weights is not None
    torch.manual_seed(0)
    student = Student()
    embeddings = torch.randn(len(batch.tiles), CELLS * CELLS, WIDTH)
    loss = train.text_loss(student, batch, embeddings.flatten(0, 1))
    student.vlm.set_attn_implementation("eager")
    losses, weights = 0.0, 0.0
    for tile, ids, labels, row_weights in zip(embeddings, batch.ids, batch.labels, batch.weights, strict=True):
        is_used = torch.from_numpy(ids != batches.PAD)
        embeds = student.vlm.model.text_model.embed_tokens(torch.from_numpy(ids)[is_used])
        embeds[torch.from_numpy(ids)[is_used] == student.vlm.config.image_token_id] = tile
        hidden = student.vlm.model.text_model(inputs_embeds=embeds[None]).last_hidden_state
        log_probabilities = student.vlm.lm_head(hidden)[0, :-1].log_softmax(-1)
        for place, (label, weight) in enumerate(zip(labels[1:], row_weights[1:], strict=True)):
            if weight:
                losses, weights = losses - weight * float(log_probabilities[place, label]), weights + weight
    assert loss is not None and float(loss) == pytest.approx(losses / weights, rel=1e-5)


def test_heads_alone_learn_at_the_start_from_given_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batches, "_single_lesson", scene_lesson)
    run = train.Run(argparse.Namespace(out=tmp_path, start=BUILT_IN, stage=2), torch.device("cpu"))
    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    run.step(batches.lesson_batch(3, 1, 2, 4), 2, 1.0, heads_alone=True)
    changed = {name for name, value in run.student.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"cells.weight", "cells.bias", "places.weight", "places.bias"}


def test_the_rate_rises_after_the_heads_and_falls_at_the_end() -> None:
    rates = [
        train.learning_rate(pictures, 20_000, 0.5, 3200) for pictures in (0, 3199, 3200, 4199, 5199, 10_000, 15_000)
    ]
    assert rates == pytest.approx([1, 1, 0.02, 0.5, 1, 1, 0.5])


def test_a_run_remains_in_its_last_stage() -> None:
    state = train.State(stage=2, talk_loss=0.01)
    assert not train.promote(state, 2) and train.promote(state, 3) and state.stage == 3


@pytest.mark.slow
@pytest.mark.parametrize("painters", [1, 2])
def test_interrupted_training_gives_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, painters: int
) -> None:
    """Also if it is interrupted just after a promotion, when painters still have batches of the stage before."""
    monkeypatch.setattr(batches, "_single_lesson", scene_lesson)
    monkeypatch.setattr(batches, "_mixed_lessons", lambda r, mix, tiles: [scene_lesson(r, 3)] * tiles)
    monkeypatch.setattr(train, "HEADS_ALONE", 4)
    monkeypatch.setattr(batches, "AHEAD", 4)
    # Muon's matrix products in float32: a CPU without bfloat16 takes minutes for them otherwise.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())

    def weights(out: Path, *stops: int) -> dict[str, torch.Tensor]:
        for stop in stops:
            train.train(
                argparse.Namespace(
                    out=out, pictures=stop, decay=1e-9, tiles=2, threads=1, painters=painters, save_every=1e9,
                    start=BUILT_IN, stage=1, last_stage=4, seed=5, rate=1.0,
                )
            )  # fmt: skip
            assert multiprocessing.active_children() == []
        checkpoint = torch.load(out / "checkpoint.pt", weights_only=True)
        assert checkpoint["state"]["stage"] > 1
        return {**checkpoint["student"], **{f"mean {name}": value for name, value in checkpoint["mean"].items()}}

    whole, interrupted = weights(tmp_path / "whole", 16), weights(tmp_path / "interrupted", 3, 10, 16)
    assert all(torch.equal(value, interrupted[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("answer", "reply", "rate"),
    [("kitten", "sitting", 3 / 6), ("sitting", "kitten", 3 / 7), ("abc", "", 1.0), ("flaw", "lawn", 2 / 4)],
)
def test_cer_of_one_reply(answer: str, reply: str, rate: float) -> None:
    case = suites.Case(Prompt.user("What is written?"), answer, Image.new("RGB", (1, 1)))
    assert judges.character_error_rate([case], [reply]) == rate


def test_kl_of_equal_and_of_known_distributions() -> None:
    class Fixed:
        def __init__(self, *probabilities: float) -> None:
            self.logits: Callable[[object], np.ndarray] = lambda _: np.log(np.array([probabilities])) + 3

    half, prompt = Fixed(0.5, 0.5), Prompt.user("?")
    assert evaluate.kl([half, half], [prompt]) == pytest.approx([0])
    assert evaluate.kl([half, Fixed(0.25, 0.75)], [prompt]) == pytest.approx([0.5 * np.log(2) + 0.5 * np.log(2 / 3)])


@pytest.mark.usefixtures("made_up_print")
def test_the_kind_that_is_told_is_that_of_the_picture() -> None:
    """A page has many edges, a blank picture none but its wear, shapes a few colours without letters."""
    kinds_seen = set()
    for seed in range(60):
        lesson = dataset.kind(rng(seed), False)
        question = str(lesson.prompt.turns[0].parts[-1])
        if question not in KIND_QUESTIONS:
            continue
        kinds_seen.add(lesson.answer)
        has_letters = bool(
            (lesson.cells > 0).any() and (lesson.cells < len(synthetic_images.CHARS)).any(where=lesson.cells > 0)
        )
        assert has_letters == (lesson.answer == PAGE)
    assert kinds_seen == {PAGE, DRAWING, BLANK}


def test_scattered_shapes_are_named_without_an_order() -> None:
    for seed in range(30):
        lesson = dataset.scattered(rng(seed), False)
        text = " ".join([lesson.answer, *(answer for _, answer in lesson.follow_ups)])
        assert "from left to right" not in text and "to the left of" not in text and "above" not in text
