"""Kills a run repeatedly, resumes it, and checks that no record is lost, repeated or incomplete.

    python benchmarks/kills.py --kills 200          # SIGKILL at random moments: the run, its engine, or both
    python benchmarks/kills.py --full-disk          # a tmpfs of 1 MB; needs root

Each round answers a new folder of pictures, some of them damaged, with records and sidecars. At random moments the run
or its engine has a fault, or two at a time: the engine hangs (SIGSTOP) and is killed meanwhile, or it is killed again
while its successor starts or tries a suspect alone. A run that was killed is resumed, until one ends by itself. Then
every input must have exactly one record on a complete line, and every answer its complete sidecars.
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
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from many_inputs import SMOLCLI, picture

PICTURES = 400
TIMEOUT = 2  # seconds for an input, so that an engine that hangs is given up
KINDS = {"memory", "timeout"}  # of the errors of undamaged pictures, with which the engine was killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="in each round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full-disk", action="store_true")
    options = parser.parse_args()
    if options.full_disk:
        fill_the_disk(options.pictures)
        return
    killer, rounds = Killer(random.Random(options.seed)), 0
    while killer.kills < options.kills:
        one_round(killer, options.pictures)
        rounds += 1
        print(f"{killer.kills} kills in {rounds} rounds, nothing lost, nothing twice, nothing torn", flush=True)
    print(", ".join(f"{count} x {name}" for name, count in killer.faults.most_common()))


class Killer:
    """Ends or stops processes of a run at random; `kills` counts the SIGKILLs, `faults` each kind of fault."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.kills = chance, 0
        self.faults: Counter[str] = Counter()
        self._choices: dict[str, Callable[[subprocess.Popen[bytes]], None]] = {
            "run killed": self._kill_run,
            "engine killed": self._kill_engine,
            "engine and run killed": self._kill_both,
            "engine killed twice": self._kill_engine_twice,
            "engine hangs": self._stop_engine,
            "engine killed while it hangs": self._kill_stopped_engine,
            "run killed while its engine hangs": self._kill_run_of_stopped_engine,
        }

    def strike(self, running: subprocess.Popen[bytes]) -> None:
        """Do something to a run, which may go on afterwards."""
        name = self.chance.choice(list(self._choices))
        self.faults[name] += 1
        self._choices[name](running)

    def _kill_run(self, running: subprocess.Popen[bytes]) -> None:
        stopped = children(running.pid)
        running.kill()
        running.wait()
        self.kills += 1
        self._signal(stopped, signal.SIGCONT)  # what the run has started ends by itself, unless it is stopped

    def _kill_engine(self, running: subprocess.Popen[bytes]) -> None:
        self.kills += self._signal(children(running.pid), signal.SIGKILL)

    def _kill_both(self, running: subprocess.Popen[bytes]) -> None:
        self._kill_engine(running)
        self._kill_run(running)

    def _kill_engine_twice(self, running: subprocess.Popen[bytes]) -> None:
        before = children(running.pid)
        self._kill_engine(running)
        deadline = time.monotonic() + 5
        while running.poll() is None and time.monotonic() < deadline and not set(children(running.pid)) - {*before}:
            time.sleep(0.002)
        self._pause(running, 0.4)  # the next one loads, or tries a suspect alone
        self._kill_engine(running)

    def _stop_engine(self, running: subprocess.Popen[bytes]) -> None:
        """Let the engine hang for some time, in which it may be given up."""
        stopped = children(running.pid)
        self._signal(stopped, signal.SIGSTOP)
        self._pause(running, 1.5 * TIMEOUT)
        self._signal(stopped, signal.SIGCONT)

    def _kill_stopped_engine(self, running: subprocess.Popen[bytes]) -> None:
        self._signal(children(running.pid), signal.SIGSTOP)
        self._pause(running, 1.2 * TIMEOUT)  # sometimes it is given up in that moment
        self._kill_engine(running)

    def _kill_run_of_stopped_engine(self, running: subprocess.Popen[bytes]) -> None:
        self._signal(children(running.pid), signal.SIGSTOP)
        self._pause(running, 1.2 * TIMEOUT)
        self._kill_run(running)

    def _pause(self, running: subprocess.Popen[bytes], most: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            running.wait(self.chance.uniform(0.0, most))

    @staticmethod
    def _signal(pids: list[int], number: int) -> int:
        """Send a signal to processes. Returns how many there were."""
        sent = 0
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                sent += 1
        return sent


def one_round(killer: Killer, pictures: int) -> None:
    """Run one round to its end; exit or raise AssertionError if something is wrong afterwards."""
    with tempfile.TemporaryDirectory() as place:
        folder, results = Path(place) / "in", Path(place) / "r.jsonl"
        make_inputs(folder, pictures)
        running, longest = start(folder, results), 1.6
        while True:
            try:
                running.wait(killer.chance.uniform(0.2, longest))
            except subprocess.TimeoutExpired:
                killer.strike(running)
                continue
            if running.returncode == 5:  # some inputs failed, as they must
                break
            if running.returncode not in (1, -signal.SIGKILL):  # 1: its engine was killed too often
                sys.exit(f"the run ended with {running.returncode}")
            running, longest = start(folder, results), 1.1 * longest  # so that a slow machine comes to an end too
        check(folder, results)


def start(folder: Path, results: Path) -> subprocess.Popen[bytes]:
    command = [
        *SMOLCLI, "caption", folder, "-b", "echo", "-q", "-o", results, "--resume", "--retry-failed",
        "--timeout", TIMEOUT, "--sidecar", ".txt", "--sidecar", ".json", "--sidecar", ".xmp",
    ]  # fmt: skip
    return subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL, start_new_session=True)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_damaged(number: int) -> bool:
    return number % 50 == 0


def make_inputs(folder: Path, pictures: int) -> None:
    for number in range(pictures):
        file = folder / f"{number % 7}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"no picture" if is_damaged(number) else picture(number))


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
            assert is_damaged(int(stem.name)) or record["error"]["kind"] in KINDS, record
            assert not any(place.exists() for place in places)
            continue
        assert places[0].read_text() == record["text"] + "\n"
        assert json.loads(places[1].read_text())["text"] == record["text"]
        assert places[2].read_text().rstrip().endswith('<?xpacket end="w"?>')
    left = [
        path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".png", ".txt", ".json", ".xmp")
    ]
    failed = sum(bool(record["error"]) for record in records)
    print(f"{len(records)} records, {failed} with an error", end="; ")
    print(f"{len(left)} temporary files left" if left else "no temporary file left", end="; ")


def fill_the_disk(pictures: int) -> None:
    """Check that a run onto a full disk stops with one error and can be resumed once there is space."""
    with tempfile.TemporaryDirectory() as place:
        folder, disk = Path(place) / "in", Path(place) / "disk"
        make_inputs(folder, pictures)
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
