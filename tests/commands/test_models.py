"""`smolcli models`: the list, as whole words on any terminal and with a header in a pipe; info, rm and path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smolcli import registry
from smolcli.commands import models
from smolcli.commands.models import Listing, list_models, model_rows
from smolcli.errors import ModelError, UsageError
from tests.helpers import gguf


def test_a_pipe_has_a_header_and_a_line_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    list_models(Listing())
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["name", "backends", "pair_bytes", "checkpoint_bytes", "licence", "repo", "about"]
    assert all(len(cells) == len(header) for cells in lines)
    rows = {cells[0]: dict(zip(header, cells, strict=True)) for cells in lines}
    assert rows["nano"]["backends"] == "llamacpp,numpy,torch" and rows["256m"]["pair_bytes"].isdecimal()


def test_a_backend_that_is_not_installed_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = registry.find_spec  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    assert {row["name"]: row["here"] for row in model_rows()}["nano"] == ["llamacpp", "numpy"]


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_narrow_terminal_shows_fewer_columns_and_no_cut_words(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows: list[dict[str, Any]] = list(model_rows())
    models._show_table(rows)
    table = capsys.readouterr().out
    assert "…" not in table and max(map(len, table.splitlines())) <= columns
    assert all(row["name"] in table for row in rows) and "llamacpp, numpy, torch" in table
    assert ("licence" in table) == (columns == 100)
    assert all(word in " ".join(table.split()) for row in rows for word in row["about"].split())


# ---- info, rm and path --------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds a pair of 256m, and a run that is at no terminal."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "models--ggml-org--SmolVLM-256M-Instruct-GGUF" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    for half, architecture in (("", "llama"), ("mmproj-", "clip")):
        keys = {"general__architecture": architecture, "clip__projector_type": "idefics3"}
        (folder / f"{half}SmolVLM-256M-Instruct-f16.gguf").write_bytes(gguf(**keys))
    return folder


def run(*words: str, answer: str = "") -> Any:
    return CliRunner().invoke(models.app, words, input=answer)


def test_path_tells_what_is_here(cache: Path) -> None:
    paths = [str(cache / f"{half}SmolVLM-256M-Instruct-f16.gguf") for half in ("", "mmproj-")]
    assert run("path", "256m").stdout.splitlines() == paths
    assert json.loads(run("path", "256m", "-f", "json").stdout) == {
        "gguf": paths[0], "mmproj": paths[1], "checkpoint": None,
    }  # fmt: skip
    with pytest.raises(ModelError, match="256m: not on this machine; smolcli models pull 256m --for torch"):
        run_raising("path", "256m", "--for", "torch")
    with pytest.raises(ModelError, match="500m: not on this machine; smolcli models pull 500m"):
        run_raising("path", "500m")


def run_raising(*words: str) -> None:
    CliRunner().invoke(models.app, words, catch_exceptions=False)


def test_info_is_a_line_of_each_fact(cache: Path) -> None:
    lines = run("info", "256m").stdout.splitlines()
    assert lines[0] == "256m: fast; short and simple answers"
    assert [line.split()[0] for line in lines].count("file") == 2 and lines[-1].split()[0] == "beware"
    assert any(line.split() == ["context", "8,192", "tokens"] for line in lines)
    told = json.loads(run("info", "256m", "-f", "json").stdout)
    assert told["tile_tokens"] == 64 and [Path(file["path"]).parent for file in told["files"]] == [cache, cache]


def test_list_in_json_by_either_option(cache: Path) -> None:
    assert run("list", "-f", "json").stdout == run("list", "--json").stdout
    [row] = [row for row in json.loads(run("list", "--json").stdout) if row["name"] == "256m"]
    assert (row["quant"], row["context"], row["picture_tokens"]) == ("f16", 8192, 1088)


def test_rm_asks_on_a_terminal_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="256m: nobody can be asked whether to remove 0.0 MB; add -y"):
        run_raising("rm", "256m")
    monkeypatch.setattr(models, "_is_terminal", lambda: True)
    for answer in ("n\n", "", "\n"):
        done = run("rm", "256m", answer=answer)
        assert cache.is_dir() and done.exit_code == 0 and done.stdout == ""
        question = f"{cache.parents[1]}\nRemove 256m, 0.0 MB? [y/N] "
        assert done.stderr == f"{question}smolcli: nothing was removed\n"
    done = run("rm", "256m", answer="y\n")
    assert not cache.parents[1].exists() and done.stdout == ""
    assert done.stderr.endswith("smolcli: removed 256m, 0.0 MB\n")


def test_rm_with_y_asks_nobody(cache: Path) -> None:
    assert run("rm", "256m", "-y", "-q").output == "" and not cache.parents[1].exists()


@pytest.mark.parametrize("command", ["pull", "info", "rm", "path"])
def test_a_command_without_a_name(command: str) -> None:
    with pytest.raises(UsageError, match="no model was named; smolcli models list shows the names"):
        run_raising(command)


@pytest.mark.parametrize("words", [("info", "256m"), ("path", "256m"), ("rm", "256m", "-y")])
def test_what_the_system_does_not_let_be_read(
    words: tuple[str, ...], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ModelError, match="cannot be read .Permission denied.; check its permissions") as caught:
        run_raising(*words)
    assert caught.value.code == 3 and cache.exists()
