"""A model's name to its files and format, offline.

    resolve(Model(model="256m"), "llamacpp")   # the GGUF pair in the hub's cache
    resolve(Model(model="dir/"), "torch")      # a checkpoint directory
    resolve(Model(), "llamacpp")               # the best model pulled, else the built-in nano

Nothing here touches the network or loads a library: the hub's cache is read as the plain directories it is,
`models--org--name/snapshots/<revision>/<file>`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from smolcli.errors import ModelError, UsageError
from smolcli.options import Model

BUILT_IN = Path(__file__).parent / "nano" / "weights"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
# The first that is there is taken: half the size of f16 at next to no loss, then ever smaller.
QUANTS = ("Q8_0", "F16", "BF16", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "F32")
MODEL_TYPES = ("smolvlm", "idefics3")  # model_type in the config.json of what smolcli runs
_QUANT = re.compile(r"[-._]((?:I?Q|TQ|MXFP|B?F)\d\w*)$", re.IGNORECASE)
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_MIB = 1 << 20


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

    def serves(self, backend: str) -> bool:
        """Whether `backend` can run it: torch needs the checkpoint, llamacpp the pair, any other either."""
        pair = self.gguf is not None and self.mmproj is not None
        return {"torch": self.checkpoint is not None, "llamacpp": pair}.get(
            backend, pair or self.checkpoint is not None
        )


@dataclass(frozen=True)
class Known:
    """A model of the table: its hub repository and, in bytes, what a pull fetches (about, where files may change).

    `pair_bytes` is the Q8_0 pair, `checkpoint_bytes` the safetensors.
    """

    name: str
    repo: str
    pair_bytes: int
    checkpoint_bytes: int
    about: str
    licence: str = "Apache-2.0"

    @property
    def gguf_repo(self) -> str:
        """The repository of its GGUF pair; its files are `<stem>-<quant>.gguf` and `mmproj-<stem>-<quant>.gguf`."""
        return f"ggml-org/{self.repo.split('/')[1]}-GGUF"


# The best first. SmolVLM-Instruct, the first 2.2B, is left out: its GGUF lacks the tile markers llama.cpp looks up.
KNOWN = {
    one.name: one
    for one in (
        Known(
            "2.2b", "HuggingFaceTB/SmolVLM2-2.2B-Instruct", 2_520_457_184, 4_494_000_000, "best answers; slow on a CPU"
        ),
        Known("500m", "HuggingFaceTB/SmolVLM-500M-Instruct", 545_590_272, 1_015_000_000, "good answers on a CPU"),
        Known("500m-video", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 545_593_888, 1_015_000_000, "video on a CPU"),
        Known(
            "256m", "HuggingFaceTB/SmolVLM-256M-Instruct", 278_824_384, 513_000_000, "fast; short and simple answers"
        ),
        Known("256m-video", "HuggingFaceTB/SmolVLM2-256M-Video-Instruct", 278_828_032, 513_000_000, "fast; video"),
        Known("docling", "ibm-granite/granite-docling-258M", 282_000_000, 516_000_000, "pages to DocTags"),
    )
}
NANO = "nano"
NANO_NOTICE = f"no model is on this machine: using the built-in {NANO}; for photographs: smolcli models pull 256m"


def names() -> list[str]:
    """What may be asked for by name: the table, the built-in one, and what was pulled by its hub id."""
    return [*KNOWN, NANO, *cached_ids()]


def resolve(options: Model, backend: str) -> ModelFiles:
    """The files of the model that `options` ask for, in the format of `backend` (torch, llamacpp; others take either).

    Without `options.model`: SMOLCLI_MODEL, the config file, the best model pulled, the built-in nano (with a
    notice). Raises ModelError where the files are not on this machine, UsageError for a broken config file.
    """
    return choose(options, (backend,))[0]


def choose(options: Model, backends: Sequence[str]) -> tuple[ModelFiles, str]:
    """As `resolve`, for the first of `backends` that the model serves, and that backend; `backends` best first."""
    word, source = _asked(options)
    label = f"{word} ({source})" if source else word
    if options.mmproj and not word:
        raise UsageError("--mmproj is given without a model", "name the language half with -m")
    try:
        if not word:
            return _default(backends)
        found = find(word, label, options.mmproj)
    except OSError as error:
        raise ModelError(f"{error.filename or label}: cannot be read ({error.strerror})", "check its rights") from error
    if options.mmproj and found.checkpoint and not found.gguf:
        raise UsageError(f"{label}: is a checkpoint, which has its vision half", "leave out --mmproj")
    for backend in backends:
        if found.serves(backend):
            return found, backend
    raise _missing(found, word, label, backends[0])


def find(word: str, label: str = "", mmproj: Path | None = None) -> ModelFiles:
    """What this machine holds of a registry name, hub id, directory or .gguf file; a name may hold nothing.

    `mmproj` replaces the vision half; `label` is what errors call the model. Raises ModelError for a word that
    is none of these and for a .gguf without its vision half.
    """
    label = label or word
    path = Path(os.path.expanduser(word))
    if word == NANO:
        found = replace(scan(BUILT_IN), name=NANO)
    elif word in KNOWN:
        known = KNOWN[word]
        found = replace(_cached(known.gguf_repo), name=word, checkpoint=_cached(known.repo).checkpoint)
    elif path.suffix.lower() == ".gguf":
        return _single(path, label, mmproj)
    elif path.is_dir():
        found = scan(path)
    elif HUB_ID.fullmatch(word) and not path.exists():
        found = _cached(word)
    else:
        raise ModelError(
            f"{label}: not a known name, hub id, directory or .gguf file", "smolcli models list shows the names"
        )
    return replace(found, mmproj=_file(mmproj)) if mmproj and found.gguf else found


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
    candidates = [name for name in names if _is_gguf(name) and _is_mmproj(name)]
    own = [name for name in candidates if base(name) == base(language)]
    if not own and len({base(name) for name in candidates}) == 1:
        own = candidates
    return min(own, key=lambda name: (quantization(name) != quantization(language), _rank(name)), default=None)


def quantization(name: str) -> str:
    """The quantization a file name ends with, in capitals (`Q8_0`); empty where it tells none."""
    match = _QUANT.search(PurePath(name).stem)
    return match[1].upper() if match else ""


def fingerprint(files: ModelFiles, backend: str) -> str:
    """A hexadecimal SHA-256 that changes with the model's content and not with its place or file names.

    It covers, for each file that `backend` reads (torch: the checkpoint, else the pair if there is one), its size
    and its first and last MiB: headers, metadata and the ends of the weights, in milliseconds. So an edit in the
    middle of a file that keeps its size is not seen. Raises ModelError for a file that cannot be read.
    """
    if files.gguf and files.mmproj and backend != "torch":
        read = [files.gguf, files.mmproj]
    elif files.checkpoint:
        configs = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json")
        read = [files.checkpoint / name for name in configs if (files.checkpoint / name).is_file()]
        read += weights(files.checkpoint)
    else:
        read = []
    total = hashlib.sha256()
    for path in read:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                total.update(b"%d " % size + file.read(_MIB))
                file.seek(max(size - _MIB, 0))
                total.update(file.read(_MIB))
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})", "check its rights") from error
    return total.hexdigest()


def cache_dir() -> Path:
    """The hub's cache, by huggingface_hub's own rule: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ..."""
    env = os.environ
    home = env.get("HF_HOME", os.path.join(env.get("XDG_CACHE_HOME", os.path.join("~", ".cache")), "huggingface"))
    place = env.get("HF_HUB_CACHE", env.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub")))
    return Path(os.path.expandvars(os.path.expanduser(place)))


def is_offline() -> bool:
    """Whether the user's environment forbids the network, by huggingface_hub's own rule."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def cached_ids() -> list[str]:
    """The hub ids in the cache, outside the table, that hold a GGUF pair or a SmolVLM or Idefics3 checkpoint."""
    own = {repo for known in KNOWN.values() for repo in (known.repo, known.gguf_repo)}
    folders = sorted(cache_dir().glob("models--*--*"))
    ids = ["/".join(folder.name.split("--", 2)[1:]) for folder in folders]
    return [repo for repo in ids if repo not in own and _runs(repo)]


def _runs(repo: str) -> bool:
    """Whether what the cache has of it can be run; what is damaged there is told when it is asked for."""
    try:
        return _usable(_cached(repo))
    except (ModelError, OSError):
        return False


def whole(name: str) -> ModelFiles:
    """As `find`, of a name of the table: what is damaged holds nothing, until it is asked for."""
    try:
        return find(name)
    except ModelError:
        return ModelFiles(name)


def config_file() -> Path:
    """The user's config file: config.toml in $XDG_CONFIG_HOME/smolcli, else ~/.config/smolcli."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "smolcli" / "config.toml"


def _asked(options: Model) -> tuple[str, str]:
    """The model's word and, where it is not from the command line, who said it; empty where nobody did."""
    if options.model:
        return options.model, ""
    if word := os.environ.get("SMOLCLI_MODEL"):
        return word, "from SMOLCLI_MODEL"
    path = config_file()
    try:
        config = _toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})", "correct it or remove it") from error
    word = config.get("model", "")
    if not isinstance(word, str):
        raise UsageError(f"{path}: model is not a string", 'write it as model = "256m"')
    return word, f"from {path}"


def _toml(text: str) -> dict[str, Any]:
    """What TOML says; most users have no config file to load the reader for."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]
    read: dict[str, Any] = tomllib.loads(text)
    return read


def _default(backends: Sequence[str]) -> tuple[ModelFiles, str]:
    for name in (*KNOWN, NANO):
        if name == "docling":  # it answers in DocTags, which is not what caption and ask are for
            continue
        found = whole(name)
        for backend in backends:
            if found.serves(backend):
                notice = NANO_NOTICE if name == NANO else ""
                return replace(found, notice=notice), backend
    raise ModelError(f"{NANO}: the built-in model's files are missing", "install smolcli again")


def _missing(found: ModelFiles, word: str, label: str, backend: str) -> ModelError:
    """Why `found` does not serve `backend`, and the command that helps."""
    named = word in KNOWN
    if word == NANO:
        return ModelError(f"{label}: the built-in model's files are missing", "install smolcli again")
    if not found.serves("any"):
        if not named and os.path.isdir(os.path.expanduser(word)):
            return ModelError(
                f"{label}: holds neither config.json, tokenizer.json and safetensors nor a .gguf with its mmproj",
                "give the directory of a checkpoint, or a .gguf file",
            )
        wanted = " --for torch" if named and backend == "torch" else ""
        return ModelError(f"{label}: not on this machine", f"smolcli models pull {word}{wanted}")
    if backend == "torch":
        way = f"smolcli models pull {word} --for torch" if named else "give its checkpoint"
        return ModelError(f"{label}: only its GGUF pair is here, which torch cannot run", f"{way}, or use -b llamacpp")
    way = f"smolcli models pull {word}" if named else f"smolcli convert-to-gguf {word}"
    return ModelError(f"{label}: only its checkpoint is here, which llama.cpp cannot run", f"{way}, or use -b torch")


def _single(path: Path, label: str, mmproj: Path | None) -> ModelFiles:
    if not path.is_file():
        raise ModelError(f"{label}: no such file", "check the path, or see smolcli models list")
    if _is_mmproj(path.name):
        raise ModelError(f"{label}: is the vision half of a model", "give the language half of the pair")
    if mmproj:
        return ModelFiles(path.stem, gguf=path, mmproj=_file(mmproj))
    names = [one.name for one in path.parent.iterdir() if one.is_file()]
    vision = mmproj_of(path.name, names)
    if vision is None:
        several = any(map(_is_mmproj, names))
        what = "several vision halves (mmproj) are" if several else "no vision half (mmproj) is"
        raise ModelError(f"{label}: {what} beside it", "name it with --mmproj FILE")
    return ModelFiles(path.stem, gguf=path, mmproj=path.parent / vision)


def _file(mmproj: Path) -> Path:
    if not mmproj.is_file():
        raise ModelError(f"{mmproj}: no such file", "check the path given with --mmproj")
    return mmproj


def _cached(repo: str) -> ModelFiles:
    """What the hub's cache holds of a repository, the revision of `main` before others."""
    found = ModelFiles(repo)
    for snapshot in _snapshots(cache_dir() / f"models--{repo.replace('/', '--')}"):
        one = scan(snapshot)
        if found.checkpoint is None:
            found = replace(found, checkpoint=one.checkpoint)
        if found.gguf is None:
            found = replace(found, gguf=one.gguf, mmproj=one.mmproj)
    return found


def _snapshots(folder: Path) -> Iterator[Path]:
    main = folder / "refs" / "main"
    revision = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    snapshots = [path for path in folder.glob("snapshots/*") if path.is_dir()]
    yield from sorted(snapshots, key=lambda path: (path.name != revision, -path.stat().st_mtime))


def _usable(found: ModelFiles) -> bool:
    if found.serves("llamacpp") or found.checkpoint is None:
        return found.serves("llamacpp")
    try:
        config = json.loads((found.checkpoint / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(config, dict) and config.get("model_type") in MODEL_TYPES


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
