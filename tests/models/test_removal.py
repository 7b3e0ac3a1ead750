"""models/removal.py: the folders of a model in the cache, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolcli.errors import ModelError, OutputError, UsageError
from smolcli.models.removal import find_removal
from tests.helpers import gguf

PAIR = "models--ggml-org--SmolVLM-256M-Instruct-GGUF"
CHECKPOINT = "models--HuggingFaceTB--SmolVLM-256M-Instruct"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with both formats of 256m, as the hub's library lays it out, and a model of another family."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "hub"
    put(cache, PAIR, "a.gguf", b"12345")
    put(cache, CHECKPOINT, "config.json", b'{"model_type": "idefics3"}')
    put(cache, "models--openai--gpt2", "config.json", b'{"model_type": "gpt2"}')
    (cache / ".locks" / PAIR).mkdir(parents=True)
    return cache


def put(cache: Path, folder: str, name: str, content: bytes) -> None:
    blob = cache / folder / "blobs" / ("e" * 64)
    link = cache / folder / "snapshots" / "abc" / name
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)


def folders(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("models--*")}


def test_both_formats_go_and_a_link_has_no_bytes(cache: Path) -> None:
    before = folders(cache)
    removal = find_removal("256m")
    assert removal.bytes == len(b"12345") + len(b'{"model_type": "idefics3"}')
    removal.remove()
    assert before - folders(cache) == {PAIR, CHECKPOINT}
    assert not (cache / ".locks" / PAIR).exists()


@pytest.mark.parametrize(("file_format", "gone"), [("gguf", PAIR), ("checkpoint", CHECKPOINT)])
def test_one_format_goes(cache: Path, file_format: str, gone: str) -> None:
    before = folders(cache)
    find_removal("256m", file_format).remove()
    assert before - folders(cache) == {gone}


def test_a_hub_id_and_what_was_fetched_of_it_in_part(cache: Path) -> None:
    part = cache / "models--org--mine" / "blobs" / "x.smolcli.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"123")
    removal = find_removal("org/mine")
    assert removal.bytes == 3
    removal.remove()
    assert not (cache / "models--org--mine").exists()


def test_what_another_program_pulled_stays(cache: Path) -> None:
    with pytest.raises(
        ModelError, match="openai/gpt2: is a model of type gpt2.*another program may have pulled it; hf cache rm"
    ):
        find_removal("openai/gpt2")


LANGUAGE_MODEL = gguf(general__architecture="llama")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("llama-Q8_0.gguf", LANGUAGE_MODEL),
        ("model_index.json", b'{"_class_name": "StableDiffusionPipeline"}'),
        ("unet/config.json", b'{"model_type": "idefics3"}'),
        ("config.json", b"damaged"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[" * 100_000),
        ("tokenizer.json", b"{}"),
    ],
)
def test_what_is_not_known_to_be_ours_stays(cache: Path, name: str, content: bytes) -> None:
    put(cache, "models--org--other", name, content)
    with pytest.raises(ModelError, match="org/other: .*; another program may have pulled it; hf cache rm") as caught:
        find_removal("org/other")
    assert caught.value.code == 3


def test_blobs_of_another_program_stay(cache: Path) -> None:
    blob = cache / "models--org--other" / "blobs" / ("e" * 64)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"123")
    with pytest.raises(ModelError, match="org/other: holds no model that smolcli runs; another program"):
        find_removal("org/other")


def test_a_config_that_cannot_be_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **options: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ModelError, match="openai/gpt2: its files cannot be read .*Permission denied"):
        find_removal("openai/gpt2")


def test_a_hub_id_is_removed_in_the_format_that_is_asked_for_or_not_at_all(cache: Path) -> None:
    put(cache, "models--org--mine", "config.json", b'{"model_type": "idefics3"}')
    for repo, kind, other in (
        ("ggml-org/SmolVLM-256M-Instruct-GGUF", "gguf", "checkpoint"),
        ("HuggingFaceTB/SmolVLM-256M-Instruct", "checkpoint", "gguf"),
        ("org/mine", "checkpoint", "gguf"),
    ):
        with pytest.raises(UsageError, match=f"{repo}: its .* is not all that it holds; leave out --for"):
            find_removal(repo, other)
        find_removal(repo, kind).remove()
    assert folders(cache) == {"models--openai--gpt2"}


def test_a_pair_pulled_by_its_id_goes(cache: Path) -> None:
    folder = cache / "models--org--mine" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "mine-Q8_0.gguf").write_bytes(LANGUAGE_MODEL)
    (folder / "mmproj-mine-Q8_0.gguf").write_bytes(gguf(general__architecture="clip", clip__projector_type="idefics3"))
    find_removal("org/mine", "gguf").remove()
    assert not (cache / "models--org--mine").exists()


def test_files_of_the_user_stay(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "org" / "mine").mkdir(parents=True)
    put(cache, "models--org--mine", "config.json", b'{"model_type": "idefics3"}')
    for name in (str(tmp_path), "org/mine", ".", str(cache / PAIR)):
        with pytest.raises(UsageError, match="only models in the cache are removed"):
            find_removal(name)
    with pytest.raises(UsageError, match="nano is a part of smolcli"):
        find_removal("nano")


@pytest.mark.parametrize("name", ["../hub", "org/..", "org/../x", "1t", "~/x"])
def test_what_is_no_id_is_no_folder(cache: Path, name: str) -> None:
    with pytest.raises((ModelError, UsageError)):
        find_removal(name)


def test_a_link_in_the_cache_is_not_followed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (cache / "models--org--linked").symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="is a link"):
        find_removal("org/linked")


def test_a_model_that_is_not_here(cache: Path) -> None:
    with pytest.raises(ModelError, match="500m: not on this machine; smolcli models list"):
        find_removal("500m")


def test_a_folder_that_cannot_be_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    removal = find_removal("256m")
    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(OutputError, match=f"{PAIR}: cannot be removed .Permission denied."):
        removal.remove()
