"""models/hub.py with a hub that lists what the real one did: files that run, digests, repositories made again."""

from __future__ import annotations

import copy
import hashlib
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from smolcli import registry
from smolcli.commands.models import app
from smolcli.converters import convert
from smolcli.errors import ModelError, OfflineError
from smolcli.models import catalog_facts, hub, hub_cache, resolve
from smolcli.models.catalog import CATALOG
from smolcli.models.files import ModelFiles
from smolcli.models.hub_select import Format
from smolcli.nano.evaluate import answers
from smolcli.options import Model
from smolcli.types import Frame, Prompt
from tests.hub_server import IDEFICS3, PAIR_REPO, Hub, blob, digest, language_half, vision_half
from tests.tiny import make_checkpoint

LISTINGS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "hub_listings.json").read_text())
# What the real repositories have besides, of which nothing runs.
OTHERS = (".gitattributes", "README.md", "onnx/config.json", "onnx/model.onnx", "model.onnx", "training_args.bin",
          "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")  # fmt: skip
CONFIGURATION = [
    "README.md", "chat_template.json", "config.json", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", "tokenizer.json", "tokenizer_config.json",
]  # fmt: skip
WEIGHTS = {
    "2.2b": ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
}
PAIRS = {
    "2.2b": ("SmolVLM2-2.2B-Instruct", "Q8_0"),
    "2.2b-v1": ("SmolVLM-Instruct", "Q8_0"),
    "500m": ("SmolVLM-500M-Instruct", "Q8_0"),
    "500m-video": ("SmolVLM2-500M-Video-Instruct", "Q8_0"),
    "256m": ("SmolVLM-256M-Instruct", "f16"),
    "256m-video": ("SmolVLM2-256M-Video-Instruct", "f16"),
    "docling": ("granite-docling-258M", "Q8_0"),
}
REMADE = "256m-video"
REMADE_REPO = "ggml-org/SmolVLM2-256M-Video-Instruct-GGUF"
F16 = "SmolVLM2-256M-Video-Instruct-f16.gguf"
FULL = "1" * 40


def content(name: str) -> bytes:
    """Make a tiny file that is good enough for the looks at the beginning of it."""
    if name == "config.json":
        return IDEFICS3
    if name == "model.safetensors.index.json":
        return json.dumps({"weight_map": {str(n): name for n, name in enumerate(WEIGHTS["2.2b"][:2])}}).encode()
    if name.endswith(".gguf"):
        return (vision_half if name.startswith("mmproj") else language_half)(name)
    return blob(name, 100)


@pytest.fixture
def listed(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Serve every repository of the catalog with the files of its listing, and have the catalog know the tiny ones.

    Their bytes and digests take the place of the published ones, and each commit has 40 digits.
    """
    tables = copy.deepcopy(catalog_facts._tables())
    server.repos.clear()
    for name, entry in CATALOG.items():
        for repo, table in ((entry.repo, tables[name]["checkpoint"]), (entry.gguf_repo, tables[name]["pair"])):
            names = {*LISTINGS.get(repo, {"files": {}})["files"], *table["files"], *OTHERS}
            if repo == entry.repo:
                names |= {"config.json", "tokenizer.json"} if name == "docling" else set(CONFIGURATION)
            server.repos[repo] = {file: content(file) for file in sorted(names)}
            known = {file: server.repos[repo][file] for file in table["files"]}
            table["files"] = {file: {"bytes": len(data), "sha256": digest(data)} for file, data in known.items()}
            table["revision"] = server.commits[repo] = FULL
    monkeypatch.setattr(catalog_facts, "_tables", lambda: tables)
    return server


@pytest.fixture
def announced(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Serve every repository of the catalog at its commit, and announce the bytes and digests of the public listings.

    The catalog is the real one and tells what the listings do not. The contents are tiny, so nothing but the beginnings
    of files can be fetched. Zeros follow digests and commits of which only the first digits were published.
    """
    server.repos.clear()
    for name, entry in CATALOG.items():
        facts = catalog_facts.facts_of(entry)
        for known in (facts.checkpoint, facts.pair):
            listing = LISTINGS.get(known.repo, {"revision": "", "files": {}})
            names = {*listing["files"], *known.files, *OTHERS}
            names |= {*configuration_of(name)} if known is facts.checkpoint else set()
            server.repos[known.repo] = {file: content(file) for file in sorted(names)}
            server.commits[known.repo] = (listing.get("revision") or known.revision).ljust(40, "0")
            for file in names:
                size, sha256 = listing["files"].get(file, (None, None))
                fact = known.files.get(file, catalog_facts.KnownFile(100))
                sha256 = (sha256 or fact.sha256).ljust(64, "0") if file.endswith((".safetensors", ".gguf")) else None
                server.announced[known.repo, file] = size or fact.size, sha256
    return server


@pytest.fixture
def planned(announced: Hub, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, int]]:
    """Note what a pull would fetch of each repository, with its bytes, in place of fetching it."""
    wanted: dict[str, dict[str, int]] = {}

    def fetch(source: hub.Source, commit: str, sizes: dict[str, int], _: object) -> tuple[Path, list[str]]:
        wanted[source.repo] = dict(sizes)
        return hub_cache.repo_folder(source.repo) / "snapshots" / commit, []

    monkeypatch.setattr(hub, "_fetch", fetch)
    return wanted


def configuration_of(name: str) -> list[str]:
    """The files besides the weights that a checkpoint of the catalog is run with."""
    renamed = {"chat_template.json": "chat_template.jinja"} if name == "docling" else {}
    return [renamed.get(file, file) for file in CONFIGURATION]


def fetched(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", CATALOG)
def test_a_pair_is_its_two_files_in_the_recommended_quantization(listed: Hub, name: str) -> None:
    files = hub.pull(name)
    stem, quant = PAIRS[name]
    names = [f"{stem}-{quant}.gguf", f"mmproj-{stem}-{quant}.gguf"]
    assert files.gguf is not None and files.mmproj is not None and files.checkpoint is None
    assert fetched(files.gguf.parent) == sorted(listed.downloads()) == names
    assert [files.gguf.name, files.mmproj.name] == names and files.notice == ""
    assert resolve.find_files(name) == files and files.can_run_on("llamacpp")


@pytest.mark.parametrize("name", CATALOG)
def test_a_checkpoint_is_the_files_that_are_read(listed: Hub, name: str) -> None:
    files = hub.pull(name, "checkpoint")
    assert files.checkpoint is not None
    assert fetched(files.checkpoint) == sorted([*configuration_of(name), *WEIGHTS.get(name, ["model.safetensors"])])
    assert sorted(set(listed.downloads())) == fetched(files.checkpoint)
    assert resolve.find_files(name) == files and files.can_run_on("torch")


@pytest.mark.parametrize("name", CATALOG)
def test_of_the_listed_files_those_that_run_are_taken_with_the_listed_bytes(
    announced: Hub, planned: dict[str, dict[str, int]], name: str
) -> None:
    entry, (stem, quant) = CATALOG[name], PAIRS[name]
    files = hub.pull(name, "all")
    wanted = {
        entry.gguf_repo: {f"{stem}-{quant}.gguf", f"mmproj-{stem}-{quant}.gguf"},
        entry.repo: {*configuration_of(name), *WEIGHTS.get(name, ["model.safetensors"])},
    }
    assert {repo: set(sizes) for repo, sizes in planned.items()} == wanted
    for repo, sizes in planned.items():
        for file, (size, _) in LISTINGS.get(repo, {"files": {}})["files"].items():
            assert sizes.get(file, size) == size or size is None
    assert announced.downloads() == [] and files.notice == ""


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.repo in LISTINGS])
def test_a_listing_with_other_weights_is_refused(announced: Hub, planned: dict[str, dict[str, int]], name: str) -> None:
    weights = WEIGHTS.get(name, ["model.safetensors"])[0]
    size, sha256 = LISTINGS[CATALOG[name].repo]["files"][weights]
    for other in ((size + 1, sha256), (size, "f" * 64)):
        announced.announced[CATALOG[name].repo, weights] = other
        with pytest.raises(ModelError, match=f"{weights} has .* is not the file that was published"):
            hub.pull(name, "checkpoint")
    assert planned == {}


@pytest.mark.parametrize("backend", ["llamacpp", "torch", "numpy"])
def test_what_is_fetched_answers(listed: Hub, tmp_path: Path, backend: str) -> None:
    """A model of two layers in the place of 256m, with all that the repositories have besides."""
    folder = make_checkpoint(tmp_path / "Tiny", "v1", tile=512)
    halves = dict(zip(("", "mmproj-"), convert(folder, tmp_path / "pair", "f16", "f16"), strict=True))
    listed.repos[CATALOG["256m"].repo] |= {path.name: path.read_bytes() for path in folder.iterdir()}
    listed.repos[PAIR_REPO] |= {
        f"{half}{PAIRS['256m'][0]}-f16.gguf": path.read_bytes() for half, path in halves.items()
    }
    listed.commits |= dict.fromkeys((CATALOG["256m"].repo, PAIR_REPO), "2" * 40)
    files = hub.pull("256m", "gguf" if backend == "llamacpp" else "checkpoint")
    options = Model(threads=1, device="cpu", dtype="float32" if backend == "torch" else "auto")
    originals = ModelFiles("Tiny", folder, halves[""], halves["mmproj-"])
    prompt = Prompt.user(Frame(bytes(3 * 8 * 8), 8, 8), "What is this?")
    replies = []
    for one in (files, originals):
        with closing(registry.load(registry.BACKENDS, backend)(one, options)) as runner:
            replies.append(answers(runner, [prompt], 8))
    assert replies[0] == replies[1] != [""]


def test_a_repository_is_compared_by_its_id_too(listed: Hub) -> None:
    repo = CATALOG["256m"].repo
    listed.repos[repo]["model.safetensors"] += b"!"
    with pytest.raises(ModelError, match="model.safetensors has 101 bytes, not 100, and is not the file that was"):
        hub.pull(repo)
    listed.commits[repo] = "2" * 40
    assert "was made again since" in hub.pull(repo).notice
    assert catalog_facts.find_repository("org/other") is None


def test_shards_that_the_index_does_not_name_are_left_out(listed: Hub) -> None:
    listed.repos[CATALOG["2.2b"].repo]["adapter_model.safetensors"] = b"another's"
    hub.pull("2.2b", "checkpoint")
    assert "adapter_model.safetensors" not in listed.downloads()


def test_a_whole_file_is_taken_before_shards(listed: Hub) -> None:
    listed.repos[CATALOG["2.2b"].repo]["model.safetensors"] = b"whole"
    files = hub.pull("2.2b", "checkpoint")
    assert files.checkpoint is not None
    assert [file for file in fetched(files.checkpoint) if "safetensors" in file] == ["model.safetensors"]


def test_another_file_at_the_published_commit_is_refused_before_it_is_fetched(listed: Hub) -> None:
    listed.repos[REMADE_REPO][F16] = language_half(F16)[:-1] + b"!"
    with pytest.raises(ModelError, match=f"{REMADE_REPO}: {F16} has the SHA-256 .*is not the file that was published"):
        hub.pull(REMADE)
    assert listed.downloads() == []


def test_another_small_file_at_the_published_commit_is_refused(listed: Hub) -> None:
    repo = CATALOG["256m"].repo
    for name in ("tokenizer.json", "preprocessor_config.json"):
        listed.repos[repo][name] = b"x" * len(listed.repos[repo][name])
    for _ in range(2):
        with pytest.raises(ModelError, match=".json has the SHA-256 .* is not the file that was published"):
            hub.pull("256m", "checkpoint")
        cached = {path.name for path in hub_cache.repo_folder(repo).rglob("*") if path.is_file()}
        assert "config.json" in cached and not cached & {"tokenizer.json", "preprocessor_config.json"}
        assert not any(b"xxx" in path.read_bytes() for path in hub_cache.repo_folder(repo).glob("blobs/*"))
        assert resolve.find_files("256m").formats == set()


def test_weights_of_which_the_hub_tells_no_digest_are_compared(listed: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.hub_server.LARGE", ())
    monkeypatch.setattr("tests.hub_server.digest", lambda data: f"v1-{hashlib.sha1(data).hexdigest()}")
    good = listed.repos[REMADE_REPO][F16]
    listed.repos[REMADE_REPO][F16] = good[:-1] + b"!"
    with pytest.raises(ModelError, match=f"{F16} has the SHA-256 .* is not the file that was published"):
        hub.pull(REMADE)
    assert resolve.find_files(REMADE).formats == set()
    listed.repos[REMADE_REPO][F16] = good
    assert hub.pull(REMADE).can_run_on("llamacpp")


@pytest.mark.parametrize("file_format", ["gguf", "checkpoint"])
def test_what_is_fetched_is_of_the_commit_that_was_checked(listed: Hub, file_format: Format) -> None:
    hub.pull("256m", file_format)
    fetches = [path for _, path, _ in listed.log if "/resolve/" in path]
    assert fetches and all(f"/resolve/{FULL}/" in path for path in fetches)
    assert resolve.find_files("256m").formats == {file_format, "any"}
    repo = PAIR_REPO if file_format == "gguf" else CATALOG["256m"].repo
    assert (hub_cache.repo_folder(repo) / "refs" / "main").read_text() == FULL


@pytest.mark.parametrize(("revision", "commit"), [("3" * 40, "2" * 40), (None, "../../outside"), ("3" * 40, None)])
def test_a_hub_that_answers_with_another_commit_is_refused(
    revision: str | None, commit: str | None, listed: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = SimpleNamespace(sha=commit, siblings=[])
    monkeypatch.setattr("smolcli.models.hub.HfApi.model_info", lambda self, repo, **options: info)
    with pytest.raises(ModelError, match=f"{PAIR_REPO}: the hub answers with the commit {commit}"):
        hub.pull("256m", revision=revision)
    assert listed.log == []


def test_a_repository_that_was_made_again_is_told_and_fetched(listed: Hub) -> None:
    listed.commits[REMADE_REPO] = "2" * 40
    listed.repos[REMADE_REPO][F16] += b"more"
    files = hub.pull(REMADE)
    size = len(language_half(F16))
    assert files.notice == (
        f"{REMADE_REPO}: was made again since smolcli's list of models: {F16} has {size + 4:,} bytes, not {size:,}; "
        f"--revision {FULL} pulls the files that are known"
    )
    assert files.gguf is not None and files.gguf.read_bytes() == listed.repos[REMADE_REPO][F16]


def test_a_new_commit_with_the_same_files_is_not_told(listed: Hub) -> None:
    listed.commits[REMADE_REPO] = "2" * 40
    listed.repos[REMADE_REPO]["README.md"] = b"a new text"
    assert hub.pull(REMADE).notice == ""


def test_what_is_served_must_be_what_was_announced(listed: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror whose digests are no SHA-256 tells nothing; then the published digest decides."""
    monkeypatch.setattr("tests.hub_server.LARGE", ())
    monkeypatch.setattr("tests.hub_server.digest", lambda data: hashlib.sha1(data).hexdigest())
    good = listed.repos[REMADE_REPO][F16]
    listed.repos[REMADE_REPO][F16] = good[:-1] + b"!"
    with pytest.raises(ModelError, match=f"{F16} was damaged on its way; pull again"):
        hub.pull(REMADE)
    listed.repos[REMADE_REPO][F16] = good
    assert hub.pull(REMADE).can_run_on("llamacpp")


def test_the_command_tells_it_once_and_goes_on(listed: Hub) -> None:
    listed.commits[REMADE_REPO] = "2" * 40
    listed.repos[REMADE_REPO][F16] += b"more"
    done = CliRunner().invoke(app, ["pull", REMADE])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 2
    assert done.stderr.startswith(f"smolcli: {REMADE_REPO}: was made again since")
    assert CliRunner().invoke(app, ["pull", REMADE, "-q"]).stderr == ""


def test_a_revision_is_pulled_beside_main(listed: Hub) -> None:
    listed.commits[PAIR_REPO] = "2" * 40
    first = hub.pull("256m")
    listed.commits[PAIR_REPO] = "3" * 40
    second = hub.pull("256m", revision="3" * 40)
    assert first.gguf is not None and second.gguf is not None
    assert (first.gguf.parent.name, second.gguf.parent.name) == ("2" * 40, "3" * 40)
    assert hub.pull("256m", revision="3" * 40, offline=True) == second
    assert resolve.find_files("256m") == first  # that of main
    with pytest.raises(OfflineError, match="256m: not on this machine"):
        hub.pull("256m", revision="4" * 40, offline=True)


def test_a_revision_that_is_not_there(listed: Hub) -> None:
    with pytest.raises(ModelError, match=f"{PAIR_REPO}: has no such revision; give a branch, a tag or all 40 digits"):
        hub.pull("256m", revision="v9")
    with pytest.raises(ModelError, match="--revision is one of a single repository, and --for all takes two"):
        hub.pull("256m", "all", revision="v9")


def test_a_download_in_a_revision_goes_on_where_it_ended(listed: Hub) -> None:
    name = "SmolVLM-256M-Instruct-f16.gguf"
    listed.cut[name] = [2500] + [0] * 6
    with pytest.raises(OfflineError):
        hub.pull("256m", revision=FULL)
    listed.cut.clear()
    listed.log.clear()
    files = hub.pull("256m", revision=FULL)
    assert files.gguf is not None and files.gguf.read_bytes() == listed.repos[PAIR_REPO][name]
    assert listed.ranges(name) == ["bytes=2000-"]


def test_a_server_that_sends_the_whole_file_again(listed: Hub) -> None:
    name = "SmolVLM-256M-Instruct-f16.gguf"
    listed.cut[name] = [2500]
    listed.ignores_ranges = True
    files = hub.pull("256m")
    assert files.gguf is not None and files.gguf.read_bytes() == listed.repos[PAIR_REPO][name]
    assert listed.ranges(name) == ["", "bytes=2000-"]
