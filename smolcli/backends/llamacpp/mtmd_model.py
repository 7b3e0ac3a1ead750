"""GGUF pairs of other families, as far as llama.cpp's mtmd loads them: Qwen2-VL, InternVL, Gemma 3 and others.

The chat template is that of the file, and mtmd resizes and tokenizes the pictures, so that nothing here knows a family.
One reply is generated at a time, and nothing is promised about how near the answers are to the checkpoint's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.llamacpp import devices
from smolcli.backends.llamacpp.chunk_sequence import ChunkSequence
from smolcli.backends.llamacpp.chunks import MARKER, ChunkedPrompt, ChunkPreparer, PictureChunk
from smolcli.backends.llamacpp.jinja_template import JinjaTemplate
from smolcli.backends.llamacpp.loading import check_is_language_half, load_model, quiet_logs
from smolcli.backends.llamacpp.supported import unknown_part
from smolcli.backends.llamacpp.vocabulary import LlamaVocabulary
from smolcli.errors import EngineError, ModelError, SmolError
from smolcli.models import family
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.gguf_header import read_header
from smolcli.options import Model
from smolcli.system import memory
from smolcli.system.cpu import usable_cores
from smolcli.types import ModelLimits

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer

MAX_CHUNKS = 16  # of pictures, whose embeddings are kept for further questions: one of 4,096 tokens may take 25 MB


class MtmdModel:
    """A GGUF pair of any family that mtmd loads, on the CPU or a GPU."""

    name = "llamacpp"
    max_sequences = 1

    def __init__(self, files: ModelFiles, options: Model) -> None:
        """Load the model. Raises ModelError for files that are damaged or that this llama.cpp does not know."""
        limits = self.limits(files)  # reports what is wrong with the headers before the weights are read
        assert files.gguf is not None and files.mmproj is not None
        quiet_logs()
        check_supported(files)
        header = read_header(files.gguf)
        self._gpu = devices.choose(options.device, files.mmproj.stat().st_size)
        self._gpu_memory = devices.GpuMemory(self._gpu)
        threads = options.threads or usable_cores()
        self._model = load_model(files.gguf, self._gpu)
        self._mtmd: Any = None
        try:
            memory.drop_from_page_cache(files.gguf)
            self._mtmd = _load_vision_half(files, self._model, self._gpu, threads)
            vocabulary = LlamaVocabulary(self._model, header, is_own=False)
            template = JinjaTemplate(header.keys.get(family.TEMPLATE_KEY), vocabulary.start, vocabulary.end)
        except SmolError:
            self._free()
            raise
        self.prepare = ChunkPreparer(
            self._mtmd, template, vocabulary.start, vocabulary.adds_start, limits.tile, options.detail
        )
        self._sequence = ChunkSequence(self._model, self._mtmd, vocabulary.size, threads, self._gpu is not None)
        self._owner: int | None = None  # the sequence that has the slot
        self._pictures: Mapping[bytes, PictureChunk] = {}  # by name, of the prompt that is evaluated
        self._embedding_cache = EmbeddingCache(lambda names: map(self._encode, names), 1, MAX_CHUNKS)
        self._embedding_size = int(llama.llama_model_n_embd_inp(self._model))
        self._vocabulary, self.stop_tokens = vocabulary, vocabulary.stop_tokens
        self.detokenizer = vocabulary.detokenizer
        self.context_length = int(llama.llama_model_n_ctx_train(self._model))
        self.device_summary = f"{self._gpu or devices.CPU}, threads: {threads}, answers at once: 1, pictures: mtmd"

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """Read the limits from the headers of both files. Raises ModelError."""
        if files.gguf is None or files.mmproj is None:
            raise ModelError(f"{files.name} has no GGUF pair", "give a .gguf file with its mmproj beside it")
        header = read_header(files.gguf)
        check_is_language_half(files.gguf, header)
        context = header.keys.get(f"{header.keys.get('general.architecture')}.context_length")
        side, tokens = family.picture_size(files.mmproj, read_header(files.mmproj).keys)
        if not isinstance(context, int):
            raise ModelError(f"{files.gguf} does not say its context", "fetch or convert it again")
        vocab_size = header.shapes.get("token_embd.weight", (0,))[-1]
        text = understands_text(vocab_size)
        return ModelLimits(context, side, tokens, understands_text=text, longest_edge=side, splits=False)

    def fits(self, lengths: Sequence[int]) -> int:
        """As Backend says: the only slot is free, and how much memory there is shows when it is asked for."""
        return min(1, len(lengths))

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        """As Backend says, of one request."""
        [request] = requests
        prompt, started = request.prompt, time.perf_counter()
        self._pictures = prompt.pictures if isinstance(prompt, ChunkedPrompt) else {}
        embeddings = dict(zip(prompt.tiles, self._embedding_cache.get(prompt.tiles), strict=True))
        encode_seconds = time.perf_counter() - started
        logits = self._sequence.prefill(prompt, request.max_length, embeddings)
        self._owner = request.sequence
        return PrefillResult({request.sequence: logits}, encode_seconds)

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        return {number: self._sequence.decode(token) for number, token in tokens.items() if number == self._owner}

    def release(self, sequence: int) -> None:
        if sequence == self._owner:
            self._owner = None

    def grammar_tokenizer(self) -> LLTokenizer:
        return self._vocabulary.grammar_tokenizer

    def clear_cache(self) -> None:
        self._embedding_cache.clear()
        if self._owner is None:
            self._sequence.clear()

    def gpu_peak(self) -> int:
        return self._gpu_memory.peak()

    def close(self) -> None:
        """Free the model; may be called again."""
        self._sequence.close()
        self._free()

    def _free(self) -> None:
        if self._mtmd is not None:
            mtmd.mtmd_free(self._mtmd)
        if self._model is not None:
            llama.llama_model_free(self._model)
        self._mtmd = self._model = None

    def _encode(self, name: bytes) -> NDArray[np.float32]:
        """The embeddings of a chunk of the prompt's: float32 (tokens * floats of an embedding,). Raises EngineError."""
        picture = self._pictures[name]
        if mtmd.mtmd_encode_chunk(self._mtmd, picture.handle) != 0:
            raise EngineError("llama.cpp could not encode a picture", "-v shows what it says")
        output = mtmd.mtmd_get_output_embd(self._mtmd)
        count = picture.tokens * self._embedding_size
        embeddings: NDArray[np.float32] = np.ctypeslib.as_array(output, (count,)).copy()
        return embeddings


def check_supported(files: ModelFiles) -> None:
    """Raise ModelError where this llama.cpp does not know the family of a pair."""
    kind = family.pair_family(files)
    if part := unknown_part(kind.architecture, kind.projector):
        raise family.not_supported(files.name, part)


def _load_vision_half(files: ModelFiles, model: Any, gpu: devices.Device | None, threads: int) -> Any:
    """Load the mtmd_context of a vision half. Raises ModelError."""
    params = mtmd.mtmd_context_params_default()
    params.use_gpu, params.device = gpu is not None, None if gpu is None else gpu.handle
    params.print_timings = params.warmup = False
    params.n_threads, params.media_marker = threads, MARKER.encode()
    assert files.mmproj is not None
    context = mtmd.mtmd_init_from_file(os.fsencode(files.mmproj), model, params)
    if context is None:
        advice = "give the mmproj made with it; -v shows what llama.cpp says"
        raise ModelError(f"{files.mmproj} cannot be loaded beside this language model", advice)
    if not mtmd.mtmd_support_vision(context):
        mtmd.mtmd_free(context)
        raise ModelError(f"{files.mmproj} is for sounds and takes no pictures", "give the mmproj of a vision model")
    return context
