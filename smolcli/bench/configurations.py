"""Which models a benchmark runs, and how: every combination of model, backend, quantization, threads, detail and what
encodes pictures.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

from smolcli import registry
from smolcli.backends.select import backend_candidates, check_options, may_use_gpu, settle_options
from smolcli.bench.options import Variants
from smolcli.bench.report.model import FAILED, Result
from smolcli.errors import ModelError, UsageError
from smolcli.models import catalog, fingerprint, resolve
from smolcli.models import files as model_files
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.process.child import call
from smolcli.records.record_id import Identity, id_options
from smolcli.system.cpu import usable_cores
from smolcli.terminal.console import Console

VISION_ENCODERS = "f16"  # of the vision half of a pair that is made for the occasion


@dataclass(frozen=True)
class Configuration:
    """One model on one backend, and the options that its engine is made with.

    `word` is what -m takes to mean it, `settings` are what a report says of it.
    """

    files: ModelFiles
    backend: str
    options: Model
    settings: dict[str, str | int] = field(hash=False)

    @property
    def name(self) -> str:
        """The settings in words."""
        return " ".join(map(str, self.settings.values()))

    def failed(self, settings: dict[str, str | int], why: object) -> Result:
        """The result of a combination that could not be measured."""
        return Result(settings, {}, files=self.bytes, fingerprint=self.fingerprint, notices=(f"{FAILED}{why}",))

    @property
    def place(self) -> str:
        """Where the backend lives, "module:class"."""
        return registry.BACKENDS[self.backend].place

    @property
    def fingerprint(self) -> str:
        """Of the model's content."""
        return fingerprint.fingerprint(self.files, self.backend)

    @property
    def bytes(self) -> int:
        """Of the files that the backend reads."""
        if self.backend == "torch" and self.files.checkpoint is not None:
            return sum(file.stat().st_size for file in model_files.weights(self.files.checkpoint))
        return sum(file.stat().st_size for file in (self.files.gguf, self.files.mmproj) if file is not None)

    @property
    def arguments(self) -> list[str]:
        """What makes the command line of caption or ask use it."""
        given = self.options
        found = ["-m", str(self.files.checkpoint if self.backend == "torch" else self.files.gguf)]
        if self.backend != "torch" and self.files.mmproj is not None:
            found += ["--mmproj", str(self.files.mmproj)]
        else:
            found += ["--device", given.device, "--dtype", given.dtype]
        if self.backend == "llamacpp":
            found += ["--vision-engine", given.vision_engine, "--dtype", given.dtype]
        return [*found, "-b", self.backend, "--threads", str(given.threads), "--detail", given.detail]

    def identity(self, task: str, generate: Generate) -> Identity:
        """What makes two of its answers the same; the threads too, since they are compared."""
        options = {**id_options(generate, self.options), "threads": self.options.threads}
        return Identity(task, self.files.name, self.backend, self.fingerprint, options)


@contextlib.contextmanager
def configurations(words: Sequence[str], variants: Variants, console: Console) -> Iterator[list[Configuration]]:
    """All that is to be run, the models in the order given; pairs that had to be made go afterwards.

    Without words it is the model that the other commands would take. Raises UsageError, ModelError, UnavailableError.
    """
    with contextlib.ExitStack() as stack:
        made = _Made(stack, console)
        found: list[Configuration] = []
        for word, backend in product(words or [None], dict.fromkeys(variants.backend)):  # type: ignore[list-item]
            for files, name, quant in _files(word, backend, variants, made):
                threads = dict.fromkeys(variants.threads or (usable_cores(),))
                engines = dict.fromkeys(variants.vision_engine or ("auto",)) if name == "llamacpp" else ("auto",)
                for count, cut, engine in product(threads, dict.fromkeys(variants.detail or ("auto",)), engines):
                    given = Model(
                        backend=name, device=variants.device, dtype=variants.dtype, threads=count, detail=cut,
                        vision_engine=engine,
                    )  # fmt: skip
                    options = settle_options(given, name, files)
                    device = _placed(variants.device, variants.dtype)[0] if name == "torch" else "cpu"
                    settings: dict[str, str | int] = {
                        "model": files.name, "backend": name, "quant": quant, "device": device, "threads": count,
                        "detail": cut,
                    }  # fmt: skip
                    if name == "llamacpp":
                        settings["vision"] = options.vision_engine
                    found.append(Configuration(files, name, options, settings))
        if variants.quant and not any(one.backend == "llamacpp" for one in found):
            raise UsageError("--quant is for llama.cpp, which does not run here", "add --backend llamacpp")
        yield _different(found)


def _different(found: Sequence[Configuration]) -> list[Configuration]:
    """Each once, and models of one name told apart by where they are."""
    each = list({(str(one.files), *one.settings.values()): one for one in found}.values())
    places: dict[str, set[str]] = {}
    for one in each:
        places.setdefault(one.files.name, set()).add(_place(one.files))
    return [
        replace(one, settings={**one.settings, "model": _place(one.files)})
        if len(places[one.files.name]) > 1 and one.files.name != catalog.NANO
        else one
        for one in each
    ]


@lru_cache
def _placed(device: str, dtype: str) -> tuple[str, str]:
    """The device and the type of weights that PyTorch takes; asked of PyTorch itself only where there may be a GPU."""
    if dtype == "auto" and device in ("auto", "cpu") and not (may_use_gpu() and device == "auto"):
        return "cpu", "float32"
    found: tuple[str, str] = call("smolcli.backends.pytorch:resolve_device_and_dtype", device, dtype)
    return found


def _place(files: ModelFiles) -> str:
    path = files.checkpoint or files.gguf
    return str(path if path == files.checkpoint else path.parent) if path else files.name


def _files(word: str | None, backend: str, variants: Variants, made: _Made) -> Iterator[tuple[ModelFiles, str, str]]:
    """The files of a model, the backend that runs them, and their quantization, once for each that is wanted."""
    wanted = [name for name in variants.vision_engine if name != "auto" and backend != "torch"]
    engine = wanted[0] if wanted else "auto"
    options = Model(model=word, backend=backend, device=variants.device, dtype=variants.dtype, vision_engine=engine)
    names = backend_candidates(options)
    if variants.quant and backend == "auto":
        names = ("llamacpp",)
    if "llamacpp" not in names or not variants.quant:
        files, name = resolve.choose(options, names)
        made.tell(files.notice)
        check_options(options, name)
        yield files, name, _quantization(files, name, variants)
        return
    check_options(options, "llamacpp")
    for quant in dict.fromkeys(variants.quant):
        files = made.pair(word, quant)
        yield files, "llamacpp", _quantization(files, "llamacpp", variants)


def _quantization(files: ModelFiles, backend: str, variants: Variants) -> str:
    """Of both halves, or the one that they share; of PyTorch the type of the weights."""
    if backend != "llamacpp" or files.gguf is None or files.mmproj is None:
        return _placed(variants.device, variants.dtype)[1] if backend == "torch" else "-"
    halves = [model_files.quantization(half.name).lower() or "?" for half in (files.gguf, files.mmproj)]
    return "+".join(dict.fromkeys(halves))


class _Made:
    """Pairs of a given quantization: those there are, or made of the checkpoint in a folder that goes at the end."""

    def __init__(self, stack: contextlib.ExitStack, console: Console) -> None:
        self._stack, self._console = stack, console
        self._folder: Path | None = None
        self._told: set[str] = set()

    def tell(self, notice: str) -> None:
        """Says it once."""
        if notice and notice not in self._told:
            self._told.add(notice)
            self._console.notice(notice)

    def pair(self, word: str | None, quant: str) -> ModelFiles:
        """The pair of a model. Raises ModelError where there is none and no checkpoint to make it of."""
        options = Model(model=word)
        try:
            found, _ = resolve.choose(options, ("llamacpp",))
        except ModelError:
            found, _ = resolve.choose(options, ("torch",))
        if found.gguf is not None:
            folder, own = found.gguf.parent, model_files.base(found.gguf.name)
            names = [path.name for path in folder.iterdir()]
            others = {name for name in model_files.languages(names) if model_files.base(name) != own}
            both = model_files.pair([name for name in names if name not in others], quant)
            if both is not None:
                return replace(found, gguf=folder / both[0], mmproj=folder / both[1])
        if found.checkpoint is None and found.gguf is not None:
            found = replace(found, checkpoint=model_files.scan(found.gguf.parent).checkpoint)
        if found.checkpoint is None:
            advice = "give the directory of its checkpoint, of which it can be made"
            raise ModelError(f"{word or found.name}: no {quant} pair of it is here", advice)
        return self._converted(found, found.checkpoint, quant)

    def _converted(self, found: ModelFiles, checkpoint: Path, quant: str) -> ModelFiles:
        convert = registry.load(registry.LIBRARIES, "pair")
        if self._folder is None:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="smolcli-bench-")))
        place = self._folder / f"{found.name}-{len(list(self._folder.iterdir()))}"
        place.mkdir()
        language, vision = convert(checkpoint, place, quant.lower(), VISION_ENCODERS, found.name)
        self._console.notice(f"{found.name}: its {quant} pair was made for the time of the benchmark")
        return replace(found, gguf=language, mmproj=vision)
