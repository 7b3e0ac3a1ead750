"""models/model_info.py: what is told of checkpoints, pairs and halves, from their files alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFWriter

from smolcli.converters import convert
from smolcli.errors import ModelError
from smolcli.models import catalog, catalog_facts
from smolcli.models.model_info import BARE_VISION_HALF, LONGEST_EDGE, NO_PLACE_TOKEN, describe
from smolcli.models.other_family import DETAIL, NO_PROMISE, NO_TEMPLATE
from tests.families import CONTEXT, FAMILIES, make_pair
from tests.tiny import make_checkpoint

STEM = "SmolVLM-256M-Instruct"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("info") / "Tiny", "v1", 1, tile=512)


@pytest.fixture(scope="module")
def pair(checkpoint: Path) -> tuple[Path, Path]:
    return convert(checkpoint, checkpoint.parent / "pair", "f16", "f16")


def without_key(source: Path, target: Path, key: str) -> Path:
    """Copy a GGUF file without one of its keys, as a converter of before that key writes it."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "clip")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in (key, "general.architecture"):
            sub_type = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def cached(folder: Path, repo: str, files: dict[str, Path]) -> Path:
    snapshot = folder / f"models--{repo.replace('/', '--')}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name, source in files.items():
        shutil.copy(source, snapshot / name)
    return snapshot


def test_a_checkpoint_and_its_pair_tell_the_same(checkpoint: Path, pair: tuple[Path, Path]) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    expected = {
        "context": config["text_config"]["max_position_embeddings"],
        "tile": 512, "tile_tokens": 64, "longest_edge": 2048,
    }  # fmt: skip
    for name in (checkpoint, pair[0], pair[0].parent):
        facts = describe(str(name))
        assert {key: facts[key] for key in expected} == expected
        assert facts["warnings"] == []
    assert describe(str(pair[0]))["files"] == [
        {
            "path": str(path),
            "bytes": path.stat().st_size,
            "quant": "F16",
            "sha256": None,
            "compared": None,
            "published": None,
        }
        for path in pair
    ]


def test_half_a_pair_is_described(pair: tuple[Path, Path], tmp_path: Path) -> None:
    language, vision = (
        Path(shutil.copy(path, tmp_path / f"half{number}-{path.name}")) for number, path in enumerate(pair)
    )
    (tmp_path / "mm").mkdir()
    vision = vision.rename(tmp_path / "mm" / "mmproj-x-F16.gguf")
    facts = describe(str(language))
    assert facts["warnings"] == ["half a model: the vision half (mmproj) is not beside it"] and facts["backends"] == []
    facts = describe(str(vision))
    assert facts["warnings"] == ["half a model: the language half is missing"] and facts["tile"] == 512
    assert "context" not in facts


def test_a_vision_half_without_the_longest_edge_is_warned_of(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old = without_key(pair[1], tmp_path / "mmproj-old-F16.gguf", LONGEST_EDGE)
    assert BARE_VISION_HALF in describe(str(old))["warnings"]
    assert BARE_VISION_HALF not in describe(str(pair[1]))["warnings"]


def test_a_tokenizer_without_tokens_for_tiles_is_warned_of(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "v1", "v1-2.2b", 1, tile=384)
    facts = describe(str(convert(folder, tmp_path / "out", "f16", "f16")[0]))
    assert facts["warnings"] == [NO_PLACE_TOKEN] and facts["tile_tokens"] == 81


def test_halves_of_two_models_are_warned_of(pair: tuple[Path, Path], tmp_path: Path) -> None:
    wide = make_checkpoint(tmp_path / "wide", "v1", 1, tile=512, width=128)
    other = convert(wide, tmp_path / "out", "f16", "f16")
    shutil.copy(pair[0], tmp_path / "a-F16.gguf")
    shutil.copy(other[1], tmp_path / "mmproj-a-F16.gguf")
    warnings = describe(str(tmp_path / "a-F16.gguf"))["warnings"]
    assert warnings == ["the halves are of two models: the vision half has 128 values, not 64"]


def test_a_file_that_is_cut_short_is_warned_of(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for path in pair:
        shutil.copy(path, tmp_path)
    with (tmp_path / pair[0].name).open("r+b") as file:
        file.truncate(pair[0].stat().st_size - 100)
    [warning] = describe(str(tmp_path / pair[0].name))["warnings"]
    assert "is cut short" in warning


@pytest.mark.parametrize("quant", ["Q8_0", "f16"])
def test_a_quantization_that_tests_call_wrong_is_warned_of(quant: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    names = [tmp_path / f"{half}{STEM}-{quant}.gguf" for half in ("", "mmproj-")]
    for path, name in zip(pair, names, strict=True):
        shutil.copy(path, name)
    warnings = describe(str(names[0]))["warnings"]
    wrong = "llama.cpp's own tests always get a wrong answer from it in Q8_0; f16 is recommended"
    assert (wrong in warnings) == (quant == "Q8_0")
    # The tiny file of that name is not the published one; only an estimate of the bytes in f16 was published.
    assert (f"{STEM}-Q8_0.gguf is not as published" in warnings) == (quant == "Q8_0")


def test_a_model_that_is_not_here_is_described(empty_cache: Path) -> None:
    facts = describe("256m-video")
    assert facts["files"] == [] and facts["backends"] == []
    assert (facts["context"], facts["tile_tokens"], facts["x_height"], facts["quant"]) == (8192, 64, 12.0, "f16")
    assert facts["warnings"] == [
        "llama.cpp's own tests always get a wrong answer from it in Q8_0; f16 is recommended",
        "its checkpoint is stored in float32, twice the bytes that it needs",
    ]


def test_files_of_before_a_repository_was_made_again(
    pair: tuple[Path, Path], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = "SmolVLM2-256M-Video-Instruct-Q8_0.gguf"
    tables = json.loads(json.dumps(catalog_facts._tables()))
    tables["256m-video"]["pair"]["earlier"][stem]["bytes"] = pair[0].stat().st_size
    monkeypatch.setattr(catalog_facts, "_tables", lambda: tables)
    cached(empty_cache, "ggml-org/SmolVLM2-256M-Video-Instruct-GGUF", {stem: pair[0], f"mmproj-{stem}": pair[1]})
    facts = describe("256m-video")
    assert (
        "it is of before its repository was made again; smolcli models pull fetches the files of today"
        in (facts["warnings"])
    )
    assert [file["published"] for file in facts["files"]] == [False, False]


def test_digests_are_those_of_names_in_the_cache_or_read(
    pair: tuple[Path, Path], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{half}{STEM}-f16.gguf" for half in ("", "mmproj-")]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in pair]
    tables: dict[str, Any] = json.loads(json.dumps(catalog_facts._tables()))
    tables["256m"]["pair"]["files"] = {
        name: {"bytes": path.stat().st_size, "sha256": digest}
        for name, path, digest in zip(names, pair, digests, strict=True)
    }
    monkeypatch.setattr(catalog_facts, "_tables", lambda: tables)
    snapshot = cached(empty_cache, catalog.CATALOG["256m"].gguf_repo, dict(zip(names, pair, strict=True)))
    damaged = snapshot / names[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    facts = describe("256m")
    assert [file["sha256"] for file in facts["files"]] == [None, None] and facts["warnings"] == []
    facts = describe("256m", check=True)
    assert facts["files"][1] == {
        "path": str(snapshot / names[1]), "bytes": pair[1].stat().st_size, "quant": "F16", "sha256": digests[1],
        "compared": "SHA-256", "published": True,
    }  # fmt: skip
    assert facts["warnings"] == [f"{names[0]} is not as published"]
    (snapshot / names[1]).unlink()
    blob = snapshot.parents[1] / "blobs" / digests[1]
    blob.parent.mkdir()
    shutil.copy(pair[1], blob)
    (snapshot / names[1]).symlink_to(blob)
    assert describe("256m")["files"][1]["sha256"] == digests[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1t", "1t: not a known name, Hugging Face id, directory or .gguf file"),
        ("org/none", "org/none: not on this machine; smolcli models pull org/none"),
        ("missing.gguf", "missing.gguf: no such file"),
    ],
)
def test_what_is_no_model(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        describe(name)


def test_a_folder_without_a_model_and_one_of_another_family(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds neither config.json, tokenizer.json and safetensors nor"):
        describe(str(tmp_path))
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match="is a model of type gpt2"):
        describe(str(tmp_path))


def test_nano_is_described() -> None:
    facts = describe("nano")
    assert facts["warnings"] == [] and facts["tile"] == 128 and "numpy" in facts["backends"]


@pytest.mark.parametrize("name", ["qwen2vl", "moondream2"])
def test_a_pair_of_another_family(name: str, tmp_path: Path) -> None:
    files, family = make_pair(tmp_path, name), FAMILIES[name]
    assert files.gguf is not None and files.mmproj is not None
    facts = describe(str(files.gguf))
    assert facts["family"] == f"{family.architecture} with {family.projector}"
    assert (facts["context"], facts["tile"], facts["tile_tokens"]) == (CONTEXT, family.side, family.tokens)
    assert catalog.x_height_of(files) == 0  # it reads pages whole
    assert facts["chat_template"] == (name == "qwen2vl") and facts["backends"] == ["llamacpp"]
    assert facts["warnings"] == [NO_PROMISE, DETAIL] + ([] if facts["chat_template"] else [NO_TEMPLATE])
    text = files.mmproj.read_bytes()
    files.mmproj.write_bytes(text.replace(family.projector.encode(), b"x" * len(family.projector), 1))
    [*_, last] = describe(str(files.gguf))["warnings"]
    assert last == f"it has a projector of type {'x' * len(family.projector)}, which this llama.cpp does not know"
