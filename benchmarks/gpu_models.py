"""Random checkpoints of the published models' shapes for gpu.py: seeded weights, nano's tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

from smolcli.models.files import BUILT_IN, ModelFiles

# hidden, feed forward, layers, heads, heads of keys; of vision hidden, feed forward, layers, heads, tile, patch; scale
SHAPES = {
    "small": ((64, 96, 2, 4, 2), (64, 96, 2, 4, 64, 8), 2),
    "256m": ((576, 1536, 30, 9, 3), (768, 3072, 12, 12, 512, 16), 4),
    "500m": ((960, 2560, 32, 15, 5), (768, 3072, 12, 12, 512, 16), 4),
    "2.2b": ((2048, 8192, 24, 32, 32), (1152, 4304, 27, 16, 384, 14), 3),
}
VOCABULARY = 49280


def make(shape: str, folder: Path, device: str) -> ModelFiles:
    """Write a checkpoint of a shape, in bfloat16 with weights made on `device`. Its text means nothing."""
    text, vision, scale = SHAPES[shape]
    built_in = json.loads((BUILT_IN / "config.json").read_text())
    ids = {key: built_in["text_config"][key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    rope = {"rope_type": "default", "rope_theta": 100000.0}
    config = SmolVLMConfig(
        text_config=dict(zip(names, text, strict=True)) | ids
        | {"model_type": "llama", "vocab_size": VOCABULARY, "max_position_embeddings": 8192, "rope_parameters": rope,
           "rms_norm_eps": 1e-5},
        vision_config=dict(zip((*names[:4], "image_size", "patch_size"), vision, strict=True)),
        scale_factor=scale, image_token_id=built_in["image_token_id"], tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model: Any = SmolVLMForConditionalGeneration(config)
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
            else:  # so that logits differ clearly from token to token
                weight.normal_(0.0, 0.5 if "embed" in name and weight.dim() == 2 else weight[0].numel() ** -0.5)
    model.generation_config = GenerationConfig.from_dict(ids)
    model.save_pretrained(folder)
    settings = json.loads((BUILT_IN / "preprocessor_config.json").read_text())
    settings |= {"size": {"longest_edge": 4 * vision[4]}, "max_image_size": {"longest_edge": vision[4]}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILT_IN / name, folder)
    return ModelFiles(shape, folder)
