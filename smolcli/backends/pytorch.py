"""SmolVLM and Idefics3 checkpoints through PyTorch and transformers, on CUDA, Apple's MPS or the CPU.

Neither transformers' processors nor torchvision is needed: image_processor cuts the pictures into tiles, chat_template
writes the prompt, and tokenizers turns it into token ids.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import AutoConfig, DynamicCache, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.image_processor import DEFAULT_TILES_ALONG, ImageProcessor, Layout
from smolcli.backends.pytorch_checkpoint import load_model, load_tokenizer, name_checkpoint_in_errors
from smolcli.errors import ModelError, UnavailableError
from smolcli.generation.sampler import Sampler, run_decoding, sampler_factory
from smolcli.generation.scheduler import ReplySteps, prompt_too_long, schedule
from smolcli.models import chat_template
from smolcli.models.files import ModelFiles, understands_text
from smolcli.models.preprocessor_config import read_preprocessor_config
from smolcli.options import Generate, Model
from smolcli.system.cpu import usable_cores
from smolcli.types import Finish, ModelLimits, Piece, Prompt, Seconds, Tokens

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from llguidance import LLTokenizer

HALF = [0.5, 0.5, 0.5]  # mean and standard deviation of every published model
BATCH_SIZE = 16  # tiles encoded in one call, which bounds the memory of a picture of many tiles

PreparedPrompt = tuple[list[int], list[bytes]]  # the prompt's token ids, and each tile's RGB bytes


class PyTorch:
    """A checkpoint directory, with its adapter if it has one, on one device; it evaluates one sequence at a time."""

    name = "torch"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        """Load the model.

        Raises ModelError for damaged files, UnavailableError if the device cannot be used, and EngineError of kind
        MEMORY if the model does not fit.
        """
        if files.checkpoint is None:
            raise _no_checkpoint(files)
        started = time.perf_counter()
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if options.threads is not None or not torch.cuda.is_available():
            torch.set_num_threads(options.threads or usable_cores())
        self.device = _resolve_device(options.device)
        self.dtype = _resolve_dtype(options.dtype, self.device)
        with name_checkpoint_in_errors(files.checkpoint):
            self.model: Any = load_model(files, self.dtype).to(self.device).eval()
            self.tokenizer = load_tokenizer(files, len(self.model.lm_head.weight))
            self.layout = _read_layout(files.checkpoint, self.model.config)
        self.stop_tokens = _stop_tokens(self.tokenizer, self.model)
        self.context_length = int(self.model.config.text_config.max_position_embeddings)
        self._image_token = int(self.model.config.image_token_id)
        self._image_processor = ImageProcessor(self.layout, options.detail)
        self._embedding_cache = EmbeddingCache(self._encode_batch, BATCH_SIZE)
        self.device_summary = f"{self.device}, {str(self.dtype).removeprefix('torch.')}"
        self._load_seconds = time.perf_counter() - started

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

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        make_sampler = sampler_factory(options, lambda: self._grammar_tokenizer)
        return schedule(
            prompts,
            self._prepare,
            lambda index, prepared, penalty: self._reply(index, prepared, make_sampler(penalty)),
            options.has_length,
        )

    def logits(self, prompt: Prompt, answer: Sequence[int] = ()) -> Tensor:
        """Return the logits of the first token of the reply and, after each token of `answer`, of the next.

        float32 (1 + len(answer), vocab_size), on the model's device.
        """
        tokens, tiles = self._prepare(prompt)
        return self._prefill([*tokens, *answer], self._encode(tiles), self._new_cache(), 1 + len(answer))

    @torch.inference_mode()
    def greedy(self, prompt: Prompt, max_tokens: int) -> list[int]:
        """Return the tokens of the greedy reply, at most `max_tokens`, without the stop token."""
        tokens, tiles = self._prepare(prompt)
        cache = self._new_cache()
        logits = self._prefill(tokens, self._encode(tiles), cache)[0]
        answer: list[int] = []
        while len(answer) < max_tokens and (token := int(logits.argmax())) not in self.stop_tokens:
            answer.append(token)
            logits = self._decode(token, cache)
        return answer

    def embeddings(self, prompt: Prompt) -> Tensor:
        """Return the embeddings of the pictures of `prompt`: float32 (image tokens, hidden)."""
        return self._encode(self._prepare(prompt)[1]).float()

    def clear_cache(self) -> None:
        self._image_processor.clear()
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

    @torch.inference_mode()
    def _reply(self, index: int, prepared: PreparedPrompt, sampler: Sampler) -> ReplySteps:
        timer = LapTimer(self.device)
        load, self._load_seconds = self._load_seconds, 0.0
        tokens, tiles = prepared
        image = sum(token == self._image_token for token in tokens)
        if len(tokens) >= self.context_length:
            fault = prompt_too_long(len(tokens), self.context_length)
            yield Piece(index, "", Finish("error", Tokens(len(tokens), image), Seconds(load), fault))
            return
        embeddings = self._encode(tiles)
        encode = timer.lap()
        cache = self._new_cache()
        logits = self._prefill(tokens, embeddings, cache)[0]
        prefill = timer.lap()
        stream = DecodeStream(skip_special_tokens=True)

        def detokenize(token: int) -> str | None:
            return None if token in self.stop_tokens else stream.step(self.tokenizer, token) or ""

        def sample(logits: Tensor) -> int:
            return int(logits.argmax()) if sampler.is_argmax else sampler.sample(logits.cpu().numpy())

        max_tokens = min(sampler.options.max_tokens, self.context_length - len(tokens))
        decoding = sampler.decode(index, logits, max_tokens, detokenize, sample)
        reason, new = yield from run_decoding(decoding, lambda token: self._decode(token, cache))
        seconds = Seconds(load, 0.0, encode, prefill, timer.lap())
        yield Piece(index, "", Finish(reason, Tokens(len(tokens), image, new), seconds))

    @cached_property
    def _grammar_tokenizer(self) -> LLTokenizer:
        from smolcli.generation.grammar import tokenizer_from_json

        return tokenizer_from_json(self.tokenizer.to_str(), len(self.model.lm_head.weight), self.stop_tokens)

    def _prepare(self, prompt: Prompt) -> PreparedPrompt:
        pictures = [self._image_processor(frame, prompt.split) for frame in prompt.frames]
        segments = chat_template.segments(prompt, [picture.grid for picture in pictures])
        text = chat_template.text(segments, self.layout.tokens)
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return tokens, [tile for picture in pictures for tile in picture.pixels]

    @torch.inference_mode()
    def _encode(self, tiles: Sequence[bytes]) -> Tensor:
        """The embeddings of tiles: (tiles * tokens of a tile, hidden), in the model's dtype."""
        if not tiles:
            hidden = self.model.config.text_config.hidden_size
            return torch.empty(0, hidden, device=self.device, dtype=self.dtype)
        return torch.cat(self._embedding_cache.get(tiles))

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
    def _prefill(self, tokens: Sequence[int], pictures: Tensor, cache: DynamicCache, positions: int = 1) -> Tensor:
        """Evaluate a prompt whose image tokens have the embeddings `pictures`: (image tokens, hidden).

        Returns the logits after each of the last `positions` tokens: float32 (positions, vocab_size).
        """
        row = torch.tensor([tokens], device=self.device)
        embeds = self.model.get_input_embeddings()(row)
        is_image = torch.eq(row, self._image_token).unsqueeze(-1)
        is_image[:, len(tokens) - positions + 1 :] = False  # these are the model's own tokens, whatever their ids are
        embeds = embeds.masked_scatter(is_image, pictures.to(embeds.dtype))
        return self._forward(embeds, cache, positions)

    def _decode(self, token: int, cache: DynamicCache) -> Tensor:
        """Append one token and return the logits after it: float32 (vocab_size,)."""
        embeds = self.model.get_input_embeddings()(torch.tensor([[token]], device=self.device))
        return self._forward(embeds, cache, 1)[0]

    def _forward(self, embeds: Tensor, cache: DynamicCache, positions: int) -> Tensor:
        hidden = self.model.model.text_model(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True
        ).last_hidden_state
        logits: Tensor = self.model.lm_head(hidden[0, -positions:]).float()
        return logits


def resolve_device_and_dtype(device: str, dtype: str) -> tuple[str, str]:
    """Return what --device and --dtype are on this machine if they are "auto". Raises UnavailableError."""
    resolved = _resolve_device(device)
    return str(resolved), str(_resolve_dtype(dtype, resolved)).removeprefix("torch.")


def _read_layout(checkpoint: Path, config: PreTrainedConfig) -> Layout:
    """Read the tile's side and tokens from the model's config, the longest edge from the image processor's.

    Raises ModelError for a mean or deviation other than 0.5.
    """
    side = int(config.vision_config.image_size)
    tokens = (side // int(config.vision_config.patch_size)) ** 2 // int(config.scale_factor) ** 2
    settings = read_preprocessor_config(checkpoint)
    for key in ("image_mean", "image_std"):
        if settings.get(key, HALF) != HALF:
            raise ModelError(f"{checkpoint}: {key} is {settings[key]}", "only models of 0.5 can be run by torch")
    longest_edge = int((settings.get("size") or {}).get("longest_edge", DEFAULT_TILES_ALONG * side))
    return Layout(side, tokens, longest_edge)


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


def _stop_tokens(tokenizer: Tokenizer, model: Any) -> frozenset[int]:
    """The tokens that end a reply, by name and by the configs: the published configs do not agree on them."""
    stop_tokens: set[int | None] = {tokenizer.token_to_id(token) for token in chat_template.STOPS}
    for config in (model.generation_config, model.config.text_config):
        tokens = getattr(config, "eos_token_id", None)
        stop_tokens |= set(tokens if isinstance(tokens, list) else [tokens])
    return frozenset(token for token in stop_tokens if token is not None)


class LapTimer:
    """Measures laps in seconds; on a GPU, a lap first waits until the work submitted before is done."""

    def __init__(self, device: torch.device) -> None:
        self._synchronize = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(
            device.type, lambda: None
        )
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap, or since the timer was made."""
        self._synchronize()
        now = time.perf_counter()
        lap, self._last = now - self._last, now
        return lap


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
