"""backends/select.py: which backend and which vision encoder `auto` means; the registry's extras."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from smolcli import registry
from smolcli.backends import select
from smolcli.errors import ModelError, UnavailableError, UsageError
from smolcli.models import files, resolve
from smolcli.models.catalog import CATALOG
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from tests.families import make_pair
from tests.tiny import make_checkpoint

CHECKPOINT_FILES = ["config.json", "tokenizer.json", "model.safetensors"]
PAIR_FILES = ["pair-Q8_0.gguf", "mmproj-pair-Q8_0.gguf"]


def fill(folder: Path, names: list[str]) -> None:
    """Make a folder of empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A machine whose libraries and GPU are present or not, as the test sets them."""
    libraries = ("torch", "transformers", "safetensors", "llama_cpp", "openvino")
    state = {**dict.fromkeys(libraries, True), "gpu": False}
    monkeypatch.setattr(registry, "find_spec", lambda name: state.get(name) or None)
    monkeypatch.setattr(select, "gpu_may_be_here", lambda: state["gpu"])
    monkeypatch.setattr(select, "loading_error", lambda backend: None)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0")
    return state


NANO, PAIR, CHECKPOINT, BOTH, NAMESAKE = "nano", "pair-Q8_0.gguf", "checkpoint", "both", "./nano"
LLAMA_IS_FASTER = "llama.cpp is faster: pip install 'smolcli[llamacpp]'"
TORCH_IS_FASTER = "PyTorch is faster: pip install 'smolcli[torch]'"


@pytest.mark.parametrize(
    ("installed", "has_gpu", "model", "backend", "faster"),
    [
        ("", False, NANO, "numpy", ""),
        ("llama_cpp", False, NANO, "llamacpp", ""),
        ("torch", True, NANO, "torch", ""),
        ("llama_cpp torch", False, NANO, "llamacpp", ""),
        ("llama_cpp torch", True, NANO, "torch", ""),
        ("llama_cpp torch", True, NAMESAKE, "torch", ""),  # some other model, in a folder called nano
        ("llama_cpp", False, NAMESAKE, "llamacpp", ""),
        ("", False, NAMESAKE, "numpy", LLAMA_IS_FASTER),
        ("", False, PAIR, "numpy", LLAMA_IS_FASTER),
        ("torch", False, PAIR, "numpy", LLAMA_IS_FASTER),
        ("torch", True, PAIR, "numpy", LLAMA_IS_FASTER),
        ("llama_cpp", False, PAIR, "llamacpp", ""),
        ("llama_cpp torch", True, PAIR, "llamacpp", ""),
        ("", False, CHECKPOINT, "numpy", TORCH_IS_FASTER),
        ("llama_cpp", False, CHECKPOINT, "numpy", TORCH_IS_FASTER),
        ("torch", False, CHECKPOINT, "torch", ""),
        ("llama_cpp torch", False, CHECKPOINT, "torch", ""),
        ("", False, BOTH, "numpy", LLAMA_IS_FASTER),
        ("", True, BOTH, "numpy", TORCH_IS_FASTER),
        ("torch", False, BOTH, "torch", ""),
        ("llama_cpp", True, BOTH, "llamacpp", ""),
        ("llama_cpp torch", False, BOTH, "llamacpp", ""),
        ("llama_cpp torch", True, BOTH, "torch", ""),
    ],
)
def test_what_auto_takes(
    installed: str, has_gpu: bool, model: str, backend: str, faster: str, machine: dict[str, bool], tmp_path: Path
) -> None:
    machine |= {"gpu": has_gpu, **{library: library in installed for library in ("llama_cpp", "torch")}}
    for folder, names in {
        "checkpoint": CHECKPOINT_FILES,
        "both": [*CHECKPOINT_FILES, *PAIR_FILES],
        "nano": [*CHECKPOINT_FILES, *PAIR_FILES],
        ".": PAIR_FILES,
    }.items():
        fill(tmp_path / folder, names)
    options = Model(model=model if model == NANO else str(tmp_path / model))
    chosen, name = select.select_backend(options)
    assert name == backend
    notice = select.faster_backend_notice(options, chosen, name)
    assert notice == (f"using NumPy, which runs {chosen.name} slowly; {faster}" if faster else "")
    named = Model(model=options.model, backend=name)
    assert select.select_backend(named) == (chosen, name)
    assert select.faster_backend_notice(named, chosen, name) == ""  # who names a backend knows why


@pytest.mark.parametrize(
    ("installed", "here", "model", "backend"),
    [
        ("", {}, "nano", "numpy"),
        ("llama_cpp torch", {}, "nano", "llamacpp"),
        ("", {"500m": "gguf", "256m": "checkpoint"}, "500m", "numpy"),
        ("llama_cpp", {"2.2b": "checkpoint", "256m": "gguf"}, "256m", "llamacpp"),  # the best that is not slow
        ("torch", {"2.2b": "gguf", "256m": "checkpoint"}, "256m", "torch"),
        (
            "llama_cpp",
            {"256m": "checkpoint"},
            "nano",
            "llamacpp",
        ),  # NumPy would be slow, and nobody asked for the model
        ("llama_cpp", {"2.2b": "checkpoint"}, "nano", "llamacpp"),
        ("", {"2.2b": "checkpoint"}, "2.2b", "numpy"),
        ("llama_cpp torch", {"2.2b": "checkpoint", "256m": "gguf"}, "2.2b", "torch"),
    ],
)
def test_what_auto_takes_where_no_model_is_named(
    installed: str, here: dict[str, str], model: str, backend: str,
    machine: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    machine |= {library: library in installed for library in ("llama_cpp", "torch")}
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name, file_format in here.items():
        entry = CATALOG[name]
        repo = entry.gguf_repo if file_format == "gguf" else entry.repo
        names = PAIR_FILES if file_format == "gguf" else CHECKPOINT_FILES
        fill(tmp_path / "hub" / f"models--{repo.replace('/', '--')}" / "snapshots" / "abc", names)
    chosen, name = select.select_backend(Model())
    assert (chosen.name, name) == (model, backend)
    assert chosen.is_fallback == (model == "nano")


def test_auto_takes_a_backend_that_takes_the_options(machine: dict[str, bool]) -> None:
    for given in (Model(dtype="float32"), Model(vision_encoder="mtmd")):
        assert select.select_backend(given)[1] == "llamacpp"
    assert select.select_backend(Model(device="cuda"))[1] == "torch"
    assert select.select_backend(Model(device="cpu", threads=1, jobs=2, detail="low"))[1] == "llamacpp"
    machine |= {"llama_cpp": False, "torch": False}
    for given, message in {
        Model(dtype="float32"): "--dtype is for PyTorch and llama.cpp, and NumPy would run this; leave it out, or",
        Model(vision_encoder="mtmd"): "--vision-engine is for llama.cpp, and NumPy would run this; leave it out, or",
        Model(device="cuda"): "--device cuda is for PyTorch and llama.cpp, and NumPy would run this; leave it out, or",
    }.items():
        chosen, name = select.select_backend(given)
        with pytest.raises(UsageError, match=message):
            select.settle_options(given, name, chosen)


@pytest.mark.parametrize(
    ("installed", "has_gpu", "model", "backend", "is_told"),
    [
        ("llama_cpp", False, NANO, "numpy", True),
        ("llama_cpp", False, PAIR, "numpy", True),
        ("llama_cpp torch", False, BOTH, "torch", True),
        ("llama_cpp torch", True, BOTH, "torch", False),  # which is taken first in any case
        ("llama_cpp torch", False, CHECKPOINT, "torch", False),  # which llama.cpp would not run
    ],
)
def test_auto_goes_on_where_llama_cpp_cannot_be_loaded(
    installed: str, has_gpu: bool, model: str, backend: str, is_told: bool,
    machine: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    machine |= {"gpu": has_gpu, "torch": "torch" in installed}
    fault = UnavailableError("llamacpp is installed and cannot be loaded (libgomp.so.1)", "build it")
    monkeypatch.setattr(select, "loading_error", lambda name: fault if name == "llamacpp" else None)
    fill(tmp_path / "checkpoint", CHECKPOINT_FILES)
    fill(tmp_path / "both", [*CHECKPOINT_FILES, *PAIR_FILES])
    fill(tmp_path, PAIR_FILES)
    options = Model(model=model if model == NANO else str(tmp_path / model))
    chosen, name = select.select_backend(options)
    assert name == backend
    notice = select.faster_backend_notice(options, chosen, name)
    title = registry.BACKENDS[backend].title
    assert notice == (f"{fault.what}, and {title} runs {chosen.name}; build it" if is_told else "")
    named = Model(model=options.model, backend="llamacpp")
    if model != CHECKPOINT:
        assert select.select_backend(named)[1] == "llamacpp"  # and fails where it is loaded


def test_a_backend_that_cannot_be_loaded_is_taken_where_there_is_no_other(
    machine: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine["torch"] = False
    monkeypatch.setattr(
        select, "loading_error", lambda name: UnavailableError("broken") if name == "llamacpp" else None
    )
    assert select.backend_candidates(Model(dtype="float32")) == ("llamacpp",)


def test_a_gpu_decides_the_order_of_the_backends(machine: dict[str, bool]) -> None:
    without_gpu, with_gpu = ("llamacpp", "torch", "numpy"), ("torch", "llamacpp", "numpy")
    assert select.backend_candidates(Model()) == select.backend_candidates(Model(device="cpu")) == without_gpu
    assert select.backend_candidates(Model(dtype="float32")) == without_gpu[:2]
    assert select.backend_candidates(Model(device="cuda")) == with_gpu[:2]
    machine["gpu"] = True
    assert select.backend_candidates(Model()) == with_gpu
    assert select.backend_candidates(Model(dtype="float32")) == with_gpu[:2]
    assert select.backend_candidates(Model(device="cpu")) == without_gpu


def test_auto_ignores_a_gpu_that_this_build_of_pytorch_cannot_use(
    machine: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine["gpu"] = True
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0+cpu")  # the version of a CPU-only build
    assert select.backend_candidates(Model()) == ("llamacpp", "torch", "numpy")
    assert select.backend_candidates(Model(device="cuda")) == ("torch", "llamacpp")


@pytest.mark.parametrize(("visible", "is_expected"), [("", False), ("-1", False), ("0", True), (None, True)])
def test_a_gpu_hidden_by_the_environment_is_ignored(
    visible: str | None, is_expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert select.gpu_may_be_here() == is_expected


def test_the_first_candidate_that_can_read_the_files_is_chosen(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "only", "v2", 0, tied=False, tile=64)
    for order in (("torch", "llamacpp"), ("llamacpp", "torch")):
        assert resolve.resolve_with_backend(Model(model=str(tmp_path / "only")), order)[1] == "torch"
        assert resolve.resolve_with_backend(Model(model="nano"), order)[1] == order[0]
    pair = files.BUILT_IN / "nano-F16.gguf"
    assert resolve.resolve_with_backend(Model(model=str(pair)), ("torch", "llamacpp"))[1] == "llamacpp"


def test_the_fastest_vision_encoder_that_is_installed_and_worth_loading_is_chosen(
    machine: dict[str, bool], tmp_path: Path
) -> None:
    def encoder(mmproj: Path, **options: Any) -> str:
        return select.settle_options(
            Model(**options), "llamacpp", ModelFiles("m", gguf=mmproj, mmproj=mmproj)
        ).vision_encoder

    small = files.BUILT_IN / "mmproj-nano-F16.gguf"
    large = tmp_path / "mmproj-large.gguf"
    with large.open("wb") as file:
        file.truncate(190_000_000)  # the 256M's in f16
    assert (encoder(small), encoder(large)) == ("mtmd", "openvino")
    assert encoder(small, dtype="float32") == encoder(small, vision_encoder="openvino") == "openvino"
    assert encoder(large, vision_encoder="mtmd") == "mtmd"
    machine["openvino"] = False
    assert (encoder(small), encoder(large), encoder(small, dtype="float32")) == ("mtmd", "torch", "torch")
    machine["torch"] = False
    assert encoder(large) == "mtmd"
    for name in ("openvino", "torch"):
        with pytest.raises(UnavailableError, match=rf"library {name}, .*pip install 'smolcli\[{name}\]'"):
            encoder(large, vision_encoder=name)
    with pytest.raises(UnavailableError, match=r"--dtype needs OpenVINO or .*pip install 'smolcli\[openvino\]'"):
        encoder(large, dtype="float32")
    with pytest.raises(UsageError, match="mtmd .*takes no --dtype; leave out one"):
        encoder(large, vision_encoder="mtmd", dtype="float32")


def test_only_llama_cpp_takes_a_vision_encoder(machine: dict[str, bool]) -> None:
    machine["gpu"] = True
    for encoder in registry.VISION_ENCODERS:
        assert select.backend_candidates(Model(vision_encoder=encoder, dtype="float32")) == ("llamacpp", "torch")
        with pytest.raises(UsageError, match="--vision-engine is for llama.cpp.*add --backend llamacpp"):
            select.check_options(Model(vision_encoder=encoder), "torch")
    for backend in registry.backends():
        select.check_options(Model(jobs=2), backend)
    assert select.settle_options(Model(), "torch", ModelFiles("m")) == Model()


def test_a_gpu_goes_to_a_backend_that_can_use_it(machine: dict[str, bool]) -> None:
    for device, first in {"cuda:1": "torch", "mps": "torch", "metal": "llamacpp", "vulkan:0": "llamacpp"}.items():
        assert select.backend_candidates(Model(device=device))[0] == first
        select.check_options(Model(device=device), first)
    with pytest.raises(UsageError, match="--device mps is for PyTorch, and llama.cpp would .*add --backend torch"):
        select.check_options(Model(device="mps"), "llamacpp")
    with pytest.raises(UsageError, match="--device vulkan is for llama.cpp, and PyTorch .*add --backend llamacpp"):
        select.check_options(Model(device="vulkan"), "torch")
    for backend in ("torch", "llamacpp", "echo"):
        select.check_options(Model(device="gpu"), backend)  # the backend itself says what it takes
    kinds = {kind for entry in registry.BACKENDS.values() for kind in entry.gpu_kinds}
    [option] = [field for field in dataclasses.fields(Model) if field.name == "device"]
    assert all(kind in option.metadata["help"] for kind in kinds)


def test_a_pair_of_another_family_is_run_by_llama_cpp_alone(machine: dict[str, bool], tmp_path: Path) -> None:
    files = make_pair(tmp_path, "internvl")
    entry = registry.BACKENDS["llamacpp"]
    assert select.backend_target("llamacpp", files) == entry.other_families != entry.target
    assert select.settle_options(Model(), "llamacpp", files).vision_encoder == "mtmd"
    for options, message in {
        Model(
            vision_encoder="openvino"
        ): "--vision-engine openvino is for SmolVLM, and internvl-F32 is .*; leave it out",
        Model(dtype="float32"): "--dtype is not for internvl-F32: .*; leave it out",
    }.items():
        with pytest.raises(UsageError, match=message):
            select.settle_options(options, "llamacpp", files)
    message = r"internvl-F32: is of another family \(qwen2 with internvl\), which llama.cpp alone runs; "
    with pytest.raises(ModelError, match=message + "use -b llamacpp"):
        select.settle_options(Model(), "numpy", files)
    machine["llama_cpp"] = False
    chosen, name = select.select_backend(Model(model=str(files.gguf)))
    with pytest.raises(ModelError, match=message + r"pip install 'smolcli\[llamacpp\]'"):
        select.settle_options(Model(), name, chosen)


def test_the_error_for_a_missing_extra_says_how_to_install_it(machine: dict[str, bool]) -> None:
    machine["transformers"] = False
    with pytest.raises(UnavailableError, match=r"transformers, which is not installed; pip install 'smolcli\[torch\]'"):
        registry.load(registry.BACKENDS, "torch")
    with pytest.raises(UsageError, match="vllm is not known; choose one of torch, llamacpp, numpy, echo"):
        registry.load(registry.BACKENDS, "vllm")


def test_the_extras_of_the_registry_are_those_of_pyproject() -> None:
    if sys.version_info < (3, 11):
        import tomli as tomllib
    else:
        import tomllib
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    tables = (
        registry.BACKENDS, registry.ON_DEMAND, registry.READERS, registry.WRITERS, registry.COMMANDS,
        registry.EXECUTORS, registry.VISION_ENCODERS,
    )  # fmt: skip
    for entry in (entry for table in tables for entry in table.values()):
        if entry.extra:
            requirements = " ".join(project["optional-dependencies"][entry.extra])
            assert all(library.replace("_", "-").split("-")[0] in requirements for library in entry.needs)
            assert all(importlib.util.find_spec(library) for library in entry.needs)
