"""`bench speed`: how long every stage of an answer takes, for every combination of settings."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from smolcli import registry
from smolcli.bench.configurations import Configuration
from smolcli.bench.options import Speed
from smolcli.bench.performance import cli_runner
from smolcli.bench.performance.floors import Floors, Machine, read_sizes
from smolcli.bench.performance.machine_noise import NoiseWatch
from smolcli.bench.performance.speed_worker import Case, Sample
from smolcli.bench.pictures import PictureSource
from smolcli.bench.report.results import MEASURES, Figure, Result
from smolcli.errors import ModelError
from smolcli.process.child import Child, call
from smolcli.process.pipe import FunctionFailed, PeerClosed

QUESTION = "Describe this image."
NOISY = 0.1  # fraction of the median; a notice tells of a wider interval
# Figures that count the work for every picture, of which less is done for one that was there before.
NOT_OF_REPEATED = ("tile", "images", "encode_floor", "prefill_floor")
CONFIDENCE = 0.9375  # that the median lies in its interval: what the range of five repetitions gives

Tick = Callable[[], object]  # called after every repetition
Samples = list[Sample] | str  # the samples of a case, or the error for which it has none


def measure_speed(configuration: Configuration, options: Speed, verbose: bool, tick: Tick) -> Iterator[Result]:
    """Yield the result of each combination of picture, batch and length as soon as it is measured.

    Raises UsageError if there is no picture, EngineError and ModelError if the model cannot be run at all.
    """
    with tempfile.TemporaryDirectory(prefix="smolcli-bench-") as folder:
        pictures = PictureSource(Path(folder))
        cases = [
            Case(pictures.items(image, batch), QUESTION, options.prompt_tokens, new_tokens)
            for image, batch, new_tokens in options.cases
        ]
        starts = list(_cold_starts(configuration, pictures, options.repeat, tick))
        start_figures = {
            "start": median_figure([start for start, _ in starts]),
            "load": median_figure([load for _, load in starts]),
        }
        floors = _floors(configuration)
        watch = NoiseWatch()
        measured = _measure_cases(configuration, cases, options, verbose, tick)
        for (image, batch, new_tokens), case, (tile_tokens, samples, cpu_seconds) in zip(
            options.cases, cases, measured, strict=True
        ):
            settings = {**configuration.settings, "image": image, "batch": batch, "new_tokens": new_tokens}
            if options.prompt_tokens:
                settings["prompt_tokens"] = options.prompt_tokens
            if isinstance(samples, str):
                yield configuration.failed_result(settings, samples)
                continue
            figures, notices = start_figures | stage_figures(samples, batch, tile_tokens), watch.notices(cpu_seconds)
            figures |= step_figures(samples, batch, tile_tokens, floors)
            if repeated := batch - len({item.path for item in case.items}) if case.items else 0:
                figures = {name: figure for name, figure in figures.items() if name not in NOT_OF_REPEATED}
                notices.append(
                    f"{repeated} of {batch} pictures were repeated, their embeddings cached: give more of them"
                )
            ordered = {name: figures[name] for name in MEASURES if name in figures}
            facts = {"tiles": samples[0].image // tile_tokens // batch, "tokens": samples[0].prompt // batch}
            yield Result(
                settings, ordered, facts, configuration.file_bytes, configuration.fingerprint,
                notices=(*notices, *_wide_intervals(figures)),
            )  # fmt: skip
            watch = NoiseWatch()


def _cold_starts(
    configuration: Configuration, pictures: PictureSource, repeat: int, tick: Tick
) -> Iterator[tuple[float, float]]:
    """Yield for each run of the real command the seconds outside all stages of a warm engine, and those of loading.

    The command gets two pictures of one tile. The engine is warm for the second; what the first took longer is counted
    as start.
    """
    items = pictures.items("64x64", 2)
    low_detail = replace(configuration, options=replace(configuration.options, detail="low"))
    for _ in range(repeat):
        command = cli_runner.run_ask(low_detail, QUESTION, [item.path for item in items], 2)
        load, warm = float(command.records[0]["seconds"]["load"]), dict(command.records[1]["seconds"])
        opening = warm.pop("media")  # of the second picture, while the first was answered
        yield command.wall - load - opening - 2 * sum(warm.values()), load
        tick()


def _measure_cases(
    configuration: Configuration, cases: Sequence[Case], options: Speed, verbose: bool, tick: Tick
) -> Iterator[tuple[int, Samples, float]]:
    """Yield for each case the tokens of a tile, its samples, and the CPU seconds of the engine's process.

    A case that ends the engine has an error instead of samples; a new engine measures the cases after it.
    """
    left = list(cases)
    while left:
        cpu_before = 0.0
        with closing(
            Child(
                "smolcli.bench.performance.speed_worker:serve",
                (
                    configuration.target,
                    configuration.files,
                    configuration.options,
                    left,
                    options.warmup,
                    options.repeat,
                ),
                verbose,
            )
        ) as child:
            tile_tokens, samples = 0, []
            try:
                while left:
                    message = child.pipe.receive()
                    if isinstance(message, FunctionFailed):
                        if not tile_tokens:
                            raise message.error  # the model cannot be loaded
                        yield tile_tokens, str(message.error), 0.0
                        left = left[1:]
                        break
                    kind, value = message
                    if kind == "tokens":
                        tile_tokens = value
                    elif kind == "sample":
                        samples += [value] if value is not None else []
                        tick()
                    elif kind == "done":
                        yield tile_tokens, samples, value - cpu_before
                        left, samples, cpu_before = left[1:], [], value
                    else:
                        yield tile_tokens, value, 0.0
                        left, samples = left[1:], []
            except PeerClosed:
                fault = child.post_mortem("use a smaller model, a smaller --batch or --detail low")
                yield tile_tokens, fault.message, 0.0
                left = left[1:]


def stage_figures(samples: Sequence[Sample], batch: int, tile_tokens: int) -> dict[str, Figure]:
    """The figures of a case from its repetitions, each of `batch` pictures whose tiles are `tile_tokens` tokens.

    A reply of n tokens takes n - 1 decoding steps: prefill gives the logits for the first.
    """
    values: dict[str, list[float]] = {}
    if all(sample.prefill for sample in samples):  # echo takes no time
        values["prefill"] = [sample.prompt / sample.prefill for sample in samples]
    if samples[0].new > batch and all(sample.decode for sample in samples):
        values["decode"] = [(sample.new - batch) / sample.decode for sample in samples]
    if samples[0].image:
        values["media"] = [(sample.opening + sample.cutting) / batch for sample in samples]
        values["tile"] = [sample.encode / (sample.image / tile_tokens) for sample in samples]
        values["images"] = [batch / sample.wall for sample in samples]
    if batch == 1:
        values["first"] = [sample.wall - sample.decode for sample in samples]
    return {name: median_figure(repetitions) for name, repetitions in values.items()}


def step_figures(samples: Sequence[Sample], batch: int, tile_tokens: int, floors: Floors | None) -> dict[str, Figure]:
    """The sequences in a decoding step, and each stage's floor in percent of the time that the stage took.

    Without `floors` only the first.
    """
    values: dict[str, list[float]] = {}
    if all(sample.steps for sample in samples):
        values["rows"] = [sample.rows / sample.steps for sample in samples]
    if floors is None:
        return {name: median_figure(repetitions) for name, repetitions in values.items()}
    if all(sample.image and sample.encode for sample in samples):
        values["encode_floor"] = [100 * floors.encode(s.image // tile_tokens) / s.encode for s in samples]
    if all(sample.prefill for sample in samples):
        values["prefill_floor"] = [
            100 * floors.prefill([sample.prompt // batch] * batch) / sample.prefill for sample in samples
        ]
    if all(sample.steps and sample.decode for sample in samples):
        values["decode_floor"] = [100 * floors.decode(sample.steps) / sample.decode for sample in samples]
    return {name: median_figure(repetitions) for name, repetitions in values.items()}


def _floors(configuration: Configuration) -> Floors | None:
    """The floors of a model on this machine's CPU; None for a backend that runs none, or that runs it on a GPU."""
    if registry.BACKENDS[configuration.backend].is_hidden or configuration.settings["device"] != "cpu":
        return None
    try:
        return Floors(_machine(), read_sizes(configuration.files, configuration.backend))
    except ModelError:
        return None  # the backend says what is wrong with the model


@lru_cache(1)
def _machine() -> Machine:
    """What this machine does at most, measured in a process of its own before the first model."""
    machine: Machine = call("smolcli.bench.performance.floors:measure_machine")
    return machine


def median_figure(values: Sequence[float]) -> Figure:
    """The median, and the order statistics between which it lies with a probability of at least CONFIDENCE.

    For five values or fewer these are the least and the greatest. The count of values below the median is binomial
    (Conover, Practical Nonparametric Statistics, section 3.2).

    >>> median_figure([3.0, 1.0, 2.0])
    Figure(value=2.0, low=1.0, high=3.0, count=3)
    """
    ordered, count = sorted(values), len(values)
    outside = 0  # values at each end that are left out
    while 2 * (outside + 1) < count and 1 - 2 * _probability_below(outside + 2, count) >= CONFIDENCE:
        outside += 1
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Figure(middle, ordered[outside], ordered[-1 - outside], count)


def _probability_below(heads: int, count: int) -> float:
    """The probability that fewer than `heads` of `count` tosses of a coin are heads."""
    return sum(math.comb(count, k) for k in range(heads)) * 0.5**count


def _wide_intervals(figures: dict[str, Figure]) -> Iterator[str]:
    """A notice for each figure whose interval is wide."""
    for name in ("tile", "prefill", "decode", "images"):
        figure = figures.get(name)
        if figure is None or not figure.value:
            continue
        spread = (figure.high - figure.low) / figure.value
        if spread > NOISY:
            yield f"{MEASURES[name].title} varies by {spread:.0%}; raise --repeat"
