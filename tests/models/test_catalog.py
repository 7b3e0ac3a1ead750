"""models/catalog.py: the data file as every run reads it, as a parser of TOML does, and as the hub was listed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from smolcli.models import catalog
from smolcli.models.catalog import CATALOG
from smolcli.models.catalog_facts import KnownFile, facts_of
from smolcli.models.files import pair, quantization
from smolcli.system.toml import parse_toml

LISTINGS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "hub_listings.json").read_text())
MARKERS_OF_2_2B = 125  # tokens that the vocabulary of SmolVLM-Instruct lacks: 49280 - 49155


def test_the_heads_are_what_a_parser_of_toml_reads() -> None:
    tables = parse_toml(catalog.DATA.read_text(encoding="utf-8"))
    assert list(tables) == list(CATALOG)
    for name, entry in CATALOG.items():
        head = {key: tables[name][key] for key in ("repo", "gguf_repo", "quant", "x_height")}
        assert vars(entry) == {"name": name, **head}


def test_a_name_is_found_without_a_parser_of_toml() -> None:
    words = "import sys; from smolcli.models.catalog import CATALOG; CATALOG['256m'].repo; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert not {"tomllib", "tomli"} & set(done.stdout.split())


@pytest.mark.parametrize("name", CATALOG)
def test_the_files_are_those_of_the_public_listings(name: str) -> None:
    facts = facts_of(CATALOG[name])
    for known in (facts.checkpoint, facts.pair):
        listing = LISTINGS.get(known.repo, {"revision": "", "files": {}})
        if listing["revision"]:
            assert known.revision == listing["revision"]
        for file, (size, sha256) in listing["files"].items():
            if file in known.files:
                assert known.files[file].bytes == size
                assert known.files[file].sha256 == (sha256 or known.files[file].sha256)
        weights = {file for file in listing["files"] if file.endswith((".safetensors", ".gguf"))}
        assert weights <= set(known.files)
    for file in (*facts.checkpoint.files.values(), *facts.pair.files.values()):
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}|", file.sha256) and file.size > 0


@pytest.mark.parametrize("name", CATALOG)
def test_the_recommended_quantization_is_a_pair_that_no_test_calls_wrong(name: str) -> None:
    entry = CATALOG[name]
    names = pair(facts_of(entry).pair.files, entry.quant)
    assert names is not None and entry.quant.upper() not in facts_of(entry).called_wrong
    assert {quantization(half) for half in names} == {entry.quant.upper()}


@pytest.mark.parametrize("name", CATALOG)
def test_weights_have_the_bytes_of_their_parameters(name: str) -> None:
    entry = CATALOG[name]
    width = {"float32": 4, "bfloat16": 2}[facts_of(entry).checkpoint.dtype]
    assert facts_of(entry).checkpoint_bytes == pytest.approx(width * facts_of(entry).parameters, rel=3e-4)


def test_smolvlm2_checkpoints_have_four_bytes_a_parameter() -> None:
    assert facts_of(CATALOG["2.2b"]).checkpoint_bytes == 8_987_224_056
    assert facts_of(CATALOG["500m-video"]).checkpoint_bytes == 2_029_990_624
    v1, v2 = (facts_of(CATALOG[name]) for name in ("2.2b-v1", "2.2b"))
    assert v2.parameters - v1.parameters == MARKERS_OF_2_2B * 2 * 2048  # rows of embeddings and of the output matrix


@pytest.mark.parametrize(
    ("known", "size", "sha256", "is_like"),
    [
        (KnownFile(5, "abc123"), 5, "abc123ff", True),
        (KnownFile(5, "abc123"), 5, "abc124ff", False),
        (KnownFile(5, "abc123"), 6, "abc123ff", False),
        (KnownFile(5, "abc123"), 5, None, True),  # the hub tells no digest of a small file
        (KnownFile(estimate=5), 7, "abc123ff", True),
        (KnownFile(5), 5, "abc123ff", True),
    ],
)
def test_a_file_is_compared_as_far_as_it_is_known(
    known: KnownFile, size: int, sha256: str | None, is_like: bool
) -> None:
    assert known.is_like(size, sha256) == is_like
