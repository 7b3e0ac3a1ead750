"""Both backends give the same logits and the same greedy text, for nano and for every shape of the model family."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolcli import registry
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.pytorch import PyTorch
from smolcli.converters import convert
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.nano import synthetic_images
from smolcli.nano.evaluate import answers, half_said, kl
from smolcli.nano.suites import frame
from smolcli.options import Model
from smolcli.types import Frame, Prompt
from tests.tiny import make_checkpoint

OPTIONS = Model(model="nano", threads=1, device="cpu", dtype="float32", detail="2", vision_encoder="mtmd")
SAMPLES = Path(__file__).parents[2] / "docs" / "samples"


class Reference:
    """The PyTorch backend; it computes the same logits and answers only once."""

    def __init__(self, files: ModelFiles) -> None:
        self._torch = PyTorch(files, OPTIONS)
        self.logits = cache(self._torch.logits)
        self.answers = cache(lambda prompts, tokens: answers(self._torch, prompts, tokens))


def llamacpp(files: ModelFiles, encoder: str) -> closing[LlamaCpp]:
    return closing(LlamaCpp(files, replace(OPTIONS, vision_encoder=encoder)))


def photo(seed: int, width: int, height: int) -> Frame:
    """Smooth random colors, quite unlike nano's drawings."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return frame(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def scenes(count: int) -> list[Prompt]:
    rng = np.random.default_rng(11)
    prompts = []
    for number in range(count):
        name, paper = synthetic_images.ground(rng)
        side = synthetic_images.TILE * (1 + number % 2)
        picture = synthetic_images.scene(
            rng, synthetic_images.kinds(rng, name, 1 + number % 3, True), name, paper, side
        )
        prompts.append(Prompt.user(frame(picture.image), "Describe this image in one sentence."))
    return prompts


@pytest.fixture(scope="module")
def nano() -> Reference:
    return Reference(resolve.resolve(OPTIONS, "torch"))


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool, int], tuple[ModelFiles, Reference]]:
    """Make a tiny model of a shape of the family, and PyTorch with it."""

    @cache
    def make(variant: str, tied: bool, tile: int) -> tuple[ModelFiles, Reference]:
        folder = make_checkpoint(tmp_path_factory.mktemp("shape") / "Tiny", variant, 3, tied=tied, tile=tile)
        files = ModelFiles("Tiny", folder, *convert(folder, folder, "f16", "f16"))
        return files, Reference(files)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("encoder", registry.VISION_ENCODERS)
def test_nano_gives_the_same_answers_on_both_backends(nano: Reference, encoder: str) -> None:
    samples = [
        Prompt.user(frame(Image.open(path).convert("RGB")), "What is written in the image?")
        for path in sorted(SAMPLES.glob("*.png"))
    ]
    prompts = (*scenes(24), *samples)
    first = nano.answers(prompts, 60)
    with llamacpp(resolve.resolve(OPTIONS, "llamacpp"), encoder) as backend:
        assert max(kl((nano, backend), prompts)) < 1e-4
        second = answers(backend, prompts, 60)
        assert max(kl((nano, backend), map(half_said, prompts, first))) < 1e-4
    assert first == second


@pytest.mark.parametrize(
    ("variant", "tied", "tile"), [*product(("v1", "v2"), (False, True), (64, 384, 512)), ("v1-2.2b", False, 384)]
)
@pytest.mark.parametrize("encoder", registry.VISION_ENCODERS)
def test_every_shape_gives_the_same_answers_on_both_backends(
    shape: Callable[[str, bool, int], tuple[ModelFiles, Reference]], encoder: str, variant: str, tied: bool, tile: int
) -> None:
    files, reference = shape(variant, tied, tile)
    prompts = (
        Prompt.user(photo(1, 100, 80), "What is this?"),
        Prompt.user("Here ", photo(2, 900, 300), " and there ", photo(3, 30, 600), "?", system="Be brief."),
        Prompt.user(photo(4, 60, 50), photo(5, 50, 60), "Which?", split=False),
        Prompt.user("No picture at all."),
    )
    with llamacpp(files, encoder) as backend:
        assert max(kl((reference, backend), prompts)) < 1e-4
        assert answers(backend, prompts, 8) == reference.answers(prompts, 8)
