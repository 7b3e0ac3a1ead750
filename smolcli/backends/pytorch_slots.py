"""The slots of the PyTorch backend: which sequence has which row of the KV cache, and how large the cache is.

    slots = Slots(decoder, max_rows=64, max_bytes=2**33)
    after = slots.prefill({7: Request(embeddings, 120)})   # sequence 7 gets a row for 120 tokens
    after = slots.step({7: 42})                            # token 42 is appended to it
    logits = after.logits[after.rows[7]]
    slots.release(7)

A row without a sequence is computed with the others, and writes where nobody reads. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from smolcli.backends.base import Draw
from smolcli.backends.pytorch_decoder import Cache, Decoder
from smolcli.backends.pytorch_graphs import Capture, Graphs
from smolcli.backends.pytorch_sampler import summarize

COLUMN_STEP = 256  # the columns of the cache are a multiple of it, and on a GPU those that a step attends to
NO_DRAW = (1.0, 1.0, 0.0, 0.0)  # draw settings of a row whose drawn token nobody wants
MAX_PADDING = 1.25  # prompts are evaluated together if the longest has at most so many times the tokens of the shortest


class Request(NamedTuple):
    """A sequence that is to get a row: the embeddings of its prompt (tokens, hidden), and its most tokens."""

    embeddings: Tensor
    max_length: int
    draw: Draw | None = None


class Evaluated(NamedTuple):
    """What was computed: logits float32 (rows, vocab_size), what `summarize` makes of them, and the sequences' rows.

    The tensors are overwritten by the next step.
    """

    logits: Tensor
    summary: Tensor
    rows: dict[int, int]


@dataclass
class Slot:
    """The row of the cache that a sequence has, its tokens so far, and the most that it will have."""

    row: int
    length: int
    max_length: int
    prompt_length: int
    draw: Draw | None

    @property
    def draw_settings(self) -> tuple[float, ...]:
        """The row's numbers of Cache.draws, for the next token."""
        if self.draw is None:
            return NO_DRAW
        return self.draw.temperature, self.draw.top_p, self.draw.seed, self.length - self.prompt_length


class Slots:
    """Evaluates sequences in the rows of one cache.

    The cache is made when a sequence needs it, and made larger when one needs more rows or columns. It never takes more
    than `max_bytes`, except for a sequence that is alone. With `is_padded` steps have few different shapes, for which
    kernels are chosen and graphs are captured once; with `can_draw` tokens are drawn on the device.
    """

    def __init__(
        self,
        decoder: Decoder,
        max_rows: int,
        max_bytes: int,
        *,
        is_padded: bool = False,
        can_draw: bool = False,
        new_capture: Callable[[], Capture] | None = None,
    ) -> None:
        self._decoder, self._max_rows = decoder, max_rows
        self._max_cells = max_bytes // decoder.token_bytes  # a cell holds the keys and values of one token
        self._cache: Cache | None = None
        self._slots: dict[int, Slot] = {}
        self._is_padded, self._can_draw, self._graphs = is_padded, can_draw, Graphs(new_capture)

    def fits(self, lengths: Sequence[int]) -> int:
        """Return how many new sequences of these lengths, the first of them, have memory beside those with a slot."""
        count = 0
        while count < len(lengths):
            rows, columns = self._shape_with(count + 1, max(lengths[: count + 1]))
            if rows * columns > self._max_cells and (self._slots or count):
                break
            count += 1
        return count

    def prefill(self, requests: Mapping[int, Request]) -> Evaluated:
        """Give each sequence a row of the cache and evaluate its prompt."""
        self._reserve(len(requests), max(request.max_length for request in requests.values()))
        free = (row for row in range(self._max_rows) if row not in {slot.row for slot in self._slots.values()})
        slots: dict[int, Slot] = {}
        logits: list[Tensor] = []
        for group in _by_length({sequence: len(request.embeddings) for sequence, request in requests.items()}):
            prompts = [requests[sequence].embeddings for sequence in group]
            for sequence, row in zip(group, free, strict=False):
                embeddings, max_length, draw = requests[sequence]
                prompt_length = len(embeddings) - (0 if draw is None else draw.step)
                slots[sequence] = Slot(row, len(embeddings), max_length, prompt_length, draw)
            logits.append(self._evaluate(prompts, [slots[sequence].row for sequence in group]))
        rows = {sequence: row for row, sequence in enumerate(slots)}
        joined, draws = torch.cat(logits), None
        if self._draws(slots.values()):
            draws = _settings({row: slots[sequence] for sequence, row in rows.items()}, len(rows)).to(joined.device)
        self._slots |= slots
        return Evaluated(joined, summarize(joined, draws, self._has_nucleus(slots.values())), rows)

    def step(self, tokens: Mapping[int, int]) -> Evaluated:
        """Append one token to each sequence of `tokens`."""
        cache = self._cache
        assert cache is not None, "no sequence has a slot"
        slots = {sequence: self._slots[sequence] for sequence in tokens}
        next_tokens, positions = [0] * cache.rows, [cache.columns - 1] * cache.rows
        for sequence, slot in slots.items():
            next_tokens[slot.row], positions[slot.row] = tokens[sequence], slot.length
            slot.length += 1
        state = torch.tensor([next_tokens, positions])
        is_async = cache.tokens.is_cuda  # CUDA alone copies memory that is not pinned before the call returns
        cache.tokens.copy_(state[0], non_blocking=is_async)
        cache.positions.copy_(state[1], non_blocking=is_async)
        is_drawn = self._draws(slots.values())
        if is_drawn and cache.draws is not None:
            settings = _settings({slot.row: slot for slot in slots.values()}, cache.rows)
            cache.draws.copy_(settings, non_blocking=is_async)
        rows = self._padded_rows(max(slot.row for slot in slots.values()) + 1)
        span = max(slot.length for slot in slots.values())
        shape = rows, _columns(span) if self._is_padded else span, is_drawn, self._has_nucleus(slots.values())
        logits, summary = self._graphs.run(cache, shape, partial(self._compute_step, cache, *shape))
        return Evaluated(logits, summary, {sequence: slot.row for sequence, slot in slots.items()})

    def _compute_step(
        self, cache: Cache, rows: int, span: int, is_drawn: bool, has_nucleus: bool
    ) -> tuple[Tensor, Tensor]:
        logits = self._decoder.step(cache, rows, span)
        draws = cache.draws[:, :rows] if is_drawn and cache.draws is not None else None
        return logits, summarize(logits, draws, has_nucleus)

    def _draws(self, slots: Iterable[Slot]) -> bool:
        return self._can_draw and any(slot.draw is not None for slot in slots)

    def _has_nucleus(self, slots: Iterable[Slot]) -> bool:
        return self._can_draw and any(slot.draw is not None and slot.draw.top_p < 1 for slot in slots)

    def release(self, sequence: int) -> None:
        """Free the row of a sequence, if it has one."""
        self._slots.pop(sequence, None)

    def clear(self) -> None:
        """Free the cache if no sequence has a row."""
        if not self._slots:
            self._cache = None

    def _padded_rows(self, rows: int) -> int:
        return min(self._max_rows, 1 << (rows - 1).bit_length()) if self._is_padded else rows

    def _shape_with(self, new: int, longest: int) -> tuple[int, int]:
        """The rows and columns of the cache once it has `new` more sequences of at most `longest` tokens.

        It becomes smaller where no sequence has a row, and it would take more than it may.
        """
        slots, cache = self._slots.values(), self._cache
        rows = self._padded_rows(len(slots) + new)
        columns = _columns(max([longest, *(slot.max_length for slot in slots)]))
        if cache is None:
            return rows, columns
        larger = max(rows, cache.rows), max(columns, cache.columns)
        return larger if slots or larger[0] * larger[1] <= self._max_cells else (rows, columns)

    def _reserve(self, new: int, longest: int) -> None:
        """Make the cache as `_shape_with` says; it keeps what it holds."""
        cache, (rows, columns) = self._cache, self._shape_with(new, longest)
        if cache is not None and (cache.rows, cache.columns) == (rows, columns):
            return
        if not self._slots:
            self._cache = cache = None  # before the new one is made, so that memory never holds both
        made = Cache(self._decoder, rows, columns, self._can_draw)
        if cache is not None:
            made.copy_from(cache)
        self._cache = made

    def _evaluate(self, prompts: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
        """The logits after prompts, (tokens, hidden) each, whose keys and values go into these rows of the cache."""
        cache = self._cache
        assert cache is not None
        padded = torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)
        length = padded.shape[1]
        row_numbers = torch.tensor(rows, device=padded.device)
        cache.clear(row_numbers, length)  # of the sequences before
        places = (row_numbers[:, None] * cache.columns + cache.column_numbers[:length]).flatten()
        hidden = self._decoder.prefill(padded, places, cache)
        last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=padded.device)
        return self._decoder.logits(hidden[torch.arange(len(prompts), device=padded.device), last])


def _settings(slots: Mapping[int, Slot], rows: int) -> Tensor:
    """The draw settings of the slots in these of `rows` rows, as Cache.draws."""
    return torch.tensor(
        [slots[row].draw_settings if row in slots else NO_DRAW for row in range(rows)], dtype=torch.double
    ).T


def _columns(length: int) -> int:
    """The columns of a cache for sequences of `length` tokens, with one that belongs to no sequence."""
    return -(-(length + 1) // COLUMN_STEP) * COLUMN_STEP


def _by_length(lengths: Mapping[int, int]) -> list[list[int]]:
    """Put sequences of similar length together, since they are padded to the longest."""
    groups: list[list[int]] = []
    shortest = 0
    for sequence in sorted(lengths, key=lambda sequence: lengths[sequence]):
        if not groups or lengths[sequence] > MAX_PADDING * shortest:
            groups.append([])
            shortest = lengths[sequence]
        groups[-1].append(sequence)
    return groups
