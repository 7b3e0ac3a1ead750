"""Selects the files of a repository that a pull fetches: those that run, and no others.

select_files("org/name", ["config.json", "tokenizer.json", "model.safetensors", "vocab.json"], "checkpoint", None)
# config.json, tokenizer.json and model.safetensors
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from smolcli import registry
from smolcli.errors import ModelError
from smolcli.models import files as model_files

Format = Literal["auto", "checkpoint", "gguf", "all"]
CARD = "README.md"  # has the licence and the base model, which a conversion copies into the GGUF
# What is read of a checkpoint besides its weights. tokenizer.json holds what vocab.json, merges.txt, added_tokens.json
# and special_tokens_map.json do. Only files at the top of a repository count, which leaves out onnx/ and the like.
CONFIGURATION = (
    "chat_template.jinja", "chat_template.json", "config.json", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", model_files.TOKENIZER, "tokenizer_config.json", CARD,
)  # fmt: skip


def select_files(repo: str, names: list[str], file_format: Format, quant: str | None) -> list[str]:
    """Select the files to fetch in a format among all file `names` of `repo`.

    Where an index names the files of weights, all safetensors are selected. Raises ModelError if the repository lacks
    that format or quantization.
    """
    top = [name for name in names if "/" not in name]
    if file_format == "auto":
        suffixes = {PurePosixPath(name).suffix for name in top}
        is_pair = model_files.pair(top) is not None or (".gguf" in suffixes and ".safetensors" not in suffixes)
        file_format = "gguf" if is_pair else "checkpoint"
    files: list[str] = []
    if file_format in ("gguf", "all"):
        files += _select_pair(repo, top, quant)
    if file_format in ("checkpoint", "all"):
        files += _select_checkpoint(repo, top)
    return files


def _select_pair(repo: str, names: list[str], quant: str | None) -> tuple[str, str]:
    pair = model_files.pair(names, quant)
    if pair is not None:
        return pair
    languages = [name for name in model_files.language_halves(names) if model_files.find_mmproj(name, names)]
    quants = sorted({model_files.quantization(name) for name in languages})
    if quant and quants:
        raise ModelError(f"{repo}: has no {quant.upper()} pair", f"choose --quant from {', '.join(quants)}")
    if any(name.endswith(".gguf") for name in names) and not any(map(model_files.is_mmproj, names)):
        message = f"{repo}: holds a language model without its vision half (mmproj)"
        raise ModelError(message, f"llama-cli -hf {repo} may run it, without pictures")
    advice = f"try --for {registry.backends('checkpoint')[0]}, or another repository"
    raise ModelError(f"{repo}: holds no .gguf with its mmproj", advice)


def _select_checkpoint(repo: str, names: list[str]) -> list[str]:
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights and any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        message = f"{repo}: has its weights in pickle files only, and unpickling runs code"
        raise ModelError(message, "ask its author for safetensors: save_pretrained(..., safe_serialization=True)")
    if not weights or not {"config.json", "tokenizer.json"} <= set(names):
        advice = f"try --for {registry.backends('gguf')[0]}, or another repository"
        raise ModelError(f"{repo}: lacks config.json, tokenizer.json or safetensors", advice)
    if model_files.WEIGHTS in names:  # which is read without an index
        wanted = {*CONFIGURATION, model_files.WEIGHTS}
    else:
        wanted = {*CONFIGURATION, model_files.WEIGHT_INDEX, *weights}
    return [name for name in names if name in wanted]
