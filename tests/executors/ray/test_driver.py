"""executors/ray/: on two nodes of a real Ray cluster, records equal those of a local run, whatever dies meanwhile."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster as Nodes

from smolcli import __version__
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, ErrorKind, Exit, ModelError, SmolError, UnavailableError, UsageError
from smolcli.executors.base import RunSpec
from smolcli.executors.local import LocalExecutor
from smolcli.executors.ray import worker_pool
from smolcli.executors.ray.driver import RayExecutor
from smolcli.executors.ray.worker import Worker, WorkerJob, with_moved_files
from smolcli.models.files import ModelFiles
from smolcli.options import Batch, Generate, Input, Model
from smolcli.records.record_id import Identity
from smolcli.records.sink import RecordSink
from smolcli.tasks.caption import Caption
from smolcli.tasks.video_summarize import VideoSummarize
from smolcli.types import Item, Memory, Record, Seconds, Source
from tests.executors.replying import Replying

CRASHES, KILLS_ITS_WORKER, KILLS_EVERY_WORKER, WAITS, TELLS = 101, 102, 103, 104, 105  # widths of pictures
ROOT = str(Path(__file__).parents[3])
SMALL: dict[str, Any] = {"object_store_memory": 2**27, "include_dashboard": False}


class Scribe(Replying):
    """Replies with a picture's size, and logs its node in the folder that is its model's name.

    The picture's width says what it does to its process.
    """

    def __init__(self, files: ModelFiles, options: Model) -> None:
        if files.name == "broken":
            raise ModelError("broken.gguf is not a GGUF", "get another")
        super().__init__(files, options)
        self.folder, self.threads = Path(files.name), options.threads
        self.node = _parent(os.getppid())  # the raylet that started the worker that started this engine
        self.has_met = False

    def reply(self, words: list[str]) -> Iterator[str]:
        width, height = map(int, words[0].strip("[]").split("x"))
        if not self.has_met:
            self.has_met = True
            self._meet()
        if (self.folder / f"{self.node} dies").exists():
            os.kill(self.node, signal.SIGKILL)
            signal.pause()
        if width == CRASHES:
            os.kill(os.getpid(), signal.SIGSEGV)
        if width == KILLS_EVERY_WORKER or (width == KILLS_ITS_WORKER and self._is_first("killed")):
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        if width == WAITS:
            (self.folder / "waiting").read_bytes()  # until the test closes it
        if width == TELLS and self._is_first("told"):
            (self.folder / "telling").open("wb").close()
        with (self.folder / "log").open("a") as log:
            log.write(f"{self.node} {self.threads} {width}\n")
        yield f"{width} x {height}"

    def _meet(self) -> None:
        """Has the first engines wait for each other: one more than there are pipes named meeting*."""
        pipes = sorted(self.folder.glob("meeting*"))
        for pipe in pipes:
            if self._is_first(f"at {pipe.name}"):
                pipe.open("rb").close()
                return
        if pipes and self._is_first("last"):
            for pipe in pipes:
                pipe.open("wb").close()

    def _is_first(self, name: str) -> bool:
        try:
            (self.folder / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class CollectingSink(RecordSink):
    """Keeps the records; `then` is called with each, and says whether the run goes on."""

    def __init__(self, then: Callable[[Record], bool] = lambda record: True) -> None:
        self.records: list[Record] = []
        self.restarts: list[tuple[ErrorKind, str]] = []
        self.then = then

    def note_restart(self, kind: ErrorKind, path: str) -> None:
        self.restarts.append((kind, path))

    def show_video_progress(self, path: str, done: int, of: int, frames: int) -> None: ...

    def show_page_progress(self, path: str, page: int, of: int) -> None: ...

    def write_record(self, record: Record) -> bool:
        self.records.append(replace(record, seconds=Seconds(), memory=Memory()))
        return self.then(record)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    quickly = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", temporary)  # short: the paths of sockets are limited
        patch.setenv("PYTHONPATH", ROOT)  # engines load Scribe
        head = {"num_cpus": 1, "_system_config": quickly, **SMALL}
        before = signal.getsignal(signal.SIGTERM)
        nodes = Nodes(initialize_head=True, head_node_args=head)
        nodes.add_node(num_cpus=1, **SMALL)
        yield nodes
        nodes.shutdown()
        signal.signal(signal.SIGTERM, before)  # or every process that is forked later would have Ray's handler


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a folder `in` for inputs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    return tmp_path


def png(width: int, height: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(*widths: int) -> list[Item]:
    """Picture files below `in`, one for each width, with relative paths."""
    items = []
    for number, width in enumerate(widths):
        path = Path(f"in/{number}.png")
        path.write_bytes(png(width))
        items.append(Item.of(str(path)))
    return items


def executor(
    kind: type[LocalExecutor] | type[RayExecutor],
    address: str | None,
    sink: RecordSink,
    files: ModelFiles | None = None,
    model: Model | None = None,
) -> LocalExecutor | RayExecutor:
    """An executor that runs Scribe; its engines write into the working directory."""
    work = Work(f"{__name__}:Scribe", files or ModelFiles(os.getcwd()), model or Model(), Input(), Generate())
    batch = Batch(address=address, timeout=60)
    return kind(RunSpec(Caption(), Identity("caption", "scribe", "scribe"), work, batch), sink)


def records_of(
    kind: type[LocalExecutor] | type[RayExecutor],
    items: Iterable[Item],
    address: str | None = None,
    sink: CollectingSink | None = None,
) -> list[Record]:
    """The records of a run over the items."""
    sink = sink or CollectingSink()
    executor(kind, address, sink).run(items)
    return sink.records


def log() -> list[tuple[int, str, int]]:
    """The node, threads and width of every picture that was answered."""
    lines = (line.split() for line in Path("log").read_text().splitlines())
    return [(int(node), threads, int(width)) for node, threads, width in lines]


def raylet(node: Any) -> int:
    """The id of the Ray process that runs a node."""
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def test_records_equal_those_of_a_local_run_and_are_in_order(
    nodes: Nodes, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = pictures(*range(1, 80), CRASHES, *range(1, 20))
    Path("in/3.png").write_bytes(b"")
    Path("in/4.png").write_bytes(b"junk")
    Path("in/5.png").unlink()
    several = Item("in/1.png in/5.png", (Source("in/1.png"), Source("in/5.png")))
    items += [several, Item.of("-", png(90)), Item.of(str(folder / "in" / "0.png")), Item.of("caf\udcff.png"), items[7]]
    local = records_of(LocalExecutor, items)
    Path("log").unlink()
    os.mkfifo("meeting")  # otherwise one node may be done before the other begins
    sink = CollectingSink()
    assert records_of(RayExecutor, items, nodes.address, sink) == local
    assert sink.restarts == [(ErrorKind.CRASH, "in/79.png")]
    assert Counter(record.error and record.error.kind for record in local) == {
        None: len(items) - 6, "empty": 1, "unsupported": 1, "missing": 3, "crash": 1,
    }  # fmt: skip
    assert {node for node, _, _ in log()} == {raylet(node) for node in nodes.list_all_nodes()}
    assert {threads for _, threads, _ in log()} == {"1"}  # as many as the worker has CPUs
    assert capfd.readouterr() == ("", "")


def test_videos_are_summarized_as_in_a_local_run(nodes: Nodes, folder: Path) -> None:
    items = []
    for number in range(6):
        pictures = [Image.new("L", (8, 8), 9 * number + 20 * shade) for shade in range(2 + number)]
        pictures[0].save(f"in/{number}.gif", save_all=True, append_images=pictures[1:], duration=1000)
        items.append(Item.of(f"in/{number}.gif"))
    Path("in/3.gif").write_bytes(b"GIF89a")
    task = VideoSummarize(segment=2.0)

    def summaries(kind: type[LocalExecutor] | type[RayExecutor], address: str | None) -> list[Record]:
        sink = CollectingSink()
        echo = Work(
            "smolcli.backends.echo:Echo", ModelFiles("echo"), Model(), Input(), Generate(), sampling=task.sampling
        )
        batch = Batch(address=address, timeout=60)
        kind(RunSpec(task, Identity("video-summarize", "echo", "echo"), echo, batch), sink).run(items)
        return sink.records

    local = summaries(LocalExecutor, None)
    assert summaries(RayExecutor, nodes.address) == local
    assert [record.data and len(record.data["segments"]) for record in local] == [1, 2, 2, None, 3, 4]


def test_a_worker_that_dies_costs_no_record(nodes: Nodes, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    items = pictures(*range(1, 60), KILLS_ITS_WORKER, *range(1, 40))
    records = records_of(RayExecutor, items, nodes.address)
    assert [record.path for record in records] == [item.path for item in items]
    assert {record.error for record in records} == {None}
    assert Path("killed").exists()
    assert capfd.readouterr() == ("", "")


def test_the_same_content_on_two_workers_is_asked_about_once(nodes: Nodes, folder: Path) -> None:
    """The second picture is opened by one worker while the other's model has the first, its equal."""
    os.mkfifo("meeting")
    for name in ("waiting", "telling"):
        os.mkfifo(name)
    workers_are_ready = threading.Event()

    def note(record: Record) -> bool:
        if record.path == "in/2.png":
            workers_are_ready.set()
        return True

    def source() -> Iterator[Item]:
        *first, waits, equal = pictures(1, 2, 3, WAITS, WAITS)
        tells = [Item.of(f"{height}", png(TELLS, height)) for height in (1, 2, 3)]
        yield from first  # a worker gets two of them at most, and the workers wait for each other
        assert workers_are_ready.wait(60)
        yield waits
        with Path("waiting").open("wb"):  # one model has begun with it, and goes on at the end of this block
            yield equal  # to the other worker, which has fewer
            yield from tells  # the first worker gets one more batch at most, so the other one has some of them
            Path("telling").read_bytes()  # its model is asked about one, after it was decided about `equal`

    records = records_of(RayExecutor, source(), nodes.address, CollectingSink(note))
    assert [(record.path, record.text) for record in records] == [
        *((f"in/{number}.png", f"{width} x 1") for number, width in enumerate([1, 2, 3, WAITS, WAITS])),
        *((f"{height}", f"{TELLS} x {height}") for height in (1, 2, 3)),
    ]  # fmt: skip
    assert Counter(width for _, _, width in log()) == {1: 1, 2: 1, 3: 1, WAITS: 1, TELLS: 3}
    assert len({node for node, _, _ in log()}) == 2


def test_duplicates_outlive_the_worker_and_the_failure_of_the_one_they_wait_for(nodes: Nodes, folder: Path) -> None:
    widths = [KILLS_ITS_WORKER, CRASHES, 1, 2] * 2
    records = records_of(RayExecutor, pictures(*widths), nodes.address)
    assert [record.path for record in records] == [f"in/{number}.png" for number in range(8)]
    assert [record.text or str(record.error and record.error.kind) for record in records] == [
        f"{KILLS_ITS_WORKER} x 1", "crash", "1 x 1", "2 x 1",
    ] * 2  # fmt: skip
    assert Path("killed").exists()
    assert Counter(width for _, _, width in log()) == {KILLS_ITS_WORKER: 1, 1: 1, 2: 1}


@pytest.mark.slow
def test_a_node_that_dies_costs_no_record(nodes: Nodes, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    third = nodes.add_node(num_cpus=1, **SMALL)
    Path(f"{raylet(third)} dies").touch()
    for name in ("meeting1", "meeting2"):
        os.mkfifo(name)  # it dies at its first input, when all three nodes have theirs
    items = pictures(*range(1, 100))
    records = records_of(RayExecutor, items, nodes.address)
    nodes.remove_node(third, allow_graceful=False)
    assert [record.path for record in records] == [item.path for item in items]
    assert {record.error for record in records} == {None}
    assert len(log()) == len(items)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_workers_that_keep_dying_end_the_run_after_finished_records_were_delivered(nodes: Nodes, folder: Path) -> None:
    sink = CollectingSink()
    reason = r"\((Worker unexpectedly|The actor \w+ is unavailable)"  # Ray reports the death, or a call fails before
    with pytest.raises(EngineError, match=rf"3 times in a row a worker of Ray's died, last on .* {reason}"):
        records_of(RayExecutor, pictures(1, 2, KILLS_EVERY_WORKER, 3, 4), nodes.address, sink)
    paths = [record.path for record in sink.records]
    assert paths == sorted(set(paths)) and "in/2.png" not in paths


def test_fail_fast_stops_at_the_first_failure(nodes: Nodes, folder: Path) -> None:
    items = pictures(*range(1, 60))
    Path("in/20.png").write_bytes(b"junk")
    records = records_of(RayExecutor, items, nodes.address, CollectingSink(lambda record: record.error is None))
    assert [record.path for record in records] == [item.path for item in items[:21]]


def test_a_stop_finishes_items_under_way_and_begins_no_other(nodes: Nodes, folder: Path) -> None:
    items = pictures(1, WAITS, *[1] * 2000)
    os.mkfifo("waiting")
    was_idle: list[bool] = []
    has_first = threading.Event()

    def note(record: Record) -> bool:
        has_first.set()
        return True

    def source() -> Iterator[Item]:
        yield items[0]
        assert has_first.wait(60)  # else a worker may not have begun it when the stop comes, and drops it
        yield from items[1:]

    def stop() -> None:
        with Path("waiting").open("wb"):  # waits until the engine has begun
            was_idle.append(cluster.is_idle)
            cluster.stop()

    sink = CollectingSink(note)
    cluster = executor(RayExecutor, nodes.address, sink)
    stopper = threading.Thread(target=stop)
    stopper.start()
    cluster.run(source())
    stopper.join()
    assert cluster.is_stopping and cluster.is_idle and was_idle == [False]
    paths = [record.path for record in sink.records]
    assert paths[:2] == ["in/0.png", "in/1.png"]
    assert len(set(paths)) == len(paths) < len(items)


@pytest.mark.parametrize(
    ("error", "message", "threads", "version"),
    [
        (ModelError, r"broken.gguf is not a GGUF \(on .*\); get another", None, None),
        (UsageError, "no node of the Ray cluster has 3 CPUs", 3, None),
        (UnavailableError, r"smolcli .* is installed there, and 0.0 started it \(on ", None, "0.0"),
    ],
)
def test_errors_of_workers_are_raised_as_themselves(
    nodes: Nodes, folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[SmolError], message: str,
    threads: int | None, version: str | None,
) -> None:  # fmt: skip
    if version is not None:
        monkeypatch.setattr(worker_pool, "__version__", version)
    with pytest.raises(error, match=message) as raised:
        executor(RayExecutor, nodes.address, CollectingSink(), ModelFiles("broken"), Model(threads=threads)).run(
            pictures(1)
        )
    assert type(raised.value) is error


def test_a_worker_refuses_another_model_than_that_of_the_run(tmp_path: Path) -> None:
    files = ModelFiles("a", gguf=tmp_path / "a.gguf", mmproj=tmp_path / "mmproj.gguf")
    work = Work("", files, Model(), Input(), Generate())
    for content, message in ((None, r"a.gguf: no such file \(on "), (b"other", r"a: is another model than .* \(on ")):
        if content is not None:
            for file in (files.gguf, files.mmproj):
                assert file is not None
                file.write_bytes(content)
        identity = Identity("caption", "a", "llamacpp", "fingerprint")
        job = pickle.dumps(WorkerJob(RunSpec(Caption(), identity, work), Path("/built-in")))
        error = pickle.loads(Worker().start(__version__, job, 1, 0)).error
        with pytest.raises(ModelError, match=message):
            raise error


def test_every_file_of_a_model_is_looked_for_on_the_node() -> None:
    files = ModelFiles("a", Path("checkpoint"), Path("gguf"), Path("mmproj"), Path("adapter"))
    moved = with_moved_files(files, lambda path: Path("/there", path))
    paths = (moved.checkpoint, moved.gguf, moved.mmproj, moved.adapter)
    assert list(map(str, paths)) == ["/there/checkpoint", "/there/gguf", "/there/mmproj", "/there/adapter"]


def smolcli(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smolcli", "caption", "in", "-m", "nano", "-b", "echo", *args]
    environment = os.environ | {"PYTHONPATH": ROOT, "STARTED_IN": os.getcwd()}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)


def test_a_ray_run_resumes_a_local_run(nodes: Nodes, folder: Path) -> None:
    pictures(*range(1, 30))
    assert smolcli("-o", "r.jsonl", "--resume").returncode == Exit.OK
    before = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    Path("r.jsonl").write_text("".join(json.dumps(record) + "\n" for record in before[:10]) + '{"path": "torn')
    Path("in/copy.png").write_bytes(png(1))  # its content was answered
    Path("in/3.png").touch()  # its stamp is new, so it has to be read
    done = smolcli("-o", "r.jsonl", "--resume", "--engine", "ray", "--address", nodes.address)
    assert all(line.startswith("smolcli: ") for line in done.stderr.splitlines()), done.stderr
    assert (done.returncode, done.stdout) == (Exit.OK, "")
    records = {record["path"]: record for record in map(json.loads, Path("r.jsonl").read_text().splitlines())}
    assert len(Path("r.jsonl").read_text().splitlines()) == 30
    for old in before:
        assert records[old["path"]] | {"seconds": 0, "memory": 0, "stamp": 0} == old | {
            "seconds": 0,
            "memory": 0,
            "stamp": 0,
        }
    copy, first = records["in/copy.png"], records["in/0.png"]
    assert {name for name in copy if copy[name] != first[name]} == {"path", "stamp", "seconds"}


def test_without_an_address_a_cluster_of_this_machine_starts_and_ends(folder: Path) -> None:
    pictures(1, 2)
    done = smolcli("--engine", "ray", "-f", "text")
    assert re.fullmatch(r"smolcli: 2 new, 0 failed, [^\n]*\n", done.stderr)
    assert done.returncode == Exit.OK
    assert done.stdout.count("Describe this image") == 2
    assert not {"raylet", "gcs_server"} & set(alive(f"STARTED_IN={folder}"))


def alive(variable: str) -> Iterator[str]:
    """The names of the processes that have `variable` ("NAME=value") in their environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in process.joinpath("environ").read_bytes().split(b"\0"):
                yield process.joinpath("comm").read_text().strip()


def test_an_address_without_a_server_is_an_error_at_once(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "nonsense", "127.0.0.1:99999"):
        with pytest.raises(UnavailableError, match="the Ray cluster .* cannot be reached"):
            records_of(RayExecutor, pictures(1), address)
    assert not ray.is_initialized()
