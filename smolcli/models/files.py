"""A model's files: checkpoints and GGUF pairs in a directory, told apart by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from smolcli import registry
from smolcli.errors import ModelError

FEWEST_WORDS = 4096  # tokens of a vocabulary that is not of letters


def understands_text(vocabulary: int) -> bool:
    """Whether a model of so many tokens may understand a text; one of letters, as nano, knows nothing but pictures."""
    return vocabulary >= FEWEST_WORDS


BUILT_IN = Path(__file__).parent.parent / "nano" / "weights"


# The first that is there is taken: half the size of f16 at next to no loss, then ever smaller.
QUANTS = ("Q8_0", "F16", "BF16", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "F32")


MODEL_TYPES = ("smolvlm", "idefics3")  # model_type in the config.json of what smolcli runs


_QUANT = re.compile(r"[-._]((?:I?Q|TQ|MXFP|B?F)\d\w*)$", re.IGNORECASE)


_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model: a checkpoint directory, a GGUF pair, or both.

    `name` is what records call it. `checkpoint` is a directory with config.json, tokenizer.json and
    safetensors; `gguf` and `mmproj` are the language and the vision half for llama.cpp. `notice` is a line
    the user should see once, empty if there is nothing to say.
    """

    name: str
    checkpoint: Path | None = None
    gguf: Path | None = None
    mmproj: Path | None = None
    notice: str = ""

    @property
    def formats(self) -> frozenset[str]:
        """The formats it is here in: `checkpoint`, `gguf` (both halves), and `any` where there is one of them."""
        here = {"checkpoint"} if self.checkpoint is not None else set()
        if self.gguf is not None and self.mmproj is not None:
            here.add("gguf")
        return frozenset(here | {"any"} if here else ())

    def serves(self, backend: str) -> bool:
        """Whether `backend` can run it: the model is here in the format that the backend reads."""
        return registry.BACKENDS[backend].file_format in self.formats


def scan(directory: Path) -> ModelFiles:
    """The model in one directory: a checkpoint, a GGUF pair, both or neither; `name` is the directory's."""
    names = [path.name for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
    both = pair(names)
    complete = {"config.json", "tokenizer.json"} <= set(names) and weights(directory)
    return ModelFiles(
        directory.resolve().name,
        checkpoint=directory if complete else None,
        gguf=directory / both[0] if both else None,
        mmproj=directory / both[1] if both else None,
    )


def weights(checkpoint: Path) -> list[Path]:
    """The safetensors files of a checkpoint directory, in order; empty where one is missing."""
    index = checkpoint / "model.safetensors.index.json"
    files = [checkpoint / "model.safetensors"]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            files = [checkpoint / name for name in names]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index}: not an index of weights", "fetch or copy the model again") from error
    return files if all(file.is_file() for file in files) else []


def pair(names: Iterable[str], quant: str | None = None) -> tuple[str, str] | None:
    """The language and the vision half among file names of one folder, or None.

    With `quant` (any case) only a language half of that quantization; else the first of QUANTS that is there.
    """
    names = list(names)
    for name in sorted(languages(names), key=_rank):
        vision = mmproj_of(name, names)
        if vision and (quant is None or quantization(name) == quant.upper()):
            return name, vision
    return None


def languages(names: Iterable[str]) -> list[str]:
    """The file names that are language halves: .gguf, in one piece, not an mmproj."""
    return [
        name for name in names if _is_gguf(name) and not _is_mmproj(name) and not _SHARD.search(PurePath(name).stem)
    ]


def mmproj_of(language: str, names: Iterable[str]) -> str | None:
    """The vision half of the file name `language` among `names`, or None.

    By convention `mmproj-<stem>-<quant>.gguf` for `<stem>-<quant>.gguf`; without such a one, the only mmproj there
    is. Of several quantizations the language half's own is taken, then the first of QUANTS.
    """
    backend_candidates = [name for name in names if _is_gguf(name) and _is_mmproj(name)]
    own = [name for name in backend_candidates if base(name) == base(language)]
    if not own and len({base(name) for name in backend_candidates}) == 1:
        own = backend_candidates
    return min(own, key=lambda name: (quantization(name) != quantization(language), _rank(name)), default=None)


def quantization(name: str) -> str:
    """The quantization a file name ends with, in capitals (`Q8_0`); empty where it tells none."""
    match = _QUANT.search(PurePath(name).stem)
    return match[1].upper() if match else ""


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def _is_mmproj(name: str) -> bool:
    return _is_gguf(name) and "mmproj" in name.lower()


def base(name: str) -> str:
    """A file name without quantization and mmproj: equal for the two halves of a model."""
    return re.sub(r"[-._]?mmproj[-._]?", "", _QUANT.sub("", PurePath(name).stem).lower())


def _rank(name: str) -> tuple[int, str]:
    quant = quantization(name)
    return QUANTS.index(quant) if quant in QUANTS else len(QUANTS), name
