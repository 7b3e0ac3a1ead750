"""models/preprocessor_config.py: where the settings are found, and damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolcli.errors import ModelError
from smolcli.models.preprocessor_config import read_preprocessor_config


def test_settings_of_processor_config_override_those_of_preprocessor_config(tmp_path: Path) -> None:
    assert read_preprocessor_config(tmp_path) == {}
    (tmp_path / "preprocessor_config.json").write_text('{"a": 1, "b": 1}')
    assert read_preprocessor_config(tmp_path) == {"a": 1, "b": 1}
    (tmp_path / "processor_config.json").write_text('{"image_processor": {"b": 2}, "image_seq_len": 64}')
    assert read_preprocessor_config(tmp_path) == {"a": 1, "b": 2}
    (tmp_path / "processor_config.json").write_text('{"image_processor": null}')
    assert read_preprocessor_config(tmp_path) == {"a": 1, "b": 1}


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", '"text"', "\x80"])
def test_the_error_for_a_damaged_file_names_it(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=name):
        read_preprocessor_config(tmp_path)


def test_an_image_processor_that_is_not_an_object_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text('{"image_processor": [1]}')
    with pytest.raises(ModelError, match="image_processor is not an object"):
        read_preprocessor_config(tmp_path)
