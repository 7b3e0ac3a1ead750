"""smolcli/registry.py: a missing library is answered with a command that installs it where this smolcli is."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from smolcli import registry
from smolcli.errors import UnavailableError
from smolcli.registry import PIPX_RECEIPT, UV_RECEIPT, install_command

# As `uv tool install` writes it (uv 0.9).
UV_TOOL = """[tool]
requirements = [{ name = "smolcli", extras = ["torch"]SOURCE }, { name = "peft" }]
entrypoints = [{ name = "smolcli", install-path = "/home/ann/.local/bin/smolcli" }]
"""


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_pip_installs_into_a_virtual_environment(prefix: Path) -> None:
    assert install_command("smolcli[video]") == "pip install 'smolcli[video]'"
    assert install_command("pillow", "-U") == "pip install -U pillow"


def test_pipx_injects_the_packages_of_an_extra(prefix: Path) -> None:
    """It refuses to inject smolcli itself, which is there already."""
    (prefix / PIPX_RECEIPT).write_text("{}")
    assert install_command("smolcli[video]") == "pipx inject smolcli av"
    assert shlex.split(install_command("smolcli[formats]"))[3:] == ["pillow-heif", "pillow-jxl-plugin"]
    assert install_command("peft") == "pipx inject smolcli peft"
    assert install_command("pillow", "-U") == "pipx runpip smolcli install -U pillow"


@pytest.mark.parametrize(("source", "place"), [("", "smolcli"), (', directory = "/a clone"', "/a clone")])
def test_uv_keeps_what_was_asked_for_before(prefix: Path, source: str, place: str) -> None:
    (prefix / UV_RECEIPT).write_text(UV_TOOL.replace("SOURCE", source))
    installs = ["uv", "tool", "install", "--with", "peft"]
    assert shlex.split(install_command("smolcli[video]")) == [*installs, f"{place}[torch,video]"]
    assert shlex.split(install_command("socksio")) == [*installs, "--with", "socksio", f"{place}[torch]"]
    assert shlex.split(install_command("pillow", "-U")) == [
        *installs, "--with", "pillow", "--upgrade-package", "pillow", f"{place}[torch]",
    ]  # fmt: skip


@pytest.mark.parametrize("receipt", ["", "[tool]", "no TOML [", "[tool]\nrequirements = 3"])
def test_a_receipt_of_another_form_does_no_harm(prefix: Path, receipt: str) -> None:
    (prefix / UV_RECEIPT).write_text(receipt)
    assert install_command("smolcli[video]") == "uv tool install 'smolcli[video]'"


def test_a_missing_library_names_that_command(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prefix / UV_RECEIPT).write_text("")
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"; uv tool install 'smolcli\[llamacpp\]'$"):
        registry.require(registry.BACKENDS, "llamacpp")


def test_no_other_module_writes_an_install_command() -> None:
    root = Path(registry.__file__).parent
    for path in [*root.rglob("*.py"), *(root.parent / "converters").glob("*.py")]:
        if path.name != "registry.py":
            assert "pip install" not in path.read_text(encoding="utf-8"), path
