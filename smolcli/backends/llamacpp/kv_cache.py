"""Several replies at once in one llama_context: each is a sequence, and one llama_decode makes a token of every one.

    sequences = Sequences(model, vocabulary=49280, threads=2, most=8, memory=2**30)
    scores = sequences.begin(0, marks, embeddings, size=900)     # the prompt, whole
    scores = sequences.step({0: 17, 3: 5})[0]                    # a token each of two replies
    sequences.end(0)

What a sequence holds stays after its reply, so that a prompt that begins as an earlier one, as a second question about
a picture does, costs only what is new in it. The context is made anew where a reply needs a longer sequence; what
the others hold is taken along.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from smolcli.errors import EngineError

Scores = NDArray[np.float32]  # (vocabulary,): a view, good until the next token is decoded
Marks = NDArray[np.int64]  # (tokens,): equal numbers are equal embeddings

BATCH = 2048  # embeddings given to one llama_decode
UBATCH = 512  # of which llama.cpp computes so many at a time; more were no faster, and take more memory
STEP = 512  # tokens, of which a sequence's room is a multiple: contexts are made anew a few times at most
WORTH_COPYING = 16  # tokens; fewer are computed as soon


class Sequences:
    """The replies under way, each by a key of its own; at most `most`, and fewer where `memory` bytes hold fewer."""

    def __init__(self, model: Any, vocabulary: int, threads: int, most: int, memory: int) -> None:
        self.most, self._threads, self._memory = most, threads, memory
        self.limit = int(llama.llama_model_n_ctx_train(model))
        self.width = int(llama.llama_model_n_embd(model))
        self._model, self._vocabulary = model, vocabulary
        heads, all_heads = int(llama.llama_model_n_head_kv(model)), int(llama.llama_model_n_head(model))
        self._token_bytes = 2 * 2 * int(llama.llama_model_n_layer(model)) * heads * self.width // all_heads
        self._scores_type = ctypes.c_float * vocabulary  # made once: a class takes longer than a token's rest
        self._context: Any = None
        self._size = 0  # tokens that one sequence may hold
        self._held: list[Marks] = []  # what each sequence holds
        self._keys: list[int | None] = []  # whose each is
        self._last_used: list[int] = []
        self._clock = 0

    def has_room(self, key: int, size: int) -> bool:
        """Whether a reply, of `size` tokens with its prompt, may begin beside the others under way."""
        others = sum(owner not in (None, key) for owner in self._keys)
        room = self._rounded(size)
        return not others or (others < len(self._keys) <= self._allowed(room))

    def begin(self, key: int, marks: Marks, embeddings: NDArray[np.float32], size: int) -> Scores:
        """The scores after a prompt, float32 (tokens, hidden), for a reply that with it is `size` tokens at most.

        A key that is under way begins anew. Raises EngineError.
        """
        number = self._place(key, marks, size)
        known = min(_common(self._held[number], marks), len(marks) - 1)
        self._held[number] = marks[:0]  # until all of it is there
        llama.llama_memory_seq_rm(self._memory_of(), number, known, -1)
        for start in range(known, len(marks), BATCH):
            part = embeddings[start : start + BATCH]
            with _batch(len(part), self.width) as batch:
                _fill(batch.pos, np.int32, np.arange(start, start + len(part)))
                _fill(batch.n_seq_id, np.int32, np.ones(len(part)))
                for n in range(len(part)):
                    batch.seq_id[n][0] = number
                _fill(batch.logits, np.int8, np.arange(1, len(part) + 1) == len(part))
                ctypes.memmove(batch.embd, np.ascontiguousarray(part, np.float32).ctypes.data, part.size * 4)
                self._decode(batch, len(part))
        self._held[number] = marks
        return self._scores(-1)

    def step(self, tokens: Mapping[int, int]) -> dict[int, Scores]:
        """By key, the scores after one more token of each; a reply that was lost has none. Raises EngineError."""
        # llama.cpp computes at once only what comes in the order of the sequences
        order = sorted((self._keys.index(key), key) for key in tokens if key in self._keys)
        if not order:
            return {}
        with _batch(len(order), 0) as batch:
            for n, (number, key) in enumerate(order):
                batch.token[n], batch.pos[n], batch.n_seq_id[n] = tokens[key], len(self._held[number]), 1
                batch.seq_id[n][0] = number
                batch.logits[n] = True
            self._decode(batch, len(order))
        for number, key in order:
            self._held[number] = np.append(self._held[number], tokens[key])
        return {key: self._scores(n) for n, (_, key) in enumerate(order)}

    def end(self, key: int) -> None:
        """The reply is done, if it was begun; its place is free."""
        if key in self._keys:
            self._keys[self._keys.index(key)] = None

    def forget(self) -> None:
        """Lets go of what sequences hold whose replies are done."""
        for number, key in enumerate(self._keys):
            if key is None:
                self._held[number] = self._held[number][:0]

    def close(self) -> None:
        """Frees the context."""
        if self._context is not None:
            llama.llama_free(self._context)
        self._context = None

    # ---- places ----------------------------------------------------------------------------------------

    def _place(self, key: int, marks: Marks, size: int) -> int:
        """The number of a sequence for a reply, in a context that is large enough, with what it can use of others."""
        if size > self.limit:
            raise EngineError(f"{size} tokens are more than the model's context holds", "use --detail low")
        room, least = self._rounded(size), min(self.limit, _steps(size))
        if not any(owner is not None for owner in self._keys) and self._allowed(least) > len(self._keys):
            self._make(self._allowed(least), least)  # after a long one there is place for more again
        elif room > self._size:
            self._make(self._allowed(room), room)
        self._clock += 1
        common = [_common(held, marks) for held in self._held]
        best = max(range(len(common)), key=common.__getitem__)
        if key in self._keys:
            number = self._keys.index(key)
        elif self._keys[best] is None and common[best] >= WORTH_COPYING:
            number = best
        else:
            free = [number for number, owner in enumerate(self._keys) if owner is None]
            number = min(free, key=self._last_used.__getitem__)
        if common[best] >= max(WORTH_COPYING, common[number] + 1):
            llama.llama_memory_seq_rm(self._memory_of(), number, -1, -1)
            llama.llama_memory_seq_cp(self._memory_of(), best, number, -1, -1)
            self._held[number] = self._held[best]
        self._keys[number], self._last_used[number] = key, self._clock
        return number

    def _rounded(self, size: int) -> int:
        return max(self._size, min(self.limit, _steps(size)))

    def _allowed(self, room: int) -> int:
        """How many sequences of so many tokens there may be."""
        return max(1, min(self.most, self._memory // (room * self._token_bytes)))

    def _make(self, count: int, size: int) -> None:
        """A context of `count` sequences of `size` tokens; as many as before go on with what they hold.

        Where there is no memory for it they go on in one as it was. Raises EngineError.
        """
        count_before, size_before = len(self._keys), self._size
        kept = self._held if count == count_before else []  # what is held goes on only among as many
        states = {number: self._saved(number) for number, marks in enumerate(kept) if len(marks)}
        self.close()
        is_made = self._opened(count, size)
        told = f"no memory for a context of {count * size} tokens"
        if not is_made:
            count = count_before if count_before and self._opened(count_before, size_before) else 0
        if count != count_before or not kept:
            self._held, self._keys, self._last_used = [np.empty(0, np.int64)] * count, [None] * count, [0] * count
            states = {}
        for number, state in states.items():
            if not self._restored(number, state):  # whose it was is told when it asks for its next token
                self._held[number], self._keys[number] = np.empty(0, np.int64), None
        if not is_made:
            raise EngineError(told, "use a smaller model, --detail low or -j 1", kind="memory")

    def _opened(self, count: int, size: int) -> bool:
        """Whether there is a context now of `count` sequences of `size` tokens, all of them empty."""
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = count * size, count, False
        params.n_batch, params.n_ubatch = BATCH, UBATCH
        params.n_threads = params.n_threads_batch = self._threads  # left alone, the second is the host's count
        # On a CPU llama.cpp's flash attention is less exact, with a KL divergence of a float32 model from transformers
        # after pictures of 1e-6, not 1e-8; a prompt takes a tenth less with it at best, each token half as long again.
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama.llama_init_from_model(self._model, params)
        self._size = 0 if self._context is None else size
        return self._context is not None

    def _saved(self, number: int) -> Any:
        size = llama.llama_state_seq_get_size(self._context, number)
        state = (ctypes.c_uint8 * size)()
        llama.llama_state_seq_get_data(self._context, state, size, number)
        return state

    def _restored(self, number: int, state: Any) -> bool:
        return int(llama.llama_state_seq_set_data(self._context, state, len(state), number)) > 0

    # ---- llama.cpp -------------------------------------------------------------------------------------

    def _memory_of(self) -> Any:
        return llama.llama_get_memory(self._context)

    def _decode(self, batch: Any, tokens: int) -> None:
        batch.n_tokens = tokens
        if self._context is None or (code := llama.llama_decode(self._context, batch)) != 0:
            code = -1 if self._context is None else code
            raise EngineError(f"llama.cpp could not evaluate the prompt (code {code})", "-v shows what it says")

    def _scores(self, row: int) -> Scores:
        found = llama.llama_get_logits_ith(self._context, row)
        memory: Any = self._scores_type.from_address(ctypes.addressof(found.contents))
        scores: Scores = np.frombuffer(memory, np.float32)
        return scores


def _steps(size: int) -> int:
    return -(-size // STEP) * STEP


@contextmanager
def _batch(tokens: int, width: int) -> Iterator[Any]:
    """A llama_batch for so many tokens, or embeddings of that width, of one sequence each."""
    batch = llama.llama_batch_init(tokens, width, 1)
    try:
        yield batch
    finally:
        llama.llama_batch_free(batch)


def _fill(pointer: Any, kind: Any, values: NDArray[Any]) -> None:
    np.ctypeslib.as_array(pointer, (len(values),))[:] = values.astype(kind)


def _common(held: Marks, marks: Marks) -> int:
    """How many marks both begin with."""
    length = min(len(held), len(marks))
    different = np.flatnonzero(held[:length] != marks[:length])
    return int(different[0]) if len(different) else length
