"""Batches of lessons, each of which follows from a seed and its number, and the processes that draw them ahead."""

from __future__ import annotations

import multiprocessing as mp
import queue
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from smolcli.models.chat_template import END, segments, text
from smolcli.nano import charts, dataset, photographs, pieces, screens, textures, things
from smolcli.nano.dataset import IGNORE, Lesson
from smolcli.nano.model import TOKENS
from smolcli.nano.synthetic_images import Rng
from smolcli.nano.tokenizer import tokenizer

STAGES = ("cells", "words", "lines", "kinds", "everything")
MOTION = (0.0, 0.0, 0.22, 0.07, 0.07)  # the share of batches of clips, by stage
PAD = 2  # the token that fills rows up
Mix = dict[Callable[[Rng, int], list[Lesson]], float]  # what draws so many lessons, and its share of all
AHEAD = 32  # batches drawn ahead; a stage begins so many steps after the loss allows it


@dataclass
class Batch:
    """`tiles` uint8 (n, 128, 128, 3); `cells` int16 (n, 64, 2); `ids`, `labels` int64 (b, length), or None.

    `weights` float32 (b, length) belongs to the labels: 1 / the root of the length of the label's answer, so that a
    page does not outweigh an answer of one word. The rows are sorted by their length without padding.
    """

    tiles: np.ndarray[Any, Any]
    cells: np.ndarray[Any, Any]
    ids: np.ndarray[Any, Any] | None
    labels: np.ndarray[Any, Any] | None
    weights: np.ndarray[Any, Any] | None


def lesson_batch(seed: int, number: int, stage: int, tiles: int) -> Batch:
    """Batch `number` of a run with this seed: lessons of one family that have about `tiles` tiles."""
    rng = np.random.default_rng((seed, number))
    if rng.random() < MOTION[stage]:
        lessons = [dataset.motion(rng, False) for _ in range(max(2, tiles // 4))]
    elif mix := MIXES.get(STAGES[stage]):
        lessons = _mixed_lessons(rng, mix, tiles)
    else:
        lessons = [_single_lesson(rng, stage) for _ in range(tiles)]
    return _collate(lessons, stage > 0)


def _mixed_lessons(rng: Rng, mix: Mix, tiles: int) -> list[Lesson]:
    """Lessons of a mix, as many of each as its share in the mean, and pieces of a few pages."""
    counts = rng.multinomial(tiles, np.array(list(mix.values())) / sum(mix.values()))
    lessons: list[Lesson] = []
    for draw, count in zip(mix, counts, strict=True):
        lessons += draw(rng, int(count))
    return lessons


def _each(draw: Callable[[Rng, bool], Lesson]) -> Callable[[Rng, int], list[Lesson]]:
    """What draws so many lessons of a kind, none of them held out."""
    return lambda rng, count: [draw(rng, False) for _ in range(count)]


def _read(rng: Rng, held_out: bool) -> Lesson:
    return dataset.read(rng, held_out, 6 if rng.random() < 0.8 else 1)


def _pieces(rng: Rng, count: int) -> list[Lesson]:
    return pieces.lessons(rng, False, count)


# The lessons of the last two stages and their shares. Of charts, screenshots and things `kinds` teaches no more than
# what kind of picture it is.
MIXES: dict[str, Mix] = {
    "kinds": {
        _pieces: 0.22,
        _each(_read): 0.14,
        _each(dataset.shapes): 0.25,
        _each(dataset.scattered): 0.04,
        _each(dataset.kind): 0.03,
        _each(things.unknown): 0.07,
        _each(photographs.lesson): 0.12,
        _each(textures.lesson): 0.03,
        _each(partial(charts.lesson, kind_alone=True)): 0.03,
        _each(partial(screens.lesson, kind_alone=True)): 0.03,
        _each(dataset.blank): 0.04,
    },
    "everything": {
        _pieces: 0.25,
        _each(_read): 0.08,
        _each(dataset.shapes): 0.14,
        _each(dataset.scattered): 0.03,
        _each(dataset.kind): 0.03,
        _each(things.lesson): 0.18,
        _each(things.single): 0.06,
        _each(photographs.lesson): 0.09,
        _each(textures.lesson): 0.02,
        _each(charts.lesson): 0.05,
        _each(screens.lesson): 0.04,
        _each(dataset.blank): 0.03,
    },
}


def _single_lesson(rng: Rng, stage: int) -> Lesson:
    """A lesson of one tile, of the stages before the last."""
    kind = rng.random()
    if stage == 0:
        if kind < 0.82:
            return dataset.dense(rng)
        return dataset.shapes(rng, False) if kind < 0.97 else dataset.blank(rng, False)
    if stage == 1:
        if kind < 0.7:
            return dataset.read(rng, False, 2, 0.2)
        return dataset.single_shape(rng, False) if kind < 0.95 else dataset.blank(rng, False)
    if kind < 0.42:
        return _read(rng, False)
    return dataset.shapes(rng, False) if kind < 0.96 else dataset.blank(rng, False)


def _collate(lessons: list[Lesson], has_text: bool) -> Batch:
    rows = [tokens_and_weights(lesson) for lesson in lessons]
    order = sorted(range(len(rows)), key=lambda k: len(rows[k][0]))
    tiles = np.concatenate([lessons[k].tiles for k in order])
    cells = np.concatenate([lessons[k].cells for k in order])
    if not has_text:
        return Batch(tiles, cells, None, None, None)
    shape = len(rows), len(rows[order[-1]][0])
    ids, weights = np.full(shape, PAD, np.int64), np.zeros(shape, np.float32)
    for row, k in enumerate(order):
        row_ids, row_weights = rows[k]
        ids[row, : len(row_ids)], weights[row, : len(row_ids)] = row_ids, row_weights
    return Batch(tiles, cells, ids, np.where(weights > 0, ids, IGNORE), weights)


def tokens_and_weights(lesson: Lesson) -> tuple[list[int], list[float]]:
    """The token ids of a lesson's conversation, and the weight of each: 0 in questions."""
    ids, weights = list[int](), list[float]()
    prompt = text(segments(lesson.prompt, lesson.grids), TOKENS)
    turns = [(prompt, lesson.answer)]
    turns += [(f"\nUser: {question}{END}\nAssistant:", answer) for question, answer in lesson.follow_ups]
    for question, answer in turns:
        question_ids, answer_ids = tokenizer().encode(question).ids, tokenizer().encode(f" {answer}{END}").ids
        ids += question_ids + answer_ids
        weights += [0.0] * len(question_ids) + [len(answer_ids) ** -0.5] * len(answer_ids)
    return ids, weights


# ---- processes that draw -------------------------------------------------------------------------


class Painter(NamedTuple):
    """A process that draws batches, and the queue it puts them into, each with the stage it was drawn for."""

    process: Any
    batches: Any

    def next_batch(self) -> tuple[int, Batch]:
        """The next batch and its stage. Raises RuntimeError if the process has ended."""
        while True:
            try:
                stage, batch = self.batches.get(timeout=60)
                return stage, batch
            except queue.Empty:
                if not self.process.is_alive():
                    raise RuntimeError(f"a painter has ended with code {self.process.exitcode}") from None


class Painters:
    """`count` processes, each of which draws every `count`-th batch from `step` on."""

    def __init__(self, count: int, seed: int, tiles: int, step: int, stage: int, begins: int) -> None:
        context = mp.get_context("fork")
        self._stages = context.Array("i", [stage, begins])
        self._painters: list[Painter] = []
        for worker in range(count):
            batches = context.Queue(maxsize=max(1, AHEAD // count - 2))
            first = step + (worker - step) % count
            arguments = (batches, self._stages, seed, first, count, tiles)
            process = context.Process(target=_draw_forever, args=arguments, daemon=True)
            self._painters.append(Painter(process, batches))
            process.start()

    def next_batch(self, step: int) -> tuple[int, Batch]:
        """Batch `step` and the stage it was drawn for. Raises RuntimeError if its process has ended."""
        return self._painters[step % len(self._painters)].next_batch()

    def begin_stage(self, stage: int, begins: int) -> None:
        """Draw batches from number `begins` on for `stage`."""
        with self._stages.get_lock():
            self._stages[:] = stage, begins

    def close(self) -> None:
        """End the processes: by SIGKILL, since they inherited this process's signal handlers."""
        for process, _ in self._painters:
            process.kill()
            process.join()


def _draw_forever(batches: Any, stages: Any, seed: int, first: int, step: int, tiles: int) -> None:
    torch.set_num_threads(1)
    number = first
    while True:
        with stages.get_lock():
            latest, begins = stages
        stage = latest if number >= begins else latest - 1
        batches.put((stage, lesson_batch(seed, number, stage, tiles)))
        number += step
