"""The tiny model of random weights that the tests of vision encoders share."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolcli.converters import convert
from smolcli.models.files import ModelFiles
from tests.tiny import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("vision") / "Tiny", "v2", 4)


@pytest.fixture(scope="session")
def files(checkpoint: Path) -> ModelFiles:
    return ModelFiles("Tiny", checkpoint, *convert(checkpoint, checkpoint, "f32", "f32"))


@pytest.fixture(scope="session")
def mmproj(files: ModelFiles) -> Path:
    assert files.mmproj is not None
    return files.mmproj
