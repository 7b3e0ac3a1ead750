"""system/temporary.py: what needs a folder for temporary files says that there is none, and nothing else does."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from smolcli.bench.options import Show, Speed, Variants
from smolcli.bench.performance import run
from smolcli.converters import plan
from smolcli.errors import InputError, UnavailableError
from smolcli.executors.ray import connection
from smolcli.inputs import walk
from smolcli.inputs.decoders import ffmpeg
from smolcli.models.files import BUILT_IN
from smolcli.system import temporary

MESSAGE = (
    "no folder for temporary files can be written, not even /proc/nowhere; set TMPDIR to a folder that can be written"
)


@pytest.mark.usefixtures("no_temporary_folder")
def test_the_error_names_the_variable() -> None:
    with pytest.raises(FileNotFoundError, match="No usable temporary directory"):
        tempfile.gettempdir()
    with pytest.raises(UnavailableError) as caught:
        temporary.temporary_folder()
    assert (str(caught.value), caught.value.code) == (MESSAGE, 3)


@pytest.mark.usefixtures("no_temporary_folder")
def test_a_name_for_libraries_is_no_folder_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_is_missing", False)
    temporary.name_folder()
    assert tempfile.gettempdir() == "/proc/nowhere"
    with pytest.raises(UnavailableError, match="set TMPDIR"):
        temporary.temporary_folder()


def test_the_folder_is_pythons_own() -> None:
    before = tempfile.gettempdir()
    temporary.name_folder()
    assert temporary.temporary_folder() == tempfile.gettempdir() == before


@pytest.mark.usefixtures("no_temporary_folder")
def test_what_needs_a_temporary_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "claim_stdout", lambda: None)
    with pytest.raises(UnavailableError, match="set TMPDIR"):
        plan(BUILT_IN, tmp_path, ["f16"], ["f16"])
    with pytest.raises(UnavailableError, match="set TMPDIR"):
        run.speed(("nano",), Variants(), Speed(), Show())
    with pytest.raises(UnavailableError, match="set TMPDIR"), connection.connected(None, verbose=False):
        pass
    with pytest.raises(
        InputError, match="a video that is not a file must be stored for ffmpeg, and no folder"
    ) as caught:
        ffmpeg.Ffmpeg._path(type("Source", (), {"_source": b"video"})()).__enter__()
    assert caught.value.kind == "unavailable"


@pytest.mark.usefixtures("no_temporary_folder")
def test_a_large_folder_is_sorted_in_memory_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_SORTED_IN_MEMORY", 4)
    assert list(walk._in_order(iter([f"{n}.png" for n in reversed(range(11))]))) == [f"{n}.png" for n in range(11)]


@pytest.mark.slow
def test_pytorch_runs_without_a_temporary_folder() -> None:
    code = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']\n"
        "from smolcli.backends.pytorch import PyTorch\n"
        "from smolcli.models.resolve import find_files\n"
        "from smolcli.options import Model\n"
        "PyTorch(find_files('nano'), Model(device='cpu'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
