"""Measures smolcli's llama.cpp backend on the CPU against rivals: whole runs on the same files, tiles, threads, tokens.

    python benchmarks/cpu.py picture LLAMA_MTMD_CLI            # one picture of 13 tiles
    python benchmarks/cpu.py loop LLAMA_MTMD_CLI [--loop 4]    # a folder of 32 pictures; a shell loop over them
    python benchmarks/cpu.py slots LLAMA_SERVER [--slots 4 8]  # the same folder; a warm server with several slots
    python benchmarks/cpu.py questions LLAMA_SERVER            # eight questions about one picture; a warm server
    python benchmarks/cpu.py video LLAMA_MTMD_CLI              # fifty frames in one prompt
    python benchmarks/cpu.py memory LLAMA_MTMD_CLI             # peak memory with one picture, by vision engine
    python benchmarks/cpu.py transformers CHECKPOINT           # one picture; a script of transformers in float32

Each command takes --language and --mmproj, the GGUF pair of both sides (default: the built-in nano), and --smolcli="-j
4" and --theirs="-fa off", further arguments for either side. The sides take turns, every round with new pictures; the
result is the median of the rounds' ratios of smolcli's time to the rival's. smolcli's time is always that of the whole
process; a server is started and warm before it is timed. Both sides generate exactly --new tokens for an answer.

Build the rivals yourself: `cmake --build build --target llama-mtmd-cli llama-server` in llama.cpp, or in
llama-cpp-python's sdist. Their OpenMP threads spin while they wait; if other programs use the same cores, run
everything with GOMP_SPINCOUNT=1000, as smolcli sets it for itself (docs/benchmarks.md).

Pictures are a whole number of tiles in size, and --image-max-tokens keeps llama.cpp from enlarging or shrinking them,
unless they have the longest edge of the reference processor. llama.cpp always encodes at least two tiles, a slice and
the overview, of the same pixels. So `--tiles 1` and the frames of `video` are twice the work for it, and `video` is
also run with half the frames, which is the same number of tiles.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rivals import (
    GRIDS,
    QUESTION,
    Run,
    by_transformers,
    detail,
    limit,
    mtmd_cli,
    picture,
    rough,
    serving,
    shape,
    smolcli,
    timed,
)
from sides import compared

from smolcli.models.files import BUILT_IN
from smolcli.system.cpu import usable_cores

QUESTIONS = (
    QUESTION, "What is in the middle?", "Which colours are there?", "Is there any text?", "How many things are there?",
    "What is on the left?", "Is it day or night?", "What might it be used for?",
)  # fmt: skip
SPARE = 2  # tokens of a prompt by which the two may differ: llama.cpp's chat template has "User: " before a picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    same = argparse.ArgumentParser(add_help=False)
    same.add_argument("tool", type=Path, help="the rival: a program of llama.cpp, or the checkpoint for transformers")
    same.add_argument("--rounds", type=int, default=5)
    same.add_argument("--threads", type=int, default=usable_cores())
    same.add_argument("--language", type=Path, default=BUILT_IN / "nano-F16.gguf")
    same.add_argument("--mmproj", type=Path, default=BUILT_IN / "mmproj-nano-F16.gguf")
    same.add_argument("--new", type=int, default=64)
    same.add_argument("--vision-engine", default="auto", help="of smolcli")
    same.add_argument("--dtype", default="auto", help="of smolcli")
    same.add_argument("--smolcli", type=shlex.split, default=[], metavar="WORDS", help="more arguments for smolcli")
    same.add_argument("--theirs", type=shlex.split, default=[], metavar="WORDS", help="more arguments for the rival")
    parsers = {name: commands.add_parser(name, parents=[same]) for name in COMMANDS}
    for name in ("picture", "loop", "slots", "questions", "memory", "transformers"):
        parsers[name].add_argument("--tiles", type=int, choices=GRIDS, default=13)
    for name in ("loop", "slots"):
        parsers[name].add_argument("--pictures", type=int, default=32)
    parsers["loop"].add_argument("--loop", type=int, help="time this many runs and scale the sum; default: all")
    parsers["slots"].add_argument("--slots", type=int, nargs="+", default=[4, 8])
    parsers["questions"].add_argument("--questions", type=int, default=8)
    parsers["video"].add_argument("--frames", type=int, default=50)
    parsers["video"].add_argument("--their-frames", type=int, nargs="+", help="default: --frames and half of them")
    parsers["memory"].add_argument("--engines", nargs="+", default=["mtmd", "openvino"])
    parsers["transformers"].add_argument("--their-dtype", default="float32")
    child = commands.add_parser("one-transformers")  # the process that `transformers` times
    child.add_argument("tool", type=Path)
    child.add_argument("picture", type=Path)
    child.add_argument("--their-dtype")
    for name in ("new", "threads"):
        child.add_argument(f"--{name}", type=int)
    args = parser.parse_args()
    if args.command == "one-transformers":
        print(json.dumps(by_transformers(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        warm(args, Path(folder))
        COMMANDS[args.command](args, Path(folder))


# ---- comparisons -----------------------------------------------------------------------------------


def warm(args: argparse.Namespace, folder: Path) -> None:
    """Read the files into the page cache, and let smolcli compile and cache what it needs for the model."""
    for path in (args.language, args.mmproj):
        path.read_bytes()
    side = shape(args.mmproj).side
    rough(0, side, side).save(folder / "warm.png")
    smolcli(args, folder, "ask", QUESTION, folder / "warm.png", "--detail", "low", new=1)


def report(subject: str, rounds: Sequence[tuple[Run, Run]], more_tiles: bool = False) -> None:
    """Print the comparison and what both sides did in the first round.

    Raises AssertionError if they did different work, unless the rival had more tiles or fewer prompts by design.
    """
    compared(subject, [mine.seconds for mine, _ in rounds], [theirs.seconds for _, theirs in rounds], "s")
    for number, (mine, theirs) in enumerate(rounds):
        sides = {"smolcli": mine, "rival": theirs}
        if not number:
            for name, run in sides.items():
                encoded = f"{tiles(run.tiles)}, " if run.tiles else ""
                print(f"    {name}: {encoded}{run.prompt} prompt and {run.new} new tokens; seconds: {run.parts}")
        assert mine.new == theirs.new or theirs.prompts < mine.prompts, sides
        if more_tiles or theirs.prompts < mine.prompts:
            continue
        assert abs(mine.prompt - theirs.prompt) <= SPARE * mine.prompts, sides
        assert not theirs.tiles or mine.tiles == theirs.tiles, sides
    sys.stdout.flush()


def tiles(count: int) -> str:
    return "1 tile" if count == 1 else f"{count} tiles"


def about(args: argparse.Namespace) -> str:
    return f"{args.language.stem}, {args.threads} threads, {args.new} new tokens"


def one_picture(args: argparse.Namespace, folder: Path) -> None:
    rounds = []
    for number in range(args.rounds):
        path = picture(folder / "in", number, args)
        mine = smolcli(args, folder, "ask", QUESTION, path, *detail(args.tiles))
        rounds.append((mine, mtmd_cli(args, folder, QUESTION, [path], *limit(args.tiles, args.mmproj))))
    report(f"a picture of {tiles(args.tiles)}, smolcli and llama-mtmd-cli, {about(args)}", rounds, args.tiles == 1)


def new_pictures(folder: Path, number: int, args: argparse.Namespace) -> list[Path]:
    """The new pictures of a round, which no server has cached."""
    return [picture(folder / f"in-{number}", 1000 * number + index, args) for index in range(args.pictures)]


def shell_loop(args: argparse.Namespace, folder: Path) -> None:
    count = args.loop or args.pictures
    rounds = []
    for number in range(args.rounds):
        paths = new_pictures(folder, number, args)
        mine = smolcli(args, folder, "ask", QUESTION, paths[0].parent, *detail(args.tiles))
        limits = limit(args.tiles, args.mmproj)
        runs = [mtmd_cli(args, folder, QUESTION, [path], *limits) for path in paths[:count]]
        seconds = sum(run.seconds for run in runs) * len(paths) / count
        tokens = {name: sum(getattr(run, name) for run in runs) for name in ("prompt", "new", "tiles")}
        rounds.append((mine, Run(seconds, count, **tokens, parts=f"of the first, {runs[0].parts}")))
    scaled = f" ({count} timed, and scaled)" if count < args.pictures else ""
    subject = f"{args.pictures} pictures of {tiles(args.tiles)}, smolcli on the folder and a loop of llama-mtmd-cli"
    report(f"{subject}{scaled}, {about(args)}", rounds, args.tiles == 1)


def slots(args: argparse.Namespace, folder: Path) -> None:
    for count in args.slots:
        rounds = []
        with serving(args, count, folder) as server:
            for number in range(args.rounds):
                paths = new_pictures(folder, number, args)
                mine = smolcli(args, folder, "ask", QUESTION, paths[0].parent, *detail(args.tiles))
                rounds.append((mine, server.run([(QUESTION, path) for path in paths], count, True)))
        subject = (
            f"{args.pictures} pictures of {tiles(args.tiles)}, smolcli's process and a warm server of {count} slots"
        )
        report(f"{subject}, {about(args)}", rounds, args.tiles == 1)


def questions(args: argparse.Namespace, folder: Path) -> None:
    """Ask the server about two pictures of the same size, one with its prompt cache and one without."""
    asked = QUESTIONS[: args.questions]
    also = [word for question in asked[1:] for word in ("-Q", question)]
    rounds: dict[bool, list[tuple[Run, Run]]] = {True: [], False: []}
    with serving(args, 1, folder) as server:
        for number in range(args.rounds):
            path = picture(folder / "in", 2 * number, args)
            mine = smolcli(args, folder, "ask", asked[0], *also, path, *detail(args.tiles))
            for cache, runs in rounds.items():
                other = picture(folder / "in", 2 * number + cache, args)
                runs.append((mine, server.run([(question, other) for question in asked], 1, cache)))
    for cache, runs in rounds.items():
        subject = f"{len(asked)} questions about a picture of {tiles(args.tiles)}, smolcli's process and a warm server"
        report(f"{subject}, cache_prompt {str(cache).lower()}, {about(args)}", runs, args.tiles == 1)


def video(args: argparse.Namespace, folder: Path) -> None:
    """Compare a video of one frame a second with the same frames as pictures."""
    counts = args.their_frames or [args.frames, args.frames // 2]
    rounds: dict[int, list[tuple[Run, Run]]] = {count: [] for count in counts}
    for number in range(args.rounds):
        film, frames = filmed(folder / f"in-{number}", number, args)
        words = ("--frames", args.frames, "--question", QUESTION)
        mine = smolcli(args, folder, "video-summarize", film, *words)
        for count, runs in rounds.items():
            chosen = [frames[index] for index in np.linspace(0, len(frames) - 1, count, dtype=int)]
            runs.append((mine, mtmd_cli(args, folder, QUESTION, chosen, *limit(1, args.mmproj))))
    for count, runs in rounds.items():
        subject = f"a film of {args.frames} frames, smolcli and llama-mtmd-cli with {count} of them as pictures"
        report(f"{subject} of two tiles each, {about(args)}", runs, more_tiles=True)


def filmed(place: Path, seed: int, args: argparse.Namespace) -> tuple[Path, list[Path]]:
    import av

    place.mkdir()
    side, paths = shape(args.mmproj).side, []
    with av.open(str(place / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for number in range(args.frames):
            image = rough(1000 * seed + number, side, side)
            paths.append(place / f"{number:03}.jpg")
            image.save(paths[-1], quality=90)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode())
    return place / "film.mp4", paths


def memory(args: argparse.Namespace, folder: Path) -> None:
    """Compare peak resident memory; smolcli's is that of its process and engine together, from its records."""
    sides: dict[str, list[Run]] = {name: [] for name in (*args.engines, "")}
    for number in range(args.rounds):
        path = picture(folder / "in", number, args)
        for engine in args.engines:
            args.vision_engine = engine
            sides[engine].append(smolcli(args, folder, "ask", QUESTION, path, *detail(args.tiles)))
        sides[""].append(mtmd_cli(args, folder, QUESTION, [path], *limit(args.tiles, args.mmproj)))
    for engine in args.engines:
        subject = f"peak memory with a picture of {tiles(args.tiles)}, smolcli with {engine} and llama-mtmd-cli"
        ours, theirs = ([run.peak / 1e6 for run in sides[name]] for name in (engine, ""))
        compared(f"{subject}, {about(args)}", ours, theirs, "MB")


def transformers(args: argparse.Namespace, folder: Path) -> None:
    rounds = []
    for number in range(args.rounds):
        path = picture(folder / "in", number, args)
        mine = smolcli(args, folder, "ask", QUESTION, path, *detail(args.tiles))
        same = ("--new", args.new, "--threads", args.threads, "--their-dtype", args.their_dtype)
        command = (sys.executable, __file__, "one-transformers", args.tool, path, *same)
        seconds, peak, output = timed(command, folder / "theirs.log")
        rounds.append((mine, Run(seconds, 1, **json.loads(output), peak=peak, parts="not told apart")))
    subject = f"a picture of {tiles(args.tiles)}, smolcli and transformers in {args.their_dtype}, {about(args)}"
    report(subject, rounds, args.tiles != 13)


COMMANDS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "picture": one_picture,
    "loop": shell_loop,
    "slots": slots,
    "questions": questions,
    "video": video,
    "memory": memory,
    "transformers": transformers,
}


if __name__ == "__main__":
    main()
