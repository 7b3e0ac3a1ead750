"""SmolVLM and Idefics3 checkpoints through PyTorch and transformers, on CUDA, Apple's MPS or the CPU.

Neither transformers' processors nor torchvision is needed: image_processor cuts the pictures into tiles, chat_template
writes the prompt, and tokenizers turns it into token ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoConfig, DynamicCache, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.grammar_tokenizer import grammar_tokenizer
from smolcli.backends.image_processor import DEFAULT_TILES_ALONG, Layout, make_layout
from smolcli.backends.prompt_preparer import PromptPreparer
from smolcli.backends.pytorch_checkpoint import load_model, name_checkpoint_in_errors
from smolcli.errors import ModelError, UnavailableError
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.preprocessor_config import read_preprocessor_config
from smolcli.models.tokenizer import load_tokenizer, make_detokenizer, stop_tokens, tokenize
from smolcli.options import Model
from smolcli.system.cpu import usable_cores
from smolcli.types import ModelLimits, Prompt

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer

HALF = [0.5, 0.5, 0.5]  # mean and standard deviation of every published model
BATCH_SIZE = 16  # tiles encoded in one call, which bounds the memory of a picture of many tiles


class PyTorch:
    """A checkpoint directory, with its adapter if it has one, on one device; it evaluates one sequence at a time."""

    name = "torch"
    max_sequences = 1

    def __init__(self, files: ModelFiles, options: Model) -> None:
        """Load the model.

        Raises ModelError for damaged files, UnavailableError if the device cannot be used, and EngineError of kind
        MEMORY if the model does not fit.
        """
        if files.checkpoint is None:
            raise _no_checkpoint(files)
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if options.threads is not None or not torch.cuda.is_available():
            torch.set_num_threads(options.threads or usable_cores())
        self.device = _resolve_device(options.device)
        self.dtype = _resolve_dtype(options.dtype, self.device)
        with name_checkpoint_in_errors(files.checkpoint):
            self.model: Any = load_model(files, self.dtype).to(self.device).eval()
            rows = len(self.model.lm_head.weight)
            self.tokenizer = load_tokenizer(files, rows)
            configs = (self.model.generation_config, self.model.config.text_config)
            configured = [getattr(config, "eos_token_id", None) for config in configs]
            self.stop_tokens = stop_tokens(self.tokenizer, configured, rows)
            self.layout = _read_layout(files.checkpoint, self.model.config)
        self.context_length = int(self.model.config.text_config.max_position_embeddings)
        self._image_token = int(self.model.config.image_token_id)
        self.prepare = PromptPreparer(self.layout, options.detail, partial(tokenize, self.tokenizer))
        self._embedding_cache = EmbeddingCache(self._encode_batch, BATCH_SIZE)
        self._sequence: int | None = None  # the one that has the slot
        self._cache = self._new_cache()  # of that sequence
        self.device_summary = f"{self.device}, {str(self.dtype).removeprefix('torch.')}"

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
            )

    def fits(self, lengths: Sequence[int]) -> int:
        return len(lengths)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        [request] = requests  # there is a single slot
        started = time.perf_counter()
        pictures = self._encode(request.prompt.tiles, (tile for prompt in upcoming for tile in prompt.tiles))
        self._synchronize()
        encode_seconds = time.perf_counter() - started
        cache = self._new_cache()
        logits = self._evaluate(self._prompt_tokens(request.prompt), pictures, cache)[0]
        self._sequence, self._cache = request.sequence, cache
        return PrefillResult({request.sequence: logits.cpu().numpy()}, encode_seconds)

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        return {
            sequence: self._append(token, self._cache).cpu().numpy()
            for sequence, token in tokens.items()
            if sequence == self._sequence
        }

    def release(self, sequence: int) -> None:
        if sequence == self._sequence:
            self._sequence, self._cache = None, self._new_cache()

    def detokenizer(self) -> Callable[[int], str]:
        return make_detokenizer(self.tokenizer)

    def grammar_tokenizer(self) -> LLTokenizer:
        return self._grammar_tokenizer

    def logits(self, prompt: Prompt, answer: Sequence[int] = ()) -> Tensor:
        """Return the logits of the first token of the reply and, after each token of `answer`, of the next.

        float32 (1 + len(answer), vocab_size), on the model's device.
        """
        prepared = self.prepare(prompt)
        tokens = [*self._prompt_tokens(prepared), *answer]
        return self._evaluate(tokens, self._encode(prepared.tiles), self._new_cache(), 1 + len(answer))

    def greedy(self, prompt: Prompt, max_tokens: int) -> list[int]:
        """Return the tokens of the greedy reply, at most `max_tokens`, without the stop token."""
        prepared, cache = self.prepare(prompt), self._new_cache()
        logits = self._evaluate(self._prompt_tokens(prepared), self._encode(prepared.tiles), cache)[0]
        answer: list[int] = []
        while len(answer) < max_tokens and (token := int(logits.argmax())) not in self.stop_tokens:
            answer.append(token)
            logits = self._append(token, cache)
        return answer

    def embeddings(self, prompt: Prompt) -> Tensor:
        """Return the embeddings of the pictures of `prompt`: float32 (image tokens, hidden)."""
        return self._encode(self.prepare(prompt).tiles).float()

    def clear_cache(self) -> None:
        self._embedding_cache.clear()

    def gpu_peak(self) -> int:
        """The peak that PyTorch's allocator reserved on CUDA. MPS only tells what is allocated now."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_reserved(self.device))
        return int(torch.mps.driver_allocated_memory()) if self.device.type == "mps" else 0

    def close(self) -> None:
        """Free the model."""
        self.clear_cache()
        self.model = None

    @cached_property
    def _grammar_tokenizer(self) -> LLTokenizer:
        return grammar_tokenizer(self.tokenizer, len(self.model.lm_head.weight), self.stop_tokens)

    def _prompt_tokens(self, prompt: PreparedPrompt) -> list[int]:
        """The tokens of a prompt, with the image token for each embedding of a tile."""
        tile = [self._image_token] * self.layout.tokens
        return [token for part in prompt.parts for token in (tile if isinstance(part, bytes) else part)]

    @torch.inference_mode()
    def _encode(self, tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> Tensor:
        """The embeddings of tiles: (tiles * tokens of a tile, hidden), in the model's dtype."""
        if not tiles:
            hidden = self.model.config.text_config.hidden_size
            return torch.empty(0, hidden, device=self.device, dtype=self.dtype)
        return torch.cat(self._embedding_cache.get(tiles, upcoming))

    def _encode_batch(self, tiles: Sequence[bytes]) -> Sequence[Tensor]:
        """The embeddings of each tile: (tokens of a tile, hidden)."""
        side = self.layout.tile
        flat = torch.frombuffer(bytearray(b"".join(tiles)), dtype=torch.uint8).view(len(tiles), side, side, 3)
        pixels = flat.to(self.device).permute(0, 3, 1, 2).float().div(127.5).sub(1)  # mean and deviation 0.5
        # One tile per example: transformers takes a tile of a single grey for padding if others are in its example.
        output = self.model.model.get_image_features(pixels[:, None].to(self.dtype), return_dict=True)
        embeddings: Sequence[Tensor] = output.pooler_output
        return embeddings

    def _new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.model.config.text_config)

    @torch.inference_mode()
    def _evaluate(self, tokens: Sequence[int], pictures: Tensor, cache: DynamicCache, positions: int = 1) -> Tensor:
        """Evaluate a prompt whose image tokens have the embeddings `pictures`: (image tokens, hidden).

        Returns the logits after each of the last `positions` tokens: float32 (positions, vocab_size).
        """
        row = torch.tensor([tokens], device=self.device)
        embeds = self.model.get_input_embeddings()(row)
        is_image = torch.eq(row, self._image_token).unsqueeze(-1)
        is_image[:, len(tokens) - positions + 1 :] = False  # these are the model's own tokens, whatever their ids are
        embeds = embeds.masked_scatter(is_image, pictures.to(embeds.dtype))
        return self._forward(embeds, cache, positions)

    @torch.inference_mode()
    def _append(self, token: int, cache: DynamicCache) -> Tensor:
        """Append one token and return the logits after it: float32 (vocab_size,)."""
        embeds = self.model.get_input_embeddings()(torch.tensor([[token]], device=self.device))
        return self._forward(embeds, cache, 1)[0]

    def _forward(self, embeds: Tensor, cache: DynamicCache, positions: int) -> Tensor:
        hidden = self.model.model.text_model(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True
        ).last_hidden_state
        logits: Tensor = self.model.lm_head(hidden[0, -positions:]).float()
        return logits

    def _synchronize(self) -> None:
        """Wait until a GPU has done the work that was submitted to it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def resolve_device_and_dtype(device: str, dtype: str) -> tuple[str, str]:
    """Return what --device and --dtype are on this machine if they are "auto". Raises UnavailableError."""
    resolved = _resolve_device(device)
    return str(resolved), str(_resolve_dtype(dtype, resolved)).removeprefix("torch.")


def _read_layout(checkpoint: Path, config: PreTrainedConfig) -> Layout:
    """Read the tile's side and tokens from the model's config, the longest edge from the image processor's.

    Raises ModelError for a mean or deviation other than 0.5.
    """
    side = int(config.vision_config.image_size)
    settings = read_preprocessor_config(checkpoint)
    for key in ("image_mean", "image_std"):
        if settings.get(key, HALF) != HALF:
            raise ModelError(f"{checkpoint}: {key} is {settings[key]}", "only models of 0.5 can be run by torch")
    longest_edge = int((settings.get("size") or {}).get("longest_edge", DEFAULT_TILES_ALONG * side))
    return make_layout(side, int(config.vision_config.patch_size), int(config.scale_factor), longest_edge)


def _no_checkpoint(files: ModelFiles) -> ModelError:
    return ModelError(
        f"{files.name} has no safetensors checkpoint", "use --backend llamacpp or name a checkpoint directory"
    )


def _resolve_device(name: str) -> torch.device:
    """Raises UnavailableError if a tensor cannot be made on the device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnavailableError(f"the device {name} cannot be used", "try --device cpu") from error
    return device


def _resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float16 if device.type == "mps" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def machine_facts() -> dict[str, Any]:
    """Return the GPUs that PyTorch sees, for doctor, as "gpus": device, name and memory in bytes of each."""
    if torch.cuda.is_available():
        devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        gpus = [
            {"device": f"cuda:{number}", "name": device.name, "memory": device.total_memory}
            for number, device in enumerate(devices)
        ]
        return {"gpus": gpus}
    if torch.backends.mps.is_available():
        return {"gpus": [{"device": "mps", "name": "Apple", "memory": torch.mps.recommended_max_memory()}]}
    return {"gpus": []}
