"""The choice of the backend: the one of --backend, or the best installed one that fits the model and the options."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

from smolcli import registry
from smolcli.backends.vision import select
from smolcli.errors import UnavailableError, UsageError
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Model

# Options that not every backend takes: the field of options.Model, and its flag.
FLAGS = {"vision_encoder": "--vision-engine", "jobs": "-j", "device": "--device"}


def backend_candidates(options: Model) -> tuple[str, ...]:
    """Return the backends that may run, best first: the one of --backend, or all installed ones.

    If a GPU is to be used, backends that use one come first, otherwise last. Raises UnavailableError if none is
    installed.
    """
    if options.backend != "auto":
        return (registry.require(registry.BACKENDS, options.backend),)
    is_gpu_wanted = may_use_gpu() if options.device == "auto" else options.device != "cpu"
    gpu_first = is_gpu_wanted and options.vision_encoder == "auto"
    order = sorted(registry.backends(), key=lambda name: registry.BACKENDS[name].uses_gpu != gpu_first)
    installed = tuple(name for name in order if registry.installed(registry.BACKENDS[name]))
    return installed or (registry.require(registry.BACKENDS, _cpu_backend()),)


def _cpu_backend() -> str:
    """The backend to recommend if none is installed."""
    return next(name for name in registry.backends() if not registry.BACKENDS[name].uses_gpu)


def select_backend(options: Model) -> tuple[ModelFiles, str]:
    """Return the model's files and the backend that runs them: the first candidate whose file format is here.

    Raises as `backend_candidates` and resolve.resolve do.
    """
    return resolve.resolve_with_backend(options, backend_candidates(options))


def check_options(options: Model, backend: str) -> None:
    """Check the options that not every backend takes.

    Raises UsageError if `backend` does not take one of them, UnavailableError if a library for it is not installed.
    """
    entry = registry.BACKENDS[backend]
    is_given = {
        "vision_encoder": options.vision_encoder != "auto",
        "jobs": options.jobs is not None,
        "device": options.device not in ("auto", "cpu"),
    }
    for field, flag in FLAGS.items():
        if is_given[field] and field not in entry.options:
            other = next(name for name in registry.backends() if field in registry.BACKENDS[name].options)
            message = f"{flag} is for {registry.BACKENDS[other].title}, and {entry.title} would run this"
            raise UsageError(message, f"leave it out, or add --backend {other}")
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


def settle_options(options: Model, backend: str, files: ModelFiles) -> Model:
    """Return `options` with the vision encoder that `auto` means for these files, since it decides the answers.

    Raises as check_options.
    """
    check_options(options, backend)
    if registry.BACKENDS[backend].is_hidden or "vision_encoder" not in registry.BACKENDS[backend].options:
        return options
    size = files.mmproj.stat().st_size if files.mmproj is not None else 0
    encoder = select.choose_vision_encoder(options.vision_encoder, options.dtype, size)
    return replace(options, vision_encoder=encoder)


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
