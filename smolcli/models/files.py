"""A model's files: checkpoints and GGUF pairs in a directory, recognised by their file names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from smolcli import registry
from smolcli.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"  # PEFT's name of it; a folder that has it is an adapter
WEIGHTS = "model.safetensors"
WEIGHT_INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BUILT_IN = Path(__file__).parent.parent / "nano" / "weights"
MODEL_TYPES = ("smolvlm", "idefics3")  # model_type in the config.json of the models that smolcli runs
MIN_TEXT_VOCABULARY = 4096  # tokens; a smaller vocabulary has letters only
# In order of preference: Q8_0 is half the size of F16 at next to no loss of quality, then smaller and smaller.
QUANTIZATIONS = ("Q8_0", "F16", "BF16", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "F32")

_QUANTIZATION = re.compile(r"[-._]((?:I?Q|TQ|MXFP|B?F)\d\w*)$", re.IGNORECASE)
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_BASE = re.compile(r"smolvlm.*-(base|synthetic)(-gguf)?$", re.IGNORECASE)


def understands_text(vocab_size: int) -> bool:
    """Whether a model with a vocabulary of `vocab_size` tokens may understand text, and not pictures only.

    A model whose tokens are letters, such as nano, does not.
    """
    return vocab_size >= MIN_TEXT_VOCABULARY


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model: a checkpoint directory, perhaps with a LoRA adapter, a GGUF pair, or both.

    `name` is the model's name in records. `checkpoint` is a directory with config.json, tokenizer.json and
    safetensors; `gguf` and `mmproj` are the language and the vision half for llama.cpp. `adapter` is the directory of
    the adapter to merge into the checkpoint. `is_fallback` says that nobody chose this model: it is used because no
    other is on this machine. `notice` is a line that says what it is good for then, empty for any other model.
    """

    name: str
    checkpoint: Path | None = None
    gguf: Path | None = None
    mmproj: Path | None = None
    adapter: Path | None = None
    notice: str = ""
    is_fallback: bool = False

    @property
    def formats(self) -> frozenset[str]:
        """The available file formats: `checkpoint`, `gguf` (both halves), and `any` if there is one of them."""
        available = {"checkpoint"} if self.checkpoint is not None else set()
        if self.gguf is not None and self.mmproj is not None:
            available.add("gguf")
        return frozenset(available | {"any"} if available else ())

    @property
    def is_built_in(self) -> bool:
        """Whether these are files of the nano that comes with smolcli and no others, whatever they are called."""
        halves = [half.parent for half in (self.gguf, self.mmproj) if half is not None]
        folders = [*halves, *(folder for folder in (self.checkpoint, self.adapter) if folder is not None)]
        return {folder.resolve() for folder in folders} == {BUILT_IN.resolve()}

    @property
    def is_base(self) -> bool:
        """Whether it is a SmolVLM that was not trained on turns of a conversation: -Base or -Synthetic, by its name.

        Only the name tells: the files of these models have the chat template and the tokens of the others.
        """
        return _BASE.search(_QUANTIZATION.sub("", self.name)) is not None

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer.json of the adapter if it has one, else of the checkpoint."""
        folders = [folder for folder in (self.adapter, self.checkpoint) if folder is not None]
        return next((path for folder in folders if (path := folder / TOKENIZER).is_file()), None)

    def can_run_on(self, backend: str) -> bool:
        """Whether the model is available in the file format that `backend` reads."""
        return registry.BACKENDS[backend].file_format in self.formats

    def backends_here(self) -> list[str]:
        """The names of the installed backends that can run the model, sorted."""
        names = sorted(registry.backends())
        return [name for name in names if self.can_run_on(name) and registry.installed(registry.BACKENDS[name])]

    def format_read_by(self, backend: str) -> Literal["checkpoint", "gguf"]:
        """The file format in which `backend` reads the model; any stands for the checkpoint where there is one."""
        file_format = registry.BACKENDS[backend].file_format
        if file_format == "any":
            return "checkpoint" if "checkpoint" in self.formats else "gguf"
        return file_format


def scan(directory: Path, quant: str | None = None) -> ModelFiles:
    """Find the checkpoint and the GGUF pair in one directory, that of `quant` if it is there.

    The model's name is that of the directory, or of the language half where there are several, of which one is taken.
    Raises ModelError for an index of weights that cannot be read.
    """
    names = [path.name for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
    gguf_pair = (pair(names, quant) if quant else None) or pair(names)
    is_checkpoint = {"config.json", TOKENIZER} <= set(names) and weight_files(directory)
    language_halves = [name for name in names if _is_gguf(name) and not is_mmproj(name)]
    has_several = gguf_pair is not None and not is_checkpoint and len(language_halves) > 1
    return ModelFiles(
        Path(gguf_pair[0]).stem if gguf_pair is not None and has_several else directory.resolve().name,
        checkpoint=directory if is_checkpoint else None,
        gguf=directory / gguf_pair[0] if gguf_pair else None,
        mmproj=directory / gguf_pair[1] if gguf_pair else None,
    )


def weight_files(checkpoint: Path) -> list[Path]:
    """List the safetensors files of a checkpoint directory in order; an empty list if one of them is missing.

    Raises ModelError for an index of weights that cannot be read.
    """
    names = _weight_names(checkpoint)
    return [] if _lacking(checkpoint, names) else [checkpoint / name for name in names]


def shards_lacking(checkpoint: Path) -> list[str]:
    """List the files that a checkpoint's index of weights names and that are missing; empty if it has no index."""
    return _lacking(checkpoint, _weight_names(checkpoint)) if (checkpoint / WEIGHT_INDEX).is_file() else []


def _weight_names(checkpoint: Path) -> list[str]:
    """List the names of the safetensors files that a checkpoint should have."""
    index = checkpoint / WEIGHT_INDEX
    if (checkpoint / WEIGHTS).is_file() or not index.is_file():  # transformers, too, takes the index only without it
        return [WEIGHTS]
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index}: not an index of weights", "fetch or copy the model again") from error


def _lacking(checkpoint: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (checkpoint / name).is_file()]


def pair(names: Iterable[str], quant: str | None = None) -> tuple[str, str] | None:
    """Choose the language half and its vision half from the file names of one folder; None if there is no pair.

    With `quant` (in any case) only a language half of that quantization is taken, else the first of QUANTIZATIONS
    that is there.
    """
    names = list(names)
    for name in sorted(language_halves(names), key=_preference):
        mmproj = find_mmproj(name, names)
        if mmproj and (quant is None or quantization(name) == quant.upper()):
            return name, mmproj
    return None


def language_halves(names: Iterable[str]) -> list[str]:
    """Select the file names of language halves: .gguf, not split into shards, not an mmproj."""
    return [name for name in names if _is_gguf(name) and not is_mmproj(name) and not _SHARD.search(PurePath(name).stem)]


def find_mmproj(language: str, names: Iterable[str]) -> str | None:
    """Find the vision half of the language half `language` among `names`, or None.

    By convention it is `mmproj-<stem>-<quant>.gguf` for `<stem>-<quant>.gguf`; if there is none of that stem, the
    only mmproj in the folder. Of several quantizations the one of the language half is taken, then the first of
    QUANTIZATIONS.
    """
    mmprojs = [name for name in names if is_mmproj(name)]
    candidates = [name for name in mmprojs if model_stem(name) == model_stem(language)]
    if not candidates and len({model_stem(name) for name in mmprojs}) == 1:
        candidates = mmprojs
    own = quantization(language)
    return min(candidates, key=lambda name: (quantization(name) != own, _preference(name)), default=None)


def quantization(name: str) -> str:
    """Return the quantization at the end of a file name in capitals (`Q8_0`), or "" if the name has none."""
    match = _QUANTIZATION.search(PurePath(name).stem)
    return match[1].upper() if match else ""


def is_mmproj(name: str) -> bool:
    """Whether a file name is that of a vision half."""
    return _is_gguf(name) and "mmproj" in name.lower()


def model_stem(name: str) -> str:
    """Return a file name without its quantization and `mmproj`; both halves of a model have the same."""
    return re.sub(r"[-._]?mmproj[-._]?", "", _QUANTIZATION.sub("", PurePath(name).stem).lower())


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def _preference(name: str) -> tuple[int, str]:
    """A sort key by which preferred quantizations come first."""
    quant = quantization(name)
    return QUANTIZATIONS.index(quant) if quant in QUANTIZATIONS else len(QUANTIZATIONS), name
