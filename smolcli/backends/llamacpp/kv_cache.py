"""Several sequences in one llama_context: one llama_decode appends a token to each of them.

    sequences = Sequences(model, vocab_size=49280, threads=2, max_sequences=8, memory=2**30)
    sequences.reserve([900, 600])                       # for two replies, the tokens of each with its prompt
    logits = sequences.prefill(0, keys, embeddings, 900)  # the whole prompt of reply 0
    logits = sequences.decode({0: 17, 3: 5})[0]         # a token for each of two replies
    sequences.release(0)

The KV cache of a sequence stays after its reply. A prompt with the same beginning as an earlier one, such as a second
question about a picture, therefore only costs its new tokens. If a reply needs a longer sequence, the context is
recreated, and the cache of the other sequences is copied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from smolcli.backends.base import Logits
from smolcli.errors import EngineError, ErrorKind

EmbeddingKeys = NDArray[np.int64]  # (tokens,): equal numbers stand for equal embeddings

BATCH = 2048  # embeddings passed to one llama_decode
UBATCH = 512  # of which llama.cpp computes so many at a time; more were no faster, and take more memory
LENGTH_STEP = 512  # tokens; the length of sequences is a multiple of it, so that contexts are seldom recreated
MIN_COPIED_PREFIX = 16  # tokens; fewer are computed as fast as copied


@dataclass(frozen=True)
class ContextShape:
    """The sizes of a context: `count` sequences that can hold `length` tokens each."""

    count: int
    length: int


def plan_context(
    current: ContextShape, running: Sequence[int], new: Sequence[int], max_count: Callable[[int], int]
) -> ContextShape | None:
    """Return the context for new sequences beside the running ones, each given by the most tokens it will have.

    While sequences are running, their number in the context stays, since otherwise their caches would be lost. While
    none is, a context that can have more sequences than the current one replaces it, as after a long reply. `max_count`
    tells how many sequences of a length the memory holds. None means that the new ones wait: there is no memory, or the
    context has space for a longer reply than any of these, and could hold twice as many once those that run have ended.

    >>> def max_count(length):
    ...     return 4096 // length
    >>> plan_context(ContextShape(4, 512), running=[512], new=[512, 1024], max_count=max_count)
    ContextShape(count=4, length=1024)
    >>> plan_context(ContextShape(4, 512), running=[512], new=[1536], max_count=max_count)
    >>> plan_context(ContextShape(4, 512), running=[], new=[512, 1536], max_count=max_count)
    ContextShape(count=2, length=1536)
    >>> plan_context(ContextShape(2, 2048), running=[512], new=[512], max_count=max_count)
    """
    length = max(new)
    if running:
        if max_count(max(length, *running)) >= 2 * current.count:
            return None
        shape = ContextShape(current.count, max(current.length, length))
        return shape if len(running) + len(new) <= shape.count <= max_count(shape.length) else None
    shape = current
    if length > current.length or max_count(length) > current.count:
        shape = ContextShape(max_count(length), length)
    return shape if len(new) <= shape.count else None


class Sequences:
    """The KV cache and logits of the running replies, each named by a number of its own.

    There are at most `max_sequences`, and fewer if `memory` bytes hold fewer. `model` is a llama_model, with `on_gpu`
    one whose layers are on a GPU.
    """

    def __init__(
        self, model: Any, vocab_size: int, threads: int, max_sequences: int, memory: int, on_gpu: bool = False
    ) -> None:
        self.max_sequences, self._threads, self._memory = max_sequences, threads, memory
        self._on_gpu = on_gpu
        self.context_length = int(llama.llama_model_n_ctx_train(model))  # tokens, of the model
        self.embedding_size = int(llama.llama_model_n_embd(model))
        self._model, self._vocab_size = model, vocab_size
        kv_heads, heads = int(llama.llama_model_n_head_kv(model)), int(llama.llama_model_n_head(model))
        layers = int(llama.llama_model_n_layer(model))
        self._bytes_per_token = 2 * 2 * layers * kv_heads * self.embedding_size // heads  # float16 keys and values
        self._logits_type = ctypes.c_float * vocab_size  # made once: a ctypes class takes longer than a token's rest
        self._context: Any = None
        self._shape = ContextShape(0, 0)
        # Of each sequence of the context:
        self._cached: list[EmbeddingKeys] = []  # what its cache holds
        self._owners: list[int | None] = []  # the reply that uses it
        self._max_lengths: list[int] = []  # the most tokens of that reply with its prompt
        self._last_used: list[int] = []  # by _clock
        self._clock = 0

    def fits(self, lengths: Sequence[int]) -> int:
        """Return how many new replies, the first of these, fit together beside the running ones.

        `lengths` are the most tokens of each with its prompt. With no running reply it is at least 1.
        """
        return next((count for count in range(len(lengths), 0, -1) if self._plan(lengths[:count]) is not None), 0)

    def reserve(self, lengths: Sequence[int]) -> None:
        """Make the context one that holds new replies of these lengths beside the running ones.

        So prefilling one of them never recreates the context that another has begun in. Raises EngineError.
        """
        if max(lengths) > self.context_length:
            message = f"{max(lengths)} tokens are more than the model's context holds"
            raise EngineError(message, "use fewer pictures or fewer words")
        shape = self._plan(lengths)
        if shape is None:
            raise EngineError("no memory for a longer context beside the running replies", "run it again with -j 1")
        if shape != self._shape:
            self._recreate_context(shape)

    def prefill(self, reply: int, keys: EmbeddingKeys, embeddings: NDArray[np.float32], max_length: int) -> Logits:
        """Evaluate the prompt of `reply`, for whose length there is a reserved sequence; return the logits after it.

        `embeddings` is float32 (tokens, hidden), and `keys` has one number for each. With the prompt the reply will be
        at most `max_length` tokens long. Raises EngineError.
        """
        number = self._assign(reply, keys)
        self._max_lengths[number] = max_length
        known = min(_common_prefix(self._cached[number], keys), len(keys) - 1)
        self._cached[number] = keys[:0]  # in case evaluating fails
        llama.llama_memory_seq_rm(self._kv_memory(), number, known, -1)
        for start in range(known, len(keys), BATCH):
            rows = embeddings[start : start + BATCH]
            with new_batch(len(rows), self.embedding_size) as batch:
                fill(batch.pos, np.int32, np.arange(start, start + len(rows)))
                fill(batch.n_seq_id, np.int32, np.ones(len(rows)))
                for row in range(len(rows)):
                    batch.seq_id[row][0] = number
                fill(batch.logits, np.int8, np.arange(1, len(rows) + 1) == len(rows))
                ctypes.memmove(batch.embd, np.ascontiguousarray(rows, np.float32).ctypes.data, rows.size * 4)
                self._evaluate(batch, len(rows))
        self._cached[number] = keys
        return self._logits(-1)

    def decode(self, tokens: Mapping[int, int]) -> dict[int, Logits]:
        """Append one token to each reply of `tokens`; return the logits after it, by reply. Raises EngineError.

        A reply whose sequence was lost is missing from the result.
        """
        # llama.cpp computes together only what comes in the order of the sequences.
        order = sorted((self._owners.index(reply), reply) for reply in tokens if reply in self._owners)
        if not order:
            return {}
        with new_batch(len(order), 0) as batch:
            for row, (number, reply) in enumerate(order):
                batch.token[row], batch.pos[row], batch.n_seq_id[row] = tokens[reply], len(self._cached[number]), 1
                batch.seq_id[row][0] = number
                batch.logits[row] = True
            self._evaluate(batch, len(order))
        for number, reply in order:
            self._cached[number] = np.append(self._cached[number], tokens[reply])
        return {reply: self._logits(row) for row, (_, reply) in enumerate(order)}

    def release(self, reply: int) -> None:
        """Free the sequence of `reply`, if it has one; its cache stays."""
        if reply in self._owners:
            self._owners[self._owners.index(reply)] = None

    def clear_idle(self) -> None:
        """Empty the cache of the sequences that no reply uses."""
        for number, owner in enumerate(self._owners):
            if owner is None:
                self._cached[number] = self._cached[number][:0]

    def close(self) -> None:
        """Free the context."""
        if self._context is not None:
            llama.llama_free(self._context)
        self._context = None

    # ---- which sequence a reply gets -------------------------------------------------------------------

    def _assign(self, reply: int, keys: EmbeddingKeys) -> int:
        """Choose a free sequence for `reply`, and copy the longest known prefix to it."""
        self._clock += 1
        prefixes = [_common_prefix(cached, keys) for cached in self._cached]
        best = max(range(len(prefixes)), key=prefixes.__getitem__)
        if self._owners[best] is None and prefixes[best] >= MIN_COPIED_PREFIX:
            number = best
        else:
            free = [number for number, owner in enumerate(self._owners) if owner is None]
            number = min(free, key=self._last_used.__getitem__)
        if prefixes[best] >= max(MIN_COPIED_PREFIX, prefixes[number] + 1):
            llama.llama_memory_seq_rm(self._kv_memory(), number, -1, -1)
            llama.llama_memory_seq_cp(self._kv_memory(), best, number, -1, -1)
            self._cached[number] = self._cached[best]
        self._owners[number], self._last_used[number] = reply, self._clock
        return number

    def _plan(self, lengths: Sequence[int]) -> ContextShape | None:
        """The context that would hold new replies of these lengths; None if there can be none."""
        running = [length for owner, length in zip(self._owners, self._max_lengths, strict=True) if owner is not None]
        running, new = ([min(self.context_length, _round_up(length)) for length in both] for both in (running, lengths))
        return plan_context(self._shape, running, new, self._max_count)

    def _max_count(self, length: int) -> int:
        """The number of sequences of `length` tokens that there may be."""
        return max(1, min(self.max_sequences, self._memory // (length * self._bytes_per_token)))

    def _recreate_context(self, shape: ContextShape) -> None:
        """Replace the context by another.

        If the number of sequences stays the same, the caches are copied to the new context; otherwise they are
        dropped. If there is no memory for the new context, the old one is created again, and EngineError is raised.
        """
        old, count = self._shape, shape.count
        cached = self._cached if count == old.count else []
        states = {number: self._save_state(number) for number, keys in enumerate(cached) if len(keys)}
        self.close()
        is_created = self._create_context(shape)
        if not is_created:
            count = old.count if old.count and self._create_context(old) else 0
        if count != old.count or not cached:
            self._cached, self._owners = [np.empty(0, np.int64)] * count, [None] * count
            self._max_lengths, self._last_used, states = [0] * count, [0] * count, {}
        for number, state in states.items():
            if not self._restore_state(number, state):  # its reply learns that it is lost from its next decode
                self._cached[number], self._owners[number] = np.empty(0, np.int64), None
        if not is_created:
            message = f"no memory for a context of {shape.count * shape.length} tokens"
            raise EngineError(message, "use a smaller model, --detail low or -j 1", kind=ErrorKind.MEMORY)

    def _create_context(self, shape: ContextShape) -> bool:
        """Create a context of empty sequences; return whether that succeeded."""
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = shape.count * shape.length, shape.count, False
        params.n_batch, params.n_ubatch = BATCH, UBATCH
        params.n_threads = params.n_threads_batch = self._threads  # the default of the second is the host's CPU count
        # On a CPU llama.cpp's flash attention is less exact: after pictures, the KL divergence of a float32 model from
        # transformers is 1e-6 with it and 1e-8 without. It makes a prompt a tenth faster at best, and each token half
        # as slow again.
        flash = llama.LLAMA_FLASH_ATTN_TYPE_AUTO if self._on_gpu else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.flash_attn_type = flash
        self._context = llama.llama_init_from_model(self._model, params)
        self._shape = ContextShape(0, 0) if self._context is None else shape
        return self._context is not None

    def _save_state(self, number: int) -> ctypes.Array[ctypes.c_uint8]:
        size = llama.llama_state_seq_get_size(self._context, number)
        state: ctypes.Array[ctypes.c_uint8] = (ctypes.c_uint8 * size)()
        llama.llama_state_seq_get_data(self._context, state, size, number)
        return state

    def _restore_state(self, number: int, state: ctypes.Array[ctypes.c_uint8]) -> bool:
        return int(llama.llama_state_seq_set_data(self._context, state, len(state), number)) > 0

    # ---- llama.cpp -------------------------------------------------------------------------------------

    def _kv_memory(self) -> Any:
        return llama.llama_get_memory(self._context)

    def _evaluate(self, batch: Any, tokens: int) -> None:
        batch.n_tokens = tokens
        if self._context is None or (code := llama.llama_decode(self._context, batch)) != 0:
            code = -1 if self._context is None else code
            raise EngineError(f"llama.cpp could not evaluate the prompt (code {code})", "-v shows what it says")

    def _logits(self, row: int) -> Logits:
        """A view of llama.cpp's logits of one row of the last batch, valid until the next one."""
        pointer = llama.llama_get_logits_ith(self._context, row)
        memory: Any = self._logits_type.from_address(ctypes.addressof(pointer.contents))
        logits: Logits = np.frombuffer(memory, np.float32)
        return logits


def _round_up(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


@contextmanager
def new_batch(tokens: int, embedding_size: int) -> Iterator[Any]:
    """A llama_batch of one sequence each: of `tokens` token ids if `embedding_size` is 0, otherwise of embeddings."""
    batch = llama.llama_batch_init(tokens, embedding_size, 1)
    try:
        yield batch
    finally:
        llama.llama_batch_free(batch)


def fill(pointer: Any, dtype: type[np.generic], values: NDArray[Any]) -> None:
    """Write `values` as `dtype` into a field of a llama_batch."""
    np.ctypeslib.as_array(pointer, (len(values),))[:] = values.astype(dtype)


def _common_prefix(first: EmbeddingKeys, second: EmbeddingKeys) -> int:
    """The number of keys that both begin with."""
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if len(different) else length
