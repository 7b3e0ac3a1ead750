"""backends/pytorch_slots.py: every sequence has the logits that it has alone, whatever happens in the other rows."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from smolcli.backends import pytorch_slots
from smolcli.backends.pytorch_decoder import Cache, Decoder
from smolcli.backends.pytorch_slots import COLUMN_STEP, Request, Slots
from tests.backends.torch_reference import tiny_decoder

HIDDEN = 64
ONE_STEP = COLUMN_STEP - 1  # the tokens of the longest sequence for which a row has COLUMN_STEP columns
AMPLE = 2**30


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return tiny_decoder()


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def make_slots(decoder: Decoder, rows: int = 4, cells: int = AMPLE, *, is_padded: bool = False) -> Slots:
    return Slots(decoder, rows, cells * decoder.token_bytes, is_padded=is_padded)


def embeddings(seed: int, length: int) -> Tensor:
    return torch.randn(length, HIDDEN, generator=torch.Generator().manual_seed(seed)) / 2


class Checked:
    """Slots that are checked after each call: logits are those of evaluating each sequence alone, without a cache."""

    def __init__(self, decoder: Decoder, slots: Slots) -> None:
        self.decoder, self.slots = decoder, slots
        self.sequences: dict[int, Tensor] = {}  # the embeddings of each

    def check(self, sequence: int, logits: Tensor) -> None:
        alone = self.decoder.prefill(self.sequences[sequence][None])[0, -1]
        torch.testing.assert_close(logits, self.decoder.logits(alone), rtol=0, atol=1e-4)

    def prefill(self, prompts: dict[int, tuple[int, int]]) -> None:
        """Prefill sequences of (tokens, most tokens)."""
        new = {sequence: embeddings(sequence, length) for sequence, (length, _) in prompts.items()}
        self.sequences |= new
        requests = {sequence: Request(new[sequence], most) for sequence, (_, most) in prompts.items()}
        logits, _, rows = self.slots.prefill(requests)
        assert rows.keys() == prompts.keys()
        for sequence in prompts:
            self.check(sequence, logits[rows[sequence]])

    def step(self, *sequences: int) -> None:
        tokens = {sequence: (7 * sequence + len(self.sequences[sequence])) % 300 for sequence in sequences}
        logits, _, rows = self.slots.step(tokens)
        assert rows.keys() == tokens.keys() and len(set(rows.values())) == len(rows)
        for sequence, token in tokens.items():
            added = self.decoder.embeddings[token][None]
            self.sequences[sequence] = torch.cat([self.sequences[sequence], added])
            self.check(sequence, logits[rows[sequence]])

    def release(self, sequence: int) -> None:
        self.slots.release(sequence)
        del self.sequences[sequence]

    @property
    def cache(self) -> Cache:
        assert self.slots._cache is not None
        return self.slots._cache

    @property
    def shape(self) -> tuple[int, int]:
        return self.cache.rows, self.cache.columns


@pytest.fixture(params=[False, True], ids=["exact", "padded"])
def checked(decoder: Decoder, request: pytest.FixtureRequest) -> Checked:
    return Checked(decoder, make_slots(decoder, is_padded=request.param))


def test_the_row_of_a_released_sequence_is_used_again(checked: Checked) -> None:
    checked.prefill({1: (5, 20), 2: (9, 20), 3: (3, 20)})
    checked.step(1, 2, 3)
    row, shape = checked.slots._slots[2].row, checked.shape
    checked.release(2)
    checked.step(3, 1)
    checked.prefill({4: (7, 20)})
    assert (checked.slots._slots[4].row, checked.shape) == (row, shape)
    checked.step(1, 3, 4)
    checked.slots.release(99)  # has none, and nothing happens
    checked.step(4)


def test_the_cache_grows_in_rows_and_columns_and_keeps_what_it_holds(checked: Checked) -> None:
    checked.prefill({1: (5, 20)})
    assert checked.shape == (1, COLUMN_STEP)
    checked.prefill({2: (9, 20)})
    checked.step(1, 2)
    checked.prefill({3: (300, 2 * COLUMN_STEP)})
    assert checked.shape == (4 if checked.slots._is_padded else 3, 3 * COLUMN_STEP)
    checked.step(1, 2, 3)
    checked.step(1)
    checked.step(1, 2, 3)


def test_a_sequence_may_fill_all_its_columns(checked: Checked) -> None:
    checked.prefill({1: (ONE_STEP - 2, ONE_STEP), 2: (4, 20)})
    assert checked.shape == (2, COLUMN_STEP)
    checked.step(1, 2)
    checked.step(1)
    checked.step(2)


def test_rows_are_few_where_the_first_of_many_are_released(checked: Checked) -> None:
    checked.prefill({1: (5, 20), 2: (9, 20), 3: (3, 20)})
    checked.release(1)
    checked.release(2)
    checked.prefill({4: (6, 20)})
    checked.step(3, 4)


@pytest.mark.parametrize(("is_padded", "fitting"), [(False, 3), (True, 2)])
def test_as_many_fit_as_the_cache_has_memory_for(decoder: Decoder, is_padded: bool, fitting: int) -> None:
    """Three rows of the shortest size. On a GPU a cache of 4 rows would be made for 3 sequences."""
    slots = make_slots(decoder, rows=8, cells=3 * COLUMN_STEP, is_padded=is_padded)
    assert slots.fits([]) == 0
    assert slots.fits([20] * 8) == fitting
    assert slots.fits([ONE_STEP] * 8) == fitting
    assert slots.fits([20, ONE_STEP + 1, 20]) == 1  # longer rows for both would take 4 times the shortest size
    slots.prefill({1: Request(embeddings(1, 5), 20)})
    assert slots.fits([20] * 8) == fitting - 1
    assert slots.fits([ONE_STEP + 1]) == 0
    slots.release(1)
    assert slots.fits([ONE_STEP + 1]) == 1


def test_no_more_fit_where_only_a_high_row_is_in_use(decoder: Decoder) -> None:
    """The cache cannot lose the rows below it, which would become longer."""
    checked = Checked(decoder, make_slots(decoder, cells=4 * COLUMN_STEP))
    checked.prefill({1: (5, 20), 2: (6, 20), 3: (7, 20)})
    checked.release(1)
    checked.release(2)
    assert checked.slots.fits([ONE_STEP + 1]) == 0
    assert checked.slots.fits([20, 20, 20, 20]) == 3
    checked.release(3)
    assert checked.slots.fits([ONE_STEP + 1]) == 1


def test_a_sequence_longer_than_the_cache_may_be_fits_alone_and_the_cache_becomes_small_again(decoder: Decoder) -> None:
    checked = Checked(decoder, make_slots(decoder, cells=COLUMN_STEP))
    assert checked.slots.fits([600, 20]) == 1
    checked.prefill({1: (300, 600)})
    checked.step(1)
    assert checked.slots.fits([1]) == 0
    checked.release(1)
    checked.prefill({2: (5, 20)})
    assert checked.shape == (1, COLUMN_STEP)
    checked.step(2)


def test_a_cache_that_is_large_enough_is_kept_until_it_is_cleared(checked: Checked) -> None:
    checked.prefill({1: (5, 20), 2: (300, 400)})
    cache = checked.cache
    checked.slots.clear()
    assert checked.cache is cache  # it is in use
    checked.release(1)
    checked.release(2)
    checked.prefill({3: (5, 20)})
    assert checked.cache is cache
    checked.release(3)
    checked.slots.clear()
    assert checked.slots._cache is None


def poison(cache: Cache, rows: list[int]) -> None:
    for tensor in (cache.keys, cache.values):
        tensor.view(len(tensor), cache.rows, cache.columns, -1)[:, rows] = math.nan


def test_what_a_row_held_before_changes_nothing(checked: Checked) -> None:
    """Not even numbers that are not finite, as after a reply of a model in float16 that overflows."""
    checked.prefill({1: (5, 20), 2: (9, 20)})
    checked.release(1)
    checked.release(2)
    poison(checked.cache, [0, 1])
    checked.prefill({3: (7, 20), 4: (4, 20)})
    checked.step(3, 4)
    checked.step(4)
    checked.step(3, 4)


def test_rows_without_a_sequence_change_nothing(checked: Checked) -> None:
    checked.prefill({1: (4, 20), 2: (5, 20), 3: (9, 20)})
    row = checked.slots._slots[2].row
    assert row == 1
    checked.release(2)
    poison(checked.cache, [row])
    for _ in range(3):
        checked.step(1, 3)  # the row between them is computed too
    checked.prefill({4: (6, 20)})
    checked.step(1, 3, 4)


def test_a_row_that_waits_for_a_step_keeps_what_it_holds(checked: Checked) -> None:
    """Those of prompts that were prefilled ahead: rows without a token write where nobody reads."""
    checked.prefill({1: (1, 20), 2: (9, 20)})
    for _ in range(4):
        checked.step(2)
    checked.step(1)


def test_no_sequence_has_a_slot_after_a_failed_allocation(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    checked.prefill({1: (5, 20)})
    with monkeypatch.context() as patch:
        patch.setattr(pytorch_slots, "Cache", lambda *_: exec("raise MemoryError"))
        with pytest.raises(MemoryError):
            checked.slots.prefill({2: Request(embeddings(2, 300), 400), 3: Request(embeddings(3, 3), 20)})
    checked.step(1)
    checked.prefill({2: (300, 400), 3: (3, 20)})
    checked.step(1, 2, 3)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_calls(decoder: Decoder, seed: int) -> None:
    """The cache never takes more than it may, but for a sequence that is alone."""
    rng, cells = random.Random(seed), 8 * COLUMN_STEP
    checked, next_sequence = Checked(decoder, make_slots(decoder, 5, cells, is_padded=seed % 2 == 1)), 0
    for _ in range(50):
        running = list(checked.sequences)
        what = rng.choice(["prefill", "step", "step", "release"])
        if what == "prefill" and len(running) < 5:
            lengths = rng.choices([1, 3, 20, 99, 225, 226, 300, 2100], [4, 4, 4, 4, 4, 4, 2, 1], k=5 - len(running))
            lengths = lengths[: checked.slots.fits([length + 30 for length in lengths])]
            if lengths:
                numbers = range(next_sequence, next_sequence := next_sequence + len(lengths))
                most = [(length, length + 30) for length in lengths]
                checked.prefill(dict(zip(numbers, most, strict=True)))
                rows, columns = checked.shape
                assert rows * columns <= cells or len(checked.sequences) == 1
        elif what == "step" and running:
            checked.step(*rng.sample(running, rng.randint(1, len(running))))
        elif what == "release" and running:
            checked.release(rng.choice(running))
    assert next_sequence > 5
