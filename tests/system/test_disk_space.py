"""smolcli/system/disk_space.py: free bytes, and the error before a write that would not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from smolcli.errors import ModelError, OutputError
from smolcli.system.disk_space import check_free_space, existing_ancestor, free_bytes


def test_a_folder_that_does_not_exist_has_the_disk_of_its_nearest_ancestor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert free_bytes(tmp_path / "new" / "folder") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert existing_ancestor(tmp_path / "new" / "folder") == tmp_path
    monkeypatch.chdir(tmp_path)
    assert existing_ancestor(Path("new")) == tmp_path


def test_what_fits_raises_nothing_and_one_byte_more_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_500_000))
    check_free_space(tmp_path, 1_500_000, "free some")
    with pytest.raises(OutputError) as error:
        check_free_space(tmp_path / "out", 1_600_000, "free some")
    assert str(error.value) == f"{tmp_path}/out: needs 1.6 MB, {tmp_path} has 1.5 MB free; free some"
    with pytest.raises(ModelError, match=r"org/model: needs 1\.5 MB"):
        check_free_space(tmp_path, 1_500_001, "free some", subject="org/model", error=ModelError)
