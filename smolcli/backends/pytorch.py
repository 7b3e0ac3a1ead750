"""SmolVLM and Idefics3 checkpoints through PyTorch, on CUDA, XPU, Apple's MPS or the CPU.

transformers reads the checkpoint. The forward pass is this package's own: pytorch_decoder.py evaluates many sequences
together, vision/pytorch_tower.py encodes tiles. Neither transformers' processors nor torchvision is needed:
image_processor cuts the pictures into tiles, chat_template writes the prompt, and tokenizers turns it into token ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from smolcli.backends import pytorch_device
from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt, Scores
from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.grammar_tokenizer import grammar_tokenizer
from smolcli.backends.image_processor import DEFAULT_TILES_ALONG, Layout, make_layout
from smolcli.backends.prompt_preparer import PromptPreparer
from smolcli.backends.pytorch_checkpoint import load_model, load_tower, name_checkpoint_in_errors
from smolcli.backends.pytorch_decoder import Decoder, take_layers
from smolcli.backends.pytorch_graphs import CudaCapture
from smolcli.backends.pytorch_quantization import quantizer
from smolcli.backends.pytorch_slots import Evaluated, Request, Slots
from smolcli.backends.vision.pytorch_tower import Tower
from smolcli.errors import ModelError
from smolcli.models.chat_template import IMAGE, turns_of
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.preprocessor_config import does_split, read_preprocessor_config
from smolcli.models.tokenizer import has_token, load_tokenizer, make_detokenizer, stop_tokens, tokenize
from smolcli.options import Model
from smolcli.system.cpu import usable_cores
from smolcli.system.memory import is_out_of_memory
from smolcli.types import ModelLimits, Prompt

if TYPE_CHECKING:
    from llguidance import LLTokenizer  # loaded for a schema only
    from tokenizers import Tokenizer

HALF = [0.5, 0.5, 0.5]  # mean and standard deviation of every published model
BATCH_SIZE = 16  # tiles encoded in one call, which bounds the memory of a picture of many tiles
CPU_SEQUENCES, GPU_SEQUENCES = 16, 64  # without --jobs
GREEDY_SEQUENCE = -1  # that of `greedy`, which no reply uses


class PyTorch:
    """A checkpoint directory, with its adapter if it has one, on one device; up to --jobs sequences take a step."""

    name = "torch"

    def __init__(
        self, files: ModelFiles, options: Model, load: Callable[[ModelFiles, torch.dtype], Any] = load_model
    ) -> None:
        """Load the model; `load` returns transformers' model of the files, on the CPU.

        Raises ModelError for damaged files, UnavailableError if the device cannot be used, and EngineError of kind
        MEMORY if the model does not fit.
        """
        if files.checkpoint is None:
            raise _no_checkpoint(files)
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.device = pytorch_device.resolve_device(options.device)
        if options.threads is not None or self.device.type == "cpu":
            torch.set_num_threads(options.threads or usable_cores())
        self.dtype = pytorch_device.resolve_dtype(options.dtype, self.device)
        with name_checkpoint_in_errors(files.checkpoint, self.device), torch.inference_mode():
            quantize = quantizer(options.quant, self.device, self.dtype)
            model = load(files, self.dtype)
            layers = take_layers(model, self.device, quantize)
            model.to(self.device)
            self.tokenizer = load_tokenizer(files, len(model.lm_head.weight))
            configs = (model.generation_config, model.config.text_config)
            configured = [getattr(config, "eos_token_id", None) for config in configs]
            self.stop_tokens = stop_tokens(self.tokenizer.token_to_id, configured, len(model.lm_head.weight))
            self.layout = _read_layout(files.checkpoint, model.config)
            if self.tokenizer.token_to_id(IMAGE) != model.config.image_token_id:
                raise _other_image_token(files.checkpoint, model.config.image_token_id, self.tokenizer)
            self.context_length = int(model.config.text_config.max_position_embeddings)
            tower = load_tower(model)
            decoder = Decoder(model, layers)
        self.max_sequences = options.jobs or (CPU_SEQUENCES if self.device.type == "cpu" else GPU_SEQUENCES)
        turns = turns_of(files, partial(has_token, self.tokenizer))
        self.prepare = PromptPreparer(
            self.layout, options.detail, partial(tokenize, self.tokenizer), self.context_length, turns
        )
        self.detokenizer = make_detokenizer(self.tokenizer)
        self._decoder: Decoder | None = decoder
        self._tower: Tower | None = tower
        self._embedding_cache = EmbeddingCache(self._encode_batch, BATCH_SIZE)
        is_cuda = self.device.type == "cuda"
        self._slots: Slots | None = Slots(
            decoder,
            self.max_sequences,
            pytorch_device.cache_bytes(self.device),
            is_padded=self.device.type != "cpu",
            can_draw=is_cuda,  # MPS has no float64
            new_capture=CudaCapture if is_cuda else None,
        )
        formats = [str(self.dtype).removeprefix("torch."), *([options.quant] if options.quant != "none" else [])]
        self.device_summary = ", ".join([str(self.device), *formats])

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """Read the limits from config.json. Raises ModelError."""
        if files.checkpoint is None:
            raise _no_checkpoint(files)
        with name_checkpoint_in_errors(files.checkpoint):
            config = AutoConfig.from_pretrained(files.checkpoint, local_files_only=True)
            layout = _read_layout(files.checkpoint, config)
            text = config.text_config
            return ModelLimits(
                int(text.max_position_embeddings),
                layout.tile,
                layout.tokens,
                understands_text=understands_text(int(text.vocab_size)),
                longest_edge=layout.longest_edge,
                splits=layout.splits,
            )

    def fits(self, lengths: Sequence[int]) -> int:
        return self._require_slots().fits(lengths)

    @torch.inference_mode()
    @pytorch_device.detect_loss()
    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        started = time.perf_counter()
        later = (tile for prompt in upcoming for tile in prompt.tiles)
        pictures = iter(self._encode([tile for request in requests for tile in request.prompt.tiles], later))
        pytorch_device.synchronize(self.device)
        encode_seconds = time.perf_counter() - started
        prompts = {
            request.sequence: Request(self._embed(request.prompt, pictures), request.max_length, request.draw)
            for request in requests
        }
        return PrefillResult(_scores(self._require_slots().prefill(prompts)), encode_seconds)

    @torch.inference_mode()
    @pytorch_device.detect_loss()
    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Scores]:
        return _scores(self._require_slots().step(tokens))

    def release(self, sequence: int) -> None:
        if self._slots is not None:
            self._slots.release(sequence)

    def grammar_tokenizer(self) -> LLTokenizer:
        return self._grammar_tokenizer

    @torch.inference_mode()
    def logits(self, prompt: Prompt, answer: Sequence[int] = ()) -> Tensor:
        """Return the logits of the first token of the reply and, after each token of `answer`, of the next.

        float32 (1 + len(answer), vocab_size), on the model's device.
        """
        decoder, prepared = self._require_decoder(), self.prepare(prompt)
        embeddings = self._embed(prepared, iter(self._encode(prepared.tiles)))
        if answer:
            embeddings = torch.cat([embeddings, self._embed_tokens(answer)])
        return decoder.logits(decoder.prefill(embeddings[None])[0, -1 - len(answer) :])

    def greedy(self, prompt: Prompt, max_tokens: int) -> list[int]:
        """Return the tokens of the greedy reply, at most `max_tokens`, without the stop token."""
        prepared, answer = self.prepare(prompt), list[int]()
        request = PrefillRequest(GREEDY_SEQUENCE, prepared, prepared.length + max_tokens)
        scores = self.prefill([request], []).logits[GREEDY_SEQUENCE]
        assert isinstance(scores, Scores)
        try:
            while len(answer) < max_tokens and scores.likeliest not in self.stop_tokens:
                answer.append(scores.likeliest)
                scores = self.decode({GREEDY_SEQUENCE: answer[-1]})[GREEDY_SEQUENCE]
        finally:
            self.release(GREEDY_SEQUENCE)
        return answer

    @torch.inference_mode()
    def embeddings(self, prompt: Prompt) -> Tensor:
        """Return the embeddings of the pictures of `prompt`: float32 (image tokens, hidden)."""
        none = self._require_decoder().embeddings[:0]
        return torch.cat([none, *self._encode(self.prepare(prompt).tiles)]).float()

    def clear_cache(self) -> None:
        self._embedding_cache.clear()
        self._require_slots().clear()

    def gpu_peak(self) -> int:
        return pytorch_device.gpu_peak(self.device)

    def close(self) -> None:
        """Free the model."""
        self._embedding_cache.clear()
        self._slots = self._decoder = self._tower = None

    @cached_property
    def _grammar_tokenizer(self) -> LLTokenizer:
        return grammar_tokenizer(self.tokenizer, self._require_decoder().vocab_size, self.stop_tokens)

    def _require_decoder(self) -> Decoder:
        assert self._decoder is not None, "the backend is closed"
        return self._decoder

    def _require_slots(self) -> Slots:
        assert self._slots is not None, "the backend is closed"
        return self._slots

    def _embed(self, prompt: PreparedPrompt, pictures: Iterator[Tensor]) -> Tensor:
        """The embeddings of a prompt, whose tiles are the next of `pictures`: (tokens, hidden)."""
        parts = [next(pictures) if isinstance(part, bytes) else self._embed_tokens(part) for part in prompt.parts]
        embeddings = torch.cat(parts)
        assert len(embeddings) == prompt.length, "a tile has other tokens than config.json says"
        return embeddings

    def _embed_tokens(self, tokens: Sequence[int]) -> Tensor:
        return F.embedding(torch.tensor(tokens, device=self.device), self._require_decoder().embeddings)

    @torch.inference_mode()
    def _encode(self, tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> list[Tensor]:
        """The embeddings of each tile: (tokens of a tile, hidden), in the model's dtype."""
        return self._embedding_cache.get(tiles, upcoming)

    def _encode_batch(self, tiles: Sequence[bytes]) -> list[Tensor]:
        """The same without the cache. If memory is short, in two halves, and so on."""
        assert self._tower is not None, "the backend is closed"
        side = self.layout.tile
        try:
            flat = torch.frombuffer(bytearray(b"".join(tiles)), dtype=torch.uint8).view(len(tiles), side, side, 3)
            if is_cuda := self.device.type == "cuda":
                flat = flat.pin_memory()
            return list(self._tower(flat.to(self.device, non_blocking=is_cuda)).to(self.dtype))
        except Exception as error:
            if len(tiles) == 1 or not is_out_of_memory(error):
                raise
        half = len(tiles) // 2
        return self._encode_batch(tiles[:half]) + self._encode_batch(tiles[half:])


def _scores(evaluated: Evaluated) -> dict[int, Scores]:
    """The scores of sequences, by one small transfer for all, which waits for the device."""
    table = evaluated.summary.tolist()
    scores = {}
    for sequence, row in evaluated.rows.items():
        likeliest, highest, log_sum, *drawn = table[row]
        fetch = partial(_fetch, evaluated.logits[row])
        scores[sequence] = Scores(int(likeliest), highest, log_sum, fetch, (int(drawn[0]), drawn[1]) if drawn else None)
    return scores


@pytorch_device.detect_loss()
def _fetch(logits: Tensor) -> Logits:
    values: Logits = logits.cpu().numpy()
    return values


def _read_layout(checkpoint: Path, config: PreTrainedConfig) -> Layout:
    """Read the tile's side and tokens from the model's config, the rest of the layout from the image processor's.

    Raises ModelError for a mean or deviation other than 0.5.
    """
    side = int(config.vision_config.image_size)
    settings = read_preprocessor_config(checkpoint)
    for key in ("image_mean", "image_std"):
        if settings.get(key, HALF) != HALF:
            raise ModelError(f"{checkpoint}: {key} is {settings[key]}", "only models of 0.5 can be run by torch")
    longest_edge = int((settings.get("size") or {}).get("longest_edge", DEFAULT_TILES_ALONG * side))
    patch, scale = int(config.vision_config.patch_size), int(config.scale_factor)
    return make_layout(side, patch, scale, longest_edge, does_split(settings))


def _other_image_token(checkpoint: Path, configured: int, tokenizer: Tokenizer) -> ModelError:
    message = f"{checkpoint}: config.json says that {IMAGE} is the token {configured}, and tokenizer.json that it is"
    return ModelError(f"{message} {tokenizer.token_to_id(IMAGE)}", "take both from the same checkpoint")


def _no_checkpoint(files: ModelFiles) -> ModelError:
    return ModelError(
        f"{files.name} has no safetensors checkpoint", "use --backend llamacpp or name a checkpoint directory"
    )
