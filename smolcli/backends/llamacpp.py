"""GGUF pairs through llama.cpp on the CPU; its C interface, not llama-cpp-python's chat handlers.

The handlers change the prompt and encode every picture anew for each question.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from smolcli import chat
from smolcli.backends.base import Pieces, one_at_a_time, reads, too_long
from smolcli.backends.gguf_header import read_header
from smolcli.backends.mtmd import Embeddings, MtmdEncoder, layout_of
from smolcli.backends.sampling import Sampler, samplers
from smolcli.backends.tiles import cut
from smolcli.cores import usable_cores
from smolcli.errors import EngineError, ModelError
from smolcli.models import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Finish, Piece, Prompt, Room, Seconds, Tokens

GGML_WARN, GGML_ERROR = 3, 4  # enum ggml_log_level
BATCH = 512  # tokens or embeddings given to one llama_decode
CONTEXT_STEP = 2048  # contexts are made in multiples of this many tokens, so that few are made

Tokenised = list[int] | bytes  # a part of the prompt: token ids, or one tile's RGB
Run = list[int] | Embeddings  # the same as llama_decode takes it


class LlamaCpp:
    """A GGUF pair on the CPU; one prompt at a time."""

    name = "llamacpp"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        if files.gguf is None or files.mmproj is None:
            raise _no_pair(files)
        started = time.perf_counter()
        llama.llama_log_set(_log, ctypes.c_void_p(0))
        mtmd.mtmd_log_set(_log, ctypes.c_void_p(0))
        self.options = options
        self._threads = options.threads or usable_cores()
        self._context: Any = None
        self._context_size = 0
        self.layout = layout_of(files.mmproj)  # a wrong file is told before the seconds that the language half takes
        self._model = _load(files.gguf)
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._token_count = int(llama.llama_vocab_n_tokens(self._vocab))
        self._embedding = int(llama.llama_model_n_embd(self._model))
        self._limit = int(llama.llama_model_n_ctx_train(self._model))
        try:
            self._vision = MtmdEncoder(files.mmproj, self.layout, self._model, self._embedding, self._threads)
        except ModelError:
            llama.llama_model_free(self._model)
            raise
        self._stops = {ids[0] for stop in chat.STOPS if len(ids := self._tokens(stop)) == 1}
        self._load_seconds = time.perf_counter() - started

    @staticmethod
    def room(files: ModelFiles) -> Room:
        """From the keys of both files."""
        if files.gguf is None or files.mmproj is None:
            raise _no_pair(files)
        header, layout = read_header(files.gguf), layout_of(files.mmproj)
        keys, vocabulary = header.keys, header.shapes.get("token_embd.weight", (0,))[-1]
        context = keys.get(f"{keys.get('general.architecture')}.context_length")
        if not isinstance(context, int):
            raise ModelError(f"{files.gguf} does not say its context", "convert it again: smolcli convert-to-gguf")
        return Room(context, layout.tile, layout.tokens, reads=reads(vocabulary))

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        sampler = samplers(options, lambda: self._vocabulary)
        return one_at_a_time(
            prompts,
            self._prepared,
            lambda index, prepared, penalty: self._reply(index, prepared, sampler(penalty)),
        )

    def logits(self, prompt: Prompt, answer: Sequence[int] = ()) -> NDArray[np.float32]:
        """float32 (1 + len(answer), vocabulary): the scores of the first token of the reply and, after each of
        `answer`, of the next. Raises EngineError if it does not fit.
        """
        runs = self._encoded(self._prepared(prompt))
        length = sum(len(run) for run in runs)
        self._prefill(runs, length + len(answer) + 1)
        scores = [self._scores().copy()]
        for number, token in enumerate(answer):
            self._decode([token], length + number)
            scores.append(self._scores().copy())
        return np.stack(scores)

    def embeddings(self, prompt: Prompt) -> Embeddings:
        """float32 (image tokens, hidden): what the pictures of `prompt` are to the language half."""
        tiles = [run for run in self._encoded(self._prepared(prompt)) if not isinstance(run, list)]
        return np.concatenate([np.empty((0, self._embedding), np.float32), *tiles])

    def words(self, tokens: Sequence[int]) -> str:
        """What `tokens` say; of a control token nothing."""
        return b"".join(map(self._piece, tokens)).decode("utf-8", "replace")

    def close(self) -> None:
        """Frees the native objects."""
        self._vision.close()
        if self._context is not None:
            llama.llama_free(self._context)
        if self._model is not None:
            llama.llama_model_free(self._model)
        self._context = self._model = None

    def _reply(self, index: int, parts: list[Tokenised], sampler: Sampler) -> Pieces:
        begun = time.perf_counter()
        load, self._load_seconds = self._load_seconds, 0.0
        image = self.layout.tokens * sum(isinstance(part, bytes) for part in parts)
        length = image + sum(len(part) for part in parts if isinstance(part, list))
        if length >= self._limit:
            yield Piece(index, "", Finish("error", Tokens(length, image), Seconds(load), too_long(length, self._limit)))
            return
        runs = self._encoded(parts)
        encoded_at = time.perf_counter()
        room = min(sampler.options.max_tokens, self._limit - length)
        self._prefill(runs, length + room)
        prefilled_at = time.perf_counter()
        text = _Utf8()
        position = count(length)

        def says(token: int) -> str | None:
            is_stop = token in self._stops or llama.llama_vocab_is_eog(self._vocab, token)
            return None if is_stop else text.add(self._piece(token))

        def after(token: int) -> NDArray[np.float32]:
            self._decode([token], next(position))
            return self._scores()

        reason, new = yield from sampler.decode(index, self._scores(), room, says, after, sampler.choose)
        now = time.perf_counter()
        seconds = Seconds(load, 0.0, encoded_at - begun, prefilled_at - encoded_at, now - prefilled_at)
        yield Piece(index, "", Finish(reason, Tokens(length, image, new), seconds))

    @cached_property
    def _vocabulary(self) -> Any:
        """As a grammar needs it; llguidance is loaded for the first schema."""
        from smolcli.backends.grammar import of_gguf

        return of_gguf(self._vocab, self._token_count, self._stops)

    def _prepared(self, prompt: Prompt) -> list[Tokenised]:
        pictures = [cut(frame, self.layout, self.options.detail, prompt.split) for frame in prompt.frames]
        return [
            self._tokens(each) if isinstance(each, str) else pictures[each.picture].pixels[each.number]
            for each in chat.segments(prompt, [picture.grid for picture in pictures])
        ]

    def _encoded(self, parts: Sequence[Tokenised]) -> list[Run]:
        tiles = iter(self._vision.encode([part for part in parts if isinstance(part, bytes)]))
        return [next(tiles) if isinstance(part, bytes) else part for part in parts]

    def _prefill(self, runs: Sequence[Run], size: int) -> None:
        """Puts the whole prompt into an empty context that holds `size` tokens; its last token is scored."""
        self._make_context(size)
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        position = 0
        for run in runs:
            for start in range(0, len(run), BATCH):
                part = run[start : start + BATCH]
                self._decode(part, position)
                position += len(part)

    def _scores(self) -> NDArray[np.float32]:
        """float32 (vocabulary,): a view, good until the next token is decoded."""
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(self._context, -1), (self._token_count,))

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
                ctypes.memmove(batch.embd, part.ctypes.data, part.nbytes)
            if (code := llama.llama_decode(self._context, batch)) != 0:
                raise EngineError(f"llama.cpp could not evaluate the prompt (code {code})", "-v shows what it says")
        finally:
            llama.llama_batch_free(batch)

    def _make_context(self, size: int) -> None:
        if size <= self._context_size:
            return
        if self._context is not None:
            llama.llama_free(self._context)
            self._context = None
        params = llama.llama_context_default_params()
        self._context_size = min(self._limit, -(-size // CONTEXT_STEP) * CONTEXT_STEP)
        params.n_ctx = self._context_size
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = self._threads  # left alone, the second is the host's count
        # On a CPU llama.cpp's flash attention is less exact: with it the KL divergence of a float32 model from
        # transformers, after pictures, is 1e-6; without it 1e-8.
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama.llama_init_from_model(self._model, params)
        if self._context is None:
            self._context_size = 0
            raise EngineError(
                f"no memory for a context of {size} tokens", "use a smaller model or --detail low", kind="memory"
            )

    def _tokens(self, text: str) -> list[int]:
        raw = text.encode()
        room = (ctypes.c_int32 * (len(raw) + 1))()
        count = llama.llama_tokenize(self._vocab, raw, len(raw), room, len(room), False, True)
        if count < 0:
            raise RuntimeError(f"llama_tokenize wants {-count} tokens")
        return room[:count]

    def _piece(self, token: int) -> bytes:
        """The token's bytes; a control token has none."""
        room = ctypes.create_string_buffer(64)
        count = llama.llama_token_to_piece(self._vocab, token, room, len(room), 0, False)
        if count < 0:
            room = ctypes.create_string_buffer(-count)
            count = llama.llama_token_to_piece(self._vocab, token, room, len(room), 0, False)
        return room.raw[:count]


def _no_pair(files: ModelFiles) -> ModelError:
    return ModelError(f"{files.name} has no GGUF pair", "make one: smolcli convert-to-gguf DIRECTORY")


def _say(level: int, text: bytes, _: Any) -> None:
    """llama.cpp's warnings and errors, where they are asked for.

    Elsewhere a harmless warning would be the engine's last words when it crashes. The hundreds of lines of
    information are for its own developers.
    """
    if level in (GGML_WARN, GGML_ERROR) and os.environ.get("SMOLCLI_VERBOSE"):
        sys.stderr.write(text.decode("utf-8", "replace"))


_log = llama.llama_log_callback(_say)  # kept for as long as llama.cpp may call it


def _load(path: Path) -> Any:
    architecture = read_header(path).keys.get("general.architecture")
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
