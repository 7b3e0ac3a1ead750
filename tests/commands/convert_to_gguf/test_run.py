"""What a conversion writes, of one reading and in little memory, and that it leaves nothing half-made."""

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
from smolcli.converters.gguf_model import Started
from smolcli.converters.quantization import QUANTIZATIONS
from smolcli.converters.safetensors_reader import Tensors
from smolcli.errors import ModelError, OutputError, UsageError
from smolcli.process.child import call
from tests.tiny import make_checkpoint

ALL = list(QUANTIZATIONS)
DIRECT = [one.name for one in QUANTIZATIONS.values() if one.tensor is not None]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "Tiny", "v2", seed=1)


def smolcli(*words: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """The program; `limit` is the most KiB that a file may have."""
    command = ["bash", "-c", (f"ulimit -f {limit}; " if limit else "") + 'exec "$0" "$@"']
    command += [sys.executable, "-m", "smolcli", "convert-to-gguf", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_every_quantization_has_the_planned_size_and_types(checkpoint: Path, tmp_path: Path) -> None:
    said = smolcli(
        checkpoint, "-o", tmp_path / "out", "--dry-run", "--json",
        *(word for quant in ALL for word in ("--quant", quant)),
        *(word for quant in DIRECT for word in ("--mmproj-quant", quant)),
    )  # fmt: skip
    assert said.returncode == 0 and not (tmp_path / "out").exists()
    files = json.loads(said.stdout)["files"]
    planned = plan(checkpoint, tmp_path / "out", ALL, DIRECT)
    write(planned)
    assert {file["path"]: file["bytes"] for file in files} == {
        str(path): path.stat().st_size for path in (tmp_path / "out").iterdir()
    }
    assert len(files) == len(ALL) + len(DIRECT)
    for made in planned.outputs:
        assert {tensor.name: tensor.tensor_type for tensor in GGUFReader(made.path).tensors} == made.kinds


def test_llama_cpps_mixes_hold_the_weights(tmp_path: Path) -> None:
    """Rows of 256 are whole blocks; a step of q4_k is a fifteenth of a range, its error a step's uniform one."""
    source = make_checkpoint(tmp_path / "Wide", "v1", seed=2, width=256, exact=True)
    planned = plan(source, tmp_path, ["f32", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m"], ["f16"])
    write(planned)
    exact, *mixes = ({t.name: t for t in GGUFReader(made.path).tensors} for made in planned.language)
    for mix, kind, error in zip(mixes, ("Q6_K", "Q5_K", "Q4_K", "Q3_K"), (1 / 63, 1 / 31, 1 / 15, 1 / 7), strict=True):
        assert mix["blk.0.attn_q.weight"].tensor_type.name == kind
        found = quants.dequantize(mix["blk.0.attn_q.weight"].data, mix["blk.0.attn_q.weight"].tensor_type)
        off = float(np.sqrt(np.mean((found - exact["blk.0.attn_q.weight"].data) ** 2)))
        assert off < error / math.sqrt(12) * 1.1
    assert all("since rows of 384 are not" in line for made in planned.language for line in made.fallbacks)


def test_what_a_quantization_cannot_divide_is_told(checkpoint: Path, tmp_path: Path) -> None:
    done = smolcli(checkpoint, "-o", tmp_path / "out", "--quant", "q6_k")
    assert f"smolcli: {tmp_path}/out/Tiny-Q6_K.gguf: 13 tensors as q8_0, since rows of 64 are not" in done.stderr
    assert done.stdout.split() == [f"{tmp_path}/out/Tiny-Q6_K.gguf", f"{tmp_path}/out/mmproj-Tiny-F16.gguf"]
    odd = make_checkpoint(tmp_path / "Odd", "v1", seed=1, width=72)
    [made] = plan(odd, tmp_path, ["q8_0"], ["q8_0"]).language
    assert made.fallbacks[0] == "14 tensors as f16, since rows of 72 are not whole blocks of q8_0"


def test_the_output_matrix_keeps_eight_bits(checkpoint: Path, tmp_path: Path) -> None:
    [made] = plan(checkpoint, tmp_path, ["q4_0"], ["q4_0"]).language
    assert made.kinds["output.weight"].name == "Q8_0"
    assert made.kinds["token_embd.weight"].name == "Q4_0"
    tied = make_checkpoint(tmp_path / "Tied", "v2", seed=1, tied=True)
    assert plan(tied, tmp_path, ["q4_0"], ["f16"]).language[0].kinds["token_embd.weight"].name == "Q8_0"


def test_every_weight_is_read_once(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, read = Tensors.rows, Counter[str]()

    def pluralize(self: Tensors, name: str, start: int = 0, stop: int | None = None) -> Any:
        found = rows(self, name, start, stop)
        read[name] += len(found)
        return found

    monkeypatch.setattr(Tensors, "rows", pluralize)
    monkeypatch.setattr(gguf_writer, "BLOCK", 1000)
    planned = plan(checkpoint, tmp_path, ["f16", "q8_0", "q4_k_m"], ["f16", "q8_0"])
    write(planned)
    assert read == {weight.source: weight.shape[0] for half in planned.halves for weight in half.weights}


def test_blocks_of_any_size_give_the_same_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [path.read_bytes() for path in convert(checkpoint, tmp_path, "q8_0", "f16")]
    for size in (1, 1000):
        monkeypatch.setattr(gguf_writer, "BLOCK", size)
        assert [path.read_bytes() for path in convert(checkpoint, tmp_path, "q8_0", "f16")] == whole


def test_the_same_mix_whatever_else_is_made(checkpoint: Path, tmp_path: Path) -> None:
    alone, among = plan(checkpoint, tmp_path / "a", ["q4_k_m"], ["f16"]), plan(checkpoint, tmp_path / "b", ALL, ["f16"])
    for planned in (alone, among):
        write(planned)
    assert names(tmp_path / "a") == ["Tiny-Q4_K_M.gguf", "mmproj-Tiny-F16.gguf"]
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# ---- whole or not at all -------------------------------------------------------------------------


@pytest.mark.parametrize(("quant", "where"), [("f16", "{out}"), ("q4_k_m", tempfile.gettempdir())])
def test_a_write_that_fails_leaves_nothing(quant: str, where: str, checkpoint: Path, tmp_path: Path) -> None:
    """A limit on the length of files stands for a full disk: the system refuses in the middle of one."""
    out = tmp_path / "out"
    sizes = [made.size for made in plan(checkpoint, out, [quant], ["q4_0"]).work]
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


def test_a_full_disk_is_seen_before_and_while_it_fills(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(checkpoint, tmp_path / "out", ["f16"], ["f16"])
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=400_000))
        with pytest.raises(OutputError, match=r"[\d,]+ bytes are needed and 400,000 free; make room"):
            write(planned)
    monkeypatch.setattr(Started, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OutputError, match=r"out: cannot be written \(No space left\); make room"):
        write(planned)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("after", [1, 60, 80])
def test_an_interrupt_leaves_nothing(after: int, checkpoint: Path, tmp_path: Path) -> None:
    told = []

    def interrupt(_: int) -> None:
        told.append(1)
        if len(told) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(plan(checkpoint, tmp_path / "out", ["f16", "q8_0"], ["f16"]), interrupt)
    assert names(tmp_path / "out") == []


def test_what_a_killed_run_left_goes_and_what_a_living_one_writes_stays(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    dead, alive = (out / f".Tiny-{name}.gguf.0123abcd.part" for name in ("BF16", "Q4_0"))
    dead.touch()
    with alive.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        convert(checkpoint, out, "f16", "f16")
        assert names(out) == [alive.name, "Tiny-F16.gguf", "mmproj-Tiny-F16.gguf"]


def test_what_is_there_is_refused_kept_or_replaced(checkpoint: Path, tmp_path: Path) -> None:
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
    old.unlink()
    old.mkdir()
    with pytest.raises(UsageError, match="Tiny-F16.gguf: is there and is no file"):
        again(if_exists="overwrite")
    old.rmdir()
    done = smolcli(checkpoint, "-o", tmp_path, "--if-exists", "skip")
    assert done.returncode == 0
    assert done.stdout.split() == [str(tmp_path / name) for name in ("Tiny-Q8_0.gguf", "mmproj-Tiny-F16.gguf")]
    assert "is there and stays" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
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
def test_usage(checkpoint: Path, words: list[str], says: str) -> None:
    done = smolcli(*(word.format(model=checkpoint) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("smolcli: ") and says in line


def test_a_place_taken_meanwhile_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    """Two runs into one directory: the second to end must not replace what the first made."""
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
def test_nobody_reads(words: list[str], checkpoint: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m smolcli convert-to-gguf {checkpoint} -o {tmp_path} -q {' '.join(words)}"
    for where, code in (("| true", 0), ("> /dev/full", 1), (">&-", 1)):
        whole = f"set -o pipefail; {command} --if-exists overwrite {where}"
        done = subprocess.run(["bash", "-c", whole], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("smolcli: standard output: cannot be written") if code else not done.stderr


CARDS = {
    "---\nlanguage: [en, no]\nlicense: 5\n---\n": {"general.languages": ["en", "no"], "general.license": "5"},
    "---\ntags: [1, null, a]\nauthor: [a]\n---\n": {"general.tags": ["1", "a"]},
    "---\nmodel_name: 2024-01-01\n---\n": {},
    "---\nbase_model: [1, 2]\n---\n": {},
    "---\n- a\n---\n": {},
}


@pytest.mark.parametrize("card", CARDS)
def test_an_odd_card_is_no_reason_to_stop(card: str, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "README.md").write_text(card)
    language, _ = convert(checkpoint, tmp_path, "f16", "f16")
    keys = GGUFReader(language).fields
    assert {key: keys[key].contents() for key in CARDS[card]} == CARDS[card]


def test_a_lost_chat_template_is_told(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "tokenizer_config.json").unlink()
    [notice] = plan(checkpoint, tmp_path, ["f16"], ["f16"]).notices
    assert "has no chat template" in notice
    (checkpoint / "tokenizer_config.json").symlink_to("gone")
    with pytest.raises(ModelError, match="Tiny: has no tokenizer_config.json"):
        plan(checkpoint, tmp_path, ["f16"], ["f16"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mmproj-m", "a name with mmproj would be taken for that of a vision half"),
        ("x" * 201, "has 201 bytes, too many"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_names_that_cannot_be(name: str, says: str, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        plan(checkpoint, tmp_path, ["f16"], ["f16"], name)
