"""GGUF pairs through llama.cpp on the CPU or a GPU, by its C interface.

llama-cpp-python's chat handlers are not used: they change the prompt and encode every picture again for each question.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import llama_cpp as llama
import numpy as np

from smolcli import registry
from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.backends.embedding_cache import digest
from smolcli.backends.gguf_layout import read_layout
from smolcli.backends.image_processor import Layout
from smolcli.backends.llamacpp import devices
from smolcli.backends.llamacpp.kv_cache import EmbeddingKeys, Sequences
from smolcli.backends.llamacpp.loading import check_is_language_half, load_model, quiet_logs
from smolcli.backends.llamacpp.token_embeddings import TokenEmbeddings
from smolcli.backends.llamacpp.vocabulary import LlamaVocabulary
from smolcli.backends.prompt_preparer import PromptPreparer
from smolcli.backends.vision import select
from smolcli.backends.vision.base import Embeddings, LanguageModel, ThreadedEncoder, VisionEncoder
from smolcli.errors import ModelError, SmolError, UnavailableError
from smolcli.models.chat_template import turns_of
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.gguf_header import read_header
from smolcli.options import Model
from smolcli.system import memory
from smolcli.system.cpu import usable_cores
from smolcli.types import ModelLimits, Prompt

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer

SEQUENCES_PER_CORE, MAX_SEQUENCES = 4, 16  # without --jobs; docs/performance.md has the curve
LOGITS_SEQUENCE = -1  # that of `logits`, which no reply uses


class LlamaCpp:
    """A GGUF pair on the CPU or a GPU; it evaluates several sequences at once."""

    name = "llamacpp"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        """Load the model. Raises ModelError for damaged files, UnavailableError for a missing encoder or device."""
        if files.gguf is None or files.mmproj is None:
            raise _no_pair(files)
        quiet_logs()
        self.layout = read_layout(files.mmproj)  # reports a wrong file before the seconds that the language half takes
        size = files.mmproj.stat().st_size
        self._gpu = devices.choose(options.device, size)
        self._gpu_memory = devices.GpuMemory(self._gpu)
        encoder_name = select.choose_vision_encoder(options.vision_encoder, options.dtype, size, options.device)
        header = read_header(files.gguf)
        check_is_language_half(files.gguf, header)
        self._token_embeddings = TokenEmbeddings(files.gguf, header)
        with ThreadPoolExecutor(1) as pool:  # llama.cpp reads the language half while the vision encoder is created
            loading = pool.submit(load_model, files.gguf, self._gpu)
            gpu = None if self._gpu is None else self._gpu.handle
            language = LanguageModel(loading.result, self._token_embeddings.embedding_size, gpu)
            try:
                make = partial(_load_encoder_class(encoder_name), files.mmproj, self.layout, language, options)
                # mtmd is a part of llama.cpp and may share its thread.
                self._vision: VisionEncoder = make() if encoder_name == "mtmd" else ThreadedEncoder(make)
            except SmolError:
                if loading.exception() is None:
                    llama.llama_model_free(loading.result())
                raise
        try:
            self._model = loading.result()
        except SmolError:
            self._vision.close()
            raise
        # llama.cpp has read the whole file ahead: its pages would count beside what encoding takes.
        memory.drop_from_page_cache(files.gguf)
        self.vocabulary = LlamaVocabulary(self._model, header, is_own=True)
        self.stop_tokens, self.detokenizer = self.vocabulary.stop_tokens, self.vocabulary.detokenizer
        threads = options.threads or usable_cores()
        max_sequences = options.jobs or min(MAX_SEQUENCES, SEQUENCES_PER_CORE * threads)
        self._sequences = Sequences(
            self._model, self.vocabulary.size, threads, max_sequences, devices.cache_bytes(self._gpu),
            self._gpu is not None,
        )  # fmt: skip
        self.context_length = self._sequences.context_length
        turns = turns_of(files, self.vocabulary.has_token)
        self.prepare = PromptPreparer(self.layout, options.detail, self.vocabulary.tokenize, self.context_length, turns)
        self.device_summary = (
            f"{self._gpu or devices.CPU}, threads: {threads}, answers at once: at most {max_sequences}, "
            f"pictures: {encoder_name} in {self._vision.dtype}"
        )

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """Read the limits from the headers of both files. Raises ModelError."""
        if files.gguf is None or files.mmproj is None:
            raise _no_pair(files)
        header, layout = read_header(files.gguf), read_layout(files.mmproj)
        keys, vocab_size = header.keys, header.shapes.get("token_embd.weight", (0,))[-1]
        context = keys.get(f"{keys.get('general.architecture')}.context_length")
        if not isinstance(context, int):
            raise ModelError(f"{files.gguf} does not say its context", "convert it again: smolcli convert-to-gguf")
        return ModelLimits(
            context, layout.tile, layout.tokens, understands_text=understands_text(vocab_size),
            longest_edge=layout.longest_edge, splits=layout.splits,
        )  # fmt: skip

    @property
    def max_sequences(self) -> int:
        return self._sequences.max_sequences

    def fits(self, lengths: Sequence[int]) -> int:
        return self._sequences.fits(lengths)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        """As Backend says: the tiles of all prompts are encoded in one call, the prompts evaluated one by one."""
        started = time.perf_counter()
        tiles = [tile for request in requests for tile in request.prompt.tiles]
        embeddings = iter(self._vision.encode(tiles, (tile for prompt in upcoming for tile in prompt.tiles)))
        encode_seconds = time.perf_counter() - started
        try:
            self._sequences.reserve([request.max_length for request in requests])
            logits = {request.sequence: self._evaluate(request, embeddings) for request in requests}
        except BaseException:
            for request in requests:
                self._sequences.release(request.sequence)
            raise
        return PrefillResult(logits, encode_seconds)

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        return self._sequences.decode(tokens)

    def release(self, sequence: int) -> None:
        self._sequences.release(sequence)

    def grammar_tokenizer(self) -> LLTokenizer:
        return self.vocabulary.grammar_tokenizer

    def logits(self, prompt: Prompt, answer: Sequence[int] = ()) -> Logits:
        """Return the logits of the first token of the reply and, after each token of `answer`, of the next.

        float32 (1 + len(answer), vocab_size). Raises EngineError if prompt and answer exceed the context.
        """
        prepared = self.prepare(prompt)
        self._sequences.clear_idle()
        request = PrefillRequest(LOGITS_SEQUENCE, prepared, prepared.length + len(answer) + 1)
        first = self.prefill([request], []).logits[LOGITS_SEQUENCE]
        assert isinstance(first, np.ndarray)
        logits = [first]
        try:
            for token in answer:
                logits.append(self.decode({LOGITS_SEQUENCE: token})[LOGITS_SEQUENCE].copy())
        finally:
            self.release(LOGITS_SEQUENCE)
        return np.stack(logits)

    def embeddings(self, prompt: Prompt) -> Embeddings:
        """Return the embeddings of the pictures of `prompt`: float32 (image tokens, hidden)."""
        tiles = self._vision.encode(self.prepare(prompt).tiles)
        return np.concatenate([np.empty((0, self._sequences.embedding_size), np.float32), *tiles])

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`; control tokens have none."""
        return b"".join(map(self.vocabulary.token_bytes, tokens)).decode("utf-8", "replace")

    def clear_cache(self) -> None:
        self._vision.clear_cache()
        self._sequences.clear_idle()

    def gpu_peak(self) -> int:
        return self._gpu_memory.peak()

    def close(self) -> None:
        """Free the model; may be called again."""
        self._vision.close()
        self._sequences.close()
        if self._model is not None:
            llama.llama_model_free(self._model)
        self._model = None

    def _evaluate(self, request: PrefillRequest, tiles: Iterator[Embeddings]) -> Logits:
        """Evaluate a prompt with the embeddings of its tiles, the next of `tiles`; return a copy of the logits."""
        keys: list[EmbeddingKeys] = []
        embeddings: list[Embeddings] = []
        for part in request.prompt.parts:
            if isinstance(part, bytes):
                keys.append(_tile_keys(part, self.layout.tokens))
                embeddings.append(next(tiles))
            else:
                keys.append(np.array(part, np.int64))
                embeddings.append(self._token_embeddings.lookup(part))
        logits = self._sequences.prefill(
            request.sequence, np.concatenate(keys), np.concatenate(embeddings), request.max_length
        )
        copy: Logits = logits.copy()  # before llama.cpp overwrites them with those of the next prompt
        return copy


def _load_encoder_class(name: str) -> Callable[[Path, Layout, LanguageModel, Model], VisionEncoder]:
    """The class of a vision encoder. Raises UnavailableError if it cannot be imported."""
    try:
        encoder_class: Callable[[Path, Layout, LanguageModel, Model], VisionEncoder] = registry.load(
            registry.VISION_ENCODERS, name
        )
    except (ImportError, OSError) as error:  # installed, but a native library of it is missing
        message = f"{name} is installed and cannot be loaded ({error})"
        raise UnavailableError(message, "install it again, or do without it: --vision-engine mtmd") from error
    return encoder_class


def _tile_keys(tile: bytes, tokens: int) -> EmbeddingKeys:
    """A number for each embedding of a tile. It is negative, as no token id is, and differs from other tiles'."""
    return -1 - int.from_bytes(digest(tile)[:7], "little") - np.arange(tokens)


def _no_pair(files: ModelFiles) -> ModelError:
    return ModelError(f"{files.name} has no GGUF pair", "make one: smolcli convert-to-gguf DIRECTORY")
