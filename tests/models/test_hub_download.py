"""models/hub_download.py: what a hub says of a file does not choose where it is written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from smolcli.models import hub_download


@pytest.mark.parametrize("etag", [None, "", "../../../outside", "/tmp/outside", "A" * 40, "0" * 40 + "\n", "0" * 39])
def test_an_etag_that_is_no_digest_names_no_file(
    etag: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_download, "get_hf_file_metadata", lambda url, endpoint: SimpleNamespace(etag=etag, size=5))
    monkeypatch.setattr(hub_download, "http_get", lambda *args, **options: pytest.fail("it was fetched"))
    assert not hub_download.download("org/name", "model.safetensors", tmp_path / "cache")
    assert not list(tmp_path.iterdir())
