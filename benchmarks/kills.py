"""Kills a run repeatedly, resumes it, and checks that no record is lost, repeated or incomplete.

    python benchmarks/kills.py --kills 200          # SIGKILL at random moments: the run, its engine, or both
    python benchmarks/kills.py --full-disk          # a tmpfs of 1 MB; needs root

Each round answers a new folder of pictures, some of them damaged, with records and sidecars. The run is killed and
resumed until it ends by itself. Then every input must have exactly one record on a complete line, and every answer its
complete sidecars.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from many_inputs import SMOLCLI, picture

PICTURES = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full-disk", action="store_true")
    options = parser.parse_args()
    if options.full_disk:
        fill_the_disk()
        return
    chance = random.Random(options.seed)
    kills = rounds = 0
    while kills < options.kills:
        kills += one_round(chance)
        rounds += 1
        print(f"{kills} kills in {rounds} rounds, nothing lost, nothing twice, nothing torn", flush=True)


def one_round(chance: random.Random) -> int:
    """Run one round and return its number of kills; exit or raise AssertionError if something is wrong afterwards."""
    with tempfile.TemporaryDirectory() as place:
        folder, results = Path(place) / "in", Path(place) / "r.jsonl"
        make_inputs(folder)
        kills = 0
        while True:
            running = start(folder, results)
            try:
                running.wait(chance.uniform(0.2, 1.6))
            except subprocess.TimeoutExpired:
                kill(running, chance)
                kills += 1
                continue
            if running.returncode == 5:  # some inputs failed, as they must
                break
            if running.returncode not in (1, -signal.SIGKILL):  # 1: its engine was killed too often
                sys.exit(f"the run ended with {running.returncode}")
        check(folder, results)
        return kills


def start(folder: Path, results: Path) -> subprocess.Popen[bytes]:
    command = [
        *SMOLCLI, "caption", folder, "-b", "echo", "-q", "-o", results, "--resume", "--retry-failed",
        "--sidecar", ".txt", "--sidecar", ".json", "--sidecar", ".xmp",
    ]  # fmt: skip
    return subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL, start_new_session=True)


def kill(running: subprocess.Popen[bytes], chance: random.Random) -> None:
    """Kill the run, its engine and then the run, or both at once; remaining processes must end by themselves."""
    who = chance.choice(("parent", "engine", "both"))
    if who != "parent":
        for child in children(running.pid):
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if who == "engine":
            try:
                running.wait(chance.uniform(0.0, 0.8))  # it may start another in that time
            except subprocess.TimeoutExpired:
                pass
    running.kill()
    running.wait()


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def make_inputs(folder: Path) -> None:
    for number in range(PICTURES):
        file = folder / f"{number % 7}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number) if number % 50 else b"no picture")


def check(folder: Path, results: Path) -> None:
    lines = results.read_bytes().split(b"\n")
    records = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == b"", "the last line has no end"
    inputs = sorted(str(path) for path in folder.rglob("*.png"))
    assert sorted(record["path"] for record in records) == inputs, "not one record for each input"
    for record in records:
        stem = Path(record["path"]).with_suffix("")
        places = [stem.with_suffix(".txt"), stem.with_suffix(".json"), Path(record["path"] + ".xmp")]
        if record["error"]:
            assert not any(place.exists() for place in places)
            continue
        assert places[0].read_text() == record["text"] + "\n"
        assert json.loads(places[1].read_text())["text"] == record["text"]
        assert places[2].read_text().rstrip().endswith('<?xpacket end="w"?>')
    left = [
        path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".png", ".txt", ".json", ".xmp")
    ]
    print(f"{len(left)} temporary files left" if left else "no temporary file left", end="; ")


def fill_the_disk() -> None:
    """Check that a run onto a full disk stops with one error and can be resumed once there is space."""
    with tempfile.TemporaryDirectory() as place:
        folder, disk = Path(place) / "in", Path(place) / "disk"
        make_inputs(folder)
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], check=True)
        try:
            results = disk / "r.jsonl"
            command = [*SMOLCLI, "caption", str(folder), "-b", "echo", "-q", "-o", str(results), "--resume"]
            full = subprocess.run(command, capture_output=True, text=True)
            errors = [line for line in full.stderr.splitlines() if "is not a picture" not in line]
            print(f"exit {full.returncode}: {errors}; {results.stat().st_size} bytes written")
            assert full.returncode == 1 and len(errors) == 1 and "No space left" in errors[0]
            subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
            resumed = subprocess.run(command, capture_output=True, text=True)
            assert resumed.returncode == 5, resumed.stderr
            records = [json.loads(line) for line in results.read_text().splitlines()]
            assert sorted(record["path"] for record in records) == sorted(map(str, folder.rglob("*.png")))
            print(f"resumed with room: {len(records)} records, one for each input")
        finally:
            subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s")
