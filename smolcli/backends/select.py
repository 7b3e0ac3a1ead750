"""Which backend runs: that of --backend, or the best of those installed that the model and the options fit."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

from smolcli import registry
from smolcli.backends.vision import select
from smolcli.errors import UnavailableError, UsageError
from smolcli.models.files import ModelFiles
from smolcli.options import Model

# Options of one backend or another: the field of options.Model, and the flag by which a user knows it.
FLAGS = {"vision_engine": "--vision-engine", "jobs": "-j", "device": "--device"}


def backend_candidates(options: Model) -> tuple[str, ...]:
    """The backends that may run, best first: that of --backend, or those installed, for a GPU those that use one first.

    Raises UnavailableError if none is installed.
    """
    if options.backend != "auto":
        return (registry.require(registry.BACKENDS, options.backend),)
    wants_gpu = may_use_gpu() if options.device == "auto" else options.device != "cpu"
    gpu_first = wants_gpu and options.vision_engine == "auto"
    order = sorted(registry.backends(), key=lambda name: registry.BACKENDS[name].uses_gpu != gpu_first)
    installed = tuple(name for name in order if registry.installed(registry.BACKENDS[name]))
    return installed or (registry.require(registry.BACKENDS, _cpu_backend()),)


def _cpu_backend() -> str:
    """The backend to recommend where none is installed."""
    return next(name for name in registry.backends() if not registry.BACKENDS[name].uses_gpu)


def check_options(options: Model, backend: str) -> None:
    """Raises UsageError for options that `backend` does not take, UnavailableError for what is not installed."""
    entry = registry.BACKENDS[backend]
    is_given = {
        "vision_engine": options.vision_engine != "auto",
        "jobs": options.jobs is not None,
        "device": options.device not in ("auto", "cpu"),
    }
    for field, flag in FLAGS.items():
        if is_given[field] and field not in entry.options:
            other = next(name for name in registry.backends() if field in registry.BACKENDS[name].options)
            what = f"{flag} is for {registry.BACKENDS[other].title}, and {entry.title} would run this"
            raise UsageError(what, f"leave it out, or add --backend {other}")
    if entry.is_hidden or "vision_engine" not in entry.options:
        return
    encoder = select.choose_vision_encoder(options.vision_engine, options.dtype)
    if encoder != "mtmd" or options.dtype == "auto":
        return
    if options.vision_engine == "mtmd":
        raise UsageError("mtmd computes as its file's types say, and takes no --dtype", "leave out one of them")
    raise UnavailableError("--dtype needs OpenVINO or PyTorch beside llama.cpp", "pip install 'smolcli[openvino]'")


def settle_options(options: Model, backend: str, files: ModelFiles) -> Model:
    """`options` with what encodes pictures named, where `backend` leaves that open: it decides answers.

    Raises as check_options.
    """
    check_options(options, backend)
    if registry.BACKENDS[backend].is_hidden or "vision_engine" not in registry.BACKENDS[backend].options:
        return options
    size = files.mmproj.stat().st_size if files.mmproj is not None else 0
    engine = select.choose_vision_encoder(options.vision_engine, options.dtype, size)
    return replace(options, vision_engine=engine)


def gpu_may_be_here() -> bool:
    """Whether there is likely to be a GPU that may be used, told without the seconds that importing PyTorch takes."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):  # of NVIDIA's and, by PyTorch, of AMD's
        return False
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return apple or any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def may_use_gpu() -> bool:
    """Whether PyTorch is likely to compute on one: it may be here, and PyTorch is not built for the CPU alone."""
    if not gpu_may_be_here():
        return False
    from importlib.metadata import PackageNotFoundError, version  # takes a tenth of the start

    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True
