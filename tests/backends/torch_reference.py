"""What transformers says of a prompt, and what the PyTorch backend's scheduler run gave for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from smolcli.backends.base import PrefillRequest, PrefillResult, PreparedPrompt, Scores
from smolcli.backends.pytorch import PyTorch
from smolcli.backends.pytorch_checkpoint import load_model
from smolcli.backends.pytorch_decoder import Decoder, take_layers
from smolcli.generation.scheduler import generate
from smolcli.models.files import ModelFiles
from smolcli.options import Generate
from smolcli.types import Frame, Prompt
from tests.tiny import make_model

QUESTIONS = ("What is this?", "Describe this image in one sentence.", "How many shapes are there, and of which color?")


def tiny_decoder() -> Decoder:
    """The decoder of a tiny model of random weights."""
    model = make_model("v2", 1)
    with torch.inference_mode():
        return Decoder(model, take_layers(model, torch.device("cpu"), lambda weight: weight))


class Reference:
    """transformers' model, which answers one prompt at a time."""

    def __init__(self, files: ModelFiles, dtype: torch.dtype = torch.float32) -> None:
        self._model: Any = load_model(files, dtype)

    @torch.inference_mode()
    def generate(self, backend: PyTorch, prompt: PreparedPrompt, max_tokens: int) -> tuple[list[int], Tensor]:
        """The greedy tokens, the stop token too, and the logits of each: float32 (tokens, vocab_size)."""
        side, image = backend.layout.tile, [int(self._model.config.image_token_id)] * backend.layout.tokens
        ids = [token for part in prompt.parts for token in (image if isinstance(part, bytes) else part)]
        pictures = {}
        if prompt.tiles:
            pixels = torch.tensor(list(b"".join(prompt.tiles)), dtype=torch.float32).view(1, -1, side, side, 3)
            pictures["pixel_values"] = (pixels.permute(0, 1, 4, 2, 3) / 127.5 - 1).to(self._model.dtype)
        done = self._model.generate(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), **pictures,
            do_sample=False, max_new_tokens=max_tokens, output_logits=True, return_dict_in_generate=True,
            eos_token_id=sorted(backend.stop_tokens),
        )  # fmt: skip
        return done.sequences[0, len(ids) :].tolist(), torch.cat(done.logits).float()


class Recorder(PyTorch):
    """The backend, which keeps the logits of each sequence, and the rows and the sequences of each step."""

    logits_of: defaultdict[int, list[np.ndarray[Any, Any]]]

    def start_recording(self) -> None:
        self.logits_of = defaultdict(list)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        result = super().prefill(requests, upcoming)
        self._keep(result.logits)
        return result

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Scores]:
        scores = super().decode(tokens)
        self._keep(scores)
        return scores

    def _keep(self, scores: Mapping[int, Any]) -> None:
        for sequence, of_sequence in scores.items():
            self.logits_of[sequence].append(of_sequence.fetch().copy())


def answer(backend: Recorder, prompts: Sequence[Prompt], max_tokens: int) -> dict[int, np.ndarray[Any, Any]]:
    """Answer prompts through the scheduler; the logits of each token of each reply, and of a second attempt's."""
    backend.start_recording()
    faults = [piece.finish.fault for piece in generate(backend, prompts, Generate(max_tokens)) if piece.finish]
    assert faults == [None] * len(prompts)
    return {sequence: np.stack(logits) for sequence, logits in backend.logits_of.items()}


def mixed_prompts(count: int, side: int) -> list[Prompt]:
    """Prompts of no, one or several pictures, of one or several tiles of `side`, and of different lengths."""
    rng = np.random.default_rng(5)

    def picture(width: int, height: int) -> Frame:
        return Frame(rng.bytes(3 * width * height), width, height)

    prompts = []
    for number in range(count):
        question = " ".join(QUESTIONS[: 1 + number % 3])
        pictures = [picture(side, side), picture(2 * side, side), picture(side // 2, side)][: number % 4]
        prompts.append(Prompt.user(*pictures, question, system="Be brief." if number % 5 == 0 else ""))
    return prompts


class Operations(TorchDispatchMode):
    """Records the operations of what is computed inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.all.append((func, args))
        return func(*args, **(kwargs or {}))
