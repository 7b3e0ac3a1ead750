"""models/resolve.py, files.py, fingerprint.py and hub_cache.py: a model's name to its files, and the errors."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import save_file

from smolcli.errors import ModelError
from smolcli.models import catalog, fingerprint, hub_cache, resolve
from smolcli.models import files as model_files
from smolcli.options import Model
from tests.helpers import gguf

GGUF_256M = ["SmolVLM-256M-Instruct-Q8_0.gguf", "mmproj-SmolVLM-256M-Instruct-Q8_0.gguf"]
GGUF_500M = ["SmolVLM-500M-Instruct-Q8_0.gguf", "mmproj-SmolVLM-500M-Instruct-Q8_0.gguf"]
CHECKPOINT = ["config.json", "tokenizer.json", "model.safetensors"]
NANO = [*CHECKPOINT, "nano-f16.gguf", "mmproj-nano-f16.gguf"]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up an empty cache, no config file, and a built-in model of empty files."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(resolve, "BUILT_IN", fill(tmp_path / "built_in", NANO))
    return tmp_path


def fill(directory: Path, names: list[str], content: bytes = b"") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_bytes(content or name.encode())
    return directory


def cached(machine: Path, repo: str, names: list[str], revision: str = "abc", main: bool = True) -> Path:
    folder = machine / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    if main:
        fill(folder / "refs", ["main"], revision.encode())
    return fill(folder / "snapshots" / revision, names)


def names(files: model_files.ModelFiles) -> tuple[str | None, str | None]:
    return files.gguf.name if files.gguf else None, files.mmproj.name if files.mmproj else None


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_missing_model_names_the_command(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve.resolve(Model(model=name), "llamacpp")
    assert str(caught.value) == f"{name}: not on this machine; smolcli models pull {name}"
    with pytest.raises(ModelError, match=f"not on this machine; smolcli models pull {name} --for torch"):
        resolve.resolve(Model(model=name), "torch")


def test_pulled_pair(machine: Path) -> None:
    directory = cached(machine, "ggml-org/SmolVLM-256M-Instruct-GGUF", GGUF_256M)
    files = resolve.resolve(Model(model="256m"), "llamacpp")
    assert files == model_files.ModelFiles("256m", None, directory / GGUF_256M[0], directory / GGUF_256M[1])
    with pytest.raises(ModelError, match="256m: only its GGUF pair is here.*pull 256m --for torch"):
        resolve.resolve(Model(model="256m"), "torch")


def test_pulled_checkpoint(machine: Path) -> None:
    directory = cached(machine, "HuggingFaceTB/SmolVLM-256M-Instruct", CHECKPOINT)
    assert resolve.resolve(Model(model="256m"), "torch").checkpoint == directory
    with pytest.raises(
        ModelError, match="256m: only its checkpoint is here.*smolcli models pull 256m, or use -b torch"
    ):
        resolve.resolve(Model(model="256m"), "llamacpp")


def test_incomplete_pull_is_no_model(machine: Path) -> None:
    cached(machine, "ggml-org/SmolVLM-256M-Instruct-GGUF", GGUF_256M[:1])
    directory = cached(machine, "HuggingFaceTB/SmolVLM-256M-Instruct", ["config.json", "tokenizer.json"])
    (directory / "model.safetensors").symlink_to("../../blobs/missing")
    for backend in ("llamacpp", "torch"):
        with pytest.raises(ModelError, match="not on this machine"):
            resolve.resolve(Model(model="256m"), backend)


def adapter(directory: Path, base: object) -> Path:
    fill(directory, ["adapter_model.safetensors"])
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return directory


def test_an_adapter_runs_on_its_base(machine: Path) -> None:
    base = cached(machine, "org/base", CHECKPOINT)
    tuned = adapter(machine / "tuned", "org/base")
    files = resolve.resolve(Model(model=str(tuned)), "torch")
    assert files == model_files.ModelFiles("tuned", checkpoint=base, adapter=tuned)
    assert files.tokenizer == base / "tokenizer.json"
    fill(tuned, ["tokenizer.json"])
    assert files.tokenizer == tuned / "tokenizer.json"
    with pytest.raises(ModelError, match=f"{tuned}: only its checkpoint is here.*smolcli convert-to-gguf {tuned}, or"):
        resolve.resolve(Model(model=str(tuned)), "llamacpp")


def test_a_folder_with_a_checkpoint_and_an_adapter_is_refused(machine: Path) -> None:
    both = fill(adapter(machine / "both", None), CHECKPOINT)
    with pytest.raises(ModelError, match=f"{both}: holds a checkpoint and an adapter; put them into folders of their"):
        resolve.resolve(Model(model=str(both)), "torch")
    (both / "adapter_model.safetensors").unlink()  # a merged model with a file of its training left over
    assert resolve.resolve(Model(model=str(both)), "torch").checkpoint == both


@pytest.mark.parametrize("base", ["org/none", "/none", None, "tuned"])
def test_an_adapter_whose_base_is_not_here_is_named(base: str | None, machine: Path) -> None:
    tuned = adapter(machine / "tuned", str(machine / "tuned") if base == "tuned" else base)
    with pytest.raises(ModelError, match=f"{tuned}: an adapter .*convert-to-gguf BASE --lora {tuned}"):
        resolve.resolve(Model(model=str(tuned)), "torch")
    (tuned / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="adapter_config.json: cannot be read"):
        resolve.resolve(Model(model=str(tuned)), "torch")


def test_what_is_taken_off_the_names_of_tensors_is_told(machine: Path) -> None:
    base = fill(machine / "base", CHECKPOINT)
    save_file({"_orig_mod.a": np.zeros(1, np.float32)}, base / "model.safetensors")
    tuned = adapter(machine / "tuned", str(base))
    save_file({"base_model.model.module.a": np.zeros(1, np.float32)}, tuned / "adapter_model.safetensors")
    notice = resolve.resolve(Model(model=str(tuned)), "torch").notice
    assert notice.startswith(f"{base}: its tensors are read without _orig_mod. in")
    assert f"; {tuned}: its tensors are read without module. in" in notice


def test_all_shards_are_needed(machine: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    directory = fill(machine / "big", ["config.json", "tokenizer.json", *shards])
    index = {"weight_map": {"b": shards[1], "a": shards[0], "c": shards[1]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert model_files.weight_files(directory) == [directory / name for name in shards]
    assert resolve.resolve(Model(model=str(directory)), "torch").checkpoint == directory
    (directory / shards[1]).unlink()
    with pytest.raises(ModelError, match=f"big: lacks {shards[1]}, which its index of weights names; download"):
        resolve.resolve(Model(model=str(directory)), "torch")
    (directory / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="not an index of weights"):
        resolve.resolve(Model(model=str(directory)), "torch")


def test_revision_of_main_is_preferred_and_others_fill_in(machine: Path) -> None:
    repo = "org/both"
    old = cached(machine, repo, [*CHECKPOINT, *GGUF_256M], revision="zzz", main=False)
    new = cached(machine, repo, GGUF_256M, revision="aaa")
    files = resolve.resolve(Model(model=repo), "llamacpp")
    assert files.gguf == new / GGUF_256M[0]
    assert files.checkpoint == old


def test_directory_with_both_formats(machine: Path) -> None:
    directory = fill(machine / "mine", NANO)
    files = resolve.resolve(Model(model=str(directory)), "llamacpp")
    assert files == resolve.resolve(Model(model=str(directory)), "torch")
    assert (files.name, files.checkpoint, *names(files)) == ("mine", directory, "nano-f16.gguf", "mmproj-nano-f16.gguf")


@pytest.mark.parametrize("backend", ["numpy", "echo"])
def test_a_given_vision_half_belongs_to_the_pair_of_a_directory(backend: str, machine: Path) -> None:
    directory = fill(machine / "mine", NANO)
    other = fill(machine / "other", ["mmproj-other.gguf"]) / "mmproj-other.gguf"
    files = resolve.resolve(Model(model=str(directory), mmproj=other), backend)
    assert files.format_read_by(backend) == "gguf"
    assert (files.gguf, files.mmproj) == (directory / "nano-f16.gguf", other)
    assert resolve.resolve(Model(model=str(directory)), backend).format_read_by(backend) == "checkpoint"


def test_directory_of_the_wrong_format(machine: Path) -> None:
    checkpoint = fill(machine / "mine", CHECKPOINT)
    with pytest.raises(ModelError, match=f"smolcli convert-to-gguf {checkpoint}, or use -b torch"):
        resolve.resolve(Model(model=str(checkpoint)), "llamacpp")
    with pytest.raises(ModelError, match="only its GGUF pair is here.*use -b llamacpp"):
        resolve.resolve(Model(model=str(fill(machine / "pair", GGUF_256M))), "torch")
    with pytest.raises(ModelError, match="holds neither"):
        resolve.resolve(Model(model=str(fill(machine / "empty", []))), "llamacpp")


@pytest.mark.parametrize(
    ("language", "others", "vision"),
    [
        ("SmolVLM-256M-Instruct-Q8_0.gguf", ["mmproj-SmolVLM-256M-Instruct-f16.gguf"], 0),
        ("a-Q8_0.gguf", ["mmproj-a-f16.gguf", "mmproj-a-Q8_0.gguf", "mmproj-b-Q8_0.gguf"], 1),
        ("a-f16.gguf", ["mmproj-a-f16.gguf", "mmproj-a-Q8_0.gguf"], 0),
        ("a-Q4_K_M.gguf", ["mmproj-a-f16.gguf", "mmproj-a-Q8_0.gguf"], 1),
        ("a.gguf", ["mmproj-a.gguf", "mmproj-a-video.gguf"], 0),
        ("SmolDocling-Q4_K_M.gguf", ["SmolDocling-mmproj-f16.gguf"], 0),
        ("anything.gguf", ["mmproj-model-f16.gguf"], 0),
        ("anything-Q4_0.gguf", ["mmproj-F32.gguf", "mmproj-F16.gguf"], 1),
    ],
)
def test_vision_half_of_a_gguf_file(machine: Path, language: str, others: list[str], vision: int) -> None:
    directory = fill(machine / "x", [language, *others])
    files = resolve.resolve(Model(model=str(directory / language)), "llamacpp")
    assert names(files) == (language, others[vision])
    assert files.name == language.removesuffix(".gguf")


def test_no_or_several_vision_halves(machine: Path) -> None:
    file = str(fill(machine / "x", ["a-Q8_0.gguf"]) / "a-Q8_0.gguf")
    with pytest.raises(ModelError, match=r"a-Q8_0.gguf: no vision half \(mmproj\) is beside it; name it with --mmproj"):
        resolve.resolve(Model(model=file), "llamacpp")
    fill(machine / "x", ["mmproj-b.gguf", "mmproj-c.gguf"])
    with pytest.raises(ModelError, match="several vision halves"):
        resolve.resolve(Model(model=file), "llamacpp")
    other = fill(machine / "y", ["v.gguf"]) / "v.gguf"
    assert resolve.resolve(Model(model=file, mmproj=other), "llamacpp").mmproj == other
    with pytest.raises(ModelError, match="no such file; check the path given with --mmproj"):
        resolve.resolve(Model(model=file, mmproj=machine / "none.gguf"), "llamacpp")


def test_names_that_are_no_model(machine: Path) -> None:
    file = fill(machine / "x", ["mmproj-a.gguf", "model.safetensors"])
    for word, message in {
        "1t": "1t: not a known name, Hugging Face id, directory or .gguf file; smolcli models list",
        str(machine / "none.gguf"): "none.gguf: no such file",
        str(file / "mmproj-a.gguf"): "is the vision half of a model; give the language half",
        str(file / "model.safetensors"): "not a known name, Hugging Face id, directory",
        "org/none": "org/none: not on this machine; smolcli models pull org/none",
    }.items():
        with pytest.raises(ModelError, match=message):
            resolve.resolve(Model(model=word), "llamacpp")
    with pytest.raises(ModelError, match="only its GGUF pair is here"):
        resolve.resolve(Model(model=str(fill(machine / "z", GGUF_256M) / GGUF_256M[0])), "torch")


@pytest.mark.parametrize("backend", ["torch", "llamacpp", "echo"])
def test_built_in_model_has_a_notice(backend: str, machine: Path) -> None:
    files = resolve.resolve(Model(), backend)
    assert files.name == "nano"
    assert files.can_run_on("torch") and files.can_run_on("llamacpp")
    assert files.is_fallback
    assert files.notice == (
        "using nano, which reads print and names drawn things; "
        "it knows nothing of photographs: smolcli models pull 500m"
    )
    chosen = resolve.resolve(Model(model="nano"), backend)
    assert (chosen.notice, chosen.is_fallback) == ("", False)
    shutil.rmtree(machine / "built_in")
    for options in (Model(), Model(model="nano")):
        with pytest.raises(ModelError, match="nano: the built-in model's files are missing; install smolcli again"):
            resolve.resolve(options, backend)


def test_the_built_in_model_is_known_by_its_files(tmp_path: Path) -> None:
    built_in = model_files.BUILT_IN
    nano = model_files.scan(built_in)
    assert nano.is_built_in and replace(nano, name="weights").is_built_in
    assert replace(nano, checkpoint=None).is_built_in and replace(nano, gguf=None, mmproj=None).is_built_in
    (tmp_path / "link").symlink_to(built_in)
    assert model_files.scan(tmp_path / "link").is_built_in
    assert not replace(nano, mmproj=tmp_path / "mmproj.gguf").is_built_in
    assert not replace(nano, adapter=tmp_path).is_built_in
    assert not model_files.ModelFiles("nano").is_built_in


def test_best_pulled_model_for_the_backend(machine: Path) -> None:
    docling = ["granite-docling-258M-Q8_0.gguf", "mmproj-granite-docling-258M-Q8_0.gguf"]
    cached(machine, "ggml-org/granite-docling-258M-GGUF", docling)
    assert resolve.resolve(Model(), "llamacpp").name == "nano"
    cached(machine, "ggml-org/SmolVLM-256M-Instruct-GGUF", GGUF_256M)
    cached(machine, "ggml-org/SmolVLM-500M-Instruct-GGUF", GGUF_500M)
    cached(machine, "HuggingFaceTB/SmolVLM-256M-Instruct", CHECKPOINT)
    assert resolve.resolve(Model(), "llamacpp").name == "500m"
    assert resolve.resolve(Model(), "torch").name == "256m"
    assert resolve.resolve(Model(), "torch").notice == ""


def test_a_directory_of_several_quantizations_is_named_by_the_one_that_is_taken(machine: Path) -> None:
    folder = fill(machine / "shelf", ["a-Q8_0.gguf", "mmproj-a-F16.gguf"])
    assert model_files.scan(folder).name == "shelf"
    fill(folder, ["a-F16.gguf"])
    files = model_files.scan(folder)
    assert files.gguf is not None and files.name == files.gguf.stem


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_fingerprint_follows_content_not_names(machine: Path, backend: str) -> None:
    first = model_files.scan(fill(machine / "one", NANO, b"x" * 5_000_000))
    (machine / "two").mkdir()
    for name in NANO:
        shutil.copy(machine / "one" / name, machine / "two" / name.replace("nano-f16", "other-f16"))
    second = model_files.scan(machine / "two")
    before = fingerprint.fingerprint(first, backend)
    assert before == fingerprint.fingerprint(second, backend)
    weights = "model.safetensors" if backend == "torch" else "mmproj-other-f16.gguf"
    for change in (b"y" + b"x" * 4_999_999, b"x" * 4_999_999 + b"y", b"x" * 4_999_999):
        (machine / "two" / weights).write_bytes(change)
        assert fingerprint.fingerprint(second, backend) != before


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"HF_HOME": "$XDG_CACHE_HOME/a"},
        {"HF_HUB_CACHE": "~/b"},
        {"HUGGINGFACE_HUB_CACHE": "/c", "HF_HOME": "/d"},
        {"HF_HUB_CACHE": "/e", "HUGGINGFACE_HUB_CACHE": "/c"},
    ],
)
@pytest.mark.parametrize("xdg", [None, "/xdg"])
def test_cache_dir_is_that_of_huggingface_hub(
    settings: dict[str, str], xdg: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items() | ({("XDG_CACHE_HOME", xdg)} if xdg else set()):
        monkeypatch.setenv(name, value)
    theirs = runpy.run_path(str(huggingface_hub.constants.__file__))["HF_HUB_CACHE"]
    assert hub_cache.cache_dir() == Path(theirs)


def test_cached_ids(machine: Path) -> None:
    pair = cached(machine, "org/pair", GGUF_256M)
    other_pair = cached(machine, "org/other-pair", GGUF_256M)
    for folder, projector in ((pair, "idefics3"), (other_pair, "qwen2vl_merger")):
        (folder / GGUF_256M[0]).write_bytes(gguf(general__architecture="llama"))
        (folder / GGUF_256M[1]).write_bytes(gguf(clip__projector_type=projector))
    cached(machine, "org/damaged-pair", GGUF_256M)
    cached(machine, "org/text-only", CHECKPOINT)
    other = cached(machine, "org/other", CHECKPOINT)
    (other / "config.json").write_text('{"model_type": "qwen2_vl"}')
    cached(machine, "ggml-org/SmolVLM-256M-Instruct-GGUF", GGUF_256M)
    directory = cached(machine, "org/smol", CHECKPOINT)
    (directory / "config.json").write_text('{"model_type": "smolvlm"}')
    torn = cached(machine, "org/torn", CHECKPOINT)
    (torn / "config.json").write_text('{"model_type": "smolvlm"}')
    (torn / "model.safetensors").rename(torn / "model.safetensors.index.json")
    assert hub_cache.cached_ids() == ["org/other-pair", "org/pair", "org/smol"]


def test_user_without_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert resolve.resolve(Model(), "llamacpp").name == "nano"
