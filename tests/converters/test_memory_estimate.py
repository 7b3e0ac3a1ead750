"""The peak memory of a conversion, on sparse checkpoints of real shapes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from smolcli.models.tensor_mapping import Text, Vision, language_weights, vision_weights
from tests.tiny import make_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "Tiny", "v2", seed=1)


TEXT_256M = Text(576, 1536, 30, 9, 3, 64, 49280, 8192, 100000.0, 1e-5, False)
VISION_256M = Vision(768, 3072, 12, 12, 512, 16, 4, 1e-6)
TEXT_2B = Text(2048, 8192, 24, 32, 32, 64, 49280, 8192, 130000.0, 1e-5, False)
VISION_2B = Vision(1152, 4304, 27, 16, 384, 14, 3, 1e-6)


def make_sparse(directory: Path, tokenizer_of: Path, text: Text, vision: Vision) -> int:
    """Make a sparse bfloat16 checkpoint of zeros; return the bytes of its largest tensor in float32."""
    directory.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (directory / name).write_bytes((tokenizer_of / name).read_bytes())
    config = json.loads((tokenizer_of / "config.json").read_text())
    config["scale_factor"] = vision.scale
    config["text_config"] |= {
        "hidden_size": text.hidden, "intermediate_size": text.feed_forward, "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads, "num_key_value_heads": text.kv_heads, "head_dim": text.head_dim,
        "vocab_size": text.vocabulary,
    }  # fmt: skip
    config["vision_config"] |= {
        "hidden_size": vision.hidden, "intermediate_size": vision.feed_forward, "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads, "image_size": vision.image, "patch_size": vision.patch,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    weights = [*language_weights(text, head=True), *vision_weights(vision, text.hidden)]
    for weight in weights:
        size = 2 * math.prod(weight.shape)
        header[weight.source] = {"dtype": "BF16", "shape": weight.shape, "data_offsets": [end, end + size]}
        end += size
    data = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(data).to_bytes(8, "little") + data)
        file.truncate(8 + len(data) + end)
    return max(4 * math.prod(weight.shape) for weight in weights)


# The peak of a process includes that of the process it was forked from, which must not be pytest.
LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_bytes(*arguments: object) -> int:
    """Return the peak resident bytes of a conversion, of the largest of its processes."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "smolcli", "convert-to-gguf", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


SHAPES = {
    "256M, a layer": (TEXT_256M, VISION_256M, 1),
    "2.2B, a layer": (TEXT_2B, VISION_2B, 1),
    "256M": (TEXT_256M, VISION_256M, None),
    "2.2B": (TEXT_2B, VISION_2B, None),
}
MEMORY = [pytest.param(name, marks=[] if SHAPES[name][2] else [pytest.mark.gigabytes]) for name in SHAPES]


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORY)
def test_memory_is_bounded_by_the_largest_tensor(name: str, checkpoint: Path, tmp_path: Path) -> None:
    text, vision, layers = SHAPES[name]
    if layers:
        text, vision = Text(**{**vars(text), "layers": layers}), Vision(**{**vars(vision), "layers": layers})
    largest = make_sparse(tmp_path / "Sparse", checkpoint, text, vision)
    quants = ["--quant", "f16", "--quant", "q8_0", "--quant", "q4_k_m", "--mmproj-quant", "f16"]
    assert peak_bytes(tmp_path / "Sparse", "-o", tmp_path / "out", *quants) < 1.5 * largest + 250e6
    for path in (tmp_path / "out").iterdir():
        path.unlink()
