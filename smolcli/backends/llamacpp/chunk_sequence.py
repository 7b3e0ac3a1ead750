"""One sequence of mtmd's chunks in a llama_context: text as tokens, pictures through mtmd's own helper.

    sequence = ChunkSequence(model, mtmd_context, vocab_size=151936, threads=2, on_gpu=False)
    logits = sequence.prefill(prompt, max_length=900, embeddings={b"a picture's chunk": array})
    logits = sequence.decode(17)

mtmd knows at which positions a model wants the embeddings of a picture, and whether it attends to all of them at once.
The KV cache stays after a reply: a prompt that begins as the one before it, such as another question about a picture,
costs its new tokens alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, NamedTuple

import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from smolcli.backends.base import Logits, PreparedPrompt
from smolcli.backends.llamacpp.chunks import ChunkedPrompt, PictureChunk
from smolcli.backends.llamacpp.kv_cache import BATCH, LENGTH_STEP, UBATCH, fill, new_batch
from smolcli.errors import EngineError, ErrorKind

Embeddings = Mapping[bytes, NDArray[np.float32]]  # of pictures' chunks, by their names
SEQUENCE = 0  # the number of the only sequence of the context


class Step(NamedTuple):
    """A token, or a picture's chunk by its name, and by how many positions it moves what comes after it."""

    what: int | bytes
    positions: int


class ChunkSequence:
    """The KV cache of a model; `context` is the mtmd_context of its vision half."""

    def __init__(self, model: Any, context: Any, vocab_size: int, threads: int, on_gpu: bool) -> None:
        self._model, self._mtmd, self._vocab_size, self._threads = model, context, vocab_size, threads
        self._on_gpu = on_gpu
        self._context: Any = None
        self._length = 0  # tokens that the context holds
        self._cached: list[Step] = []
        self._position = 0  # of the next token: the sum of what is cached

    def prefill(self, prompt: PreparedPrompt, max_length: int, embeddings: Embeddings) -> Logits:
        """Evaluate a prompt, which with its reply has at most `max_length` tokens; return a copy of the last logits.

        A prompt that is no ChunkedPrompt has no pictures. Raises EngineError.
        """
        self._reserve(max_length)
        pictures = prompt.pictures if isinstance(prompt, ChunkedPrompt) else {}
        steps = list(_steps(prompt, pictures))
        known = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(self._cached, steps, strict=False))))
        self._forget_after(min(known, len(steps) - 1))
        known = len(self._cached)
        try:
            self._evaluate(steps[known:], pictures, embeddings)
        except BaseException:
            self.clear()
            raise
        return self._logits()

    def decode(self, token: int) -> Logits:
        """Append a token; return a copy of the logits after it. Raises EngineError."""
        self._evaluate_text([token])
        return self._logits()

    def clear(self) -> None:
        """Empty the cache."""
        if self._context is not None:
            llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        self._cached, self._position = [], 0

    def close(self) -> None:
        """Free the context."""
        if self._context is not None:
            llama.llama_free(self._context)
        self._context, self._length, self._cached, self._position = None, 0, [], 0

    def _reserve(self, length: int) -> None:
        """Have a context of at least `length` tokens; a new one is empty."""
        if length <= self._length:
            return
        self.close()
        length = -(-length // LENGTH_STEP) * LENGTH_STEP
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.n_batch = length, 1, BATCH
        # All embeddings of a picture that sees itself whole are computed at once: llama.cpp ends the process otherwise.
        params.n_ubatch = BATCH if mtmd.mtmd_decode_use_non_causal(self._mtmd, None) else UBATCH
        params.n_threads = params.n_threads_batch = self._threads
        flash = llama.LLAMA_FLASH_ATTN_TYPE_AUTO if self._on_gpu else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.flash_attn_type = flash  # kv_cache.py says why
        self._context = llama.llama_init_from_model(self._model, params)
        if self._context is None:
            message = f"no memory for a context of {length} tokens"
            raise EngineError(message, "use a smaller model or --detail low", kind=ErrorKind.MEMORY)
        self._length = length

    def _forget_after(self, known: int) -> None:
        """Take all but the first `known` steps out of the cache, or all of them: a recurrent model forgets no part."""
        position = sum(step.positions for step in self._cached[:known])
        if known and llama.llama_memory_seq_rm(llama.llama_get_memory(self._context), SEQUENCE, position, -1):
            self._cached, self._position = self._cached[:known], position
        else:
            self.clear()

    def _evaluate(self, steps: list[Step], pictures: Mapping[bytes, PictureChunk], embeddings: Embeddings) -> None:
        text: list[int] = []
        for step in steps:
            if not isinstance(step.what, bytes):
                text.append(step.what)
                continue
            self._evaluate_text(text)
            text = []
            self._evaluate_picture(step, pictures[step.what].handle, embeddings[step.what])
        self._evaluate_text(text)

    def _evaluate_text(self, tokens: list[int]) -> None:
        """Evaluate tokens after what is cached; there are logits after the last one."""
        for start in range(0, len(tokens), BATCH):
            part = np.array(tokens[start : start + BATCH], np.int32)
            end = self._position + len(part)
            with new_batch(len(part), 0) as batch:
                fill(batch.token, np.int32, part)
                fill(batch.pos, np.int32, np.arange(self._position, end))
                fill(batch.n_seq_id, np.int32, np.ones(len(part)))
                for row in range(len(part)):
                    batch.seq_id[row][0] = SEQUENCE
                fill(batch.logits, np.int8, np.arange(1, len(part) + 1) == len(part))
                batch.n_tokens = len(part)
                code = llama.llama_decode(self._context, batch)
            _check(code)
            self._cached += [Step(int(token), 1) for token in part]
            self._position = end

    def _evaluate_picture(self, step: Step, chunk: Any, embeddings: NDArray[np.float32]) -> None:
        """Evaluate the embeddings of an mtmd_input_chunk after what is cached."""
        pointer = embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        position = llama.llama_pos(self._position)
        no_callback = mtmd.mtmd_helper_post_decode_callback()
        code = mtmd.mtmd_helper_decode_image_chunk(
            self._mtmd, self._context, chunk, pointer, position, SEQUENCE, BATCH, ctypes.byref(position),
            no_callback, None,
        )  # fmt: skip
        _check(code)
        self._cached.append(step)
        self._position += step.positions

    def _logits(self) -> Logits:
        """The logits after the last token. Raises EngineError after a picture."""
        pointer: Any = llama.llama_get_logits_ith(self._context, -1)
        if not pointer:
            raise EngineError("the prompt ends with a picture", "put the question after it")
        logits: Logits = np.ctypeslib.as_array(pointer, (self._vocab_size,)).copy()
        return logits


def _steps(prompt: PreparedPrompt, pictures: Mapping[bytes, PictureChunk]) -> Iterator[Step]:
    for part in prompt.parts:
        if isinstance(part, bytes):
            yield Step(part, pictures[part].positions)
        else:
            yield from (Step(token, 1) for token in part)


def _check(code: int) -> None:
    if code != 0:
        raise EngineError(f"llama.cpp could not evaluate the prompt (code {code})", "-v shows what it says")
