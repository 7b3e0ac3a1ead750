"""smolcli -b torch on devices and checkpoints that cannot be used: one line with what to do, and exit code 3."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import line, png, smolcli
from tests.tiny import make_checkpoint

NORM = "model.text_model.norm.weight"
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("undamaged") / "Tiny", "v2", 1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(png((40, 40)))
    return path


@pytest.mark.parametrize(
    ("device", "message"),
    [
        pytest.param(
            "cuda:7",
            "the device cuda:7 cannot be used (Torch not compiled with CUDA enabled); install PyTorch for a GPU",
            marks=pytest.mark.skipif(torch.version.cuda is not None, reason="PyTorch has another message with CUDA"),
        ),
        ("meta", "the device meta cannot be used; choose one of auto, cuda, xpu, mps, cpu"),
        ("privateuseone", "the device privateuseone cannot be used; choose one of"),
    ],
)
def test_a_device_that_cannot_be_used(device: str, message: str, undamaged: Path, picture: Path) -> None:
    done = smolcli("caption", "-b", "torch", "-m", undamaged, "--device", device, picture)
    assert (done.returncode, done.stdout) == (3, b"")
    assert line(done).startswith(f"smolcli: {message}")


def not_a_number(weights: Weights) -> None:
    weights[NORM][3] = math.nan


def missing(weights: Weights) -> None:
    del weights[NORM]


def renamed(weights: Weights) -> None:
    weights["norm"] = weights.pop(NORM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (not_a_number, f"{NORM} has numbers that are not finite; use --dtype float32, or save the checkpoint again"),
        (missing, f"lacks 1 of 59 tensors, the first {NORM}; download"),
        (renamed, f"lacks 1 of 59 tensors, the first {NORM}, and has 1 tensor that"),
    ],
)
def test_weights_that_cannot_be_used(
    change: Callable[[Weights], None], message: str, undamaged: Path, picture: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(undamaged, tmp_path / "Damaged"))
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    done = smolcli("caption", "-b", "torch", "-m", folder, "--device", "cpu", picture)
    assert (done.returncode, done.stdout) == (3, b"")
    assert str(folder) in line(done) and message in line(done)
