"""SmolVLM and Idefics3 checkpoints through PyTorch and transformers; CUDA, Apple's MPS or CPU.

Neither transformers' processors nor torchvision is needed: image_processor cuts the pictures, chat_template writes
the prompt, tokenizers turns it into ids.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, DynamicCache
from transformers.utils import logging as transformers_logging

from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.image_processor import REFERENCE_TILES, ImageProcessor, Layout
from smolcli.errors import EngineError, ModelError, SmolError, UnavailableError
from smolcli.generation.sampler import Sampler, evaluated, samplers
from smolcli.generation.scheduler import Pieces, prompt_too_long, schedule
from smolcli.models import chat_template
from smolcli.models.files import MODEL_TYPES, ModelFiles, understands_text
from smolcli.options import Generate, Model
from smolcli.system.cpu import usable_cores
from smolcli.system.memory import is_out_of_memory
from smolcli.types import Finish, ModelLimits, Piece, Prompt, Seconds, Tokens

HALF = [0.5, 0.5, 0.5]  # mean and deviation of every published model
TILES_AT_ONCE = 16  # tiles encoded in one call: bounds memory on a picture of many tiles

Prepared = tuple[list[int], list[bytes]]  # the prompt's token ids, and each tile's RGB


class PyTorch:
    """A checkpoint directory on one device; one prompt at a time."""

    name = "torch"

    def __init__(self, files: ModelFiles, options: Model) -> None:
        if files.checkpoint is None:
            raise _no_checkpoint(files)
        started = time.perf_counter()
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if options.threads is not None or not torch.cuda.is_available():
            torch.set_num_threads(options.threads or usable_cores())
        self.device = _device(options.device)
        self.dtype = _dtype(options.dtype, self.device)
        with _named(files.checkpoint):
            self.model: Any = _load(files.checkpoint, self.dtype).to(self.device).eval()
            self.tokenizer = Tokenizer.from_file(str(files.checkpoint / "tokenizer.json"))
            self.layout = layout_of(files.checkpoint, self.model.config)
        self.stops = _stops(self.tokenizer, self.model)
        self.context = int(self.model.config.text_config.max_position_embeddings)
        self._image_id = int(self.model.config.image_token_id)
        self._cut = ImageProcessor(self.layout, options.detail)
        self._encoded = EmbeddingCache(self._features, at_once=TILES_AT_ONCE)
        self.computes = f"{self.device}, {str(self.dtype).removeprefix('torch.')}"
        self._load_seconds = time.perf_counter() - started

    @staticmethod
    def limits(files: ModelFiles) -> ModelLimits:
        """From config.json."""
        if files.checkpoint is None:
            raise _no_checkpoint(files)
        with _named(files.checkpoint):
            config = AutoConfig.from_pretrained(files.checkpoint, local_files_only=True)
            layout = layout_of(files.checkpoint, config)
            text = config.text_config
            context, knows = int(text.max_position_embeddings), understands_text(int(text.vocab_size))
            return ModelLimits(context, layout.tile, layout.tokens, understands_text=knows)

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        sampler = samplers(options, lambda: self._vocabulary)
        return schedule(
            prompts,
            self._prepared,
            lambda index, prepared, penalty: self._reply(index, prepared, sampler(penalty)),
            options.has_length,
        )

    def logits(self, prompt: Prompt, answer: Sequence[int] = ()) -> Tensor:
        """float32 (1 + len(answer), vocabulary): the scores of the first token of the reply and, after each of
        `answer`, of the next.
        """
        ids, pixels = self._prepared(prompt)
        cache = DynamicCache(config=self.model.config.text_config)
        return self._prefill([*ids, *answer], self._encode(pixels), cache, 1 + len(answer))

    @torch.inference_mode()
    def greedy(self, prompt: Prompt, most: int) -> list[int]:
        """The tokens of the greedy reply, at most `most`, without the one that ends it."""
        ids, pixels = self._prepared(prompt)
        cache = DynamicCache(config=self.model.config.text_config)
        logits = self._prefill(ids, self._encode(pixels), cache)[0]
        answer: list[int] = []
        while len(answer) < most and (token := int(logits.argmax())) not in self.stops:
            answer.append(token)
            logits = self._step(token, cache)
        return answer

    def embeddings(self, prompt: Prompt) -> Tensor:
        """float32 (image tokens, hidden): what the pictures of `prompt` are to the language half."""
        return self._encode(self._prepared(prompt)[1]).float()

    def forget(self) -> None:
        self._cut.clear()
        self._encoded.clear()

    def gpu_peak(self) -> int:
        """What PyTorch's allocator has reserved; MPS tells only what is taken now."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_reserved(self.device))
        return int(torch.mps.driver_allocated_memory()) if self.device.type == "mps" else 0

    def close(self) -> None:
        """Frees the model."""
        self.forget()
        self.model = None

    @torch.inference_mode()
    def _reply(self, index: int, prepared: Prepared, sampler: Sampler) -> Pieces:
        format_time = _Clock(self.device)
        load, self._load_seconds = self._load_seconds, 0.0
        ids, pixels = prepared
        image = sum(id == self._image_id for id in ids)
        if len(ids) >= self.context:
            fault = prompt_too_long(len(ids), self.context)
            yield Piece(index, "", Finish("error", Tokens(len(ids), image), Seconds(load), fault))
            return
        features = self._encode(pixels)
        encode = format_time.lap()
        cache = DynamicCache(config=self.model.config.text_config)
        logits = self._prefill(ids, features, cache)[0]
        prefill = format_time.lap()
        stream = DecodeStream(skip_special_tokens=True)

        def says(token: int) -> str | None:
            return None if token in self.stops else stream.step(self.tokenizer, token) or ""

        def choose(logits: Tensor) -> int:
            return int(logits.argmax()) if sampler.takes_highest else sampler.choose(logits.cpu().numpy())

        room = min(sampler.options.max_tokens, self.context - len(ids))
        decoding = sampler.decode(index, logits, room, says, choose)
        reason, new = yield from evaluated(decoding, lambda token: self._step(token, cache))
        seconds = Seconds(load, 0.0, encode, prefill, format_time.lap())
        yield Piece(index, "", Finish(reason, Tokens(len(ids), image, new), seconds))

    @cached_property
    def _vocabulary(self) -> Any:
        """As a grammar needs it; llguidance is loaded for the first schema."""
        from smolcli.generation.grammar import of_tokenizer

        return of_tokenizer(self.tokenizer.to_str(), len(self.model.lm_head.weight), self.stops)

    def _prepared(self, prompt: Prompt) -> Prepared:
        pictures = [self._cut(frame, prompt.split) for frame in prompt.frames]
        text = chat_template.text(chat_template.segments(prompt, [p.grid for p in pictures]), self.layout.tokens)
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids, [tile for picture in pictures for tile in picture.pixels]

    @torch.inference_mode()
    def _encode(self, tiles: Sequence[bytes]) -> Tensor:
        """(tiles * tokens, hidden)."""
        if not tiles:
            hidden = self.model.config.text_config.hidden_size
            return torch.empty(0, hidden, device=self.device, dtype=self.dtype)
        return torch.cat(self._encoded.of(tiles))

    def _features(self, tiles: Sequence[bytes]) -> Sequence[Tensor]:
        """(tokens, hidden) a tile."""
        side = self.layout.tile
        flat = torch.frombuffer(bytearray(b"".join(tiles)), dtype=torch.uint8).view(len(tiles), side, side, 3)
        pixels = flat.to(self.device).permute(0, 3, 1, 2).float().div(127.5).sub(1)  # mean and deviation 0.5
        # one tile an example: a tile of one grey would count as padding inside a picture, but never alone
        output = self.model.model.get_image_features(pixels[:, None].to(self.dtype), return_dict=True)
        features: Sequence[Tensor] = output.pooler_output
        return features

    @torch.inference_mode()
    def _prefill(self, ids: Sequence[int], features: Tensor, cache: DynamicCache, scored: int = 1) -> Tensor:
        """float32 (scored, vocabulary): the scores after each of the last `scored` of `ids`."""
        row = torch.tensor([ids], device=self.device)
        embeds = self.model.get_input_embeddings()(row)
        places = torch.eq(row, self._image_id).unsqueeze(-1)
        places[:, len(ids) - scored + 1 :] = False  # what a model says is no place for a picture, whatever it says
        embeds = embeds.masked_scatter(places, features.to(embeds.dtype))
        return self._forward(embeds, cache, scored)

    def _step(self, token: int, cache: DynamicCache) -> Tensor:
        """float32 (vocabulary,)."""
        embeds = self.model.get_input_embeddings()(torch.tensor([[token]], device=self.device))
        return self._forward(embeds, cache, 1)[0]

    def _forward(self, embeds: Tensor, cache: DynamicCache, scored: int) -> Tensor:
        hidden = self.model.model.text_model(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True
        ).last_hidden_state
        logits: Tensor = self.model.lm_head(hidden[0, -scored:]).float()
        return logits


def placed(device: str, dtype: str) -> tuple[str, str]:
    """The device that "auto" is on this machine, and the type of the weights on it. Raises UnavailableError."""
    found = _device(device)
    return str(found), str(_dtype(dtype, found)).removeprefix("torch.")


def layout_of(checkpoint: Path, config: Any) -> Layout:
    """Tile side and tokens from the model's config, the reference's longest edge from the image processor's.

    That is preprocessor_config.json, and before it the image_processor of processor_config.json, where transformers 5
    saves it.
    """
    side = int(config.vision_config.image_size)
    tokens = (side // int(config.vision_config.patch_size)) ** 2 // int(config.scale_factor) ** 2
    settings = _json(checkpoint / "preprocessor_config.json")
    settings |= _json(checkpoint / "processor_config.json").get("image_processor") or {}
    for key in ("image_mean", "image_std"):
        if settings.get(key, HALF) != HALF:
            raise ModelError(f"{checkpoint}: {key} is {settings[key]}", "only models of 0.5 can be run by torch")
    longest = int((settings.get("size") or {}).get("longest_edge", REFERENCE_TILES * side))
    return Layout(side, tokens, longest)


def _no_checkpoint(files: ModelFiles) -> ModelError:
    return ModelError(
        f"{files.name} has no safetensors checkpoint", "use --backend llamacpp or name a checkpoint directory"
    )


def _load(checkpoint: Path, dtype: torch.dtype) -> Any:
    kind = _json(checkpoint / "config.json").get("model_type")
    if kind not in MODEL_TYPES:
        raise ModelError(f"{checkpoint} is a model of type {kind}", f"smolcli runs {' and '.join(MODEL_TYPES)}")
    return AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=dtype, local_files_only=True, use_safetensors=True
    )


def _json(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file. Raises ValueError for other JSON."""
    if not file.exists():
        return {}
    value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} is not a JSON object")
    return value


@contextlib.contextmanager
def _named(checkpoint: Path) -> Iterator[None]:
    """Turns what goes wrong while a checkpoint is loaded into an error that names it."""
    try:
        yield
    except SmolError:
        raise
    except Exception as error:  # damaged files and unknown settings have no class in common
        if is_out_of_memory(error):
            advice = "use a smaller model, or --dtype bfloat16"
            raise EngineError(f"{checkpoint} does not fit in memory", advice, kind="memory") from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{checkpoint} cannot be loaded: {first}", "fetch or save the checkpoint again") from error


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnavailableError(f"the device {wanted} cannot be used", "try --device cpu") from error
    return device


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    if wanted == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float16 if device.type == "mps" else torch.float32
    dtype: torch.dtype = getattr(torch, wanted)
    return dtype


def _stops(tokenizer: Tokenizer, model: Any) -> frozenset[int]:
    """End tokens by name and by the configs: the published configs do not agree on them."""
    found: set[int | None] = {tokenizer.token_to_id(token) for token in chat_template.STOPS}
    for config in (model.generation_config, model.config.text_config):
        ids = getattr(config, "eos_token_id", None)
        found |= set(ids if isinstance(ids, list) else [ids])
    return frozenset(token for token in found if token is not None)


class _Clock:
    """Laps in seconds; on a GPU each lap waits for the work given before."""

    def __init__(self, device: torch.device) -> None:
        self._wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, lambda: None)
        self._last = time.perf_counter()

    def lap(self) -> float:
        self._wait()
        now = time.perf_counter()
        lap, self._last = now - self._last, now
        return lap
