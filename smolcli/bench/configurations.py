"""The configurations that a benchmark runs: every combination of model, backend, quantization and settings."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

from smolcli import registry
from smolcli.backends.llamacpp import build
from smolcli.backends.select import backend_candidates, backend_target, check_options, may_use_gpu, settle_options
from smolcli.bench.options import Variants
from smolcli.bench.report.results import FAILED, Result
from smolcli.errors import ModelError, UsageError
from smolcli.models import catalog, fingerprint, resolve
from smolcli.models import files as model_files
from smolcli.models.family import turns_options
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.process.child import call
from smolcli.records.record_id import Identity, id_options
from smolcli.system.cpu import usable_cores
from smolcli.system.temporary import temporary_folder
from smolcli.terminal.console import Console

COMPUTED = "float32"  # what a backend without a GPU makes of a checkpoint's weights
MMPROJ_QUANT = "f16"  # of the vision half of a pair that is converted for the benchmark


@dataclass(frozen=True)
class Configuration:
    """One model on one backend, and the options that its engine gets; `settings` are what a report says of it."""

    files: ModelFiles
    backend: str
    options: Model
    settings: dict[str, str | int] = field(hash=False)

    @property
    def name(self) -> str:
        """The values of the settings, with spaces between them."""
        return " ".join(map(str, self.settings.values()))

    def failed_result(self, settings: dict[str, str | int], reason: object) -> Result:
        """The result of a combination that could not be measured."""
        notices = (f"{FAILED}{reason}",)
        return Result(settings, {}, files=self.file_bytes, fingerprint=self.fingerprint, notices=notices)

    @property
    def target(self) -> str:
        """Where the backend is defined, as "module:class"."""
        return backend_target(self.backend, self.files)

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the model's content; each result of this configuration has it."""
        return fingerprint.fingerprint(self.files, self.backend)

    @property
    def file_bytes(self) -> int:
        """The size of the files that the backend reads."""
        if self.files.format_read_by(self.backend) == "checkpoint" and self.files.checkpoint is not None:
            return sum(file.stat().st_size for file in model_files.weight_files(self.files.checkpoint))
        return sum(file.stat().st_size for file in (self.files.gguf, self.files.mmproj) if file is not None)

    @property
    def arguments(self) -> list[str]:
        """The arguments with which caption and ask use this configuration."""
        reads_checkpoint = self.files.format_read_by(self.backend) == "checkpoint"
        arguments = ["-m", str(_location(self.files) if reads_checkpoint else self.files.gguf)]
        if not reads_checkpoint and self.files.mmproj is not None:
            arguments += ["--mmproj", str(self.files.mmproj)]
        flags = {"device": "--device", "vision_encoder": "--vision-engine", "dtype": "--dtype", "quant": "--quant"}
        for name, flag in flags.items():
            if name in registry.BACKENDS[self.backend].options:
                arguments += [flag, getattr(self.options, name)]
        arguments += ["-b", self.backend, "--threads", str(self.options.threads), "--detail", self.options.detail]
        return arguments

    def identity(self, task: str, generate: Generate) -> Identity:
        """What makes two answers the same; the number of threads is part of it, since benchmarks compare them."""
        options = {**id_options(generate, self.options), **turns_options(self.files), "threads": self.options.threads}
        return Identity(task, self.files.name, self.backend, self.fingerprint, options)


def _reads_pairs(backend: str) -> bool:
    return registry.BACKENDS[backend].file_format != "checkpoint"


def _has_vision_encoder(backend: str) -> bool:
    entry = registry.BACKENDS[backend]
    return "vision_encoder" in entry.options and not entry.is_hidden


@contextlib.contextmanager
def configurations(models: Sequence[str], variants: Variants, console: Console) -> Iterator[list[Configuration]]:
    """All configurations of `models` in the order given; pairs that had to be converted are deleted afterwards.

    No models mean the one that the other commands would use. Raises UsageError, ModelError and UnavailableError.
    """
    with contextlib.ExitStack() as stack:
        pairs = _QuantizedPairs(stack, console)
        combinations: list[Configuration] = []
        for model, backend in product(models or [None], dict.fromkeys(variants.backend)):  # type: ignore[list-item]
            for files, name, quant, loaded_as in _files(model, backend, variants, pairs):
                combinations += _of_files(files, name, quant, loaded_as, variants)
        if variants.pair_quants and not any(_reads_pairs(configuration.backend) for configuration in combinations):
            readers = list(filter(_reads_pairs, registry.backends()))
            titles = " and ".join(registry.BACKENDS[name].title for name in readers)
            raise UsageError(
                f"--quant {variants.pair_quants[0]} is for {titles}, which do not run here",
                f"add --backend {readers[0]}",
            )
        yield _distinct(combinations)


def _of_files(
    files: ModelFiles, backend: str, quant: str, loaded_as: str, variants: Variants
) -> Iterator[Configuration]:
    """The combinations of threads, detail and vision encoder for one model on one backend.

    `quant` is its quantization in reports, `loaded_as` the --quant with which its checkpoint is loaded.
    """
    threads = dict.fromkeys(variants.threads or (usable_cores(),))
    details = dict.fromkeys(variants.detail or ("auto",))
    engines = dict.fromkeys(variants.vision_encoder or ("auto",)) if _has_vision_encoder(backend) else ("auto",)
    for count, detail, engine in product(threads, details, engines):
        options = Model(
            backend=backend, device=variants.device, dtype=variants.dtype, threads=count, detail=detail,
            vision_encoder=engine, quant=loaded_as,
        )  # fmt: skip
        options = settle_options(options, backend, files)
        device = _device(backend, files, variants)
        settings: dict[str, str | int] = {
            "model": files.name, "backend": backend, "quant": quant, "device": device, "threads": count,
            "detail": detail,
        }  # fmt: skip
        if _has_vision_encoder(backend):
            settings["vision"] = options.vision_encoder
        yield Configuration(files, backend, options, settings)


def _distinct(combinations: Sequence[Configuration]) -> list[Configuration]:
    """Each configuration once; models of the same name but different files are named by their location."""
    distinct = list({(str(item.files), *item.settings.values()): item for item in combinations}.values())
    locations: dict[str, set[str]] = {}
    for item in distinct:
        locations.setdefault(item.files.name, set()).add(_location(item.files))
    return [
        replace(item, settings={**item.settings, "model": _location(item.files)})
        if len(locations[item.files.name]) > 1 and item.files.name != catalog.NANO
        else item
        for item in distinct
    ]


def _device(backend: str, files: ModelFiles, variants: Variants) -> str:
    """The device that a backend computes on, for reports."""
    entry = registry.BACKENDS[backend]
    if entry.uses_gpu:
        return _placement(variants.device, variants.dtype)[0]
    size = files.mmproj.stat().st_size if files.mmproj is not None else 0
    if not entry.names_device or not build.may_use_gpu(variants.device, size):
        return "cpu"
    return _named_device(entry.names_device, variants.device, size)


@lru_cache
def _named_device(function: str, device: str, size: int) -> str:
    name: str = call(function, device, size)
    return name


@lru_cache
def _placement(device: str, dtype: str) -> tuple[str, str]:
    """The device and the type of weights that PyTorch uses; PyTorch is only loaded, in a child, if it may use a GPU."""
    if dtype == "auto" and device in ("auto", "cpu") and not (may_use_gpu() and device == "auto"):
        return "cpu", "float32"
    placement: tuple[str, str] = call("smolcli.backends.pytorch_device:resolve_device_and_dtype", device, dtype)
    return placement


def _location(files: ModelFiles) -> str:
    """The directory of the adapter, else of the checkpoint, else of the GGUF file."""
    directory = files.adapter or files.checkpoint or (files.gguf and files.gguf.parent)
    return str(directory or files.name)


def _files(
    model: str | None, backend: str, variants: Variants, pairs: _QuantizedPairs
) -> Iterator[tuple[ModelFiles, str, str, str]]:
    """The files of a model, the backend that runs them, and their quantization: once, or for each of --quant.

    The quantization is given as reports name it, and as Model.quant.
    """
    has_engines = backend == "auto" or _has_vision_encoder(backend)
    engine = next((name for name in variants.vision_encoder if name != "auto" and has_engines), "auto")
    options = Model(model=model, backend=backend, device=variants.device, dtype=variants.dtype, vision_encoder=engine)
    names = backend_candidates(options)
    gguf = [name for name in names if _reads_pairs(name)]
    if backend == "auto" and variants.pair_quants and all(registry.BACKENDS[name].is_reference for name in gguf):
        for name in registry.backends("gguf"):
            registry.require(registry.BACKENDS, name)  # whose speed is meant, where no backend is named
    if not gguf or not variants.pair_quants:
        files, name = resolve.resolve_with_backend(options, names)
        pairs.show_once(files.notice)
        for loaded_as in variants.loaded_quants or ("none",):
            check_options(replace(options, quant=loaded_as), name)
            yield files, name, _quantization(files, name, variants, loaded_as), loaded_as
        return
    check_options(options, gguf[0])
    for quant in variants.pair_quants:
        files = replace(pairs.find_or_convert(model, quant), checkpoint=None)  # which a backend of any would read
        yield files, gguf[0], _quantization(files, gguf[0], variants), "none"


def _quantization(files: ModelFiles, backend: str, variants: Variants, loaded_as: str = "none") -> str:
    """The quantization of both halves, once if it is the same; of a checkpoint the type of the loaded weights."""
    entry = registry.BACKENDS[backend]
    if entry.is_hidden:  # it runs no model
        return "-"
    if files.format_read_by(backend) == "checkpoint":
        dtype = _placement(variants.device, variants.dtype)[1] if entry.uses_gpu else COMPUTED
        return dtype if loaded_as == "none" else f"{loaded_as}+{dtype}"
    if files.gguf is None or files.mmproj is None:
        return "-"
    halves = [model_files.quantization(half.name).lower() or "?" for half in (files.gguf, files.mmproj)]
    return "+".join(dict.fromkeys(halves))


class _QuantizedPairs:
    """GGUF pairs of a given quantization: those beside the model, or converted from its checkpoint.

    Converted pairs are in a temporary folder that `stack` deletes.
    """

    def __init__(self, stack: contextlib.ExitStack, console: Console) -> None:
        self._stack, self._console = stack, console
        self._folder: Path | None = None
        self._shown: set[str] = set()

    def show_once(self, notice: str) -> None:
        """Show a notice unless it is empty or was shown before."""
        if notice and notice not in self._shown:
            self._shown.add(notice)
            self._console.notice(notice)

    def find_or_convert(self, model: str | None, quant: str) -> ModelFiles:
        """The pair of a model. Raises ModelError if there is none, and no checkpoint to convert."""
        options = Model(model=model)
        try:
            files, _ = resolve.resolve_with_backend(options, registry.backends("gguf"))
        except ModelError:
            files, _ = resolve.resolve_with_backend(options, registry.backends("checkpoint"))
        if files.gguf is not None:
            folder, stem = files.gguf.parent, model_files.model_stem(files.gguf.name)
            names = [path.name for path in folder.iterdir()]
            others = {name for name in model_files.language_halves(names) if model_files.model_stem(name) != stem}
            pair = model_files.pair([name for name in names if name not in others], quant)
            if pair is not None:
                return replace(files, gguf=folder / pair[0], mmproj=folder / pair[1])
        if files.checkpoint is None and files.gguf is not None:
            files = replace(files, checkpoint=model_files.scan(files.gguf.parent).checkpoint)
        if files.checkpoint is None:
            advice = "give the directory of its checkpoint, from which it can be converted"
            raise ModelError(f"{model or files.name}: no {quant} pair of it is here", advice)
        return self._convert(files, files.checkpoint, quant)

    def _convert(self, files: ModelFiles, checkpoint: Path, quant: str) -> ModelFiles:
        convert = registry.load(registry.ON_DEMAND, "pair")
        if self._folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="smolcli-bench-", dir=temporary_folder())
            self._folder = Path(self._stack.enter_context(temporary))
        folder = self._folder / f"{files.name}-{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        language, vision = convert(checkpoint, folder, quant.lower(), MMPROJ_QUANT, files.name, files.adapter)
        self._console.notice(f"{files.name}: its {quant} pair was converted for this benchmark")
        return replace(files, gguf=language, mmproj=vision)
