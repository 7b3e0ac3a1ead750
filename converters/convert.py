"""Converting a checkpoint to GGUF files in several quantizations at once; its weights are read once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from gguf import GGMLQuantizationType

from smolcli import registry
from smolcli.errors import EngineError, UsageError
from smolcli.models.checkpoint import Checkpoint
from smolcli.models.lora import Adapter
from smolcli.process.child import call
from smolcli.system.cpu import usable_cores
from smolcli.system.disk_space import check_free_space
from smolcli.system.temporary import temporary_folder

from . import mmproj, text_model
from .gguf_model import GgufModel
from .gguf_writer import (
    PartFiles,
    Progress,
    already_exists,
    convert_os_errors,
    hub_id_of,
    write_weights,
)
from .quantization import (
    QUANTIZATIONS,
    GgmlType,
    Quantization,
    describe_fallback,
    fallbacks,
    find_quantization,
    tensor_type,
)

MAX_NAME_BYTES = 200  # with prefix, quantization and suffix less than the 255 of most file systems
TEMPORARY_ADVICE = "choose another folder for temporary files with TMPDIR"


@dataclass(frozen=True)
class Output:
    """One GGUF file to be written: `types` is the type of each tensor by name, `size` the bytes of the file.

    `fallbacks` has a line for the user for each group of tensors that are not of the quantization's type.
    """

    path: Path
    quantization: Quantization
    types: dict[str, GgmlType] = field(repr=False)
    size: int
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a conversion will write: `language` and `vision`, except `kept`, which exist and are not replaced.

    `source` is the file that llama.cpp's quantizer reads, if it is needed: one of `language` or a temporary file.
    """

    checkpoint: Checkpoint
    models: tuple[GgufModel, GgufModel]
    language: tuple[Output, ...]
    vision: tuple[Output, ...]
    kept: frozenset[Path]
    source: Output | None
    overwrite: bool

    @property
    def outputs(self) -> list[Output]:
        """All files, those of the language model first."""
        return [*self.language, *self.vision]

    @property
    def notices(self) -> list[str]:
        """Lines for the user: names that were changed, tensors of other types, things that the checkpoint lacks."""
        lines = [f"{output.path}: {line}" for output in self.outputs for line in output.fallbacks]
        return [*self.checkpoint.notices, *lines, *(line for model in self.models for line in model.notices)]

    @property
    def new_outputs(self) -> list[Output]:
        """The files that will be written and stay."""
        return [output for output in self.outputs if output.path not in self.kept]

    @property
    def files_to_write(self) -> list[Output]:
        """All files that will be written: `source` first if it is temporary, then those that stay."""
        return (
            self.new_outputs
            if self.source is None or self.source in self.new_outputs
            else [self.source, *self.new_outputs]
        )


def convert(
    checkpoint_dir: Path,
    out_dir: Path,
    quant: str,
    mmproj_quant: str,
    name: str | None = None,
    lora: Path | None = None,
) -> tuple[Path, Path]:
    """Write a language model file and an mmproj file into `out_dir` and return their paths; existing ones are replaced.

    Raises what `plan` and `write` raise.
    """
    planned = plan(checkpoint_dir, out_dir, [quant], [mmproj_quant], name, lora, if_exists="overwrite")
    write(planned)
    return planned.language[0].path, planned.vision[0].path


def plan(
    checkpoint_dir: Path,
    out_dir: Path,
    quants: Sequence[str],
    mmproj_quants: Sequence[str],
    name: str | None = None,
    lora: Path | None = None,
    if_exists: str = "error",
    verbose: bool = False,
) -> Plan:
    """Read the headers of a checkpoint and return what its conversion will write, without writing it.

    The files are `<Name>-<QUANT>.gguf` and `mmproj-<Name>-<QUANT>.gguf`; `quants` and `mmproj_quants` are keys of
    QUANTIZATIONS, the latter without llama.cpp's mixes; `name` defaults to that of the directory or hub id, followed by
    that of the adapter `lora`. `verbose` shows what llama.cpp's quantizer prints.

    Raises ModelError for a checkpoint that cannot be converted, UsageError for an unknown quantization and for a file
    that exists, unless `if_exists` is "skip" or "overwrite" instead of "error".
    """
    language_quants = list(dict.fromkeys(find_quantization(quant) for quant in quants))
    vision_quants = list(dict.fromkeys(find_quantization(quant, is_mmproj=True) for quant in mmproj_quants))
    checkpoint = Checkpoint(checkpoint_dir, Adapter(lora) if lora else None)
    name, stem = _names(checkpoint, name)
    models = (text_model.build_model(checkpoint, name), mmproj.build_model(checkpoint, name))
    checkpoint.check([weight for model in models for weight in model.weights])
    temporary = Path(temporary_folder())
    with (
        convert_os_errors(temporary, TEMPORARY_ADVICE),
        tempfile.TemporaryDirectory(prefix="smolcli-", dir=temporary) as folder,
    ):
        planners = [_Planner(model, out_dir, stem, Path(folder), verbose) for model in models]
        language, vision = (
            tuple(planner.output(quantization, checkpoint.stored_as) for quantization in quantizations)
            for planner, quantizations in zip(planners, (language_quants, vision_quants), strict=True)
        )
        with convert_os_errors(out_dir):
            kept = _kept((*language, *vision), if_exists)
        source = None
        if any(output.quantization.tensor is None and output.path not in kept for output in language):
            source = planners[0].output(QUANTIZATIONS[checkpoint.stored_as], checkpoint.stored_as)
    return Plan(checkpoint, models, language, vision, kept, source, if_exists == "overwrite")


def write(plan: Plan, progress: Progress = lambda _: None, verbose: bool = False) -> None:
    """Write the files of a plan; each weight is read once, and all files appear together at the end.

    `progress` is called with the number of bytes just written. Raises ModelError for weights that do not fit their
    type, OutputError for a full disk, UsageError for a directory that cannot be written, EngineError if llama.cpp's
    quantizer crashes.
    """
    if not plan.files_to_write:
        return
    out_dir = plan.files_to_write[0].path.parent
    with convert_os_errors(out_dir):
        _check_space(plan)
    with PartFiles(plan.overwrite) as part_files:
        parts = {
            output.path: part_files.path(output.path, output not in plan.new_outputs) for output in plan.files_to_write
        }
        with convert_os_errors(out_dir):
            _write_direct(plan, parts, progress)
        for output in plan.files_to_write:
            if output.quantization.tensor is None and plan.source is not None:
                source, part = parts[plan.source.path], parts[output.path]
                arguments = (source, part, output.quantization.file, usable_cores(), output.path)
                call("smolcli.converters.llama_quantize:quantize", *arguments, verbose=verbose)
                progress(output.size)
            if (size := parts[output.path].stat().st_size) != output.size:
                raise RuntimeError(f"{output.path} has {size} bytes, {output.size} were planned")


def _write_direct(plan: Plan, parts: Mapping[Path, Path], progress: Progress) -> None:
    """Write the files that do not need llama.cpp's quantizer; `parts` has the path of each part file."""
    direct = [output for output in plan.files_to_write if output.quantization.tensor is not None]
    for model, of_model in zip(plan.models, ((*plan.language, plan.source), plan.vision), strict=True):
        with ExitStack() as stack:
            files = [
                stack.enter_context(closing(model.start(parts[output.path], output.quantization, output.types)))
                for output in direct
                if output in of_model
            ]
            if files:
                write_weights(plan.checkpoint, model.weights, files, progress)


class _Planner:
    """Plans the files of one model; writes headers into the temporary `folder` to know their size."""

    def __init__(self, model: GgufModel, out_dir: Path, stem: str, folder: Path, verbose: bool) -> None:
        self._model = model
        self._verbose = verbose
        self._stem = f"{model.prefix}{stem}"
        self._out_dir = out_dir
        self._header = folder / f"{self._stem}.gguf"
        self._header_size = 0

    def output(self, wanted: Quantization, stored_as: str) -> Output:
        """Plan the file of one quantization; `stored_as` names the one that llama.cpp's quantizer would read."""
        path = self._out_dir / f"{self._stem}-{wanted.name.upper()}.gguf"
        if wanted.tensor is None:
            types, lines = self._ask_quantizer(wanted, QUANTIZATIONS[stored_as])
        else:
            types = self._types(wanted.tensor)
            lines = fallbacks(self._model.weights, wanted.tensor)
        if not self._header_size:
            self._write_header(wanted, types)
        return Output(path, wanted, types, self._header_size + self._model.data_size(types), tuple(lines))

    def _types(self, wanted: GgmlType) -> dict[str, GgmlType]:
        return {weight.name: tensor_type(weight, wanted) for weight in self._model.weights}

    def _ask_quantizer(self, wanted: Quantization, source: Quantization) -> tuple[dict[str, GgmlType], list[str]]:
        """Return the types that llama.cpp's quantizer would choose, by name, and lines about its fallbacks."""
        registry.require(registry.BACKENDS, registry.backends("gguf")[0])
        assert source.tensor is not None
        source_types = self._types(source.tensor)
        self._write_header(source, source_types)
        with self._header.open("r+b") as file:  # the weights are a hole in the file
            file.truncate(self._header_size + self._model.data_size(source_types))
        chosen, odd = call(
            "smolcli.converters.llama_quantize:choose_types", self._header, wanted.file, verbose=self._verbose
        )
        if not source_types.keys() <= chosen.keys():
            message = "the log of llama.cpp's quantizer has a form that is not known"
            raise EngineError(message, "install the release of llama-cpp-python that smolcli was tested with, 0.3.36")
        types = {name: GGMLQuantizationType[chosen[name].upper()] for name in source_types}
        return types, [describe_fallback(*fallback) for fallback in odd]

    def _write_header(self, quantization: Quantization, types: dict[str, GgmlType]) -> None:
        with closing(self._model.start(self._header, quantization, types)) as started:
            self._header_size = started.header_size


def _names(checkpoint: Checkpoint, name: str | None) -> tuple[str | None, str]:
    """Return the name for the keys in the file (None: from that of the directory) and the stem of the file's name."""
    if not name:
        name = hub_id_of(checkpoint.directory).rpartition("/")[2] or None
        if checkpoint.adapter is not None:
            name = f"{name or checkpoint.directory.name}-{checkpoint.adapter.directory.resolve().name}"
    stem = (name or checkpoint.directory.name).replace("/", "-")
    advice = "give another with --name"
    try:
        length = len(stem.encode())
    except UnicodeEncodeError:
        raise UsageError("the model's name is not UTF-8", advice) from None
    if length > MAX_NAME_BYTES:
        raise UsageError(f"the model's name has {length} bytes, too many for a file's", advice)
    if "mmproj" in stem.lower():
        raise UsageError(f"{stem}: a name with mmproj would be taken for that of an mmproj file", advice)
    return name, stem


def _kept(outputs: Sequence[Output], if_exists: str) -> frozenset[Path]:
    """Return the paths of existing files that are not replaced. Raises UsageError for those that are not allowed."""
    existing = [output for output in outputs if output.path.exists() or output.path.is_symlink()]
    for output in existing:
        if not output.path.is_file():
            raise UsageError(
                f"{output.path}: exists and is not a file", "choose another directory with -o, or a --name"
            )
        if if_exists == "error":
            raise already_exists(output.path)
        if if_exists == "skip" and (size := output.path.stat().st_size) != output.size:
            message = f"{output.path}: has {size} bytes, what would be written {output.size}"
            raise UsageError(message, "--if-exists overwrite replaces it")
    return frozenset(output.path for output in existing if if_exists == "skip")


def _check_space(plan: Plan) -> None:
    needed_bytes = sum(output.size for output in plan.files_to_write)
    check_free_space(
        plan.files_to_write[0].path.parent.absolute(), needed_bytes, "make room, or choose another directory with -o"
    )
