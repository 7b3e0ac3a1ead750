"""A description of this machine, for reports of measurements and for doctor."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from smolcli import __version__
from smolcli.system.cpu import cpu_features, cpu_info, usable_cores

LIBRARIES = ("llama-cpp-python", "openvino", "torch", "transformers", "numpy", "pillow", "tokenizers")
CORE_LIBRARIES = (  # that every installation has
    "typer", "rich", "pillow", "numpy", "tokenizers", "gguf", "huggingface_hub", "httpx2", "tqdm",
)  # fmt: skip
FEATURES = (
    "sse4_2", "f16c", "fma", "avx", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "sve", "i8mm", "bf16",
)  # fmt: skip  # CPU features that decide which kernels run


def machine() -> dict[str, Any]:
    """Return program, system, CPU, memory in bytes, GPUs and libraries: what it takes to repeat a measurement."""
    return {
        "smolcli": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "features": _features(),
        "cores": usable_cores(),
        "memory": _memory_bytes(),
        "gpus": _gpus(),
        "libraries": versions(LIBRARIES),
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those distributions of these names that are installed."""
    installed = {}
    for name in names:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def _cpu() -> str:
    return cpu_info().get("model name") or platform.processor() or platform.machine()


def _features() -> list[str]:
    available = cpu_features()
    return [name for name in FEATURES if name in available]


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0


def _gpus() -> list[str]:
    """Return name, memory and driver of each GPU as nvidia-smi prints them; empty without nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
