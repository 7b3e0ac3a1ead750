"""Docling's models on every backend: the prompts of transformers, one list of stop tokens, replies with their tags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from transformers import AutoProcessor

from smolcli.backends.base import Backend
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.numpy_reference import NumPy
from smolcli.backends.pytorch import PyTorch
from smolcli.converters import convert
from smolcli.models.catalog import x_height_of
from smolcli.models.files import ModelFiles
from smolcli.models.vocabulary import writes_doctags
from smolcli.options import Model
from smolcli.types import Frame, Prompt
from tests import tiny

TOKENS = 16  # of a tile
ENDS = {"docling": {"<|end_of_text|>"}, "smoldocling": {"<end_of_utterance>", "<|im_end|>", "<|endoftext|>"}}
OPTIONS = Model(device="cpu", threads=1, detail="high", vision_encoder="mtmd")


def noise(seed: int, width: int, height: int) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * width * height), width, height)


PAGE, SQUARE = noise(1, 90, 120), noise(2, 30, 30)
PROMPTS = {
    "text": Prompt.user("What is 2 + 2? In 1024 words."),
    "page": Prompt.user(PAGE, "Convert this page to docling."),
    "pictures": Prompt.user(PAGE, SQUARE, "Which is <text>?"),
    "in the middle": Prompt.user("First ", SQUARE, "\n\nand then ", PAGE, " at <loc_17>", system="Be brief."),
    "raw": Prompt.user(SQUARE, "A photograph of", raw=True),
}


@dataclass(frozen=True)
class Models:
    """A checkpoint of one of docling's models, and the backends on which it and its converted pair run."""

    variant: str
    checkpoint: Path
    backends: dict[str, Backend]

    @property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.checkpoint / "tokenizer.json"))


@pytest.fixture(scope="module", params=ENDS)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder = tiny.make_checkpoint(tmp_path_factory.mktemp("docling") / "Tiny", request.param, 5)
    checkpoint = ModelFiles("Tiny", folder)
    pair = ModelFiles("Tiny", None, *convert(folder, folder, "f16", "f16"))
    with ExitStack() as stack:
        backends: dict[str, Any] = {
            "numpy": NumPy(checkpoint, OPTIONS),
            "numpy, pair": NumPy(pair, OPTIONS),
            "torch": PyTorch(checkpoint, OPTIONS),
            "llamacpp": LlamaCpp(pair, OPTIONS),
        }
        for backend in backends.values():
            stack.enter_context(closing(backend))
        yield Models(request.param, folder, backends)


def reference_ids(processor: Any, prompt: Prompt) -> list[int]:
    """The token ids that transformers' processor of the checkpoint makes of a prompt."""
    parts = [part for turn in prompt.turns for part in turn.parts]
    text = "".join(part if isinstance(part, str) else "<image>" for part in parts)
    if not prompt.raw:
        messages: list[Any] = [
            {
                "role": turn.role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                    for part in turn.parts
                ],
            }
            for turn in prompt.turns
        ]
        template = processor.chat_template or processor.tokenizer.chat_template
        text = processor.apply_chat_template(messages, chat_template=template, add_generation_prompt=True)
    images = [Image.frombytes("RGB", (frame.width, frame.height), frame.rgb) for frame in prompt.decoded_frames]
    return [int(token) for token in processor(text=[text], images=[images] if images else None)["input_ids"][0]]


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_have_the_ids_of_the_processor(name: str, models: Models) -> None:
    expected = reference_ids(AutoProcessor.from_pretrained(models.checkpoint), PROMPTS[name])
    image = models.tokenizer.token_to_id("<image>")
    for backend in models.backends.values():
        parts = backend.prepare(PROMPTS[name]).parts
        ids = [token for part in parts for token in ([image] * TOKENS if isinstance(part, bytes) else part)]
        assert ids == expected, backend.name


def test_replies_end_at_the_same_tokens(models: Models) -> None:
    """llama.cpp by itself would end them at <reponame> too, which is a token of SmolLM's."""
    expected = {models.tokenizer.token_to_id(token) for token in ENDS[models.variant]}
    for backend in models.backends.values():
        assert backend.stop_tokens == expected, backend.name


def test_replies_keep_their_tags(models: Models) -> None:
    text = "<doctag><text>Año 日本</text><otsl><fcel>1<fcel>2<nl></otsl><key_1></doctag>"
    hidden = "<|im_start|>", "<|start_of_role|>", "<|pad|>", "<image>", "<row_1_col_1>", "<global-img>"
    start, *rest = [token for token in hidden if models.tokenizer.token_to_id(token) is not None]
    tokens = models.tokenizer.encode(start + text + "".join(rest), add_special_tokens=False).ids
    for backend in models.backends.values():
        detokenize = backend.detokenizer()
        pieces = [detokenize(token) for token in tokens]
        assert "".join(pieces) == text, backend.name
        assert "<fcel>" in pieces and "</doctag>" in pieces, backend.name


def test_every_token_is_the_same_text_on_every_backend(models: Models) -> None:
    expected, *others = [
        [backend.detokenizer()(token) for token in range(tiny.VOCABULARY)] for backend in models.backends.values()
    ]
    assert others == [expected] * len(others)


@pytest.mark.parametrize(("variant", "is_docling"), [("docling", True), ("smoldocling", True), ("v1", False)])
def test_the_files_tell_that_a_model_writes_doctags(variant: str, is_docling: bool, tmp_path: Path) -> None:
    folder = tiny.make_checkpoint(tmp_path / "tuned", variant, 5)
    for files in (ModelFiles("tuned", folder), ModelFiles("tuned", None, *convert(folder, tmp_path, "f16", "f16"))):
        assert writes_doctags(files) == is_docling
        assert (x_height_of(files) == 0) == is_docling  # pages are read whole
