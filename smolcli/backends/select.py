"""The choice of the backend: the one of --backend, or the best installed one that fits the model and the options.

A reference backend is always installed, so that every model runs; `auto` takes it where no other can run the model.
"""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from importlib import import_module
from itertools import takewhile
from pathlib import Path

from smolcli import registry
from smolcli.backends.vision import select
from smolcli.errors import UnavailableError, UsageError
from smolcli.models import resolve
from smolcli.models.family import is_other_family, pair_family, runs_elsewhere
from smolcli.models.files import ModelFiles
from smolcli.options import Model

# Options that not every backend takes: the field of options.Model, and its flag.
FLAGS = {
    "vision_encoder": "--vision-engine",
    "device": "--device",
    "dtype": "--dtype",
    "quant": "--quant",
}


def backend_candidates(options: Model) -> tuple[str, ...]:
    """Return the backends that may run, best first: the one of --backend, or all installed ones.

    If a GPU is to be used, backends that use one come first, otherwise last of those that are no reference; one that
    cannot use the GPU of --device comes after one that can. A reference backend comes after them, and is left out if it
    does not take the options. A backend that cannot be loaded is left out where there is another. Raises
    UnavailableError if the backend of --backend is not installed.
    """
    if options.backend != "auto":
        return (registry.require(registry.BACKENDS, options.backend),)
    installed = [name for name in _by_speed(options) if registry.installed(registry.BACKENDS[name])]
    refused = {name for name in installed if registry.BACKENDS[name].is_reference and _refused_option(options, name)}
    candidates = [name for name in installed if name not in refused] or installed
    return tuple(name for name in candidates if loading_error(name) is None) or tuple(candidates)


def loading_error(backend: str) -> UnavailableError | None:
    """Return why the libraries of a backend that is installed cannot be loaded; None where nothing is known of it."""
    module, _, function = registry.BACKENDS[backend].loading_error.partition(":")
    error: UnavailableError | None = getattr(import_module(module), function)() if module else None
    return error


def _by_speed(options: Model) -> list[str]:
    """All backends, installed or not, the fastest for these options first."""
    is_gpu_wanted = may_use_gpu() if options.device == "auto" else options.device != "cpu"
    gpu_first = is_gpu_wanted and options.vision_encoder == "auto"
    entries = registry.BACKENDS
    return sorted(
        registry.backends(),
        key=lambda name: (
            entries[name].is_reference, not _takes_device(options, name), entries[name].uses_gpu != gpu_first
        ),
    )  # fmt: skip


def select_backend(options: Model) -> tuple[ModelFiles, str]:
    """Return the model's files and the backend that runs them: the first candidate whose file format is here.

    Raises as `backend_candidates` and resolve.resolve do.
    """
    return resolve.resolve_with_backend(options, backend_candidates(options))


def backend_target(backend: str, files: ModelFiles) -> str:
    """Return the class that runs these files on `backend`, as "module:class": another for a pair of another family.

    Raises ModelError where the backend does not run them.
    """
    entry = registry.BACKENDS[backend]
    if entry.is_hidden or files.format_read_by(backend) != "gguf" or not is_other_family(files):
        return entry.target
    if entry.other_families:
        return entry.other_families
    raise runs_elsewhere(files.name, pair_family(files))


def faster_backend_notice(options: Model, files: ModelFiles, backend: str) -> str:
    """Return a line about a faster backend that `auto` could not take, else "".

    It cannot be loaded, or is not installed and `backend` is a reference. The built-in model is so small that a first
    picture of it takes as long on any backend.
    """
    entry = registry.BACKENDS[backend]
    if options.backend != "auto":
        return ""
    for name in takewhile(lambda name: name != backend, _by_speed(options)):
        is_here = registry.installed(registry.BACKENDS[name]) and files.can_run_on(name)
        if is_here and (error := loading_error(name)):
            return f"{error.what}, and {entry.title} runs {files.name}; {error.advice}"
    if not entry.is_reference or files.is_built_in:
        return ""
    faster = registry.BACKENDS[next(name for name in _by_speed(options) if files.can_run_on(name))]
    command = registry.install_command(f"smolcli[{faster.extra}]")
    return f"using {entry.title}, which runs {files.name} slowly; {faster.title} is faster: {command}"


def check_options(options: Model, backend: str) -> None:
    """Check the options that not every backend takes.

    Raises UsageError if `backend` does not take one of them, UnavailableError if a library for it is not installed.
    """
    entry = registry.BACKENDS[backend]
    if field := _refused_option(options, backend):
        flag, others = FLAGS[field], registry.backends_taking(field)
        if field == "device" and (users := registry.backends_using(options.device)):
            flag, others = f"{flag} {options.device}", users
        titles = " and ".join(registry.BACKENDS[name].title for name in others)
        message = f"{flag} is for {titles}, and {entry.title} would run this"
        raise UsageError(message, f"leave it out, or add --backend {others[0]}")
    if entry.is_hidden or "vision_encoder" not in entry.options:
        return
    encoder = select.choose_vision_encoder(options.vision_encoder, options.dtype)
    if encoder != "mtmd" or options.dtype == "auto":
        return
    if options.vision_encoder == "mtmd":
        raise UsageError("mtmd computes as its file's types say, and takes no --dtype", "leave out one of them")
    raise UnavailableError(
        "--dtype needs OpenVINO or PyTorch beside llama.cpp", registry.install_command("smolcli[openvino]")
    )


def _refused_option(options: Model, backend: str) -> str:
    """Return the first given option that `backend` does not take, a key of FLAGS; "" if there is none."""
    accepted = registry.BACKENDS[backend].options
    is_refused = {
        "vision_encoder": options.vision_encoder != "auto" and "vision_encoder" not in accepted,
        "device": not _takes_device(options, backend),
        "dtype": options.dtype != "auto" and "dtype" not in accepted,
        "quant": options.quant != "none" and "quant" not in accepted,
    }
    return next((field for field in FLAGS if is_refused[field]), "")


def _takes_device(options: Model, backend: str) -> bool:
    """Whether `backend` takes the --device given; it refuses a word itself that is no GPU of any backend's."""
    entry, device = registry.BACKENDS[backend], options.device
    if device in ("auto", "cpu"):
        return True
    users = registry.backends_using(device)
    return "device" in entry.options and (not entry.gpu_kinds or not users or backend in users)


def settle_options(options: Model, backend: str, files: ModelFiles) -> Model:
    """Return `options` with the vision encoder that `auto` means for these files, since it decides the answers.

    Raises as check_options and backend_target, and UsageError for another encoder than mtmd where only mtmd can.
    """
    check_options(options, backend)
    entry = registry.BACKENDS[backend]
    is_other = backend_target(backend, files) != entry.target
    if entry.is_hidden or "vision_encoder" not in entry.options:
        return options
    if is_other:
        return _settle_other_family(options, files)
    size = files.mmproj.stat().st_size if files.mmproj is not None else 0
    encoder = select.choose_vision_encoder(options.vision_encoder, options.dtype, size, options.device)
    return replace(options, vision_encoder=encoder)


def _settle_other_family(options: Model, files: ModelFiles) -> Model:
    """Return the options of a model whose pictures mtmd encodes. Raises UsageError for what mtmd does not take."""
    if options.vision_encoder not in ("auto", "mtmd"):
        message = f"--vision-engine {options.vision_encoder} is for SmolVLM, and {files.name} is another model"
        raise UsageError(message, "leave it out: mtmd encodes its pictures")
    if options.dtype != "auto":
        raise UsageError(f"--dtype is not for {files.name}: llama.cpp computes as its files say", "leave it out")
    return replace(options, vision_encoder="mtmd")


def gpu_may_be_here() -> bool:
    """Return whether there is likely to be a usable GPU, without importing PyTorch, which takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):  # NVIDIA's variable; PyTorch reads it for AMD too
        return False
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return apple or any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def may_use_gpu() -> bool:
    """Return whether PyTorch is likely to compute on a GPU: there may be one, and PyTorch is not a CPU-only build."""
    if not gpu_may_be_here():
        return False
    from importlib.metadata import PackageNotFoundError, version  # takes a tenth of the start

    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True
