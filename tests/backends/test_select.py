"""backends/select.py: which backend and which vision encoder `auto` means; the registry's extras."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from smolcli import registry
from smolcli.backends import select
from smolcli.errors import UnavailableError, UsageError
from smolcli.models import files, resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from tests.tiny import make_checkpoint


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A machine whose libraries and GPU are present or not, as the test sets them."""
    libraries = ("torch", "transformers", "safetensors", "llama_cpp", "openvino", "gguf")
    state = {**dict.fromkeys(libraries, True), "gpu": False}
    monkeypatch.setattr(registry, "find_spec", lambda name: state.get(name) or None)
    monkeypatch.setattr(select, "gpu_may_be_here", lambda: state["gpu"])
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0")
    return state


def test_auto_is_llamacpp_without_a_gpu_and_torch_with_one(machine: dict[str, bool]) -> None:
    assert select.backend_candidates(Model()) == ("llamacpp", "torch")
    assert (
        select.backend_candidates(Model(dtype="float32"))
        == select.backend_candidates(Model(device="cpu"))
        == ("llamacpp", "torch")
    )
    assert select.backend_candidates(Model(device="cuda")) == ("torch", "llamacpp")
    machine["gpu"] = True
    assert (
        select.backend_candidates(Model()) == select.backend_candidates(Model(dtype="float32")) == ("torch", "llamacpp")
    )
    assert select.backend_candidates(Model(device="cpu")) == ("llamacpp", "torch")
    machine["torch"] = False
    assert select.backend_candidates(Model()) == ("llamacpp",)


def test_auto_ignores_a_gpu_that_this_build_of_pytorch_cannot_use(
    machine: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine["gpu"] = True
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0+cpu")  # the version of a CPU-only build
    assert select.backend_candidates(Model()) == ("llamacpp", "torch")
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


def test_auto_takes_an_installed_backend(machine: dict[str, bool]) -> None:
    machine["llama_cpp"] = False
    assert select.backend_candidates(Model()) == ("torch",)
    machine["torch"] = False
    with pytest.raises(UnavailableError, match=r"pip install 'smolcli\[llamacpp\]'"):
        select.backend_candidates(Model())


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
    for missing in (("openvino", "torch"), ("gguf",)):
        machine.update({"openvino": True, "torch": True, "gguf": True, **dict.fromkeys(missing, False)})
        assert encoder(large) == "mtmd"
        for name, library in (("openvino", missing[0]), ("torch", missing[-1])):
            with pytest.raises(UnavailableError, match=rf"library {library}, .*pip install 'smolcli\[{name}\]'"):
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
    with pytest.raises(UsageError, match="-j is for llama.cpp.*or add --backend llamacpp"):
        select.check_options(Model(jobs=2), "torch")
    assert select.settle_options(Model(), "torch", ModelFiles("m")) == Model()
    with pytest.raises(UsageError, match="--device is for PyTorch.*add --backend torch"):
        select.check_options(Model(device="cuda"), "llamacpp")


def test_the_error_for_a_missing_extra_says_how_to_install_it(machine: dict[str, bool]) -> None:
    machine["transformers"] = False
    with pytest.raises(UnavailableError, match=r"transformers, which is not installed; pip install 'smolcli\[torch\]'"):
        registry.load(registry.BACKENDS, "torch")
    with pytest.raises(UsageError, match="vllm is not known; choose one of torch, llamacpp, echo"):
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
