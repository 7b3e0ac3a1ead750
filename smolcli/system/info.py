"""What machine this is: program, system, CPU, memory, GPUs, libraries."""

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
FEATURES = (
    "sse4_2", "f16c", "fma", "avx", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "sve", "i8mm", "bf16",
)  # fmt: skip  # those that decide which kernels run


def machine() -> dict[str, Any]:
    """What must be known to repeat a measurement: program, system, CPU, memory in bytes, GPUs, libraries."""
    return {
        "smolcli": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "features": _features(),
        "cores": usable_cores(),
        "memory": _memory(),
        "gpus": _gpus(),
        "libraries": versions(LIBRARIES),
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of the distributions of these names that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    return cpu_info().get("model name") or platform.processor() or platform.machine()


def _features() -> list[str]:
    has = cpu_features()
    return [name for name in FEATURES if name in has]


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0


def _gpus() -> list[str]:
    """Name, memory and driver of each, as NVIDIA's own tool tells them; none where it is not there."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
