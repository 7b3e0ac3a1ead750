"""The child process of a speed benchmark: it does the work of the engine and times every stage.

As in the engine, a small pool opens inputs ahead, and the backend takes the next prompt when it can admit a sequence.
With a single picture nothing overlaps, so the times of its stages add up to the whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from smolcli.backends.base import Backend
from smolcli.engine.protocol import OPENERS
from smolcli.errors import EngineError, InputError, SmolError
from smolcli.generation.scheduler import Scheduler
from smolcli.inputs.load import load, open_pictures
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model
from smolcli.process.pipe import Pipe
from smolcli.process.worker_main import resolve
from smolcli.system.cpu import usable_cores
from smolcli.types import Finish, Frame, Item, Prompt

WORD = " the"  # one token of the family's vocabulary
PROBES = (16, 48)  # counts of WORD from which the tokens of a word are computed

OpenedPicture = Future[tuple[Frame, float]]  # its pixels, and the seconds that opening it took


@dataclass(frozen=True)
class Case:
    """One prompt about each of `items`, or one prompt without a picture; replies have exactly `new` tokens.

    The prompt's `text` is padded to `prompt_tokens` tokens unless that is 0.
    """

    items: tuple[Item, ...]
    text: str
    prompt_tokens: int
    new: int


@dataclass(frozen=True)
class Sample:
    """One repetition of a case: seconds and tokens summed over its pictures; `wall` is the time of the whole.

    `steps` counts the decoding steps, and `rows` the sequences in all of them.
    """

    wall: float
    opening: float
    cutting: float
    encode: float
    prefill: float
    decode: float
    prompt: int
    image: int
    new: int
    steps: int
    rows: int


def serve(
    pipe: Pipe, target: str, files: ModelFiles, model: Model, cases: Sequence[Case], warmup: int, repeat: int
) -> None:
    """Measure the cases on the backend at `target` ("module:class") and send the messages below.

    ("tokens", of a tile) comes first. Each case sends ("sample", None) for a warm-up, ("sample", Sample) for each
    repetition, and ("done", CPU seconds of this process so far); if it cannot be measured, ("failed", error message).
    """
    backend: Backend = resolve(target)(files, model)
    pipe.send(("tokens", resolve(target).limits(files).tile_tokens))
    with ThreadPoolExecutor(min(OPENERS, usable_cores())) as pool:
        for case in cases:
            try:
                text = padded_text(backend, case)
                for number in range(warmup + repeat):
                    sample = measure(backend, pool, case, text)
                    pipe.send(("sample", sample if number >= warmup else None))
                pipe.send(("done", time.process_time()))
            except SmolError as error:
                pipe.send(("failed", str(error)))


def measure(backend: Backend, pool: ThreadPoolExecutor, case: Case, text: str) -> Sample:
    """One repetition of `case`. Raises EngineError if a reply has fewer tokens than asked for."""
    backend.clear_cache()
    started = time.perf_counter()
    opened = [pool.submit(_open, item) for item in case.items]
    scheduler = Scheduler(backend, _exactly(case.new))
    finishes = _answer(scheduler, opened, text)
    wall = time.perf_counter() - started
    if (shortest := min(finish.tokens.new for finish in finishes)) < case.new:
        message = f"the model's context leaves {shortest} new tokens, not {case.new}"
        raise EngineError(message, "lower --new-tokens")
    return Sample(
        wall,
        sum(picture.result()[1] for picture in opened),
        sum(finish.seconds.media for finish in finishes),
        sum(finish.seconds.encode for finish in finishes),
        sum(finish.seconds.prefill for finish in finishes),
        sum(finish.seconds.decode for finish in finishes),
        sum(finish.tokens.prompt for finish in finishes),
        sum(finish.tokens.image for finish in finishes),
        sum(finish.tokens.new for finish in finishes),
        scheduler.steps,
        scheduler.rows,
    )


def _exactly(new: int) -> Generate:
    """The options of replies that have so many tokens, whatever they say."""
    return Generate(max_tokens=new, min_tokens=new)


def _open(item: Item) -> tuple[Frame, float]:
    started = time.perf_counter()
    try:
        loaded, _ = load(item)
        [(_, frame)] = open_pictures(item, loaded, Input()).pictures([0])
    except InputError as error:
        raise InputError(f"{item.path}: {error.what}", error.advice, kind=error.kind) from error
    return frame, time.perf_counter() - started


def _answer(scheduler: Scheduler, opened: Sequence[OpenedPicture], text: str) -> list[Finish]:
    """The finish of each reply; without pictures that of one prompt of text alone. Raises EngineError for a fault."""
    finishes: list[Finish] = []

    def prompts() -> Iterator[Prompt | None]:
        if not opened:
            yield Prompt.user(text)
        for index, picture in enumerate(opened):
            while index > len(finishes) and not picture.done():
                yield None  # as the engine does while a reply is running and the next picture is not open yet
            yield Prompt.user(picture.result()[0], text)

    for piece in scheduler.run(prompts()):
        if piece.finish is not None:
            finishes.append(piece.finish)
            if piece.finish.fault is not None:
                raise EngineError(piece.finish.fault.message, kind=piece.finish.fault.kind)
    return finishes


def padded_text(backend: Backend, case: Case) -> str:
    """The text of a case after as many words as give the prompt, without pictures, its number of tokens."""
    if not case.prompt_tokens:
        return case.text

    def count_tokens(words: int) -> int:
        [finish] = _answer(Scheduler(backend, _exactly(1)), [], WORD * words + case.text)
        return finish.tokens.prompt

    fewer, more = map(count_tokens, PROBES)
    tokens_per_word = (more - fewer) / (PROBES[1] - PROBES[0])
    words = round(PROBES[0] + (case.prompt_tokens - fewer) / tokens_per_word)
    if words < 0:
        raise EngineError(f"a prompt of {case.prompt_tokens} tokens is shorter than its question", "raise it")
    return WORD * words + case.text
