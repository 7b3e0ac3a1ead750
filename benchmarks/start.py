"""Measures the start of smolcli: its help and completion against `import typer`, one picture against a minimal script.

    python benchmarks/start.py [--rounds 15] [--picture docs/samples/scene.png]

Every round runs each command once; the result is the median ratio of a round, which a slower machine changes less. The
built-in model answers the picture in a cold process of each side: `smolcli caption`, and `MINIMAL`, which calls
llama_cpp and mtmd for the same files, tiles, prompt and tokens. The picture is cut into several tiles, and resized to
one tile (`--detail low`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from smolcli.models import catalog, resolve

PYTHON = sys.executable
SMOLCLI = (PYTHON, "-m", "smolcli")
COMPLETIONS: dict[
    str, Callable[[str], dict[str, str]]
] = {  # shell -> environment with which it asks to complete the last of some words
    "bash": lambda words: {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)},
    "zsh": lambda words: {"_TYPER_COMPLETE_ARGS": words},
    "fish": lambda words: {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}
MINIMAL = r"""
import ctypes, os, sys
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as smolcli: where others work too, the default takes seconds
import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from PIL import Image

gguf, mmproj, picture, tiles, threads = sys.argv[1:]
TILE, TOKENS, THREADS = 128, 64, int(threads)
FAKE = "<fake_token_around_image>"

quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
mtmd.mtmd_log_set(quiet, ctypes.c_void_p(0))
params = llama.llama_model_default_params()
params.n_gpu_layers, params.use_extra_bufts = 0, "amx_tile" not in open("/proc/cpuinfo").read()
model = llama.llama_model_load_from_file(gguf.encode(), params)
vocab, width = llama.llama_model_get_vocab(model), llama.llama_model_n_embd(model)
size = llama.llama_vocab_n_tokens(vocab)
params = mtmd.mtmd_context_params_default()
params.use_gpu = params.print_timings = params.warmup = False
params.n_threads, params.image_max_tokens = THREADS, TOKENS
vision = mtmd.mtmd_init_from_file(mmproj.encode(), model, params)
params = llama.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch = 2048, 512, 512
params.n_threads = params.n_threads_batch = THREADS
params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
context = llama.llama_init_from_model(model, params)


def tokens(text):
    room = (ctypes.c_int32 * 256)()
    return room[: llama.llama_tokenize(vocab, text.encode(), len(text.encode()), room, 256, False, True)]


def embeddings(tile):
    pixels = (ctypes.c_uint8 * len(tile)).from_buffer_copy(tile)
    bitmap, chunks = mtmd.mtmd_bitmap_init(TILE, TILE, pixels), mtmd.mtmd_input_chunks_init()
    marker = mtmd.mtmd_default_marker()
    text = mtmd.mtmd_input_text(marker, len(marker), False, True)
    assert mtmd.mtmd_tokenize(vision, chunks, ctypes.byref(text), (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap), 1) == 0
    pieces = [mtmd.mtmd_input_chunks_get(chunks, n) for n in range(mtmd.mtmd_input_chunks_size(chunks))]
    chunk = [piece for piece in pieces if mtmd.mtmd_input_chunk_get_type(piece) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE][-1]
    assert mtmd.mtmd_encode_chunk(vision, chunk) == 0
    rows = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(vision), (TOKENS, width)).copy()
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_bitmap_free(bitmap)
    return rows


def decode(run, position):
    batch = llama.llama_batch_init(len(run), 0 if isinstance(run, list) else width, 1)
    batch.n_tokens = len(run)
    for n in range(len(run)):
        batch.pos[n], batch.n_seq_id[n], batch.seq_id[n][0], batch.logits[n] = position + n, 1, 0, n == len(run) - 1
    if isinstance(run, list):
        for n, token in enumerate(run):
            batch.token[n] = token
    else:
        ctypes.memmove(batch.embd, run.ctypes.data, run.nbytes)
    assert llama.llama_decode(context, batch) == 0
    llama.llama_batch_free(batch)
    return position + len(run)


image = Image.open(picture).convert("RGB")
runs = [tokens("<|im_start|>User:" + FAKE + ("<row_1_col_1>" if tiles == "4" else "<global-img>"))]
if tiles == "4":  # in two rows of two, and the whole picture after them
    image = image.resize((2 * TILE, 2 * TILE), Image.Resampling.LANCZOS)
    after = (FAKE + "<row_1_col_2>", FAKE + "\n" + FAKE + "<row_2_col_1>", FAKE + "<row_2_col_2>")
    after += (FAKE + "\n\n" + FAKE + "<global-img>",)
    for n in range(4):
        x, y = n % 2 * TILE, n // 2 * TILE
        runs += [embeddings(image.crop((x, y, x + TILE, y + TILE)).tobytes()), tokens(after[n])]
runs += [embeddings(image.resize((TILE, TILE), Image.Resampling.LANCZOS).tobytes())]
runs += [tokens(FAKE + "Describe this image in one sentence.<end_of_utterance>\nAssistant:")]
position = 0
for run in runs:
    position = decode(run, position)
reply = b""
while True:
    scores = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (size,))
    token = int(scores.argmax())
    if llama.llama_vocab_is_eog(vocab, token):
        break
    room = ctypes.create_string_buffer(64)
    count = llama.llama_token_to_piece(vocab, token, room, len(room), 0, False)
    reply += room.raw[:count]
    position = decode([token], position)
print(reply.decode().strip())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--picture", type=Path, default=Path(__file__).parent.parent / "docs" / "samples" / "scene.png")
    args = parser.parse_args()
    files = resolve.find_files(catalog.NANO)
    threads = str(len(os.sched_getaffinity(0)))
    caption = (*SMOLCLI, "caption", str(args.picture), "-m", "nano", "-b", "llamacpp", "--threads", threads, "-q")
    script = (PYTHON, "-c", MINIMAL, str(files.gguf), str(files.mmproj), str(args.picture))
    typer = "import typer"
    sides = {
        "--help": ((*SMOLCLI, "--help"), {}, typer),
        "--version": ((*SMOLCLI, "--version"), {}, typer),
        **{
            f"{shell} completes {words!r}": (
                SMOLCLI,
                {"_SMOLCLI_COMPLETE": f"complete_{shell}", **environment(words)},
                typer,
            )
            for shell, environment in COMPLETIONS.items()
            for words in ("smolcli cap", "smolcli ask --vis", "smolcli bench sp")
        },
        "caption of a picture": (caption, {}, "4"),
        "caption of one tile": ((*caption, "--detail", "low"), {}, "1"),
    }
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        imported, _ = timed((PYTHON, "-c", typer))
        for name, (command, more, other) in sides.items():
            seconds, printed = timed(command, more)
            if other == typer:
                ratios[name].append((seconds, imported))
            else:
                alone, expected = timed((*script, other, threads))
                assert printed == expected != "", f"smolcli says {printed!r}, the script {expected!r}"
                ratios[name].append((seconds, alone))
    for name, pairs in ratios.items():
        first, second = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
        rounds = sorted(a / b for a, b in pairs)
        beside = "import typer" if sides[name][2] == typer else "the script"
        print(
            f"{name}: {first:.0f} ms, {beside} {second:.0f} ms; ratio of a round {statistics.median(rounds):.2f} "
            f"({rounds[0]:.2f} to {rounds[-1]:.2f})"
        )


def timed(command: Sequence[str], more: dict[str, str] | None = None) -> tuple[float, str]:
    """Wall time in seconds, and the standard output of the command."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(more or {})})
    seconds = time.perf_counter() - begun
    assert done.returncode == 0, done.stderr
    return seconds, done.stdout


if __name__ == "__main__":
    main()
