"""One checkpoint to its GGUF pair, in as many quantizations as are wanted, of one reading."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gguf import GGMLQuantizationType

from smolcli import registry
from smolcli.errors import EngineError, ModelError, UsageError
from smolcli.process.child import call
from smolcli.system.cpu import usable_cores
from smolcli.system.disk_space import check_free_space

from . import mmproj, text_model
from .checkpoint import Checkpoint
from .gguf_model import Half
from .gguf_writer import Progress, Unfinished, check_shapes, hub_id_of, taken, told, write_weights
from .lora import Adapter
from .quantization import QUANTIZATIONS, Quantization, Type, fallback, fallbacks, quantization, tensor_type

LONGEST_NAME = 200  # bytes: with quantization and the like below the 255 of most file systems
IfExists = Literal["error", "skip", "overwrite"]
TEMPORARY = "choose another folder for temporary files with TMPDIR"


@dataclass(frozen=True)
class Output:
    """One GGUF file to be written: `kinds` is the type of each tensor, `size` the bytes of the file.

    `fallbacks` tells, a line each, which tensors are not of the type that the quantization means.
    """

    path: Path
    quantization: Quantization
    kinds: dict[str, Type] = field(repr=False)
    size: int
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a conversion will write; nothing is written yet. Of `language` and `vision`, `kept` are there and stay.

    `source` is what llama.cpp's quantizer reads, where it is wanted: one of `language`, or a file that does not stay.
    """

    checkpoint: Checkpoint
    halves: tuple[Half, Half]
    language: tuple[Output, ...]
    vision: tuple[Output, ...]
    kept: frozenset[Path]
    source: Output | None
    overwrite: bool

    @property
    def outputs(self) -> list[Output]:
        """All files of the pair, the language half's first."""
        return [*self.language, *self.vision]

    @property
    def notices(self) -> list[str]:
        """What the user should know: tensors of other types, things the checkpoint lacks."""
        told = [f"{output.path}: {line}" for output in self.outputs for line in output.fallbacks]
        return [*told, *(line for half in self.halves for line in half.notices)]

    @property
    def made(self) -> list[Output]:
        """The files that will be there afterwards and are not yet."""
        return [output for output in self.outputs if output.path not in self.kept]

    @property
    def work(self) -> list[Output]:
        """The files that will be written: `made`, before them `source` where it does not stay."""
        return self.made if self.source is None or self.source in self.made else [self.source, *self.made]


def convert(
    checkpoint_dir: Path, out_dir: Path, quant: str, mmproj_quant: str, name: str | None = None
) -> tuple[Path, Path]:
    """Write one language half and one vision half into `out_dir`, in place of what was there; their paths."""
    made = plan(checkpoint_dir, out_dir, [quant], [mmproj_quant], name, if_exists="overwrite")
    write(made)
    return made.language[0].path, made.vision[0].path


def plan(
    checkpoint_dir: Path,
    out_dir: Path,
    quants: Sequence[str],
    mmproj_quants: Sequence[str],
    name: str | None = None,
    lora: Path | None = None,
    if_exists: IfExists = "error",
    verbose: bool = False,
) -> Plan:
    """Read the headers of a checkpoint and say what its conversion will write.

    The files are `<Name>-<QUANT>.gguf` and `mmproj-<Name>-<QUANT>.gguf`; `quants` and `mmproj_quants` are keys of
    `quantize.QUANTIZATIONS`, the latter without llama.cpp's mixes; `name`, unless given, is that of the directory or
    hub id, followed by that of the adapter `lora`. `verbose` shows what llama.cpp's quantizer prints.
    Raises ModelError for a checkpoint that cannot be converted, UsageError for quantizations that do not exist and
    for files that do (unless they shall be skipped or overwritten).
    """
    wanted = list(dict.fromkeys(quantization(word) for word in quants))
    wanted_vision = list(dict.fromkeys(quantization(word, vision=True) for word in mmproj_quants))
    checkpoint = Checkpoint(checkpoint_dir, Adapter(lora) if lora else None)
    name, stem = _names(checkpoint, name)
    halves = (text_model.half(checkpoint, name), mmproj.half(checkpoint, name))
    _check_nothing_is_lost(checkpoint, halves)
    with told(Path(tempfile.gettempdir()), TEMPORARY), tempfile.TemporaryDirectory(prefix="smolcli-") as folder:
        planners = [_Planner(half, out_dir, stem, Path(folder), verbose) for half in halves]
        texts, visions = (
            tuple(planner.output(one, checkpoint.stored_as) for one in quantizations)
            for planner, quantizations in zip(planners, (wanted, wanted_vision), strict=True)
        )
        with told(out_dir):
            kept = _kept((*texts, *visions), if_exists)
        source = None
        if any(output.quantization.tensor is None and output.path not in kept for output in texts):
            source = planners[0].output(QUANTIZATIONS[checkpoint.stored_as], checkpoint.stored_as)
    return Plan(checkpoint, halves, texts, visions, kept, source, if_exists == "overwrite")


def write(plan: Plan, progress: Progress = lambda _: None, verbose: bool = False) -> None:
    """Write what is planned; every weight is read once. Each file is whole when it appears, which all do at the end.

    `progress` is told of bytes as they are written. Raises ModelError for weights that cannot be stored so,
    OutputError for a full disk, UsageError for a directory that cannot be written.
    """
    if not plan.work:
        return
    with told(plan.work[0].path.parent):
        _check_space(plan)
    with Unfinished(plan.overwrite) as unfinished:
        parts = {output.path: unfinished.path(output.path, output not in plan.made) for output in plan.work}
        direct = [output for output in plan.work if output.quantization.tensor is not None]
        with told(plan.work[0].path.parent):
            for half, own in zip(plan.halves, ((*plan.language, plan.source), plan.vision), strict=True):
                with ExitStack() as stack:
                    files = [
                        stack.enter_context(closing(half.start(parts[one.path], one.quantization, one.kinds)))
                        for one in direct
                        if one in own
                    ]
                    if files:
                        write_weights(plan.checkpoint, half.weights, files, progress)
        for output in plan.work:
            if output.quantization.tensor is None and plan.source is not None:
                job = (
                    parts[plan.source.path],
                    parts[output.path],
                    output.quantization.file,
                    usable_cores(),
                    output.path,
                )
                call("smolcli.converters.llama_quantize:quantize", *job, verbose=verbose)
                progress(output.size)
            if (size := parts[output.path].stat().st_size) != output.size:
                raise RuntimeError(f"{output.path} has {size} bytes, {output.size} were planned")


class _Planner:
    """Plans the files of one half; headers are tried in `folder`."""

    def __init__(self, half: Half, out_dir: Path, stem: str, folder: Path, verbose: bool) -> None:
        self._half = half
        self._verbose = verbose
        self._place = f"{half.prefix}{stem}"
        self._out_dir = out_dir
        self._header = folder / f"{self._place}.gguf"
        self._header_size = 0

    def output(self, wanted: Quantization, stored_as: str) -> Output:
        """The file of one quantization; `stored_as` is what llama.cpp's quantizer would read."""
        path = self._out_dir / f"{self._place}-{wanted.name.upper()}.gguf"
        if wanted.tensor is None:
            kinds, odd = self._chosen(wanted, QUANTIZATIONS[stored_as])
        else:
            kinds = self._kinds(wanted.tensor)
            odd = fallbacks(self._half.weights, wanted.tensor)
        if not self._header_size:
            self._write_header(wanted, kinds)
        return Output(path, wanted, kinds, self._header_size + self._half.data_size(kinds), tuple(odd))

    def _kinds(self, wanted: Type) -> dict[str, Type]:
        return {weight.name: tensor_type(weight, wanted) for weight in self._half.weights}

    def _chosen(self, wanted: Quantization, source: Quantization) -> tuple[dict[str, Type], list[str]]:
        registry.require(registry.BACKENDS, "llamacpp")
        assert source.tensor is not None
        kinds = self._kinds(source.tensor)
        self._write_header(source, kinds)
        with self._header.open("r+b") as file:  # a hole where the weights would be
            file.truncate(self._header_size + self._half.data_size(kinds))
        types, odd = call("smolcli.converters.llama_quantize:chosen", self._header, wanted.file, verbose=self._verbose)
        if not kinds.keys() <= types.keys():
            what = "llama.cpp's quantizer does not say what it would do in the way that is known"
            raise EngineError(what, "install the release of llama-cpp-python that smolcli was tested with, 0.3.36")
        return {name: GGMLQuantizationType[types[name].upper()] for name in kinds}, [fallback(*one) for one in odd]

    def _write_header(self, quantization: Quantization, kinds: dict[str, Type]) -> None:
        with closing(self._half.start(self._header, quantization, kinds)) as started:
            self._header_size = started.header_size


def _names(checkpoint: Checkpoint, name: str | None) -> tuple[str | None, str]:
    """The name for the file's keys (None: what the directory's name tells) and for the file itself."""
    if not name:
        name = hub_id_of(checkpoint.directory).rpartition("/")[2] or None
        if checkpoint.adapter is not None:
            name = f"{name or checkpoint.directory.name}-{checkpoint.adapter.directory.resolve().name}"
    stem = (name or checkpoint.directory.name).replace("/", "-")
    other = "give another with --name"
    try:
        length = len(stem.encode())
    except UnicodeEncodeError:
        raise UsageError("the model's name is not UTF-8", other) from None
    if length > LONGEST_NAME:
        raise UsageError(f"the model's name has {length} bytes, too many for a file's", other)
    if "mmproj" in stem.lower():
        raise UsageError(f"{stem}: a name with mmproj would be taken for that of a vision half", other)
    return name, stem


def _check_nothing_is_lost(checkpoint: Checkpoint, halves: Sequence[Half]) -> None:
    weights = [weight for half in halves for weight in half.weights]
    check_shapes(checkpoint, weights)
    known = {weight.source for weight in weights}
    for name in checkpoint.names():
        if name not in known:
            where, advice = checkpoint.directory, "save the whole model anew; an adapter goes with --lora"
            if checkpoint.adapter is not None and name in checkpoint.adapter.changed:
                where, advice = checkpoint.adapter.directory, "give the model that it was trained beside"
            raise ModelError(f"{where}: has a tensor {name} that the model does not know", advice)


def _kept(outputs: Sequence[Output], if_exists: IfExists) -> frozenset[Path]:
    there = [output for output in outputs if output.path.exists() or output.path.is_symlink()]
    for output in there:
        if not output.path.is_file():
            raise UsageError(f"{output.path}: is there and is no file", "choose another directory with -o, or a --name")
        if if_exists == "error":
            raise taken(output.path)
        if if_exists == "skip" and (size := output.path.stat().st_size) != output.size:
            what = f"{output.path}: has {size} bytes, what would be written {output.size}"
            raise UsageError(what, "--if-exists overwrite replaces it")
    return frozenset(output.path for output in there if if_exists == "skip")


def _check_space(plan: Plan) -> None:
    needed_bytes = sum(output.size for output in plan.work)
    check_free_space(
        plan.work[0].path.parent.absolute(), needed_bytes, "make room, or choose another directory with -o"
    )
