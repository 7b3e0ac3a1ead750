"""Exports a trained nano as smolcli ships it: `python -m smolcli.nano.export runs/nano/checkpoint.pt`.

It writes a checkpoint directory that transformers loads, in float16, so that the f16 GGUF has the same numbers, and the
GGUF pair that our own converter makes of it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

from smolcli.converters import convert
from smolcli.models.chat_template import END, START
from smolcli.nano.model import TOKENS, Student, config
from smolcli.nano.synthetic_images import TILE
from smolcli.nano.tokenizer import tokenizer

WEIGHTS = Path(__file__).parent / "weights"
MOST_TILES = 6  # along the longest edge, with --detail high


def export(checkpoint: Path, out: Path) -> None:
    """Write the running mean of the checkpoint's weights into the folder `out`, replacing it."""
    student = Student()
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    student.load_state_dict(saved["mean"])
    with tempfile.TemporaryDirectory(dir=out.parent) as part:
        folder = Path(part) / "nano"
        model: Any = SmolVLMForConditionalGeneration(config())
        model.load_state_dict(student.vlm.state_dict())
        end = tokenizer().token_to_id(END)
        model.generation_config = GenerationConfig.from_dict(
            {"bos_token_id": 1, "eos_token_id": [end, 2], "pad_token_id": 2}
        )
        model.half().save_pretrained(folder)
        tokenizer().save(str(folder / "tokenizer.json"))
        for name, values in settings().items():
            (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        convert(folder, folder, "f16", "f16", "nano")
        for file in folder.iterdir():
            file.chmod(0o644)
        if out.exists():
            out.rename(Path(part) / "before")
        folder.rename(out)


def settings() -> dict[str, dict[str, object]]:
    """The JSON files of the tokenizer and the processor, by name. A picture is one tile, as in the lessons."""
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": START,
            "eos_token": END,
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "model_max_length": 8192,
            "chat_template": DEFAULT_CHAT_TEMPLATE,
        },
        "preprocessor_config.json": {
            "image_processor_type": "Idefics3ImageProcessor",
            "do_image_splitting": False,
            "do_resize": True,
            "resample": 1,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "do_pad": True,
            "size": {"longest_edge": MOST_TILES * TILE},
            "max_image_size": {"longest_edge": TILE},
        },
        "processor_config.json": {"processor_class": "Idefics3Processor", "image_seq_len": TOKENS},
    }


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    export(args.checkpoint, args.out)


if __name__ == "__main__":
    main()
