"""What the installed llama.cpp was built for: told by the names of its libraries, none of which is loaded.

gpu_kinds()             # ("cuda",), or () of a build for the CPU alone
build_command("cuda")   # the command that builds it for NVIDIA's GPUs, with CMAKE_ARGS='-DGGML_CUDA=on'
"""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from smolcli import registry

DISTRIBUTION = "llama-cpp-python"
LIBRARIES = {  # of ggml, by the kind of GPU that --device names: AMD's are cuda, as PyTorch calls them
    "cuda": ("ggml-cuda", "ggml-hip"),
    "metal": ("ggml-metal",),
    "vulkan": ("ggml-vulkan",),
}
FLAGS = {"cuda": "-DGGML_CUDA=on", "metal": "-DGGML_METAL=on", "vulkan": "-DGGML_VULKAN=on"}  # of its CMake build
LIBRARY_PATH = "LLAMA_CPP_LIB_PATH"  # llama-cpp-python's variable for a folder of other libraries
# Bytes of a vision half. `--device auto` leaves a smaller model on the CPU, which has answered for some pictures before
# a GPU is ready; --device by name does not.
MIN_BYTES_FOR_GPU = 2**25


def gpu_kinds() -> tuple[str, ...]:
    """Return the kinds of GPUs that the installed llama.cpp can compute on, of LIBRARIES."""
    folder = _library_folder()
    names = {path.name.removeprefix("lib").partition(".")[0] for path in folder.glob("*ggml-*")} if folder else set()
    return tuple(kind for kind, libraries in LIBRARIES.items() if names & set(libraries))


def may_use_gpu(device: str, size: int) -> bool:
    """Return whether --device is likely to be a GPU for a vision half of `size` bytes.

    `auto` is one if the build can use it and the system has the files of a driver. ggml's device list, which a process
    sees that loads the library, decides.
    """
    if device != "auto":
        return device != "cpu"
    return size >= MIN_BYTES_FOR_GPU and bool(gpu_kinds()) and _has_driver()


def build_command(kind: str) -> str:
    """Return the command that builds llama.cpp for a kind of GPU, in the version that is installed."""
    return f"CMAKE_ARGS='{FLAGS[kind]}' {registry.rebuild_command(DISTRIBUTION)}"


def suggested_kind() -> str:
    """Return the kind of GPU to build for on this machine; Vulkan's drivers are those of the other makers' GPUs too."""
    if platform.system() == "Darwin":
        return "metal"
    is_nvidia = Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None
    return "cuda" if is_nvidia else "vulkan"


def _library_folder() -> Path | None:
    if path := os.environ.get(LIBRARY_PATH):
        return Path(path)
    spec = find_spec("llama_cpp")
    return Path(spec.submodule_search_locations[0]) / "lib" if spec and spec.submodule_search_locations else None


def _has_driver() -> bool:
    files = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/dri")
    return platform.system() == "Darwin" or any(Path(file).exists() for file in files)
