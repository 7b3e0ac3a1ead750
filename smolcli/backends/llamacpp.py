"""GGUF pairs through llama.cpp on the CPU; its C interface, not llama-cpp-python's chat handlers.

The handlers change the prompt and encode every picture anew for each question.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from smolcli import chat
from smolcli.backends.gguf_header import read_header
from smolcli.backends.mtmd import MtmdEncoder
from smolcli.backends.tiles import cut
from smolcli.cores import usable_cores
from smolcli.errors import ModelError
from smolcli.models import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Fault, Finish, FinishReason, Piece, Prompt, Seconds, Tokens

GGML_WARN, GGML_ERROR = 3, 4  # enum ggml_log_level
BATCH = 512  # tokens or embeddings given to one llama_decode
CONTEXT_STEP = 2048  # contexts are made in multiples of this many tokens, so that few are made
STOPS = (chat.END, "<|im_end|>", "<|endoftext|>", "<|end_of_text|>")

# A run of the prompt: token ids, or one tile's embeddings (tokens, embedding).
Run = list[int] | NDArray[np.float32]


class LlamaCpp:
    """A GGUF pair on the CPU; one prompt at a time."""

    name = "llamacpp"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        if files.gguf is None or files.mmproj is None:
            raise ModelError(f"{files.name} has no GGUF pair", "make one: smolcli convert-to-gguf DIRECTORY")
        started = time.perf_counter()
        llama.llama_log_set(_log, ctypes.c_void_p(0))
        mtmd.mtmd_log_set(_log, ctypes.c_void_p(0))
        mtmd.mtmd_helper_log_set(_log, ctypes.c_void_p(0))
        self.options = options
        self._threads = options.threads or usable_cores()
        self._context: Any = None
        self._context_size = 0
        self._model = _load(files.gguf)
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._embedding = int(llama.llama_model_n_embd(self._model))
        self._limit = int(llama.llama_model_n_ctx_train(self._model))
        self._vision = MtmdEncoder(files.mmproj, self._model, self._embedding, self._threads)
        self.layout = self._vision.layout
        self._stops = {ids[0] for stop in STOPS if len(ids := self._tokens(stop)) == 1}
        self._load_seconds = time.perf_counter() - started

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        for index, prompt in enumerate(prompts):
            if prompt is None:
                raise RuntimeError("None was given while no reply was under way")
            yield from self._reply(index, prompt, options)

    def logits(self, prompt: Prompt) -> NDArray[np.float32]:
        """float32 (vocabulary,): the scores of the first token of the reply."""
        runs = self._encoded(*self._prepared(prompt))
        self._prefill(runs, sum(len(run) for run in runs) + 1)
        scores = llama.llama_get_logits_ith(self._context, -1)
        found: NDArray[np.float32] = np.ctypeslib.as_array(
            scores, (int(llama.llama_vocab_n_tokens(self._vocab)),)
        ).copy()
        return found

    def close(self) -> None:
        """Frees the native objects."""
        self._vision.close()
        if self._context is not None:
            llama.llama_free(self._context)
        if self._model is not None:
            llama.llama_model_free(self._model)
        self._context = self._model = None

    def _reply(self, index: int, prompt: Prompt, options: Generate) -> Iterator[Piece]:
        begun = time.perf_counter()
        segments, tiles = self._prepared(prompt)
        image = self.layout.tokens * sum(isinstance(each, chat.Tile) for each in segments)
        length = image + sum(len(self._tokens(each)) for each in segments if isinstance(each, str))
        cut_at = time.perf_counter()
        if length >= self._limit:
            message = f"the prompt has {length} tokens, the model's context holds {self._limit}; use --detail low"
            yield Piece(index, "", Finish("error", Tokens(length, image), fault=Fault("too-long", message)))
            return
        runs = self._encoded(segments, tiles)
        encoded_at = time.perf_counter()
        room = min(options.max_tokens, self._limit - length)
        self._prefill(runs, length + room)
        prefilled_at = time.perf_counter()
        new, reason = 0, "length"
        text = _Utf8()
        sampler = _sampler(options)
        try:
            while new < room:
                token = int(llama.llama_sampler_sample(sampler, self._context, -1))
                if token in self._stops or llama.llama_vocab_is_eog(self._vocab, token):
                    reason = "stop"
                    break
                new += 1
                if said := text.add(self._piece(token)):
                    yield Piece(index, said)
                if new < room:
                    self._decode([token], length + new - 1)
        finally:
            llama.llama_sampler_free(sampler)
        load, self._load_seconds = self._load_seconds, 0.0
        ended: FinishReason = "stop" if reason == "stop" else "length"
        seconds = Seconds(
            load,
            cut_at - begun,
            encoded_at - cut_at,
            prefilled_at - encoded_at,
            time.perf_counter() - prefilled_at,
        )
        yield Piece(index, "", Finish(ended, Tokens(length, image, new), seconds))

    def _prepared(self, prompt: Prompt) -> tuple[list[chat.Segment], list[list[bytes]]]:
        pictures = [cut(frame, self.layout, self.options.detail, prompt.split) for frame in prompt.frames]
        return chat.segments(prompt, [p.grid for p in pictures]), [p.pixels for p in pictures]

    def _encoded(self, segments: Sequence[chat.Segment], tiles: Sequence[Sequence[bytes]]) -> list[Run]:
        return [
            self._tokens(each) if isinstance(each, str) else self._vision.encode(tiles[each.picture][each.number])
            for each in segments
        ]

    def _prefill(self, runs: Sequence[Run], size: int) -> None:
        """Puts the whole prompt into an empty context that holds `size` tokens; only its last token is scored."""
        self._make_context(size)
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        position = 0
        for run in runs:
            for start in range(0, len(run), BATCH):
                part = run[start : start + BATCH]
                self._decode(part, position)
                position += len(part)

    def _decode(self, part: Run, position: int) -> None:
        is_tokens = isinstance(part, list)
        batch = llama.llama_batch_init(len(part), 0 if is_tokens else self._embedding, 1)
        try:
            batch.n_tokens = len(part)
            for n in range(len(part)):
                batch.pos[n] = position + n
                batch.n_seq_id[n] = 1
                batch.seq_id[n][0] = 0
                batch.logits[n] = n == len(part) - 1
            if isinstance(part, list):
                for n, token in enumerate(part):
                    batch.token[n] = token
            else:
                ctypes.memmove(batch.embd, np.ascontiguousarray(part).ctypes.data, part.nbytes)
            if (code := llama.llama_decode(self._context, batch)) != 0:
                raise RuntimeError(f"llama_decode failed with {code}")
        finally:
            llama.llama_batch_free(batch)

    def _make_context(self, size: int) -> None:
        if size <= self._context_size:
            return
        if self._context is not None:
            llama.llama_free(self._context)
        params = llama.llama_context_default_params()
        self._context_size = min(self._limit, -(-size // CONTEXT_STEP) * CONTEXT_STEP)
        params.n_ctx = self._context_size
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = self._threads  # left alone, the second is the host's count
        self._context = llama.llama_init_from_model(self._model, params)
        if self._context is None:
            self._context_size = 0
            raise MemoryError(f"no memory for a context of {size} tokens")

    def _tokens(self, text: str) -> list[int]:
        raw = text.encode()
        room = (ctypes.c_int32 * (len(raw) + 1))()
        count = llama.llama_tokenize(self._vocab, raw, len(raw), room, len(room), False, True)
        if count < 0:
            raise RuntimeError(f"llama_tokenize wants {-count} tokens")
        return room[:count]

    def _piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(256)
        count = llama.llama_token_to_piece(self._vocab, token, room, len(room), 0, False)
        return room.raw[: max(0, count)]


def _say(level: int, text: bytes, _: Any) -> None:
    """llama.cpp's warnings and errors; its hundreds of lines of information are for its own developers."""
    if level in (GGML_WARN, GGML_ERROR):
        sys.stderr.write(text.decode("utf-8", "replace"))


_log = llama.llama_log_callback(_say)  # kept for as long as llama.cpp may call it


def _load(path: Path) -> Any:
    architecture = read_header(path).get("general.architecture")
    if architecture == "clip":
        raise ModelError(f"{path} is the vision half of a model", "give the language half with -m, this with --mmproj")
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = not _has_amx()
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        raise ModelError(f"{path} cannot be loaded by llama.cpp", "fetch or convert it again; -v shows what it says")
    return model


def _has_amx() -> bool:
    """Whether the CPU has AMX tiles.

    GCC before 14 miscompiles llama.cpp's AMX path (the stores to the tile configuration are dropped; llama.cpp
    pull request 26954): the first product of several tokens crashes. Without the extra buffer types it is not taken.
    """
    try:
        return "amx_tile" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def _sampler(options: Generate) -> Any:
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    if options.temperature == 0:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
        return chain
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_temp(options.temperature))
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_p(options.top_p, 1))
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(options.seed & 0xFFFFFFFF))
    return chain


class _Utf8:
    """Bytes to text as characters become whole, by the rule of tokenizers' DecodeStream: half a one is held back."""

    def __init__(self) -> None:
        self._held = b""

    def add(self, piece: bytes) -> str:
        self._held += piece
        text = self._held.decode("utf-8", "replace")
        if text.endswith("\ufffd"):
            return ""
        self._held = b""
        return text
