"""The names of a checkpoint's tensors: what wrapped the model when it was saved, and what is missing of it.

Every reader of a checkpoint or an adapter takes the wrappers off here, and has what it met judged here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from smolcli.errors import ModelError

Shape = tuple[int, ...]

DOWNLOAD_AGAIN = "download or save it again"
CONVERT_AGAIN = "fetch or convert it again"
USE_LLAMACPP = "llama.cpp may run it: --backend llamacpp"
SAVE_WHOLE = "save the whole model with its own save_pretrained"
PREFIX = "model."  # of the name of every tensor of the family but the output matrix
HEADLESS = ("text_model.", "vision_model.", "connector.")  # beginnings of names where the prefix is lacking
LM_HEAD = "lm_head.weight"
EMBEDDINGS = "model.text_model.embed_tokens.weight"
MAX_HEADER_BYTES = 100_000_000  # of a safetensors file, as its library allows (safetensors/src/tensor.rs)
# Modules of PyTorch that replace another module wherever it stands in a model: torch.compile's OptimizedModule,
# FullyShardedDataParallel and the activation checkpointing of torch.distributed.
_REPLACES_MODULE = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What wraps whole models: DataParallel and DistributedDataParallel of PyTorch, PeftModel of PEFT.
PEFT_ROOT = "base_model.model."
_WRAPS_MODEL = ("module.", PEFT_ROOT)
# Endings of the names of buffers that older releases of transformers saved; they are computed, not read.
COMPUTED = ("rotary_emb.inv_freq", "embeddings.position_ids")


@dataclass(frozen=True)
class Unwrapped:
    """The model's own name of each stored tensor (`names`), and what was taken off the names (`wrappers`)."""

    names: Mapping[str, str]
    wrappers: tuple[str, ...] = ()


def unwrap(stored: Iterable[str]) -> Unwrapped:
    """Take off the names of tensors what training programs wrap a model in.

    A wrapper of a whole model is one only if all names begin with it. Names that would be the same without their
    wrappers are left as they are.

    >>> unwrap(["module._orig_mod.model.norm.weight", "module._orig_mod.lm_head.weight"]).wrappers
    ('_orig_mod.', 'module.')
    >>> unwrap(["module.norm.weight", "lm_head.weight"]).wrappers
    ()
    """
    names = {name: _REPLACES_MODULE.sub("", name) for name in stored}
    wrappers = {wrapper for name in names for wrapper in _REPLACES_MODULE.findall(name)}
    while prefix := next((prefix for prefix in _WRAPS_MODEL if _all_begin_with(prefix, names.values())), ""):
        names = {name: own.removeprefix(prefix) for name, own in names.items()}
        wrappers.add(prefix)
    if len(set(names.values())) < len(names):
        return Unwrapped({name: name for name in names})
    return Unwrapped(names, tuple(sorted(wrappers)))


def _all_begin_with(prefix: str, names: Collection[str]) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)


def wrapper_notice(source: Path, wrappers: Collection[str]) -> str:
    """Return the line that tells the user which `wrappers` are taken off, or "" if there are none."""
    if not wrappers:
        return ""
    return f"{source}: its tensors are read without {' and '.join(wrappers)} in their names, which training added"


def stored_types(files: Iterable[Path]) -> dict[str, str]:
    """Return the type of each tensor in safetensors files by its name, read from the headers without any library.

    The types are those of the format: F32, BF16, I8 and so on. A damaged file has none: whoever loads it says what is
    wrong.
    """
    types: dict[str, str] = {}
    for path in files:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length)) if length <= MAX_HEADER_BYTES else {}
            types |= {name: str(entry["dtype"]) for name, entry in header.items() if name != "__metadata__"}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return types


@dataclass(frozen=True)
class Findings:
    """How the tensors of a checkpoint differ from those that its config.json asks for.

    `missing` are those that it lacks, `unread` those that the model has no place for, and `misshapen` those of another
    shape: name, shape in the file, shape in the model. `total` is the number of tensors that the model has.
    """

    missing: Collection[str] = ()
    unread: Collection[str] = ()
    misshapen: Collection[tuple[str, Shape, Shape]] = field(default=())
    total: int = 0

    def raise_for(self, source: Path, *, is_gguf: bool = False) -> None:
        """Raise ModelError, in one line, unless every tensor of the model is there and every other one is COMPUTED.

        A tensor that nobody reads is an error too: the model that was saved is another than config.json, or the keys of
        a GGUF file (`is_gguf`), describe, and its answers would not be that model's.
        """
        described_by = "its keys" if is_gguf else "config.json"
        save_whole = CONVERT_AGAIN if is_gguf else SAVE_WHOLE
        missing = sorted(self.missing)
        unread = sorted(name for name in self.unread if not name.endswith(COMPUTED))
        if missing:
            message = f"{source}: lacks {len(missing)} of {_tensors(self.total)}, the first {missing[0]}"
            if unread:
                message += f", and has {_tensors(len(unread))} that the model does not know, the first {unread[0]}"
            raise ModelError(message, _advice(unread, save_whole if unread else DOWNLOAD_AGAIN))
        if self.misshapen:
            name, stored, wanted = sorted(self.misshapen)[0]
            others = f", and {len(self.misshapen) - 1} more differ" if len(self.misshapen) > 1 else ""
            message = f"{source}: the tensor {name} has the shape {stored}, not {wanted} as in {described_by}{others}"
            raise ModelError(message, DOWNLOAD_AGAIN)
        if unread:
            message = f"{source}: has {_tensors(len(unread))} that the model does not know, the first {unread[0]}"
            usual = USE_LLAMACPP if is_gguf else "give the config.json that it was saved with"
            raise ModelError(message, _advice(unread, usual))


def _tensors(count: int) -> str:
    return f"{count} tensor{'' if count == 1 else 's'}"


def _advice(unread: Collection[str], usual: str) -> str:
    """What to do about a checkpoint with the tensors `unread`."""
    if any(".lora_" in name or ".base_layer." in name for name in unread):
        return "it holds an adapter that is not merged: save what PEFT's merge_and_unload returns"
    return usual
