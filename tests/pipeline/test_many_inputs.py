"""Many inputs, as a user runs them: formats, sidecars, resuming, shards, watching, in processes of their own."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers import SAMPLES, line, png, smolcli


def echo(*words: object, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    return smolcli("caption", "--prompt", "Hm?", "-b", "echo", "-q", *words, stdin=stdin, **env)


def start(*words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "smolcli", "caption", "--prompt", "Hm?", "-b", "echo", "-q", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def picture(path: Path, size: tuple[int, int] = (3, 2)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, "PNG")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven pictures, each of a size of its own, in two folders, and one that is none."""
    for number in range(1, 12):
        picture(tmp_path / "in" / ("a" if number % 2 else "b") / f"{number}.png", (number, 1))
    (tmp_path / "in" / "bad.png").write_text("no")
    return tmp_path / "in"


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(record) for record in file.read_text().splitlines()]


def by_path(records: list[dict[str, Any]]) -> dict[str, str]:
    assert len({record["path"] for record in records}) == len(records)
    return {record["path"]: record["text"] for record in records}


@pytest.mark.parametrize(
    ("name", "starts"),
    [("o.jsonl", '{"path"'), ("o.json", "[\n{"), ("o.csv", "path,id,"), ("o.tsv", "path\tid\t"), ("o.md", "| path |"),
     ("o.txt", "{}/a/1.png: [1x1]"), ("o", "{}/a/1.png: [1x1]")],
)  # fmt: skip
def test_without_a_format_the_suffix_of_the_output_decides(folder: Path, name: str, starts: str) -> None:
    out = folder.parent / name
    assert echo(folder, "-o", out).returncode == 5
    assert out.read_text().startswith(starts.replace("{}", str(folder)))


def test_csv_has_a_row_for_every_input_the_failed_one_too(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(echo(folder, "-f", "csv").stdout.decode())))
    assert len(rows) == 12
    assert [row["error.kind"] for row in rows if row["path"].endswith("bad.png")] == ["unsupported"]
    assert rows[0]["text"] == "[1x1] Hm?"


def test_a_template(folder: Path) -> None:
    done = echo(folder, "--template", "{stem}\\t{text}")
    assert done.stdout.decode().splitlines()[0] == "1\t[1x1] Hm?"
    assert done.stdout.count(b"\n") == 11
    assert "nothing" in line(echo(folder, "--template", "{nothing}"))
    assert echo(folder, "--template", "{text}", "-f", "json").returncode == 2


def test_sidecars_beside_the_inputs_are_all_the_output(folder: Path) -> None:
    done = echo(folder, "--sidecar", ".txt", "--sidecar", "json", "--sidecar", ".xmp")
    assert (done.returncode, done.stdout) == (5, b"")
    assert (folder / "a" / "1.txt").read_text() == "[1x1] Hm?\n"
    assert json.loads((folder / "a" / "1.json").read_text())["path"] == str(folder / "a" / "1.png")
    assert "[1x1] Hm?" in (folder / "a" / "1.png.xmp").read_text()
    assert len(list(folder.rglob("*.xmp"))) == 11


def test_sidecars_of_a_tree_under_another_folder(folder: Path) -> None:
    out = folder.parent / "out"
    assert echo(folder, "--sidecar", ".txt", "--out-dir", out).returncode == 5
    paths = sorted(str(path.relative_to(out)) for path in out.rglob("*.txt"))
    assert paths == sorted(f"{'a' if number % 2 else 'b'}/{number}.txt" for number in range(1, 12))
    assert not list(folder.rglob("*.txt"))


def test_existing_sidecars_are_left_replaced_or_refused(folder: Path) -> None:
    (folder / "bad.png").unlink()
    (folder / "a" / "1.txt").write_text("mine\n")
    done = smolcli("caption", "-b", "echo", "-m", "nano", folder, "--sidecar", ".txt")
    assert done.returncode == 0
    assert "1 left alone: a .txt is there; --if-exists overwrite" in done.stderr.decode()
    assert "10 new, 0 failed" in done.stderr.decode()
    assert (folder / "a" / "1.txt").read_text() == "mine\n"
    refused = echo(folder, "--sidecar", ".txt", "--if-exists", "error", "-f", "jsonl")
    assert refused.returncode == 6
    assert {record["error"]["kind"] for record in map(json.loads, refused.stdout.splitlines())} == {"exists"}
    assert echo(folder, "--sidecar", ".txt", "--if-exists", "overwrite").returncode == 0
    assert (folder / "a" / "1.txt").read_text() == "[1x1] Hm?\n"


def test_no_two_inputs_write_one_sidecar(tmp_path: Path) -> None:
    for number, name in enumerate(("x/a.png", "x/a.jpg", "x/a", "y/a.png", "x/a.PNG"), 1):
        picture(tmp_path / "in" / name, (number, 1))
    out = tmp_path / "out"
    inputs = [tmp_path / "in", tmp_path / "in" / "x" / "a"]
    assert echo(*inputs, "--sidecar", ".txt", "--out-dir", out).returncode == 0
    texts = sorted(path.read_text() for path in out.rglob("*") if path.is_file())
    assert texts == [f"[{number}x1] Hm?\n" for number in range(1, 6)]


def test_a_sidecar_that_cannot_be_written_is_one_failure(tmp_path: Path) -> None:
    long = picture(tmp_path / f"{'x' * 250}.png")
    other = picture(tmp_path / "a.png")
    done = echo(long, other, "--sidecar", ".xmp", "-f", "jsonl")
    assert done.returncode == 5
    assert [json.loads(record)["error"] is None for record in done.stdout.splitlines()] == [False, True]
    assert "cannot be written (File name too long)" in line(done)


def test_a_resumed_run_writes_the_sidecars_that_the_first_one_was_not_asked_for(folder: Path) -> None:
    out, first = folder.parent / "r.jsonl", folder / "a" / "1.png"
    assert echo(folder, "-o", out).returncode == 5
    before = out.read_bytes()
    first.with_suffix(".txt").write_text("of another command\n")
    os.utime(folder / "a" / "3.png")  # it is read again, and has its record by its id
    words = ("caption", "--prompt", "Hm?", "-b", "echo", folder, "-o", out)
    done = smolcli(*words, "--resume", "--sidecar", ".txt", "--sidecar", ".json")
    assert done.returncode == 5
    assert "1 left alone: a .txt or .json is there" in done.stderr.decode()
    assert (first.with_suffix(".txt").read_text(), out.read_bytes()) == ("of another command\n", before)
    assert len(list(folder.rglob("*.txt"))) == len(list(folder.rglob("*.json"))) == 11
    assert json.loads((folder / "a" / "3.json").read_text())["text"] == "[3x1] Hm?"
    assert "smolcli: replaces 12 records of" in smolcli(*words).stderr.decode()


def test_the_same_input_twice_has_one_record_where_it_is_resumed(folder: Path) -> None:
    out = folder.parent / "r.jsonl"
    picture = folder / "a" / "1.png"
    assert (
        echo(picture, picture, folder / "bad.png", folder / "bad.png", picture, "-o", out, "--resume").returncode == 5
    )
    assert [record["path"] for record in read(out)] == [str(picture), str(folder / "bad.png")]


def test_several_pictures_of_one_conversation_are_resumed_as_one(folder: Path) -> None:
    out = folder.parent / "r.jsonl"
    first, second = folder / "a" / "1.png", folder / "b" / "2.png"
    for pictures in ([first], [first, second], [first, second]):
        assert smolcli("ask", "Hm?", "--together", "-b", "echo", "-q", *pictures, "-o", out, "--resume").returncode == 0
    assert by_path(read(out)) == {str(first): "[1x1] Hm?", f"{first} {second}": "[1x1] [2x1] Hm?"}
    assert [record["paths"] for record in read(out)] == [[str(first)], [str(first), str(second)]]


def test_a_shard_without_inputs_is_no_failure(folder: Path) -> None:
    done = [smolcli("caption", "-b", "echo", "-m", "nano", folder / "a" / "1.png", "--shard", f"{n}/2") for n in (1, 2)]
    assert [run.returncode for run in done] == [0, 0]
    assert sum(run.stdout.count(b"\n") for run in done) == 1


def test_the_list_of_inputs_is_not_overwritten(folder: Path) -> None:
    names = folder.parent / "names.txt"
    names.write_text(f"{folder}/a/1.png\n")
    assert "the input is also the output" in line(echo("--files-from", names, "-o", names))
    assert names.read_text() == f"{folder}/a/1.png\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{in}", "--resume"], "--resume continues a file of records"),
        (["{in}", "--sidecar", ".doc"], "sidecar .doc is not known"),
        (["{in}", "--if-exists", "append"], "--if-exists append is not known"),
        (["{in}", "--shard", "5/4"], "--shard 5/4 is not one of the shards"),
        (["{in}", "--timeout", "0"], "0 is not a number of 0.001 or more"),
        (["--files-from", "/nowhere/list"], "/nowhere/list: cannot be read"),
        (["--watch", "/nowhere"], "/nowhere"),
    ],
)
def test_usage(folder: Path, words: list[str], says: str) -> None:
    done = echo(*[word.format(**{"in": folder}) for word in words])
    assert done.returncode == 2
    assert says in line(done)
    assert done.stdout == b""


def test_a_finished_run_is_resumed_without_a_change(folder: Path) -> None:
    out = folder.parent / "r.jsonl"
    assert echo(folder, "-o", out, "--resume").returncode == 5
    before = out.read_bytes()
    done = echo(folder, "-o", out, "--resume")
    assert (done.returncode, out.read_bytes()) == (5, before)  # what had failed has failed
    assert [record["path"] for record in read(out)][:2] == [f"{folder}/a/1.png", f"{folder}/a/3.png"]


def test_what_is_new_changed_or_to_be_retried_is_done_and_nothing_else(folder: Path) -> None:
    out = folder.parent / "r.jsonl"
    echo(folder, "-o", out, "--resume")
    picture(folder / "new.png", (77, 1))
    picture(folder / "a" / "1.png", (88, 1))
    os.utime(folder / "a" / "3.png")  # touched: the same content
    picture(folder / "bad.png", (99, 1))
    echo(folder, "-o", out, "--resume")
    added = read(out)[11:]  # the failure of bad.png is gone: there is an answer now
    assert sorted(record["text"] for record in added) == ["[77x1] Hm?", "[88x1] Hm?", "[99x1] Hm?"]
    picture(folder / "late.png").write_text("no")
    echo(folder, "-o", out, "--resume")
    assert read(out)[-1]["error"]["kind"] == "unsupported"
    assert len(read(out)) == 15
    echo(folder / "a", "-o", out, "--resume", "--retry-failed")  # late.png is none of this run's
    assert len(read(out)) == 15
    picture(folder / "late.png", (66, 1))
    echo(folder, "-o", out, "--resume", "--retry-failed")
    assert len(read(out)) == 15
    assert not any(record["error"] for record in read(out))


def test_another_prompt_is_another_job_in_the_same_file(folder: Path) -> None:
    out = folder.parent / "r.jsonl"
    echo(folder, "-o", out, "--resume")
    smolcli("caption", "--prompt", "Else?", "-b", "echo", "-q", folder, "-o", out, "--resume")
    assert len(read(out)) == 24
    assert len({(record["path"], record["id"]) for record in read(out)}) == 24


@pytest.mark.parametrize("who", ["parent", "engine"])
def test_a_run_that_is_killed_is_resumed(folder: Path, who: str) -> None:
    """benchmarks/kills.py does it two hundred times at random moments."""
    for n in range(2200):
        os.link(folder / "a" / "1.png", folder / f"copy{n}.png")
    out = folder.parent / "r.jsonl"
    running = start(folder, "-o", out, "--resume")
    wait_for(lambda: out.exists() and out.stat().st_size > 20_000)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert children
    if who == "engine":
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        running.communicate(timeout=60)
        assert running.returncode == 5  # it went on by itself
    else:
        running.kill()
        running.communicate(timeout=60)
        wait_for(lambda: not any(is_running(child) for child in children))  # the engine ends with its owner
        assert echo(folder, "-o", out, "--resume").returncode in (0, 5)
    assert set(by_path(read(out))) == {str(path) for path in folder.rglob("*.png")}


def is_running(pid: str) -> bool:
    """Not a zombie, which in a container without an init nobody may bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_second_run_on_the_same_results_is_refused(folder: Path) -> None:
    out = folder.parent / "r.jsonl"
    fifo = folder.parent / "list"
    os.mkfifo(fifo)
    running = start("--files-from", fifo, "-o", out, "--resume")
    with fifo.open("w") as names:
        print(folder / "a" / "1.png", file=names, flush=True)
        wait_for(lambda: out.exists() and out.stat().st_size > 0)  # answered before the list has an end
        assert "another run writes to it" in line(echo(folder, "-o", out, "--resume"))
    running.communicate(timeout=60)
    assert len(read(out)) == 1


def test_a_disk_that_fills_up_stops_the_run_with_one_error_and_it_is_resumed(folder: Path) -> None:
    out = folder.parent / "r.jsonl"

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    command = [
        sys.executable,
        "-m",
        "smolcli",
        "caption",
        "-b",
        "echo",
        "-q",
        "-o",
        str(out),
        "--resume",
        "--prompt",
        "Hm?",
    ]
    full = subprocess.run([*command, folder], capture_output=True, preexec_fn=small, timeout=60)
    assert full.returncode == 1
    assert f"{out}: cannot be written (File too large)" in line(full)
    assert 0 < len(read(out)) < 12  # what is there is whole
    assert echo(folder, "-o", out, "--resume").returncode == 5
    assert len(by_path(read(out))) == 12


def test_shards_together_are_the_whole(folder: Path) -> None:
    parts = [echo(folder, "-f", "jsonl", "--shard", f"{n}/3").stdout.splitlines() for n in (1, 2, 3)]
    assert sorted(json.loads(line)["path"] for part in parts for line in part) == sorted(
        map(str, folder.rglob("*.png"))
    )


def test_lists_and_patterns(folder: Path) -> None:
    listed = echo("--files-from", "-", "-0", stdin=f"{folder}/a/1.png\0{folder}/b\0".encode())
    assert listed.stdout.count(b"\n") == 6
    assert echo(f"{folder}/*/1*.png").stdout.decode().splitlines() == [
        f"{folder}/a/1.png: [1x1] Hm?", f"{folder}/a/11.png: [11x1] Hm?", f"{folder}/b/10.png: [10x1] Hm?",
    ]  # fmt: skip
    assert echo(folder, "--include", "1*.png", "--exclude", "b").stdout.count(b"\n") == 2
    literal = echo("--files-from", "-", "-f", "jsonl", stdin=f"{folder}/a/[1].png\r\n{folder}/a/1.png\r\n".encode())
    assert [json.loads(line)["error"] is None for line in literal.stdout.splitlines()] == [False, True]
    assert "add -0" in line(echo("--files-from", "-", stdin=b"a.png\0b.png\0"))
    (folder / "gone.png").symlink_to("nowhere.png")  # as of data that was not fetched
    assert "gone.png: no such file" in echo(folder).stderr.decode()


def test_what_is_passed_by_is_said_once_and_a_pattern_without_a_match_is_no_input(folder: Path) -> None:
    (folder / "notes.doc").write_text("words")
    (folder / "a" / "link").symlink_to(folder / "b")
    done = smolcli("caption", "-b", "echo", "-m", "nano", folder, "--exclude", "bad.png", f"{folder}/*.gif")
    assert (done.returncode, done.stdout.count(b"\n")) == (5, 11)
    assert done.stderr.decode().splitlines()[:2] == [
        f"smolcli: {folder}/*.gif: no file matches; check the pattern",
        "smolcli: passed by 1 file that is no picture and 1 link to a folder (--follow-links walks into links)",
    ]
    none = echo(f"{folder}/*.gif")
    assert (none.returncode, line(none)) == (4, f"smolcli: {folder}/*.gif: no file matches; check the pattern\n")


def test_pictures_in_a_row_on_standard_input_are_named_and_written_as_several() -> None:
    row = png((1, 1)) + png((2, 1)) + png((1, 1))
    assert echo("-", stdin=row).stdout.decode().splitlines() == ["-#1: [1x1] Hm?", "-#2: [2x1] Hm?", "-#3: [1x1] Hm?"]
    assert [record["path"] for record in json.loads(echo("-", "-f", "json", stdin=row).stdout)] == ["-#1", "-#2", "-#3"]
    together = smolcli("ask", "Hm?", "--together", "-", "-b", "echo", "-q", stdin=row)
    assert together.stdout == b"[1x1] [2x1] [1x1] Hm?\n"


def test_a_table_that_is_written_anew_is_told(folder: Path) -> None:
    """As `xargs smolcli caption -o all.csv` does it, whose last batch alone stays."""
    picture, table = folder / "a" / "1.png", folder.parent / "all.csv"
    assert smolcli("caption", "-b", "echo", "-m", "nano", picture, "-o", table).stderr == b""
    again = smolcli("caption", "-b", "echo", "-m", "nano", picture, "-o", table)
    assert (again.returncode, line(again)) == (0, f"smolcli: replaces {table}\n")


def test_fail_fast_leaves_one_failure(folder: Path) -> None:
    for number in range(5):
        (folder / f"0bad{number}.png").write_text("no")
    done = echo(folder, "--fail-fast", "-f", "jsonl")
    assert sum(json.loads(record)["error"] is not None for record in done.stdout.splitlines()) == 1


def test_an_input_that_takes_too_long_is_an_error_and_the_run_goes_on(folder: Path) -> None:
    os.mkfifo(folder / "slow.png")  # nobody writes to it
    done = echo(folder / "a" / "1.png", folder / "slow.png", folder / "a" / "3.png", "--timeout", "2", "-f", "jsonl")
    kinds = [record["error"] and record["error"]["kind"] for record in map(json.loads, done.stdout.splitlines())]
    assert kinds == [None, "timeout", None]


def test_a_watched_folder_is_read_and_what_arrives_too(folder: Path) -> None:
    running = start("--watch", folder, "-f", "jsonl")
    assert running.stdout is not None
    first = [json.loads(running.stdout.readline()) for _ in range(12)]
    assert {record["path"] for record in first} == {str(path) for path in folder.rglob("*.png")}
    half = picture(folder.parent / "half.png", (123, 1)).read_bytes()
    with (folder / "late.png").open("wb") as late:
        late.write(half[:20])
        late.flush()
        picture(folder.parent / "other.png", (5, 5)).rename(folder / "moved.png")
        assert json.loads(running.stdout.readline())["text"] == "[5x5] Hm?"  # that one is whole, the other not yet
        late.write(half[20:])
    assert json.loads(running.stdout.readline())["text"] == "[123x1] Hm?"
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130


def test_progress_goes_to_a_terminal_as_one_line_and_nowhere_else(folder: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    command = [sys.executable, "-m", "smolcli", "caption", "-b", "echo", "-m", "nano", folder.name]
    out = Path("o.jsonl")
    running = subprocess.Popen([*command, "-o", str(out)], stderr=theirs, stdout=theirs, cwd=folder.parent)
    running.wait(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 2**16).decode()
    os.close(ours)
    assert "1 of 12 (0.0 MB)" in shown and "tokens/s" in shown
    *_, error, hint, totals, again, end = [line.rpartition("\r\x1b[K")[2].rstrip("\r") for line in shown.split("\n")]
    assert "bad.png: is not a picture" in error and "convert it to PNG" in hint  # on a terminal in two lines
    assert totals.startswith("smolcli: 11 new, 1 failed (1 unsupported), ") and totals.endswith(f", in {out}")
    assert again == f"smolcli: to try the failed ones again: {' '.join(command[2:])} -o {out} --resume --retry-failed"
    assert end == ""  # the line is taken away
    piped = smolcli("caption", "-b", "echo", "-m", "nano", folder)
    error, totals = piped.stderr.decode().splitlines()
    assert "bad.png: is not a picture that can be read; convert it to" in error
    assert totals.startswith("smolcli: 11 new, 1 failed (1 unsupported), ")


def wait_for(condition: Callable[[], bool]) -> None:
    """Until something in another process has happened; a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end


def test_urls_are_fetched_when_they_are_named_and_never_offline(tmp_path: Path) -> None:
    import http.server
    import threading

    data = (SAMPLES / "sign.png").read_bytes()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a%20b.png?x=1"
    assert echo(url).stdout == b"[256x128] Hm?\n"
    [record] = map(json.loads, echo(url, "--offline", "-f", "jsonl").stdout.splitlines())
    assert record["error"]["kind"] == "offline"
    assert echo(url, "--sidecar", ".txt", "--out-dir", tmp_path).returncode == 0
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["[256x128] Hm?\n"]
    server.shutdown()
    server.server_close()
