"""One checkpoint directory to its two GGUF files."""

from __future__ import annotations

from pathlib import Path

from smolcli.errors import ModelError

from . import language, vision
from .checkpoint import AGAIN, Checkpoint
from .quantize import quantization

# Buffers that older releases of transformers saved and that are computed anew.
COMPUTED = ("rotary_emb.inv_freq", "embeddings.position_ids")


def convert(
    checkpoint_dir: Path, out_dir: Path, quant: str, mmproj_quant: str, name: str | None = None
) -> tuple[Path, Path]:
    """Write `<Name>-<QUANT>.gguf` and `mmproj-<Name>-<QUANT>.gguf` into `out_dir` and return their paths.

    `quant` and `mmproj_quant` are keys of `quantize.QUANTIZATIONS`; `name` is the directory's name unless given.
    Each file appears whole or not at all; one of the same name is replaced. Raises ModelError for a checkpoint
    that cannot be converted and for a directory that cannot be written.
    """
    language_type, vision_type = quantization(quant), quantization(mmproj_quant)
    checkpoint = Checkpoint(checkpoint_dir)
    _check_nothing_is_lost(checkpoint)
    stem = (name or checkpoint.directory.name).replace("/", "-")
    language_path = out_dir / f"{stem}-{quant.upper()}.gguf"
    vision_path = out_dir / f"mmproj-{stem}-{mmproj_quant.upper()}.gguf"
    language.write(checkpoint, language_path, language_type, name)
    vision.write(checkpoint, vision_path, vision_type, name)
    return language_path, vision_path


def _check_nothing_is_lost(checkpoint: Checkpoint) -> None:
    known = {weight.source for weight in (*language.weights(checkpoint), *vision.weights(checkpoint))}
    for name in checkpoint.names():
        if name not in known and not name.endswith(COMPUTED):
            raise ModelError(f"{checkpoint.directory} has a tensor {name} that the model does not know", AGAIN)
