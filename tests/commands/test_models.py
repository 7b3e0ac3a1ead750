"""`smolcli models list`: what can run here, as whole words on any terminal, with a header in a pipe."""

from __future__ import annotations

from typing import Any

import pytest

from smolcli import registry
from smolcli.commands import models
from smolcli.commands.models import Listing, list_models, model_rows


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
