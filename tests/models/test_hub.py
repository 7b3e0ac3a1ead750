"""models/hub.py, against a local server with the part of the hub's API that huggingface_hub uses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import save_file
from typer.testing import CliRunner

from smolcli import registry
from smolcli.cli.main import make_app
from smolcli.commands.models import app
from smolcli.errors import ModelError, OfflineError, UnavailableError
from smolcli.models import family, hub, hub_cache, resolve
from smolcli.options import Model
from tests.helpers import gguf
from tests.hub_server import (
    CHECKPOINT_REPO,
    IDEFICS3,
    PAIR_REPO,
    Hub,
    blob,
    digest,
    language_half,
    vision_half,
)
from tests.tiny import make_checkpoint


def test_pull_fetches_both_halves_and_resolve_finds_them_offline(server: Hub) -> None:
    hub.pull("256m")
    server.shutdown()
    files = resolve.resolve(Model(model="256m"), "llamacpp")
    assert sorted(server.downloads()) == ["SmolVLM-256M-Instruct-f16.gguf", "mmproj-SmolVLM-256M-Instruct-f16.gguf"]
    assert files.gguf is not None and files.mmproj is not None
    for path in (files.gguf, files.mmproj):
        assert path.read_bytes() == server.repos[PAIR_REPO][path.name]
    assert resolve.resolve(Model(), "llamacpp") == files


def test_pull_prints_no_bar_without_a_terminal(server: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.pull("256m")
    assert capfd.readouterr() == ("", "")


def test_quant_ignores_case(server: Hub) -> None:
    files = hub.pull("256m", quant="q8_0")
    assert sorted(server.downloads()) == ["SmolVLM-256M-Instruct-Q8_0.gguf", "mmproj-SmolVLM-256M-Instruct-Q8_0.gguf"]
    assert files.can_run_on("llamacpp")


def test_unknown_quant_lists_the_available_ones(server: Hub) -> None:
    with pytest.raises(ModelError, match="no Q2_K pair; choose --quant from F16, Q8_0"):
        hub.pull("256m", quant="q2_k")


def test_second_pull_fetches_nothing(server: Hub) -> None:
    hub.pull("256m")
    before = server.downloads()
    hub.pull("256m")
    assert server.downloads() == before


def test_broken_download_is_resumed(server: Hub) -> None:
    name = "SmolVLM-256M-Instruct-f16.gguf"
    server.cut[name] = [2500]
    files = hub.pull("256m")
    assert server.ranges(name) == ["", "bytes=2000-"]
    assert files.gguf is not None and files.gguf.read_bytes() == language_half(name)


def test_lost_connection_is_an_error_and_the_next_pull_completes(server: Hub) -> None:
    name = "SmolVLM-256M-Instruct-f16.gguf"
    server.cut[name] = [2500] + [0] * 6
    with pytest.raises(OfflineError, match="cannot be reached .* pull again: it goes on where it ended"):
        hub.pull("256m")
    with pytest.raises(ModelError, match="not on this machine"):
        resolve.resolve(Model(model="256m"), "llamacpp")
    server.cut.clear()
    server.log.clear()
    files = hub.pull("256m")
    assert files.gguf is not None and files.gguf.read_bytes() == language_half(name)
    assert server.ranges(name) == ["bytes=2000-"]


def test_checkpoint_is_fetched_without_onnx(server: Hub) -> None:
    files = hub.pull("256m", "checkpoint")
    assert files.gguf is None
    assert files.checkpoint is not None
    fetched = sorted(path.name for path in files.checkpoint.rglob("*") if path.is_file())
    assert fetched == ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"]
    assert resolve.resolve(Model(model="256m"), "torch") == replace(files, notice="")


def test_all_fetches_both_formats(server: Hub) -> None:
    files = hub.pull("256m", "all")
    assert files.can_run_on("torch") and files.can_run_on("llamacpp")


@pytest.mark.parametrize(("repo", "backend"), [(PAIR_REPO, "llamacpp"), (CHECKPOINT_REPO, "torch")])
def test_hub_id_fetches_the_format_it_has(server: Hub, repo: str, backend: str) -> None:
    assert hub.pull(repo).can_run_on(backend)
    assert resolve.resolve(Model(model=repo), backend).name == repo


def test_hub_id_without_the_wanted_format(server: Hub) -> None:
    with pytest.raises(ModelError, match="no .gguf with its mmproj; try --for torch"):
        hub.pull(CHECKPOINT_REPO, "gguf")
    with pytest.raises(ModelError, match="lacks config.json, tokenizer.json or safetensors; try --for llamacpp"):
        hub.pull(PAIR_REPO, "checkpoint")


def test_language_half_without_mmproj_is_not_fetched(server: Hub) -> None:
    server.repos["org/text"] = {"text-Q8_0.gguf": b"x"}
    with pytest.raises(ModelError, match="org/text: holds a language model without its vision half"):
        hub.pull("org/text")
    assert server.downloads() == []


QWEN = {"config.json": b'{"model_type": "qwen2_vl"}', "tokenizer.json": b"{}", "model.safetensors": b"weights"}
GPT2 = QWEN | {"config.json": b'{"model_type": "gpt2"}'}
SHARD = "model-0000{}-of-00003.safetensors"
INDEX = json.dumps({"weight_map": {name: SHARD.format(n) for n, name in enumerate("abc", start=1)}}).encode()
HALF = {
    "config.json": IDEFICS3, "tokenizer.json": b"{}", "model.safetensors.index.json": INDEX, SHARD.format(1): b"x",
}  # fmt: skip
UNSUPPORTED = {
    "another family": (
        QWEN, "is a model of type qwen2_vl, and smolcli runs only smolvlm and idefics3; transformers may run it",
    ),
    "a text model": (GPT2, "is a model of type gpt2, and smolcli runs only smolvlm and idefics3"),
    "no type": (QWEN | {"config.json": b"{}"}, "config.json that names no model_type"),
    "no config": (QWEN | {"config.json": b"<html>"}, "its config.json is not JSON"),
    "half a checkpoint": (HALF, f"lacks {SHARD.format(2)}, and 1 more of its 3 files of weights; it is not whole"),
    "a config.json that is too deep": (QWEN | {"config.json": b"[" * 100_000}, "its config.json is not JSON"),
    "an index of lists": (
        {**HALF, "model.safetensors.index.json": b'{"weight_map": {"a": ["x"], "b": [["y"]]}}'}, "names no files",
    ),
    "an index of numbers": (
        {**HALF, "model.safetensors.index.json": b'{"weight_map": {"a": 1, "b": "x"}}'}, "names no files",
    ),
    "no shards at all": ({**HALF, "model.safetensors.index.json": b"{}"}, "names no files"),
    "weights without an index": (
        {"config.json": IDEFICS3, "tokenizer.json": b"{}", SHARD.format(1): b"weights"}, "lacks model.safetensors; it",
    ),
    "a vision half that llama.cpp does not know": (
        {"q-Q8_0.gguf": language_half("q"), "mmproj-q-Q8_0.gguf": vision_half("m", "paligemma_linear")},
        "it has a projector of type paligemma_linear, which this llama.cpp does not know; pip install -U llama-cpp-pyt",
    ),
    "a language half that llama.cpp does not know": (
        {"q-Q8_0.gguf": gguf(general__architecture="molmoe"), "mmproj-q-Q8_0.gguf": vision_half("m")},
        "it has an architecture molmoe, which this llama.cpp does not know; pip install -U llama-cpp-python may bring",
    ),
    "two vision halves": (
        {"q-Q8_0.gguf": gguf(general__architecture="clip"), "mmproj-q-Q8_0.gguf": vision_half("m")},
        "its language half is not a language model; give the language half of the pair",
    ),
    "no GGUF inside": ({"q-Q8_0.gguf": b"<html>", "mmproj-q-Q8_0.gguf": vision_half("m")}, "is not a GGUF file"),
    "a language half alone": (
        {"q-Q8_0.gguf": language_half("q")},
        "holds a language model without its vision half (mmproj); llama-cli -hf org/other may run it, without pictures",
    ),
    "a vision half alone": ({"mmproj-q-Q8_0.gguf": vision_half("q")}, "holds no .gguf with its mmproj"),
    "a language half in parts": (
        {"q-00001-of-00002.gguf": b"", "mmproj-q.gguf": vision_half("q")}, "holds no .gguf with its mmproj",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_smolcli_does_not_run_is_refused_before_its_weights_are_fetched(server: Hub, name: str) -> None:
    server.repos["org/other"], message = UNSUPPORTED[name]
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        hub.pull("org/other")
    assert str(caught.value).startswith("org/other: ")
    assert caught.value.code == 3
    assert server.downloads() == []
    assert hub_cache.cached_ids() == []


@pytest.mark.parametrize("backend", ["llamacpp", "numpy"])
def test_a_pair_of_another_family_is_fetched_if_llama_cpp_knows_it(
    server: Hub, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repos["org/other"] = {
        "q-Q8_0.gguf": gguf(general__architecture="qwen2vl"),
        "mmproj-q-Q8_0.gguf": vision_half("m", "qwen2vl_merger"),
    }
    if backend == "numpy":  # alone
        monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "llama_cpp" else True)
        with pytest.raises(UnavailableError, match=r"a model of another family needs .*'smolcli\[llamacpp\]'"):
            hub.pull("org/other")
        assert server.downloads() == []
        return
    files = hub.pull("org/other")
    assert files.gguf is not None and files.mmproj is not None
    assert family.is_other_family(files) and family.backends_here(files) == ["llamacpp"]
    assert hub_cache.cached_ids() == ["org/other"]


def test_ctrl_c_ends_a_stalled_download_and_the_next_pull_goes_on_from_there(server: Hub, tmp_path: Path) -> None:
    name, sent = "SmolVLM-256M-Instruct-f16.gguf", 5 << 19
    server.repos[PAIR_REPO][name] += blob("more", 3 << 20)
    server.stalls[name] = sent
    command = [sys.executable, "-m", "smolcli", "models", "pull", "256m"]
    pulling = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stalled.wait(60)
        blobs = tmp_path / "hf" / "hub" / f"models--{PAIR_REPO.replace('/', '--')}" / "blobs"
        deadline = time.monotonic() + 60
        while sum(part.stat().st_size for part in blobs.glob("*.incomplete")) < 2 << 20 and time.monotonic() < deadline:
            server.done.wait(0.01)
        pulling.send_signal(signal.SIGINT)
        output, message = pulling.communicate(timeout=20)  # the library's own timeouts add up to more than a minute
    finally:
        pulling.kill()
    assert (pulling.returncode, output) == (130, "")
    assert message == "smolcli: stopped; what was fetched is kept, and the same command goes on from there\n"
    server.stalls.clear()
    server.log.clear()
    files = hub.pull("256m")
    assert files.gguf is not None and files.gguf.read_bytes() == server.repos[PAIR_REPO][name]
    assert server.ranges(name) == [f"bytes={2 << 20}-"]  # a whole MiB is written at a time


def test_content_that_was_damaged_on_its_way_is_fetched_anew(server: Hub, tmp_path: Path) -> None:
    name = "SmolVLM-256M-Instruct-f16.gguf"
    blobs = tmp_path / "hf" / "hub" / f"models--{PAIR_REPO.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{digest(language_half(name))}.smolcli.incomplete").write_bytes(b"from another file")
    with pytest.raises(ModelError, match=f"{name} was damaged on its way; pull again"):
        hub.pull("256m")
    files = hub.pull("256m")
    assert files.gguf is not None and files.gguf.read_bytes() == language_half(name)


def test_not_on_the_hub(server: Hub) -> None:
    with pytest.raises(ModelError, match="org/none: not on the hub, or private; check the name"):
        hub.pull("org/none")


def test_gated_repository(server: Hub) -> None:
    server.gated.add(CHECKPOINT_REPO)
    with pytest.raises(ModelError, match=f"login and consent; accept its terms on {server.url}/{CHECKPOINT_REPO}"):
        hub.pull(CHECKPOINT_REPO)


def test_server_error_of_the_hub(server: Hub) -> None:
    server.down = True
    with pytest.raises(OfflineError, match="the hub answers 503; try again later"):
        hub.pull("256m")


def test_hub_out_of_reach(server: Hub) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(OfflineError, match="cannot be reached .*; check the network and pull again") as caught:
        hub.pull("256m")
    assert "\n" not in str(caught.value)


def test_full_disk_is_an_error_before_the_download(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 5999})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match="needs 0.0 MB, .* has 0.0 MB free; free some space, or set HF_HOME"):
        hub.pull("256m")
    assert server.downloads() == []


def test_offline_makes_no_request(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OfflineError, match="256m: not on this machine and --offline forbids the network"):
        hub.pull("256m", offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="HF_HUB_OFFLINE forbids the network; pull it without HF_HUB_OFFLINE"):
        hub.pull("256m")
    assert server.log == []


def test_offline_returns_what_is_in_the_cache(server: Hub) -> None:
    files = hub.pull("256m")
    assert hub.pull("256m", offline=True) == replace(files, notice="")
    with pytest.raises(OfflineError):
        hub.pull("256m", "all", offline=True)


def test_offline_heeds_the_quantization(server: Hub) -> None:
    recommended = replace(hub.pull("256m"), notice="")
    with pytest.raises(OfflineError, match="256m: not on this machine in Q8_0 and --offline forbids the network"):
        hub.pull("256m", quant="q8_0", offline=True)
    q8_0 = replace(hub.pull("256m", quant="q8_0"), notice="")
    assert hub.pull("256m", quant="q8_0", offline=True) == q8_0 != recommended
    assert hub.pull("256m", offline=True) == hub.pull("256m", quant="f16", offline=True) == recommended
    assert hub.pull(PAIR_REPO, quant="q8_0", offline=True).gguf == q8_0.gguf


def test_offline_refuses_another_family_that_another_program_has_fetched(server: Hub) -> None:
    server.repos["org/other"] = QWEN
    huggingface_hub.snapshot_download("org/other", cache_dir=hub_cache.cache_dir(), endpoint=server.url)
    with pytest.raises(ModelError, match="is a model of type qwen2_vl"):
        hub.pull("org/other", offline=True)


def test_nano_needs_no_pull(server: Hub) -> None:
    assert hub.pull("nano").name == "nano"
    assert server.log == []


def test_neither_name_nor_hub_id(server: Hub) -> None:
    with pytest.raises(ModelError, match="1t: not a known name or Hugging Face id; smolcli models list"):
        hub.pull("1t")


def test_pull_and_list_commands(server: Hub) -> None:
    runner = CliRunner()
    pulled = runner.invoke(app, ["pull", "256m", "--quant", "q8_0"])
    assert [Path(line).name for line in pulled.stdout.splitlines()] == [
        "SmolVLM-256M-Instruct-Q8_0.gguf",
        "mmproj-SmolVLM-256M-Instruct-Q8_0.gguf",
    ]
    hub.pull(PAIR_REPO)
    header, *listed = [line.split("\t") for line in runner.invoke(app, ["list"]).stdout.splitlines()]
    assert header[0] == "name"
    assert [cells[:3] for cells in listed if cells[0] == "256m"] == [["256m", "llamacpp,numpy", "517800000"]]
    rows = json.loads(runner.invoke(app, ["list", "--json"]).stdout)
    assert [row["name"] for row in rows] == [cells[0] for cells in listed]
    paths = next(row["paths"] for row in rows if row["name"] == "256m")
    assert [paths["gguf"], paths["mmproj"]] == pulled.stdout.splitlines()


# ---- convert-to-gguf HUB_ID ------------------------------------------------------------------------


def converted(*words: object) -> list[str]:
    """Return the names of the files that convert-to-gguf prints."""
    done = CliRunner().invoke(make_app(), ["convert-to-gguf", *map(str, words)], catch_exceptions=False)
    return [Path(line).name for line in done.stdout.split()]


def put(server: Hub, repo: str, directory: Path) -> None:
    server.repos[repo] = {path.name: path.read_bytes() for path in directory.iterdir()}


def test_hub_id_is_fetched_and_converted(server: Hub, tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "x", "v2", shard_size="200KB")
    (source / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: org/Base-1B\n---\n")
    put(server, "org/My-Tiny", source)
    assert converted("org/My-Tiny", "-o", tmp_path / "out") == ["My-Tiny-Q8_0.gguf", "mmproj-My-Tiny-F16.gguf"]
    keys = GGUFReader(tmp_path / "out" / "My-Tiny-Q8_0.gguf").fields
    assert keys["general.source.repo_url"].contents() == "https://huggingface.co/org/My-Tiny"
    assert keys["general.name"].contents() == "My-Tiny"
    assert keys["general.license"].contents() == "apache-2.0"
    assert keys["general.base_model.0.repo_url"].contents() == "https://huggingface.co/org/Base-1B"
    before = list(server.log)
    assert converted("org/My-Tiny", "-o", tmp_path / "again")  # it is in the cache now, so there is no request
    assert converted("org/My-Tiny", "-o", tmp_path / "offline", "--offline")
    assert server.log == before


def test_base_model_of_an_adapter_is_fetched(server: Hub, tmp_path: Path) -> None:
    put(server, "org/My-Tiny", make_checkpoint(tmp_path / "x", "v2"))
    tuned = tmp_path / "receipts"
    tuned.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "org/My-Tiny"}
    (tuned / "adapter_config.json").write_text(json.dumps(config))
    place = "base_model.model.model.text_model.layers.0.self_attn.q_proj.lora_"
    save_file({f"{place}A.weight": torch.ones(1, 64), f"{place}B.weight": torch.ones(64, 1)},
              tuned / "adapter_model.safetensors")  # fmt: skip
    names = converted(tuned, "-o", tmp_path / "out")
    assert names == ["My-Tiny-receipts-Q8_0.gguf", "mmproj-My-Tiny-receipts-F16.gguf"]
    keys = GGUFReader(tmp_path / "out" / names[0]).fields
    assert keys["general.base_model.0.repo_url"].contents() == "https://huggingface.co/org/My-Tiny"
    assert "general.source.repo_url" not in keys


def test_hub_id_that_cannot_be_converted(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="org/none: not on the hub, or private"):
        converted("org/none", "-o", tmp_path)
    with pytest.raises(OfflineError, match="org/none: not on this machine and --offline forbids the network"):
        converted("org/none", "-o", tmp_path, "--offline")
    server.repos["org/pickle"] = {"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b""}
    with pytest.raises(
        ModelError, match="org/pickle: has its weights in pickle files only, and unpickling runs code; ask"
    ):
        converted("org/pickle", "-o", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OfflineError, match="org/My-Tiny: the hub cannot be reached"):
        converted("org/My-Tiny", "-o", tmp_path)
