"""executors/ray/connection.py: what is left where no connection is made."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import pytest

from smolcli.executors.ray.connection import connected


def test_no_temporary_folder_is_left_where_ray_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[str] = []
    make_folder = tempfile.mkdtemp

    def noting(*args: Any, **options: Any) -> str:
        folders.append(make_folder(*args, **options))
        return folders[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", noting)
    monkeypatch.setattr(os, "environ", {**os.environ})
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError), connected(None, verbose=False):
        pass
    assert [folder for folder in folders if os.path.exists(folder)] == []
