"""The real files of published models without their weights, and checkpoint directories made of them.

    directory = assemble(find_files("256m"), tmp_path / "256m")       # tokenizer, configurations, templates
    directory = shrink(directory)                                     # and random weights of a smaller shape

They are looked for in the folder that SMOLCLI_REAL_FILES names, by default ../shared/real beside the repository, then
in the user's hub cache. tests/data/real has the same configurations and templates, and of each tokenizer.json the part
that the prompts of `prompts` need, so that those are compared wherever the tests run.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from benchmarks.golden import prompt_ids
from smolcli.models import hub_cache
from smolcli.models.catalog import CATALOG
from smolcli.models.chat_template import video_parts
from smolcli.types import Frame, Prompt, Turn
from tests.tiny import randomise

ROOT = Path(__file__).parents[1]
EXTRACTS = ROOT / "tests" / "data" / "real"
DIGESTS = EXTRACTS / "digests.json"
VARIABLE = "SMOLCLI_REAL_FILES"
USER_CACHE = "SMOLCLI_TESTS_HUB_CACHE"  # the user's hub cache, which tests/conftest.py notes before it hides it
TOKENIZER = "tokenizer.json"
SMALL_FILES = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json", "generation_config.json",
    "preprocessor_config.json", "processor_config.json", "special_tokens_map.json", "tokenizer_config.json",
)  # fmt: skip
NEEDED = {TOKENIZER, "config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json"}
V1, V2 = "SmolVLM-256M-and-500M-Instruct", "SmolVLM2-500M-Video-Instruct"


@dataclass(frozen=True)
class Real:
    """Where the files of a model are in the folder of real files.

    A file is that of the first of `folders` that has it: repositories share files. `config` is its config.json.
    `layers` are those of the language model and of the vision encoder where the copy of config.json has fewer.
    """

    folders: tuple[str, ...]
    config: str
    layers: tuple[int, int] | None = None


REAL = {
    "256m": Real((V1,), "not-byte-exact/SmolVLM-256M-Instruct.config.json"),
    "500m": Real((V1,), "not-byte-exact/SmolVLM-500M-Instruct.config.json", (32, 12)),
    "500m-video": Real((V2, V1), f"{V2}/config.json"),
    "256m-video": Real((V2, V1), "not-byte-exact/SmolVLM2-256M-Video-Instruct.config.json", (30, 12)),
    "2.2b": Real(("SmolVLM2-2.2B-Instruct", V1), "not-byte-exact/SmolVLM2-2.2B-Instruct.config.json", (24, 27)),
    "docling": Real(("granite-docling-258M",), "granite-docling-258M/config.json"),
}
MISSING = f"no real files of {{}}: set {VARIABLE} to the folder that has them, or smolcli models pull {{}} --for torch"


def find_files(name: str) -> dict[str, Path]:
    """Find the real files of a model, each by its name in the repository; empty where they are not on this machine."""
    folder = Path(os.environ.get(VARIABLE) or ROOT.parent / "shared" / "real")
    return files_in(folder, name) or cached_files(name)


def files_in(folder: Path, name: str) -> dict[str, Path]:
    """Find the files of a model in a folder of real files, or in the extracts; empty where some are missing."""
    real = REAL[name]
    files = {"config.json": folder / real.config}
    for file in SMALL_FILES:
        paths = [folder / of_repository / file for of_repository in real.folders]
        files.setdefault(file, next(filter(Path.is_file, paths), paths[0]))
    own = folder / real.folders[0]
    tokenizers = [own / TOKENIZER, own / f"{TOKENIZER}.xz", folder / TOKENIZER]
    files[TOKENIZER] = next(filter(Path.is_file, tokenizers), tokenizers[0])
    return only_whole(files)


def cached_files(name: str) -> dict[str, Path]:
    """Find the files of a model in the user's hub cache; empty where some are missing."""
    if USER_CACHE not in os.environ:
        return {}
    with patch.dict(os.environ, {"HF_HUB_CACHE": os.environ[USER_CACHE]}):
        folders = hub_cache.snapshots(CATALOG[name].repo)
    return next(
        filter(None, (only_whole({file: at / file for file in (*SMALL_FILES, TOKENIZER)}) for at in folders)), {}
    )


def only_whole(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files that exist; none where one of NEEDED does not."""
    existing = {name: path for name, path in files.items() if path.is_file()}
    return existing if existing.keys() >= NEEDED else {}


def assemble(name: str, files: Mapping[str, Path], directory: Path) -> Path:
    """Write the files of a model into `directory`, as they are in its repository, and return `directory`."""
    directory.mkdir(parents=True)
    for file, path in files.items():
        data = path.read_bytes()
        (directory / file).write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
    if layers := REAL[name].layers:
        config = json.loads((directory / "config.json").read_text())
        for part, count in zip(("text_config", "vision_config"), layers, strict=True):
            config[part]["num_hidden_layers"] = count
        (directory / "config.json").write_text(json.dumps(config))
    return directory


def shrink(directory: Path) -> Path:
    """Give the model in `directory` two narrow layers in both halves, with random weights, and return `directory`.

    Its vocabulary, its context, its tiles and their tokens stay as they are.
    """
    path = directory / "config.json"
    config = json.loads(path.read_text())
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config["text_config"] |= sizes | {"num_key_value_heads": 2, "head_dim": 16}
    config["vision_config"] |= sizes
    path.write_text(json.dumps(config))
    torch.manual_seed(0)
    model: Any = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(directory), dtype=torch.float32)
    randomise(model)
    kept = {file: (directory / file).read_bytes() for file in ("config.json", "generation_config.json")}
    model.save_pretrained(directory)
    for file, data in kept.items():
        (directory / file).write_bytes(data)
    return directory


# ---- prompts ---------------------------------------------------------------------------------------


TWINS = ("500m", "256m-video")  # whose tokenizer and processor are those of 256m and 500m-video
FEW = ("text", "neighbours", "frames", "100 x 80, high")  # prompts of a twin
SIZES = ((100, 80), (1600, 900), (300, 1200), (700, 30))  # width and height of a picture in pixels
DETAILS = ("low", "auto", "2", "high")


def picture(width: int, height: int, seed: int = 0, time: float | None = None) -> Frame:
    """Draw noise."""
    return Frame(np.random.default_rng(seed).bytes(3 * width * height), width, height, time)


def prompts(name: str) -> dict[str, tuple[Prompt, str]]:
    """The prompts that are compared for a model, and the --detail of each, by name."""
    a, b, c = picture(100, 70), picture(31, 200, 1), picture(8, 8, 2)
    frames = [picture(64, 36, seed, time=float(seed)) for seed in range(5)]
    conversations = {
        "text": Prompt.user("What is 2 + 2?"),
        "picture alone": Prompt.user(a),
        "text first": Prompt.user("Read the text in this: ", a),
        "neighbours": Prompt.user(a, b, c, "Which is the odd one out?"),
        "interleaved": Prompt.user("First ", a, " and then\n", b, "\n\nor the same again ", a, "? In 12 words."),
        "system": Prompt.user(a, "What is this?", system="You answer in one word."),
        "turns": Prompt(
            (
                Turn("system", ("Be brief.",)),
                Turn("user", (a, "What is this?")),
                Turn("assistant", ("A square.\n",)),
                Turn("user", ("And this: ", b)),
            )
        ),
        "a reply begun": Prompt((Turn("user", (a, "What is this?")), Turn("assistant", ("A squ",)))),
        "other letters": Prompt.user(c, "Größe 1024\u202fm² — 日本語 🙂\t\r\n  end "),
        "code": Prompt.user("def f(x):\n    return x**2  # I'm 3.14\n\n\n<b>it's</b> 1/3 10,000 e-mail@x.org"),
        "page to DocTags": Prompt.user(a, "Convert this page to docling."),
        "frames": Prompt.user(*video_parts(frames, 5.2), "What happens?", split=False),
    }
    sized = {
        f"{width} x {height}, {detail}": (Prompt.user(picture(width, height), "What is in the picture?"), detail)
        for width, height in SIZES
        for detail in DETAILS
    }
    every = {name: (prompt, "2") for name, prompt in conversations.items()} | sized
    return {case: every[case] for case in FEW} if name in TWINS else every


def reference_ids(processor: Any, prompt: Prompt, detail: str) -> list[int]:
    """Return the token ids of a prompt by transformers' processor, with the pictures in tiles as --detail says.

    low is one tile, N as many along the longest edge, auto as many as do not shrink the picture, and high what the
    checkpoint's settings say. None is more than high.
    """
    if detail == "low":
        return prompt_ids(processor, replace(prompt, split=False))
    tile = processor.image_processor.max_image_size["longest_edge"]
    longest_edge = processor.image_processor.size["longest_edge"]
    if detail == "high":
        return prompt_ids(processor, prompt, longest_edge)
    longest = max((max(frame.width, frame.height) for frame in prompt.decoded_frames), default=0)
    tiles = -(-longest // tile) if detail == "auto" else int(detail)
    return prompt_ids(processor, prompt, min(tiles * tile, longest_edge))


def digest(values: Sequence[object]) -> list[Any]:
    """The number of ids or tokens, and the first digits of the SHA-256 of them as JSON."""
    return [len(values), hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]]
