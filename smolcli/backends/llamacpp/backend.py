"""GGUF pairs through llama.cpp on the CPU; its C interface, not llama-cpp-python's chat handlers.

The handlers change the prompt and encode every picture anew for each question.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from smolcli import registry
from smolcli.backends.embedding_cache import digest
from smolcli.backends.image_processor import ImageProcessor, Layout
from smolcli.backends.llamacpp import amx_probe
from smolcli.backends.llamacpp.kv_cache import Scores, Sequences
from smolcli.backends.llamacpp.token_embeddings import TokenTable
from smolcli.backends.vision import select
from smolcli.backends.vision.base import Embeddings, LanguageModel, ThreadedEncoder, VisionEncoder
from smolcli.backends.vision.mtmd import layout_of
from smolcli.errors import ModelError, SmolError, UnavailableError
from smolcli.generation.sampler import Sampler, samplers
from smolcli.generation.scheduler import Pieces, PrefillRequest, prompt_too_long, schedule
from smolcli.models import chat_template
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.gguf_header import Header, read_header
from smolcli.options import Generate, Model
from smolcli.process.worker_main import is_verbose
from smolcli.system import memory
from smolcli.system.cpu import usable_cores
from smolcli.types import Finish, ModelLimits, Piece, Prompt, Seconds, Tokens

GGML_WARN, GGML_ERROR = 3, 4  # enum ggml_log_level
SLOTS_A_CORE, MOST_SLOTS = 4, 16  # replies at once, where nobody says how many; docs/performance.md has the curve
ALONE = -1  # the key of a prompt that is no reply's

Tokenised = list[int] | bytes  # a part of the prompt: token ids, or one tile's RGB


class LlamaCpp:
    """A GGUF pair on the CPU; several replies at a time."""

    name = "llamacpp"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        if files.gguf is None or files.mmproj is None:
            raise _no_pair(files)
        started = time.perf_counter()
        llama.llama_log_set(_log, ctypes.c_void_p(0))
        mtmd.mtmd_log_set(_log, ctypes.c_void_p(0))
        self.layout = layout_of(files.mmproj)  # a wrong file is told before the seconds that the language half takes
        self._cut = ImageProcessor(self.layout, options.detail)
        engine = select.choose_vision_encoder(options.vision_engine, options.dtype, files.mmproj.stat().st_size)
        header = read_header(files.gguf)
        _check_kind(files.gguf, header)
        self._table = TokenTable(files.gguf, header)
        with ThreadPoolExecutor(1) as pool:  # what encodes pictures is made while llama.cpp reads the language half
            loading = pool.submit(_load, files.gguf)
            language = LanguageModel(loading.result, self._table.width)
            try:
                made = partial(_encoder(engine), files.mmproj, self.layout, language, options)
                self._vision: VisionEncoder = (
                    made() if engine == "mtmd" else ThreadedEncoder(made)
                )  # mtmd is llama.cpp itself
            except SmolError:
                if loading.exception() is None:
                    llama.llama_model_free(loading.result())
                raise
        try:
            self._model = loading.result()
        except SmolError:
            self._vision.close()
            raise
        memory.drop_from_page_cache(
            files.gguf
        )  # llama.cpp has read it all ahead, which would add to what pictures take
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._token_count = int(llama.llama_vocab_n_tokens(self._vocab))
        threads = options.threads or usable_cores()
        most = options.jobs or min(MOST_SLOTS, SLOTS_A_CORE * threads)
        self._sequences = Sequences(self._model, self._token_count, threads, most, memory.available() // 4)
        self._spent: dict[int, Seconds] = {}
        self._looked = 0.0  # at the clock, when something of a reply was done last
        self.computes = (
            f"cpu, threads: {threads}, answers at once: at most {most}, pictures: {engine} in {self._vision.dtype}"
        )
        self._stops = {ids[0] for stop in chat_template.STOPS if len(ids := self._tokens(stop)) == 1}
        self._load_seconds = time.perf_counter() - started

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """From the keys of both files."""
        if files.gguf is None or files.mmproj is None:
            raise _no_pair(files)
        header, layout = read_header(files.gguf), layout_of(files.mmproj)
        keys, vocabulary = header.keys, header.shapes.get("token_embd.weight", (0,))[-1]
        context = keys.get(f"{keys.get('general.architecture')}.context_length")
        if not isinstance(context, int):
            raise ModelError(f"{files.gguf} does not say its context", "convert it again: smolcli convert-to-gguf")
        return ModelLimits(context, layout.tile, layout.tokens, understands_text=understands_text(vocabulary))

    @property
    def most(self) -> int:
        """The replies that may be under way."""
        return self._sequences.most

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        sampler = samplers(options, lambda: self._vocabulary)
        return schedule(
            prompts,
            self._prepared,
            lambda index, prepared, penalty: self._reply(index, prepared, sampler(penalty)),
            options.has_length,
            self,
        )

    def logits(self, prompt: Prompt, answer: Sequence[int] = ()) -> NDArray[np.float32]:
        """float32 (1 + len(answer), vocabulary): the scores of the first token of the reply and, after each of
        `answer`, of the next. Raises EngineError if it does not fit.
        """
        parts = self._prepared(prompt)
        self._sequences.forget()
        try:
            size = _length(parts, self.layout) + len(answer) + 1
            scores = [self._given(ALONE, parts, self._embeddings(parts), size).copy()]
            for token in answer:
                scores.append(self._sequences.step({ALONE: token})[ALONE].copy())
        finally:
            self._sequences.end(ALONE)
        return np.stack(scores)

    def embeddings(self, prompt: Prompt) -> Embeddings:
        """float32 (image tokens, hidden): what the pictures of `prompt` are to the language half."""
        tiles = self._vision.encode(_tiles(self._prepared(prompt)))
        return np.concatenate([np.empty((0, self._sequences.width), np.float32), *tiles])

    def words(self, tokens: Sequence[int]) -> str:
        """What `tokens` say; of a control token nothing."""
        return b"".join(map(self._piece, tokens)).decode("utf-8", "replace")

    def forget(self) -> None:
        self._cut.clear()
        self._vision.forget()
        self._sequences.forget()

    def gpu_peak(self) -> int:
        return 0

    def close(self) -> None:
        """Frees the native objects."""
        self._vision.close()
        self._sequences.close()
        if self._model is not None:
            llama.llama_model_free(self._model)
        self._model = None

    # ---- the slots of base.answered, and what each reply costs -----------------------------------------

    def has_room(self, index: int, size: int) -> bool:
        return self._sequences.has_room(index, size)

    def begin(self, index: int, asked: PrefillRequest[list[Tokenised]], ready: Sequence[list[Tokenised]]) -> Scores:
        begun = time.perf_counter()
        embeddings = self._embeddings(asked.prepared, (tile for parts in ready for tile in _tiles(parts)))
        encoded = time.perf_counter()
        scores = self._given(index, asked.prepared, embeddings, asked.size)
        self._looked = time.perf_counter()
        self._spent[index] = Seconds(encode=encoded - begun, prefill=self._looked - encoded)
        return scores

    def step(self, tokens: Mapping[int, int]) -> Mapping[int, Scores]:
        """The time since the last of these calls is shared by those who get a token."""
        scores = self._sequences.step(tokens)
        since, self._looked = self._looked, time.perf_counter()
        for index in tokens:
            self._spent[index] += Seconds(decode=(self._looked - since) / len(tokens))
        return scores

    def end(self, index: int) -> None:
        self._sequences.end(index)
        self._spent.pop(index, None)

    def _given(self, key: int, parts: Sequence[Tokenised], embeddings: Embeddings, size: int) -> Scores:
        """The scores after a whole prompt."""
        marks = [_marks(part, self.layout.tokens) if isinstance(part, bytes) else part for part in parts]
        return self._sequences.begin(key, np.concatenate(marks).astype(np.int64), embeddings, size)

    def _embeddings(self, parts: Sequence[Tokenised], next_tiles: Iterable[bytes] = ()) -> Embeddings:
        """float32 (tokens, hidden): text and tiles alike."""
        tiles = iter(self._vision.encode(_tiles(parts), next_tiles))
        return np.concatenate([next(tiles) if isinstance(part, bytes) else self._table.of(part) for part in parts])

    def _reply(self, index: int, parts: list[Tokenised], sampler: Sampler) -> Pieces:
        load, self._load_seconds = self._load_seconds, 0.0
        length, limit = _length(parts, self.layout), self._sequences.limit
        image = self.layout.tokens * len(_tiles(parts))
        if length >= limit:
            yield Piece(
                index, "", Finish("error", Tokens(length, image), Seconds(load), prompt_too_long(length, limit))
            )
            return
        room = min(sampler.options.max_tokens, limit - length)
        scores = yield PrefillRequest(parts, length + room)
        text = _Utf8()

        def says(token: int) -> str | None:
            is_stop = token in self._stops or llama.llama_vocab_is_eog(self._vocab, token)
            return None if is_stop else text.add(self._piece(token))

        reason, new = yield from sampler.decode(index, scores, room, says, sampler.choose)
        yield Piece(index, "", Finish(reason, Tokens(length, image, new), Seconds(load) + self._spent[index]))

    @cached_property
    def _vocabulary(self) -> Any:
        """As a grammar needs it; llguidance is loaded for the first schema."""
        from smolcli.generation.grammar import of_gguf

        return of_gguf(self._vocab, self._token_count, self._stops)

    def _prepared(self, prompt: Prompt) -> list[Tokenised]:
        pictures = [self._cut(frame, prompt.split) for frame in prompt.frames]
        return [
            self._tokens(each) if isinstance(each, str) else pictures[each.picture].pixels[each.number]
            for each in chat_template.segments(prompt, [picture.grid for picture in pictures])
        ]

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


def _encoder(engine: str) -> Any:
    """The class, as backends/vision/base.py says. Raises UnavailableError."""
    try:
        return registry.load(registry.VISION_ENCODERS, engine)
    except (ImportError, OSError) as error:  # installed, and its native half is not all there
        told = f"{engine} is installed and cannot be loaded ({error})"
        raise UnavailableError(told, "install it again, or do without it: --vision-engine mtmd") from error


def _tiles(parts: Sequence[Tokenised]) -> list[bytes]:
    return [part for part in parts if isinstance(part, bytes)]


def _length(parts: Sequence[Tokenised], layout: Layout) -> int:
    """In tokens."""
    return sum(layout.tokens if isinstance(part, bytes) else len(part) for part in parts)


def _marks(tile: bytes, tokens: int) -> NDArray[np.int64]:
    """A number for each embedding of a tile, which no token and hardly another tile has."""
    return -1 - int.from_bytes(digest(tile)[:7], "little") - np.arange(tokens)


def _no_pair(files: ModelFiles) -> ModelError:
    return ModelError(f"{files.name} has no GGUF pair", "make one: smolcli convert-to-gguf DIRECTORY")


def _say(level: int, text: bytes, _: Any) -> None:
    """llama.cpp's warnings and errors, where they are asked for.

    Elsewhere a harmless warning would be the engine's last words when it crashes. The hundreds of lines of
    information are for its own developers.
    """
    if level in (GGML_WARN, GGML_ERROR) and is_verbose():
        sys.stderr.write(text.decode("utf-8", "replace"))


_log = llama.llama_log_callback(_say)  # kept for as long as llama.cpp may call it


def _check_kind(path: Path, header: Header) -> None:
    if header.keys.get("general.architecture") == "clip":
        raise ModelError(f"{path} is the vision half of a model", "give the language half with -m, this with --mmproj")


def _load(path: Path) -> Any:
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = amx_probe.is_safe()
    if params.use_extra_bufts and amx_probe.is_there():
        # Matrices are laid out anew for AMX: a mapped file would be in memory beside them.
        params.load_mode = llama.LLAMA_LOAD_MODE_NONE
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        raise ModelError(f"{path} cannot be loaded by llama.cpp", "fetch or convert it again; -v shows what it says")
    return model


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
