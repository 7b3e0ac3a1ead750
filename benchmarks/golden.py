"""Pulls the published models and compares smolcli with transformers: token ids, logits and greedy answers.

    pip install -e '.[dev]'                                    # and torchvision, if it is at hand
    python benchmarks/golden.py golden.jsonl                   # all models of the catalog; goes on where it ended
    python benchmarks/golden.py golden.jsonl --models 256m,500m
    python benchmarks/golden.py golden.jsonl --dry-run         # what would be pulled, without the network

Each model is pulled as `smolcli models pull NAME --for all` pulls it, both as a checkpoint and as a GGUF pair, into the
hub's cache. transformers answers each prompt with its own processor, chat template and `generate`, in --dtype. Then the
checkpoint runs on PyTorch in the same dtype, and the pair on llama.cpp. Of each prompt are compared:

- the token ids, which must be equal;
- the logits of the reply's first token: their KL divergence, within the limit of the dtype or quantization;
- the greedy answer: the same tokens in float32. A quantization may choose otherwise between two tokens that are close.

What is known of the real 256m (PUBLISHED) is compared too. The results file has one JSON line for each model, backend
and prompt; what is there without an error is not run again. The exit code is 1 where anything is not as it must be.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor
from transformers.utils.import_utils import is_torchvision_available

from smolcli import registry
from smolcli.backends.base import Logits, PrefillRequest, Scores
from smolcli.converters.probes import probes
from smolcli.converters.thresholds import thresholds_of
from smolcli.converters.verify import CHECKPOINT_BACKEND, GGUF_BACKEND, divergence
from smolcli.errors import SmolError
from smolcli.models.catalog import CATALOG
from smolcli.models.catalog_facts import facts_of
from smolcli.models.files import ModelFiles, pair, quantization
from smolcli.models.preprocessor_config import read_preprocessor_config
from smolcli.models.pull import pull
from smolcli.models.safetensors_reader import optional_json
from smolcli.options import Model
from smolcli.types import Frame, Prompt

PROBES = ("a line of text", "two pictures", "frames", "no picture")  # of converters/probes.py, besides the golden one
GOLDEN = "golden"
LIMIT_OF_ONE = 5.0  # times the limit of a mean KL divergence that a single one may have
FORMATS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}  # a dtype by its row of thresholds.py
FAULTS = (SmolError, OSError, RuntimeError, ValueError, ImportError, MemoryError)  # of one model; the others go on

# Of these transformers' types are missing or wrong.
auto_image_processor: Any = AutoImageProcessor
auto_processor: Any = AutoProcessor
smolvlm_processor: Any = SmolVLMProcessor

Line = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """What is known of a real model: its number of ids of the golden prompt, their beginning and end, its answer."""

    tokens: int
    begin: tuple[int, ...]
    end: tuple[int, ...]
    answer: str


# SmolVLM-256M-Instruct by transformers 4.57.6 with the slow processor.
BEGIN, END = (1, 11126, 42, 1812, 314, 281, 49189), (451, 2443, 47, 49279, 198, 9519, 9531, 42)
PUBLISHED = {"256m": Published(1141, BEGIN, END, " A multicolored")}


@dataclass(frozen=True)
class Reply:
    """The ids of a prompt, the logits of the reply's first token, and the tokens of the greedy reply."""

    ids: list[int]
    logits: Logits
    tokens: list[int]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON Lines; new ones are appended")
    parser.add_argument("--models", default=",".join(CATALOG), help="names of the catalog, with commas between them")
    parser.add_argument("--dtype", choices=FORMATS, default="float32", help="of transformers and PyTorch")
    parser.add_argument("--device", default="cpu", help="of transformers and PyTorch; llama.cpp runs on the CPU")
    parser.add_argument("--tokens", type=int, default=24, help="of an answer, at most")
    parser.add_argument("--dry-run", action="store_true", help="say what would be pulled, and how large it is")
    args = parser.parse_args()
    names = args.models.split(",")
    if unknown := [name for name in names if name not in CATALOG]:
        parser.error(f"{unknown[0]} is not in the catalog: {', '.join(CATALOG)}")
    if args.dry_run:
        print("\n".join(describe_pull(name) for name in names))
        return 0
    lines = list(read(args.results))
    for name in names:
        for line in compare_model(name, args, lines):
            lines.append(line)
            with args.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            print(describe(line), flush=True)
    latest = [line for line in current(lines) if line["model"] in names]
    print(table(latest))
    return 1 if any(line["failures"] for line in latest) else 0


def describe_pull(name: str) -> str:
    """What a pull of a model takes: both repositories, with the bytes of their weights as far as they are known."""
    facts = facts_of(CATALOG[name])
    halves = pair(facts.pair.files, facts.quant) or ()
    checkpoint = f"{facts.checkpoint.repo} ({facts.checkpoint_bytes / 1e6:,.0f} MB)"
    return f"{name}: {checkpoint}, {facts.pair.repo} ({', '.join(halves)}; {facts.pair_bytes / 1e6:,.0f} MB)"


def read(results: Path) -> Iterator[Line]:
    """Yield the lines of a results file without a torn one at its end, which is removed."""
    if not results.exists():
        return
    whole, newline, torn = results.read_text(encoding="utf-8").rpartition("\n")
    if torn:
        results.write_text(whole + newline, encoding="utf-8")
    yield from map(json.loads, whole.splitlines())


def key_of(line: Mapping[str, Any]) -> tuple[str, ...]:
    """What is compared in a line."""
    return tuple(str(line.get(key, "")) for key in ("model", "backend", "dtype", "case"))


def current(lines: Iterable[Line]) -> list[Line]:
    """The last line of each comparison, without errors that a later run did not meet."""
    latest: dict[tuple[str, ...], Line] = {}
    for line in lines:
        if "error" not in line:
            for backend in ("", line["backend"]):
                latest.pop((line["model"], backend, "", ""), None)
        latest[key_of(line)] = line
    return list(latest.values())


def compare_model(name: str, args: argparse.Namespace, lines: Iterable[Line]) -> Iterator[Line]:
    """Pull a model, and yield a line for each backend and prompt that `lines` have no result of."""
    done = {key_of(line) for line in lines}  # the key of an error names no prompt
    try:
        files = pull(name, "all")
        assert files.checkpoint is not None and files.gguf is not None
        cases = prompts(int(read_json(files.checkpoint, "config.json")["vision_config"]["image_size"]))
        dtypes = {CHECKPOINT_BACKEND: args.dtype, GGUF_BACKEND: quantization(files.gguf.name).lower()}
        wanted = {
            backend: {case: prompt for case, prompt in cases.items() if (name, backend, dtype, case) not in done}
            for backend, dtype in dtypes.items()
        }
        needed = {case: prompt for of_backend in wanted.values() for case, prompt in of_backend.items()}
        references, decode = reference_replies(files.checkpoint, needed, args) if needed else ({}, str)
    except FAULTS as error:
        yield error_line(name, "", error)
        return
    for backend, dtype in dtypes.items():
        head = {"model": name, "backend": backend, "dtype": dtype, "commit": commit_of(files, backend)}
        try:
            for case, reply in backend_replies(backend, files, wanted[backend], args):
                yield head | {"case": case} | compare(name, case, dtype, references[case], reply, decode)
        except FAULTS as error:
            yield error_line(name, backend, error)


def error_line(name: str, backend: str, error: Exception) -> Line:
    """The line for a model, or a backend with it, that could not be run."""
    text = f"{type(error).__name__}: {error}"
    return {"model": name, "backend": backend, "error": text, "failures": [text.partition("\n")[0]]}


def prompts(tile: int) -> dict[str, Prompt]:
    """The prompts by name; `tile` is the side of a tile in pixels."""
    of_verify = probes(tile)
    return {GOLDEN: golden_prompt()} | {name: of_verify[name] for name in PROBES}


def golden_prompt() -> Prompt:
    """The prompt of PUBLISHED: a picture of 100 x 80 between two texts, a horizontal gradient of grey."""
    row = np.linspace(0, 255, 100).astype(np.uint8)
    pixels = np.broadcast_to(row[None, :, None], (80, 100, 3))
    return Prompt.user("What is in", Frame(pixels.tobytes(), 100, 80), " this image?")


def compare(name: str, case: str, dtype: str, reference: Reply, reply: Reply, decode: Any) -> Line:
    """The fields of a line that say how a reply differs from the reference; `decode` makes tokens into text."""
    kl = float(divergence(reference.logits[None], reply.logits[None])[0])
    limit = LIMIT_OF_ONE * thresholds_of(FORMATS.get(dtype, dtype)).kl
    line: Line = {
        "prompt_tokens": len(reply.ids), "same_ids": reply.ids == reference.ids, "kl": kl, "limit": limit,
        "same_first": int(reply.logits.argmax()) == int(reference.logits.argmax()),
        "same_answer": reply.tokens == reference.tokens,
        "answer": decode(reply.tokens), "reference": decode(reference.tokens),
    }  # fmt: skip
    is_exact = dtype == "float32"
    failures = {
        f"{len(reply.ids)} token ids are not the {len(reference.ids)} of transformers": not line["same_ids"],
        f"the KL divergence {kl:.2g} is above {limit:.2g}": not kl <= limit,
        f"the answer is not that of transformers, {line['reference']!r}": is_exact and not line["same_answer"],
    }
    if case == GOLDEN and name in PUBLISHED:
        known = PUBLISHED[name]
        is_known = len(reply.ids) == known.tokens and is_framed(reply.ids, known.begin, known.end)
        failures["the token ids are not the published ones"] = not is_known
        failures[f"the answer is not the published {known.answer!r}"] = not line["answer"].startswith(known.answer)
    return line | {"failures": [text for text, is_failure in failures.items() if is_failure]}


def is_framed(ids: Sequence[int], begin: Sequence[int], end: Sequence[int]) -> bool:
    """Whether ids begin and end with those."""
    return list(ids[: len(begin)]) == list(begin) and list(ids[-len(end) :]) == list(end)


def describe(line: Line) -> str:
    """One line for people."""
    if "error" in line:
        return f"{line['model']}: {line['error']}"
    verdict = "; ".join(line["failures"]) or "as transformers"
    return f"{line['model']} {line['backend']} {line['dtype']}, {line['case']}: KL {line['kl']:.2g}: {verdict}"


def table(lines: Iterable[Line]) -> str:
    """A Markdown table of the results, one row for each model and backend."""
    rows: dict[tuple[str, ...], list[Line]] = {}
    errors = []
    for line in lines:
        if "error" in line:
            errors.append(f"{line['model']}: {line['error']}")
        else:
            rows.setdefault(key_of(line)[:3], []).append(line)
    head = ("model", "backend", "dtype", "prompts", "same ids", "largest KL", "same first token", "same answer", "fail")
    cells = [head, ("---",) * len(head)]
    for key, of_key in rows.items():
        counts = [sum(line[field] for line in of_key) for field in ("same_ids", "same_first", "same_answer")]
        largest = max(line["kl"] for line in of_key)
        failed = sum(bool(line["failures"]) for line in of_key)
        numbers = (len(of_key), counts[0], f"{largest:.2g}", counts[1], counts[2], failed)
        cells.append((*key, *map(str, numbers)))
    return "\n".join([*(f"| {' | '.join(row)} |" for row in cells), *errors])


def commit_of(files: ModelFiles, backend: str) -> str:
    """The commit that a backend's files are of: the name of their folder in the hub's cache."""
    folder = files.checkpoint if files.format_read_by(backend) == "checkpoint" else files.gguf and files.gguf.parent
    return folder.name if folder is not None else ""


def backend_replies(
    name: str, files: ModelFiles, cases: Mapping[str, Prompt], args: argparse.Namespace
) -> Iterator[tuple[str, Reply]]:
    """Yield the reply of one of smolcli's backends to each prompt. It cuts pictures as the reference processor does."""
    if not cases:
        return
    is_checkpoint = files.format_read_by(name) == "checkpoint"
    options = Model(
        device=args.device if is_checkpoint else "cpu", dtype=args.dtype if is_checkpoint else "auto",
        detail="high", vision_encoder="auto" if is_checkpoint else "mtmd", jobs=1,
    )  # fmt: skip
    image = image_token(files.checkpoint) if files.checkpoint is not None else -1
    with closing(registry.load(registry.BACKENDS, name)(files, options)) as backend:
        for case, prompt in cases.items():
            yield case, backend_reply(backend, prompt, args.tokens, image)


def backend_reply(backend: Any, prompt: Prompt, max_tokens: int, image: int) -> Reply:
    """Return the greedy reply of a backend without its stop token; `image` is the id of each token of a tile."""
    prepared = backend.prepare(prompt)
    tile = [image] * backend.layout.tokens
    ids = [token for part in prepared.parts for token in (tile if isinstance(part, bytes) else part)]
    request = PrefillRequest(0, prepared, prepared.length + max_tokens)
    logits = first = as_array(backend.prefill([request], []).logits[0])
    tokens: list[int] = []
    try:
        while len(tokens) < max_tokens and (token := int(logits.argmax())) not in backend.stop_tokens:
            tokens.append(token)
            logits = as_array(backend.decode({0: token})[0])
    finally:
        backend.release(0)
    return Reply(ids, first, tokens)


def as_array(logits: Logits | Scores) -> Logits:
    """Return a copy of a backend's logits, which its next call may overwrite."""
    return np.array(logits.fetch() if isinstance(logits, Scores) else logits, np.float32)


def reference_replies(
    folder: Path, cases: Mapping[str, Prompt], args: argparse.Namespace
) -> tuple[dict[str, Reply], Any]:
    """Return transformers' reply to each prompt, without its stop token, and its function from tokens to text."""
    processor = load_processor(folder)
    dtype = getattr(torch, args.dtype)
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True)
    model = model.eval().to(args.device)
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    replies = {}
    for case, prompt in cases.items():
        inputs = prompt_inputs(processor, prompt, return_tensors="pt").to(args.device, dtype)
        options = {"do_sample": False, "max_new_tokens": args.tokens, "use_cache": True, "output_logits": True}
        with torch.inference_mode():
            output = model.generate(**inputs, **options, return_dict_in_generate=True)
        ids = inputs["input_ids"][0].tolist()
        tokens = output.sequences[0, len(ids) :].tolist()
        tokens = tokens[:-1] if tokens[-1] in stops else tokens
        replies[case] = Reply(ids, output.logits[0][0].float().cpu().numpy(), tokens)
    del model
    gc.collect()
    return replies, processor.tokenizer.decode


def load_processor(folder: Path) -> Any:
    """Load the processor of the checkpoint in a folder, as AutoProcessor does, with the image processor on Pillow.

    On torchvision it resizes in another way, and its pixels differ by a few levels. The processor of SmolVLM2 has a
    video processor, which needs torchvision. Where it is missing, the same parts are put together here: no prompt has a
    video.
    """
    settings = optional_json(folder / "processor_config.json")
    pictures = auto_image_processor.from_pretrained(folder, backend="pil", local_files_only=True)
    if settings.get("processor_class") != "SmolVLMProcessor" or is_torchvision_available():
        processor = auto_processor.from_pretrained(folder, local_files_only=True)
        processor.image_processor = pictures
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        template = optional_json(folder / "chat_template.json").get("chat_template")
        with patch.object(smolvlm_processor, "check_argument_for_proper_class"):  # which looks for torchvision
            processor = smolvlm_processor(
                pictures, tokenizer, load_video_processor(folder), image_seq_len=settings["image_seq_len"],
                chat_template=template,
            )  # fmt: skip
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    return processor


def load_video_processor(folder: Path) -> Any:
    """Make the video processor of the SmolVLM2 checkpoint in a folder; without torchvision it cannot resize."""
    return SmolVLMVideoProcessor(**read_preprocessor_config(folder))


def template_text(processor: Any, prompt: Prompt) -> str:
    """Render a prompt with the checkpoint's chat template, in which `<image>` stands for each picture."""
    messages: list[dict[str, Any]] = []
    for turn in prompt.turns:
        parts = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in turn.parts]
        messages.append({"role": turn.role, "content": parts})
    begun = prompt.turns[-1].role == "assistant"
    return str(processor.apply_chat_template(messages, add_generation_prompt=not begun, continue_final_message=begun))


def prompt_inputs(processor: Any, prompt: Prompt, longest_edge: int | None = None, **options: Any) -> Any:
    """Return the inputs of transformers' model for a prompt; `options` are more of those of the processor's call.

    `longest_edge` in pixels takes the place of the checkpoint's. A prompt with `split` False is not split into tiles;
    its pictures are resized to the longest edge of a tile, as those of a video are.
    """
    if not prompt.split:
        longest_edge = processor.image_processor.max_image_size["longest_edge"]
    if longest_edge is not None:
        options["size"] = {"longest_edge": longest_edge}
    if pictures := [Image.frombytes("RGB", (frame.width, frame.height), frame.rgb) for frame in prompt.decoded_frames]:
        options |= {"images": [pictures], "do_image_splitting": prompt.split}
    return processor(text=[template_text(processor, prompt)], **options)


def prompt_ids(processor: Any, prompt: Prompt, longest_edge: int | None = None) -> list[int]:
    """Return the token ids of a prompt, in which each tile is as many image tokens as it has embeddings."""
    return [int(token) for token in prompt_inputs(processor, prompt, longest_edge)["input_ids"][0]]


def image_token(folder: Path) -> int:
    """The id of `<image>` in config.json."""
    return int(read_json(folder, "config.json")["image_token_id"])


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read one of a checkpoint's JSON files."""
    content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    sys.exit(main())
