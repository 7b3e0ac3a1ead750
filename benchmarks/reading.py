"""How long `smolcli ocr` takes for a page, alone and in a run of many.

    python benchmarks/pages.py PAGES
    python benchmarks/reading.py PAGES [--rounds 5] [--count 32] [OPTION...]

PAGES is a folder that pages.py has made. Other options, as -b llamacpp, go to smolcli. Prints

    page        the median seconds of runs over the page whose text is nearest to 2,000 characters
    single      the median seconds a page of runs over one page each, for the first --count pages
    together    those of one run over all of these
    characters, tokens and prompts of these pages, and where the time of the last run went
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

CHARACTERS = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=32)
    args, options = parser.parse_known_args()
    lengths = {path.with_suffix(".png"): len(path.read_text()) for path in sorted(args.folder.glob("???_*.txt"))}
    pages = [page for page in lengths if page.is_file()]
    page = min(pages, key=lambda path: abs(lengths[path] - CHARACTERS))
    with tempfile.TemporaryDirectory() as name:
        folder, records = Path(name) / "pages", Path(name) / "records.jsonl"
        folder.mkdir()
        for path in pages[: args.count]:
            shutil.copy(path, folder)
        count = len(list(folder.iterdir()))
        read(records, page, *options)  # so that files and bytecode are in memory
        page_seconds = [read(records, page, *options) for _ in range(args.rounds)]
        print(
            f"page      {statistics.median(page_seconds):.2f} s ({min(page_seconds):.2f} to {max(page_seconds):.2f})",
            end=", ",
        )
        print(f"{lengths[page]:,} characters")
        single = [read(records, path, *options) for path in sorted(folder.iterdir())]
        print(f"single    {statistics.mean(single):.2f} s a page of {count}")
        together = [read(records, folder, *options) / count for _ in range(args.rounds)]
        median = statistics.median(together)
        print(f"together  {median:.2f} s a page ({min(together):.2f} to {max(together):.2f}), ", end="")
        print(f"{statistics.mean(single) / median:.2f} times as fast")
        answered = [json.loads(line) for line in records.read_text().splitlines()]
    characters = sum(len(record["text"]) for record in answered) / count
    tokens = {key: sum(record["tokens"][key] for record in answered) / count for key in ("prompt", "image", "new")}
    stages = answered[0]["seconds"]
    seconds = {stage: round(sum(record["seconds"][stage] for record in answered) / count, 3) for stage in stages}
    print(
        f"a page: {characters:.0f} characters, tokens", {key: round(value) for key, value in tokens.items()}, end=", "
    )
    print("seconds", seconds)


def read(records: Path, *words: str | Path) -> float:
    """Run `smolcli ocr` and return its wall time in seconds."""
    started = time.perf_counter()
    subprocess.run(["smolcli", "ocr", "-q", *map(str, words), "-f", "jsonl", "-o", str(records)], check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
