"""What a speed benchmark does in the engine's process: the work of the real engine, stage by stage, with a clock.

The model answers for a batch of pictures as it does for the user: inputs are opened ahead of it in the engine's small
pool, the backend takes the next prompt when it has room. Of a single picture nothing overlaps, so its stages add up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from smolcli.backends.base import Backend
from smolcli.engine.protocol import OPENERS
from smolcli.errors import EngineError, InputError, SmolError
from smolcli.inputs.load import decode, load
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model
from smolcli.process.pipe import Pipe
from smolcli.process.worker_main import resolve
from smolcli.system.cpu import usable_cores
from smolcli.types import Finish, Frame, Item, Prompt

WORD = " the"  # one token of the family's vocabulary
PROBES = (16, 48)  # words by which the length of a text of given tokens is found

Opened = Future[tuple[tuple[Frame, ...], float]]  # a picture, and the seconds that opening it took


@dataclass(frozen=True)
class Case:
    """What is measured: one prompt on each of the `items`, or one without a picture, answered in exactly `new` tokens.

    `text` is asked, filled up to `prompt_tokens` tokens where that is not 0.
    """

    items: tuple[Item, ...]
    text: str
    prompt_tokens: int
    new: int


@dataclass(frozen=True)
class Sample:
    """One repetition of a case: seconds and counts, summed over its pictures; `wall` from the first file to the end."""

    wall: float
    opening: float
    cutting: float
    encode: float
    prefill: float
    decode: float
    prompt: int
    image: int
    new: int


def serve(
    pipe: Pipe, place: str, files: ModelFiles, model: Model, cases: Sequence[Case], warmup: int, repeat: int
) -> None:
    """Sends the tokens of a tile, and for each case in turn its samples, None of `warmup` ones first, then "done" with
    the CPU seconds that this process has had so far.

    Of a case that cannot be measured "failed" comes instead, with what is wrong.
    """
    backend: Backend = resolve(place)(files, model)
    pipe.send(("tokens", resolve(place).limits(files).tile_tokens))
    with ThreadPoolExecutor(min(OPENERS, usable_cores())) as pool:
        for case in cases:
            try:
                text = _text(backend, case)
                for number in range(warmup + repeat):
                    sample = _sample(backend, pool, case, text)
                    pipe.send(("sample", sample if number >= warmup else None))
                pipe.send(("done", time.process_time()))
            except SmolError as error:
                pipe.send(("failed", str(error)))


def _sample(backend: Backend, pool: ThreadPoolExecutor, case: Case, text: str) -> Sample:
    backend.forget()
    begun = time.perf_counter()
    opened = [pool.submit(_open, item) for item in case.items]
    finishes = _answered(backend, opened, text, case.new)
    wall = time.perf_counter() - begun
    if (made := min(finish.tokens.new for finish in finishes)) < case.new:
        raise EngineError(f"the model's context has room for {made} new tokens, not {case.new}", "lower --new-tokens")
    return Sample(
        wall,
        sum(each.result()[1] for each in opened),
        sum(finish.seconds.media for finish in finishes),
        sum(finish.seconds.encode for finish in finishes),
        sum(finish.seconds.prefill for finish in finishes),
        sum(finish.seconds.decode for finish in finishes),
        sum(finish.tokens.prompt for finish in finishes),
        sum(finish.tokens.image for finish in finishes),
        sum(finish.tokens.new for finish in finishes),
    )


def _open(item: Item) -> tuple[tuple[Frame, ...], float]:
    begun = time.perf_counter()
    try:
        loaded, _ = load(item)
        frames = decode(item, loaded, Input())
    except InputError as error:
        raise InputError(f"{item.path}: {error.what}", error.advice, kind=error.kind) from error
    return frames, time.perf_counter() - begun


def _answered(backend: Backend, opened: Sequence[Opened], text: str, new: int) -> list[Finish]:
    """The end of each reply; of a prompt without a picture where none is given."""
    finishes: list[Finish] = []

    def prompts() -> Iterator[Prompt | None]:
        if not opened:
            yield Prompt.user(text)
        for given, each in enumerate(opened):
            while given > len(finishes) and not each.done():
                yield None  # as the engine has it: nothing is ready, and a reply is under way
            yield Prompt.user(*each.result()[0], text)

    for piece in backend.generate(prompts(), Generate(max_tokens=new, min_tokens=new)):
        if piece.finish is not None:
            finishes.append(piece.finish)
            if piece.finish.fault is not None:
                raise EngineError(piece.finish.fault.message, kind=piece.finish.fault.kind)
    return finishes


def _text(backend: Backend, case: Case) -> str:
    """The text of a case. Words are put before it until the prompt, without pictures, has the tokens wanted."""
    if not case.prompt_tokens:
        return case.text

    def tokens(words: int) -> int:
        [finish] = _answered(backend, [], WORD * words + case.text, 1)
        return finish.tokens.prompt

    few, more = map(tokens, PROBES)
    each = (more - few) / (PROBES[1] - PROBES[0])
    words = round(PROBES[0] + (case.prompt_tokens - few) / each)
    if words < 0:
        raise EngineError(f"a prompt of {case.prompt_tokens} tokens has no room for its question", "raise it")
    return WORD * words + case.text
