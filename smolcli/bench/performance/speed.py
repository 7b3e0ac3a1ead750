"""`bench speed`: how long every stage of an answer takes, for every combination of settings."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from smolcli.bench.configurations import Configuration
from smolcli.bench.options import Speed
from smolcli.bench.performance import cli_runner
from smolcli.bench.performance.machine_noise import Watch
from smolcli.bench.performance.speed_worker import Case, Sample
from smolcli.bench.pictures import Pictures
from smolcli.bench.report.model import MEASURES, Figure, Result
from smolcli.process.child import Child, received
from smolcli.process.pipe import PeerClosed

QUESTION = "Describe this image."
NOISY = 0.1  # of the median: a wider interval of a rate is told
SURE = 0.9375  # that the median lies in an interval: what the range of five repetitions gives

Tick = Callable[[], object]  # called for every repetition that is done
Told = list[Sample] | str  # of a case its samples, or why it has none


def speed(setup: Configuration, wanted: Speed, verbose: bool, tick: Tick) -> Iterator[Result]:
    """The figures of one setup, a result for each combination of picture, batch and length, as soon as it is there.

    Raises UsageError where there is no picture, EngineError and ModelError where the model cannot be run at all.
    """
    with tempfile.TemporaryDirectory(prefix="smolcli-bench-") as folder:
        pictures = Pictures(Path(folder))
        cases = [
            Case(pictures.of(image, batch), QUESTION, wanted.prompt_tokens, new) for image, batch, new in wanted.cases
        ]
        cold = list(_cold(setup, pictures, wanted.repeat, tick))
        commands = {"start": figure([rest for rest, _ in cold]), "load": figure([load for _, load in cold])}
        watch = Watch()
        told = _measured(setup, cases, wanted, verbose, tick)
        for (image, batch, new), case, (tokens, samples, worked) in zip(wanted.cases, cases, told, strict=True):
            settings = {**setup.settings, "image": image, "batch": batch, "new_tokens": new}
            if wanted.prompt_tokens:
                settings["prompt_tokens"] = wanted.prompt_tokens
            if isinstance(samples, str):
                yield setup.failed(settings, samples)
                continue
            figures, notices = commands | figures_of(samples, batch, tokens), watch.notices(worked)
            if again := batch - len({item.path for item in case.items}) if case.items else 0:
                figures = {name: one for name, one in figures.items() if name not in ("tile", "images")}
                notices.append(f"{again} of {batch} pictures came again and were encoded already: give more of them")
            ordered = {name: figures[name] for name in MEASURES if name in figures}
            facts = {"tiles": samples[0].image // tokens // batch, "tokens": samples[0].prompt // batch}
            told_of = (*notices, *_spread(figures))
            yield Result(settings, ordered, facts, setup.bytes, setup.fingerprint, notices=told_of)
            watch = Watch()


def _cold(setup: Configuration, pictures: Pictures, repeat: int, tick: Tick) -> Iterator[tuple[float, float]]:
    """Of the real command: seconds that no stage of a warm engine accounts for, and those to load the model.

    It is given two pictures of one tile, of which the second finds the engine warm: that the first took longer is a
    part of the start.
    """
    items = pictures.of("64x64", 2)
    low = replace(setup, options=replace(setup.options, detail="low"))
    for _ in range(repeat):
        ran = cli_runner.ask(low, QUESTION, [item.path for item in items], 2)
        load, warm = float(ran.records[0]["seconds"]["load"]), dict(ran.records[1]["seconds"])
        opening = warm.pop("media")  # of the second while the first was answered
        yield ran.wall - load - opening - 2 * sum(warm.values()), load
        tick()


def _measured(
    setup: Configuration, cases: Sequence[Case], wanted: Speed, verbose: bool, tick: Tick
) -> Iterator[tuple[int, Told, float]]:
    """Of each case the tokens of one tile, what was measured, and the CPU seconds that the engine's process had for it.

    A case that ends the engine costs itself alone.
    """
    left = list(cases)
    while left:
        before = 0.0
        with closing(
            Child(
                "smolcli.bench.performance.speed_worker:serve",
                (setup.place, setup.files, setup.options, left, wanted.warmup, wanted.repeat),
                verbose,
            )
        ) as child:
            tokens, samples = 0, []
            try:
                while left:
                    kind, value = child.pipe.receive()
                    if kind == "error" and not tokens:
                        raise received(value)  # the model cannot be loaded
                    if kind == "tokens":
                        tokens = value
                    elif kind == "sample":
                        samples += [value] if value is not None else []
                        tick()
                    elif kind == "done":
                        yield tokens, samples, value - before
                        left, samples, before = left[1:], [], value
                    else:
                        yield tokens, str(received(value)) if kind == "error" else value, 0.0
                        left, samples = left[1:], []
                        if kind == "error":
                            break
            except PeerClosed:
                fault = child.post_mortem("use a smaller model, a smaller --batch or --detail low")
                yield tokens, fault.message, 0.0
                left = left[1:]


def figures_of(samples: Sequence[Sample], batch: int, tile_tokens: int) -> dict[str, Figure]:
    """The figures of one case from its repetitions, each of `batch` pictures whose tiles are `tile_tokens` tokens.

    A reply of n tokens takes n - 1 evaluations: the first is chosen from what the prompt gave.
    """
    found: dict[str, list[float]] = {}
    if all(each.prefill for each in samples):  # echo takes no time
        found["prefill"] = [each.prompt / each.prefill for each in samples]
    if samples[0].new > batch and all(each.decode for each in samples):
        found["decode"] = [(each.new - batch) / each.decode for each in samples]
    if samples[0].image:
        found["media"] = [(each.opening + each.cutting) / batch for each in samples]
        found["tile"] = [each.encode / (each.image / tile_tokens) for each in samples]
        found["images"] = [batch / each.wall for each in samples]
    if batch == 1:
        found["first"] = [each.wall - each.decode for each in samples]
    return {name: figure(values) for name, values in found.items()}


def figure(values: Sequence[float]) -> Figure:
    """The median, and the interval between the order statistics in which it lies with a probability of SURE at least.

    Of five values or fewer that is their range. The count of values under the median is binomial (Conover, Practical
    Nonparametric Statistics, section 3.2).

    >>> figure([3.0, 1.0, 2.0])
    Figure(value=2.0, low=1.0, high=3.0, count=3)
    """
    ordered, count = sorted(values), len(values)
    outside = 0  # so many values at either end are left out
    while 2 * (outside + 1) < count and 1 - 2 * _below(outside + 2, count) >= SURE:
        outside += 1
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Figure(middle, ordered[outside], ordered[-1 - outside], count)


def _below(successes: int, count: int) -> float:
    """The chance that fewer than `successes` of `count` throws of a coin are heads."""
    return sum(math.comb(count, k) for k in range(successes)) * 0.5**count


def _spread(figures: dict[str, Figure]) -> Iterator[str]:
    for name in ("tile", "prefill", "decode", "images"):
        one = figures.get(name)
        if one is not None and one.value and (one.high - one.low) / one.value > NOISY:
            share = (one.high - one.low) / one.value
            yield f"{MEASURES[name].title} varies by {share:.0%}; raise --repeat"
