"""Compares our converter with llama.cpp's convert_hf_to_gguf.py: whether the bytes are the same, and the time.

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-0.3.36.tar.gz
    pip install sentencepiece            # upstream imports it for every model
    python benchmarks/upstream.py compare llama_cpp_python-0.3.36 256m     # a checkpoint directory
    python benchmarks/upstream.py digests llama_cpp_python-0.3.36          # writes tests/data/upstream.json

`compare` converts both halves to f16 and q8_0 with both programs in turn, and prints every tensor and key that differs
and the seconds of each; --quants f32,f16,bf16,q8_0 chooses other types. `digests` writes digests of upstream's output
for tiny checkpoints (tests/tiny.py), with which tests/converters/test_upstream.py compares ours.

Upstream refuses two inputs that it could convert. It recognizes tokenizers by the tokens of one text and does not know
tiny ones, so this script passes llama.cpp's name for them. And it requires text_config.architectures, which
transformers 5 does not save, so this script adds it to a copy of config.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
DIGESTS = ROOT / "tests" / "data" / "upstream.json"
TYPES = ("f32", "f16", "bf16", "q8_0")
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1}
# Tiny checkpoints by name: variant, options of make_checkpoint, llama.cpp's name of the tokenizer.
TINY: dict[str, tuple[str, dict[str, Any], str]] = {
    "Tiny-v1": ("v1", {"layout": 4, "generation": SAMPLING}, "smollm"),
    "Tiny-v2-tied": ("v2", {"tied": True, "shard_size": "200KB"}, "smollm"),
    "Tiny-docling": ("docling", {"tied": True, "layout": 4}, "granite-docling"),
}

Contents = dict[str, dict[str, str]]


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        run_upstream(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("compare", "digests"))
    parser.add_argument("sdist", type=Path, help="the unpacked source of llama-cpp-python")
    parser.add_argument("model", type=Path, nargs="?", help="a checkpoint directory")
    parser.add_argument("--quants", default="f16,q8_0")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.what == "digests":
            write_digests(args.sdist, Path(folder))
        else:
            compare(args.sdist, args.model.resolve(), args.quants.split(","), args.runs, Path(folder))


def write_digests(sdist: Path, folder: Path) -> None:
    """What upstream makes of every tiny checkpoint, into DIGESTS."""
    sys.path.insert(0, str(ROOT))
    from tests.tiny import make_checkpoint

    files = {}
    for name, (variant, options, pre) in TINY.items():
        checkpoint = make_checkpoint(folder / name, variant, 5, exact=True, **options)
        for quant in TYPES:
            for half in ("language", "vision"):
                file = upstream(sdist, checkpoint, quant, half, folder, pre)
                files[f"{name} {half} {quant}"] = contents(file)
    DIGESTS.parent.mkdir(exist_ok=True)
    DIGESTS.write_text(json.dumps({"source": sdist.resolve().name, "files": files}, indent=1) + "\n", encoding="utf-8")
    print(f"{DIGESTS}: {len(files)} files")


def compare(sdist: Path, model: Path, quants: list[str], runs: int, folder: Path) -> None:
    """Both programs on `model`, `runs` times; the differences and the median seconds."""
    names = {(half, quant): f"{quant} {half}" for quant in quants for half in ("language", "vision")}
    seconds: dict[str, list[float]] = {"upstream": [], "smolcli": []}
    for _ in range(runs):
        begun = time.perf_counter()
        theirs = {key: upstream(sdist, model, key[1], key[0], folder, "smollm") for key in names}
        seconds["upstream"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        ours = smolcli(model, quants, folder / "ours")
        seconds["smolcli"].append(time.perf_counter() - begun)
    for key, name in names.items():
        print(json.dumps({"file": name, **differences(contents(ours[key]), contents(theirs[key]))}), flush=True)
    medians = {who: round(statistics.median(times), 2) for who, times in seconds.items()}
    print(json.dumps({"seconds": medians, "ratio": round(medians["upstream"] / medians["smolcli"], 2)}))


def smolcli(model: Path, quants: list[str], out: Path) -> dict[tuple[str, str], Path]:
    """Our files by half and quantization."""
    chosen = [word for quant in quants for word in ("--quant", quant, "--mmproj-quant", quant)]
    command = [sys.executable, "-m", "smolcli", "convert-to-gguf", str(model), "-o", str(out), *chosen]
    done = subprocess.run([*command, "--if-exists", "overwrite"], check=True, capture_output=True, text=True)
    paths = [Path(line) for line in done.stdout.split("\n") if line]
    keys = [(half, quant) for half in ("language", "vision") for quant in quants]
    return dict(zip(keys, paths, strict=True))


def upstream(sdist: Path, checkpoint: Path, quant: str, half: str, folder: Path, pre: str) -> Path:
    """The file that upstream makes of one half of a checkpoint."""
    source = mended(checkpoint, folder / "mended" / checkpoint.resolve().name)
    file = folder / f"{half}-{quant}.gguf"
    command = [
        sys.executable,
        __file__,
        "run",
        str(sdist),
        pre,
        str(source),
        "--outtype",
        quant,
        "--outfile",
        str(file),
    ]
    done = subprocess.run(command + ["--mmproj"] * (half == "vision"), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"upstream failed:\n{done.stderr[-2000:]}")
    return file


def mended(checkpoint: Path, copy: Path) -> Path:
    """The checkpoint by links, with the key in its configuration that upstream wants."""
    copy.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.resolve().iterdir():
        link = copy / file.name
        if file.suffix != ".gguf" and not link.exists():
            link.symlink_to(file)
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    config["text_config"].setdefault("architectures", ["VLlama3ForCausalLM"])
    (copy / "config.json").unlink()
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy


def run_upstream(sdist: Path, pre: str, arguments: list[str]) -> None:
    """Upstream's script within this process, a tokenizer it does not know taken for `pre`."""
    place = (sdist / "vendor" / "llama.cpp").resolve()
    sys.path.insert(0, str(place))
    import conversion.base  # type: ignore[import-not-found]

    known = conversion.base.TextModel.get_vocab_base_pre

    def told(self: Any, tokenizer: Any) -> Any:
        try:
            return known(self, tokenizer)
        except NotImplementedError:
            return pre

    conversion.base.TextModel.get_vocab_base_pre = told
    sys.argv = [str(place / "convert_hf_to_gguf.py"), *arguments]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    runpy.run_path(sys.argv[0], run_name="__main__")


def contents(path: Path) -> Contents:
    """What is in a GGUF file: a digest for every key (of type and value) and tensor (of type, shape and bytes)."""
    from gguf import GGUFReader  # not above: upstream brings a gguf package of its own

    reader = GGUFReader(path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    keys = {name: _digest(repr((field.types, field.contents())).encode()) for name, field in fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        about = f"{tensor.tensor_type.name} {tensor.shape.tolist()} "
        tensors[tensor.name] = _digest(about.encode() + np.ascontiguousarray(tensor.data).tobytes())
    return {"keys": keys, "tensors": tensors}


def differences(ours: Contents, theirs: Contents) -> dict[str, list[str]]:
    """The keys and tensors that are not the same, or that only one of the two has."""
    return {
        part: sorted(
            name for name in ours[part].keys() | theirs[part] if ours[part].get(name) != theirs[part].get(name)
        )
        for part in ("keys", "tensors")
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


if __name__ == "__main__":
    main()
