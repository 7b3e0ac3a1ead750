"""What convert-to-gguf writes: it reads each weight once, in little memory, and leaves no incomplete file."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, quants

from smolcli.converters import convert, gguf_writer, plan, write
from smolcli.converters.convert import Plan
from smolcli.converters.gguf_model import GgufFile
from smolcli.converters.quantization import QUANTIZATIONS
from smolcli.errors import ModelError, OutputError, UsageError
from smolcli.models.safetensors_reader import Tensors
from smolcli.process.child import call
from tests.tiny import make_checkpoint

ALL = list(QUANTIZATIONS)
DIRECT = [quantization.name for quantization in QUANTIZATIONS.values() if quantization.tensor is not None]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "Tiny", "v2", seed=1)


def smolcli(*words: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program; `limit` is the largest size of a file, in KiB."""
    command = ["bash", "-c", (f"ulimit -f {limit}; " if limit else "") + 'exec "$0" "$@"']
    command += [sys.executable, "-m", "smolcli", "convert-to-gguf", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.mark.slow
def test_every_quantization_has_the_planned_size_and_types(checkpoint: Path, tmp_path: Path) -> None:
    done = smolcli(
        checkpoint, "-o", tmp_path / "out", "--dry-run", "--json",
        *(word for quant in ALL for word in ("--quant", quant)),
        *(word for quant in DIRECT for word in ("--mmproj-quant", quant)),
    )  # fmt: skip
    assert done.returncode == 0 and not (tmp_path / "out").exists()
    files = json.loads(done.stdout)["files"]
    planned = plan(checkpoint, tmp_path / "out", ALL, DIRECT)
    write(planned)
    assert {file["path"]: file["bytes"] for file in files} == {
        str(path): path.stat().st_size for path in (tmp_path / "out").iterdir()
    }
    assert len(files) == len(ALL) + len(DIRECT)
    for output in planned.outputs:
        assert {tensor.name: tensor.tensor_type for tensor in GGUFReader(output.path).tensors} == output.types


def test_k_quants_are_within_their_error(tmp_path: Path) -> None:
    """Rows of 256 are whole blocks. The error of q4_k is uniform over a step, a fifteenth of the range."""
    source = make_checkpoint(tmp_path / "Wide", "v1", seed=2, width=256, exact=True)
    planned = plan(source, tmp_path, ["f32", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m"], ["f16"])
    write(planned)
    exact, *mixes = ({tensor.name: tensor for tensor in GGUFReader(output.path).tensors} for output in planned.language)
    for mix, kind, error in zip(mixes, ("Q6_K", "Q5_K", "Q4_K", "Q3_K"), (1 / 63, 1 / 31, 1 / 15, 1 / 7), strict=True):
        assert mix["blk.0.attn_q.weight"].tensor_type.name == kind
        weights = quants.dequantize(mix["blk.0.attn_q.weight"].data, mix["blk.0.attn_q.weight"].tensor_type)
        deviation = float(np.sqrt(np.mean((weights - exact["blk.0.attn_q.weight"].data) ** 2)))
        assert deviation < error / math.sqrt(12) * 1.1
    assert all("since rows of 384 are not" in line for output in planned.language for line in output.fallbacks)


def test_tensors_that_a_quantization_cannot_divide_fall_back_with_a_notice(checkpoint: Path, tmp_path: Path) -> None:
    done = smolcli(checkpoint, "-o", tmp_path / "out", "--quant", "q6_k")
    assert f"smolcli: {tmp_path}/out/Tiny-Q6_K.gguf: 13 tensors as q8_0, since rows of 64 are not" in done.stderr
    assert done.stdout.split() == [f"{tmp_path}/out/Tiny-Q6_K.gguf", f"{tmp_path}/out/mmproj-Tiny-F16.gguf"]
    odd = make_checkpoint(tmp_path / "Odd", "v1", seed=1, width=72)
    [output] = plan(odd, tmp_path, ["q8_0"], ["q8_0"]).language
    assert output.fallbacks[0] == "14 tensors as f16, since rows of 72 are not whole blocks of q8_0"


def test_the_output_matrix_keeps_eight_bits(checkpoint: Path, tmp_path: Path) -> None:
    [output] = plan(checkpoint, tmp_path, ["q4_0"], ["q4_0"]).language
    assert output.types["output.weight"].name == "Q8_0"
    assert output.types["token_embd.weight"].name == "Q4_0"
    tied = make_checkpoint(tmp_path / "Tied", "v2", seed=1, tied=True)
    assert plan(tied, tmp_path, ["q4_0"], ["f16"]).language[0].types["token_embd.weight"].name == "Q8_0"


def test_every_weight_is_read_once(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, read = Tensors.rows, Counter[str]()

    def counting_rows(self: Tensors, name: str, start: int = 0, stop: int | None = None) -> Any:
        values = rows(self, name, start, stop)
        read[name] += len(values)
        return values

    monkeypatch.setattr(Tensors, "rows", counting_rows)
    monkeypatch.setattr(gguf_writer, "BLOCK", 1000)
    planned = plan(checkpoint, tmp_path, ["f16", "q8_0", "q4_k_m"], ["f16", "q8_0"])
    write(planned)
    assert read == {weight.source: weight.shape[0] for half in planned.models for weight in half.weights}


def test_blocks_of_any_size_give_the_same_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [path.read_bytes() for path in convert(checkpoint, tmp_path, "q8_0", "f16")]
    for size in (1, 1000):
        monkeypatch.setattr(gguf_writer, "BLOCK", size)
        assert [path.read_bytes() for path in convert(checkpoint, tmp_path, "q8_0", "f16")] == whole


def test_a_quantization_is_the_same_alone_and_among_others(checkpoint: Path, tmp_path: Path) -> None:
    alone, among = plan(checkpoint, tmp_path / "a", ["q4_k_m"], ["f16"]), plan(checkpoint, tmp_path / "b", ALL, ["f16"])
    for planned in (alone, among):
        write(planned)
    assert names(tmp_path / "a") == ["Tiny-Q4_K_M.gguf", "mmproj-Tiny-F16.gguf"]
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# ---- whole or not at all -------------------------------------------------------------------------


@pytest.mark.parametrize(("quant", "where"), [("f16", "{out}"), ("q4_k_m", tempfile.gettempdir())])
def test_a_write_that_fails_leaves_nothing(quant: str, where: str, checkpoint: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the system refuses a write in the middle of a file."""
    out = tmp_path / "out"
    sizes = [output.size for output in plan(checkpoint, out, [quant], ["q4_0"]).files_to_write]
    done = smolcli(checkpoint, "-o", out, "--quant", quant, "--mmproj-quant", "q4_0", limit=max(sizes) // 1024 - 10)
    assert (done.returncode, done.stdout, names(out)) == (1, "", [])
    [line] = done.stderr.splitlines()
    assert line.startswith(f"smolcli: {where.format(out=out)}") and "cannot be written (File too large)" in line


def test_llama_cpp_on_a_full_disk(checkpoint: Path, tmp_path: Path) -> None:
    source, _ = convert(checkpoint, tmp_path, "f16", "f16")
    with pytest.raises(OutputError, match="/x.gguf: cannot be written.*; make room"):
        call(
            "smolcli.converters.llama_quantize:quantize",
            source,
            Path("/dev/full"),
            QUANTIZATIONS["q6_k"].file,
            1,
            Path("/x.gguf"),
        )


def test_a_full_disk_is_noticed_before_and_during_writing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(checkpoint, tmp_path / "out", ["f16"], ["f16"])
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=400_000))
        with pytest.raises(OutputError, match=r"needs [\d.]+ MB, .* has 0\.4 MB free; make room"):
            write(planned)
    monkeypatch.setattr(GgufFile, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OutputError, match=r"out: cannot be written \(No space left\); make room"):
        write(planned)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("after", [1, 60, 80])
def test_an_interrupt_leaves_nothing(after: int, checkpoint: Path, tmp_path: Path) -> None:
    calls = []

    def interrupt(_: int) -> None:
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(plan(checkpoint, tmp_path / "out", ["f16", "q8_0"], ["f16"]), interrupt)
    assert names(tmp_path / "out") == []


def test_part_files_of_a_killed_run_are_removed_those_of_a_running_one_stay(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    dead, alive = (out / f".Tiny-{name}.gguf.0123abcd.part" for name in ("BF16", "Q4_0"))
    dead.touch()
    with alive.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        convert(checkpoint, out, "f16", "f16")
        assert names(out) == [alive.name, "Tiny-F16.gguf", "mmproj-Tiny-F16.gguf"]


def test_existing_files_are_refused_kept_or_replaced(checkpoint: Path, tmp_path: Path) -> None:
    old = tmp_path / "Tiny-F16.gguf"
    old.write_bytes(b"old")

    def again(**options: Any) -> Plan:
        return plan(checkpoint, tmp_path, ["f16", "q8_0"], ["f16"], **options)

    with pytest.raises(UsageError, match="Tiny-F16.gguf: exists already; --if-exists overwrite replaces it, skip"):
        again()
    assert names(tmp_path) == ["Tiny", "Tiny-F16.gguf"]
    with pytest.raises(UsageError, match="Tiny-F16.gguf: has 3 bytes, what would be written [0-9]+; --if-exists over"):
        again(if_exists="skip")
    size = plan(checkpoint, tmp_path / "elsewhere", ["f16"], ["f16"]).language[0].size
    old.write_bytes(bytes(size))
    write(again(if_exists="skip"))
    assert old.read_bytes() == bytes(size)
    assert names(tmp_path) == ["Tiny", "Tiny-F16.gguf", "Tiny-Q8_0.gguf", "mmproj-Tiny-F16.gguf"]
    write(again(if_exists="overwrite"))
    assert old.read_bytes()[:4] == b"GGUF"
    done = smolcli(checkpoint, "-o", tmp_path, "--quant", "f16", "--dry-run")
    assert done.returncode == 0 and f"{old} (is there)" in done.stdout
    old.unlink()
    old.mkdir()
    with pytest.raises(UsageError, match="Tiny-F16.gguf: exists and is not a file"):
        again(if_exists="overwrite")
    old.rmdir()
    done = smolcli(checkpoint, "-o", tmp_path, "--if-exists", "skip")
    assert done.returncode == 0
    assert done.stdout.split() == [str(tmp_path / name) for name in ("Tiny-Q8_0.gguf", "mmproj-Tiny-F16.gguf")]
    assert "is there and stays" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a MODEL to convert"),
        ([""], "an empty word is no model and no name"),
        (["{model}", "--verify-only", "x.gguf"], "give a MODEL to convert"),
        (["--verify-only", "x.gguf"], "--verify-only and --against go together"),
        (["{model}", "--against", "x"], "--verify-only and --against go together"),
        (["{model}", "--mmproj", "x.gguf"], "--mmproj is for --verify-only"),
        (["{model}", "--dry-run", "--verify"], "--dry-run writes nothing that --verify could compare"),
        (["{model}", "--mmproj-quant", "q4_k_m"], "--mmproj-quant q4_k_m is not known; choose one of f32"),
        (["{model}", "--if-exists", "ask"], "--if-exists ask is not known"),
        (["{model}/config.json"], "a file; give the directory"),
        (["{model}", "-o", "{model}/config.json/x"], "cannot be written (Not a directory)"),
    ],
)
def test_usage(checkpoint: Path, words: list[str], message: str) -> None:
    done = smolcli(*(word.format(model=checkpoint) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("smolcli: ") and message in line


def test_a_file_that_appears_meanwhile_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    """Of two runs into one directory, the one that ends later must not replace the files of the other."""
    planned = plan(checkpoint, tmp_path / "out", ["f16"], ["f16"])
    convert(checkpoint, tmp_path / "out", "f16", "f16")
    before = [path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()]
    with pytest.raises(UsageError, match="Tiny-F16.gguf: exists already"):
        write(planned)
    assert [path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()] == before


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_llama_cpp_quantizes_leaves_nothing(
    name: str, code: int, checkpoint: Path, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import importlib, os, signal, sys\n"
        "module = importlib.import_module('smolcli.converters.convert')\n"
        "call = module.call\n"
        "def ending(place, *args, **more):\n"
        "    if place.endswith('quantize'):\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "    return call(place, *args, **more)\n"
        "if __name__ == '__main__':\n"
        "    module.call = ending\n"
        "    from smolcli.cli.main import main\n"
        f"    sys.argv = ['smolcli', 'convert-to-gguf', {str(checkpoint)!r}, '-o', {str(tmp_path / 'out')!r},\n"
        "                '--quant', 'f16', '--quant', 'q4_k_m', '-q']\n"
        "    main()\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run([sys.executable, script], env={**os.environ, "TMPDIR": str(temporary)}, timeout=60)
    assert (done.returncode, names(tmp_path / "out"), names(temporary)) == (code, [], [])


@pytest.mark.parametrize("words", [["--dry-run"], ["--dry-run", "--json"], []])
def test_a_closed_or_full_standard_output(words: list[str], checkpoint: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m smolcli convert-to-gguf {checkpoint} -o {tmp_path} -q {' '.join(words)}"
    for where, code in (("| true", 0), ("> /dev/full", 1), (">&-", 1)):
        whole = f"set -o pipefail; {command} --if-exists overwrite {where}"
        done = subprocess.run(["bash", "-c", whole], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("smolcli: standard output: cannot be written") if code else not done.stderr


CARDS: dict[str, dict[str, Any]] = {
    "---\nlanguage: [en, no]\nlicense: 5\n---\n": {"general.languages": ["en", "no"], "general.license": "5"},
    "---\ntags: [1, null, a]\nauthor: [a]\n---\n": {"general.tags": ["1", "a"]},
    "---\nmodel_name: 2024-01-01\n---\n": {},
    "---\nbase_model: [1, 2]\n---\n": {},
    "---\n- a\n---\n": {},
}


@pytest.mark.parametrize("card", CARDS)
def test_an_unusual_model_card_is_accepted(card: str, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "README.md").write_text(card)
    language, _ = convert(checkpoint, tmp_path, "f16", "f16")
    keys = GGUFReader(language).fields
    assert {key: keys[key].contents() for key in CARDS[card]} == CARDS[card]


def test_a_missing_chat_template_is_a_notice(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "tokenizer_config.json").unlink()
    [notice] = plan(checkpoint, tmp_path, ["f16"], ["f16"]).notices
    assert "has no chat template" in notice
    (checkpoint / "tokenizer_config.json").symlink_to("gone")
    with pytest.raises(ModelError, match="Tiny: has no tokenizer_config.json"):
        plan(checkpoint, tmp_path, ["f16"], ["f16"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mmproj-m", "a name with mmproj would be taken for that of an mmproj file"),
        ("x" * 201, "has 201 bytes, too many"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_invalid_names(name: str, message: str, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        plan(checkpoint, tmp_path, ["f16"], ["f16"], name)
