"""backends/pytorch.py where memory is short or the device fails: everything is answered that can be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from smolcli.backends import pytorch, pytorch_slots
from smolcli.backends.pytorch import PyTorch
from smolcli.backends.pytorch_decoder import Cache, Decoder
from smolcli.errors import DeviceLostError
from smolcli.generation.scheduler import generate
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Fault, Frame, Piece, Prompt
from tests.tiny import make_checkpoint

OPTIONS = Generate(max_tokens=12, min_tokens=12)
NO_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("faults") / "Tiny", "v2", 1)


@pytest.fixture
def backend(folder: Path) -> Iterator[PyTorch]:
    backend = PyTorch(ModelFiles("Tiny", folder), Model(threads=1, device="cpu", jobs=8))
    yield backend
    backend.close()


def noise(seed: int, side: int = 40) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * side * side), side, side)


PROMPTS = [
    Prompt.user(noise(number, 70), "What?") if number % 4 == 0 else Prompt.user("one two three " * (1 + number % 5))
    for number in range(20)
]


def answer(backend: PyTorch, options: Generate = OPTIONS) -> dict[int, tuple[list[str], Fault | None]]:
    """The pieces of each reply and its fault; each has one finish."""
    pieces: list[Piece] = list(generate(backend, PROMPTS, options))
    finishes = {piece.index: piece.finish for piece in pieces if piece.finish}
    assert sum(piece.finish is not None for piece in pieces) == len(finishes) == len(PROMPTS)
    return {
        index: ([piece.text for piece in pieces if piece.index == index and piece.text], finish.fault)
        for index, finish in finishes.items()
    }


class Limited:
    """A function that fails as PyTorch does where it is called for more than `limit` of something."""

    def __init__(self, limit: int) -> None:
        self.limit, self.failures, self.largest = limit, 0, 0

    def need(self, amount: int) -> None:
        if amount > self.limit:
            self.failures += 1
            assert self.failures < 500, "it tries without end"
            raise RuntimeError(NO_MEMORY)
        self.largest = max(self.largest, amount)


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_tiles_are_encoded_in_smaller_batches(backend: PyTorch, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, tower, memory = answer(backend), backend._tower, Limited(limit)
    backend.clear_cache()
    assert tower is not None

    def encode(tiles: Tensor) -> Tensor:
        memory.need(len(tiles))
        return tower(tiles)

    monkeypatch.setattr(backend, "_tower", encode)
    assert answer(backend) == expected
    assert memory.failures and limit / 2 < memory.largest <= limit


@pytest.mark.parametrize(("when", "rows"), [*product(["step", "cache"], [1, 3, 7]), ("prefill", 0)])
def test_where_memory_is_short_sequences_wait_and_all_are_answered(
    backend: PyTorch, rows: int, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For `rows` rows of the cache or of a step, or for a prefill of as many tokens as the longest prompt has."""
    longest = max(backend.prepare(prompt).length for prompt in PROMPTS)
    expected, memory = answer(backend), Limited(longest if when == "prefill" else rows)
    backend.clear_cache()
    prefill, step = Decoder.prefill, Decoder.step

    class LimitedCache(Cache):
        def __init__(self, decoder: Decoder, rows: int, columns: int, can_draw: bool) -> None:
            memory.need(rows)
            super().__init__(decoder, rows, columns, can_draw)

    def limited_prefill(self: Decoder, embeddings: Tensor, *rest: Tensor) -> Tensor:
        memory.need(embeddings.shape[0] * embeddings.shape[1])
        return prefill(self, embeddings, *rest)  # type: ignore[arg-type]

    def limited_step(self: Decoder, cache: Cache, rows: int, span: int) -> Tensor:
        memory.need(rows)
        return step(self, cache, rows, span)

    owner, name, limited = {
        "cache": (pytorch_slots, "Cache", LimitedCache),
        "prefill": (Decoder, "prefill", limited_prefill),
        "step": (Decoder, "step", limited_step),
    }[when]
    monkeypatch.setattr(owner, name, limited)
    assert answer(backend) == expected
    assert memory.failures and memory.largest <= memory.limit


@pytest.mark.parametrize("can_draw", [False, True])
def test_a_reply_goes_on_with_the_random_numbers_of_its_place(
    backend: PyTorch, can_draw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory for a step is short, replies are prefilled again with the tokens that they have."""
    options, memory, step = Generate(max_tokens=12, temperature=1.5, top_p=0.9, seed=3), Limited(3), Decoder.step
    monkeypatch.setattr(backend._require_slots(), "_can_draw", can_draw)
    expected = answer(backend, options)

    def limited_step(self: Decoder, cache: Cache, rows: int, span: int) -> Tensor:
        memory.need(rows)
        return step(self, cache, rows, span)

    monkeypatch.setattr(Decoder, "step", limited_step)
    assert answer(backend, options) == expected
    assert memory.failures


def test_a_prompt_that_never_has_memory_fails_alone(backend: PyTorch, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, compute = answer(backend), Decoder.prefill

    def limited(self: Decoder, embeddings: Tensor, *rest: Tensor) -> Tensor:
        if embeddings.shape[1] > 100:
            raise RuntimeError(NO_MEMORY)
        return compute(self, embeddings, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "prefill", limited)
    for index, (pieces, fault) in answer(backend).items():
        if index % 4 == 0:  # those with pictures
            assert not pieces and fault is not None and fault.kind == "memory" and "--detail low" in fault.message
        else:
            assert (pieces, fault) == expected[index]


@pytest.mark.parametrize("where", ["encode", "prefill", "step", "fetch"])
def test_the_loss_of_the_gpu_is_raised_and_no_reply_is_blamed(
    backend: PyTorch, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously")

    if where == "encode":
        monkeypatch.setattr(backend, "_tower", fail)
    elif where == "fetch":
        monkeypatch.setattr(Tensor, "numpy", fail)
    else:
        monkeypatch.setattr(Decoder, where, fail)
    with pytest.raises(DeviceLostError, match="the GPU has failed .*device-side assert triggered"):
        list(generate(backend, PROMPTS, Generate(max_tokens=5, temperature=1.0)))


def test_numbers_that_are_not_finite_are_the_fault_of_their_reply_and_the_next_in_its_row_is_answered(
    backend: PyTorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, encode = answer(backend), pytorch.PyTorch._encode

    def overflow(self: PyTorch, tiles: list[bytes], upcoming: Iterator[bytes] = iter(())) -> list[Tensor]:  # noqa: B008
        return [torch.full_like(embeddings, math.nan) for embeddings in encode(self, tiles, upcoming)]

    monkeypatch.setattr(pytorch.PyTorch, "_encode", overflow)
    for index, (pieces, fault) in answer(backend).items():
        if index % 4 == 0:
            assert not pieces and fault is not None and "not finite; try --dtype float32" in fault.message
        else:
            assert (pieces, fault) == expected[index]
