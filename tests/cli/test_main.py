"""The program as a user runs it: `python -m smolcli` in a process of its own, with the built-in model."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from smolcli import __version__
from tests.helpers import LIBRARIES, SAMPLES, line, loaded, smolcli


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["caption", "--help"], ["bench", "speed", "--help"]])
def test_help_loads_no_heavy_library(words: list[str]) -> None:
    modules, output = loaded(*words)
    assert not modules & LIBRARIES
    assert "smolcli.pipeline.run" not in modules
    assert not output.startswith("\n")


COMPLETED = {
    "smolcli cap": "caption", "smolcli ask --vis": "--vision-engine", "smolcli bench sp": "speed",
    "smolcli models p": "pull", "smolcli bench speed --ba": "--backend",
    "smolcli convert-to-gguf --mmproj-": "--mmproj-quant", "smolcli ask --vision-engine op": "openvino",
    "smolcli bench speed -b ll": "llamacpp", "smolcli ocr --detail h": "high", "smolcli ocr -m na": "nano",
    "smolcli video-summarize -f chap": "chapters", "smolcli caption --sidecar .x": ".xmp",
    "smolcli models pull 500": "500m-video", "smolcli convert-to-gguf --quant q8": "q8_0",
    "smolcli help exi": "exit-codes", "smolcli caption --help-": "--help-all",
}  # fmt: skip


@pytest.mark.parametrize(
    ("shell", "words"),
    [("zsh", "smolcli cap"), ("fish", "smolcli cap"), *(("bash", words) for words in COMPLETED)],
)
def test_a_shell_completes_without_heavy_libraries(shell: str, words: str) -> None:
    """Each shell once, and in one of them each kind of word."""
    request = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))} if shell == "bash" else {
        "_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"
    }  # fmt: skip
    modules, output = loaded(_SMOLCLI_COMPLETE=f"complete_{shell}", **request)
    assert not modules & LIBRARIES
    assert COMPLETED[words] in output


def test_the_parent_process_loads_no_heavy_library() -> None:
    modules, output = loaded("caption", SAMPLES / "scene.png", "-m", "nano", "-b", "echo", "-q", "-n", "512")
    assert output.startswith("[256x256]")
    assert not modules & (LIBRARIES - {"multiprocessing"})


def test_version_and_help() -> None:
    for word in ("--version", "-V"):
        assert smolcli(word).stdout.decode() == f"smolcli {__version__}\n"
    assert smolcli("help", "caption").stdout == smolcli("caption", "--help-all").stdout


def test_it_resets_sigchld_that_its_parent_ignores() -> None:
    code = (
        "import signal\n"
        "from smolcli.__main__ import main\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "try: main()\n"
        "finally: assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_several_files_give_one_line_each_in_order() -> None:
    files = sorted(SAMPLES.glob("*.png"))
    done = smolcli("caption", *files)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(file) for file in files]
    assert all(line.split(": ", 1)[1] for line in lines)
    notice, totals = done.stderr.decode().splitlines()
    assert notice.startswith("smolcli: using nano, which reads print and names drawn things; it knows nothing of photo")
    assert totals.startswith(f"smolcli: {len(files)} new, 0 failed, ")
    assert totals.endswith(notice.removeprefix("smolcli: "))  # again, where many lines stand between


@pytest.mark.parametrize("backend", ["torch", "llamacpp"])
def test_a_picture_on_standard_input(backend: str) -> None:
    done = smolcli("ocr", "-", "-q", "-b", backend, stdin=(SAMPLES / "sign.png").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"EXIT 27\n"


def test_records() -> None:
    done = smolcli("ask", "How many circles?", SAMPLES / "circles.png", SAMPLES / "scene.png", "-f", "jsonl", "-q")
    records = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [set(record) for record in records] == [
        {
            "path",
            "id",
            "sha256",
            "stamp",
            "task",
            "text",
            "data",
            "model",
            "backend",
            "finish_reason",
            "tokens",
            "seconds",
            "notices",
            "memory",
            "blank",
            "embedded",
            "paths",
            "confidence",
            "page",
            "is_last_page",
            "error",
        }
    ] * 2
    assert all(10e6 < record["memory"][name] < 2e9 for record in records for name in ("parent", "engine"))
    assert records[0]["memory"]["gpu"] == 0
    assert [record["model"] for record in records] == ["nano", "nano"]
    assert set(records[0]["seconds"]) == {"load", "media", "encode", "prefill", "decode"}
    assert records[0]["seconds"]["load"] > 0
    assert records[1]["seconds"]["load"] == 0


def test_json_is_one_record_or_an_array() -> None:
    single = smolcli("caption", SAMPLES / "scene.png", "-f", "json", "-q", "-b", "echo")
    assert json.loads(single.stdout)["path"] == str(SAMPLES / "scene.png")
    many = smolcli("caption", SAMPLES / "scene.png", SAMPLES / "sign.png", "-f", "json", "-q", "-b", "echo")
    assert len(json.loads(many.stdout)) == 2


def test_a_bad_file_is_reported_and_the_others_are_answered(tmp_path: Path) -> None:
    letter = tmp_path / "letter.jpg"
    letter.write_text("Dear Sir or Madam")
    done = smolcli("caption", letter, SAMPLES / "scene.png", "-q", "-b", "echo")
    assert done.returncode == 5
    assert line(done) == f"smolcli: {letter}: is not a picture that can be read; convert it to PNG or JPEG\n"
    assert done.stdout.decode().count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["caption", "nowhere.png"], 6, "nowhere.png: no such file; check the path"),
        (["caption", "{empty}"], 4, "no picture was found"),
        (["caption"], 2, "no input was given"),
        (["ask", "What?", "--together", "{empty}"], 4, "no picture was found"),
        (["caption", "{scene}", "-o", "{scene}"], 2, "the input is also the output"),
        (["ask", "{scene}"], 2, "is a file, where the question should be"),
        (["ask", "What is this?"], 2, 'no input was given; smolcli ask "QUESTION" picture.png'),
        (["ask", "{scene}", "{scene}"], 2, "is a file, where the question should be"),
        (["ask", "What?", "-Q", "", "{scene}"], 2, "the question is empty"),
        (["caption", "x.png", "--threads", "100000"], 2, "not a whole number from 1 to 512"),
        (["caption", "--frob"], 2, "see smolcli caption --help"),
        (["convert-to-gguf", "nano", "--quant"], 2, "see smolcli convert-to-gguf --help"),
        (["caption", "https://example.com/a.png", "--offline"], 6, "--offline forbids the network"),
        (["models", "pull", "../x"], 3, "not a known name or Hugging Face id"),
        (["caption", "{scene}", "--dtype", "int3"], 2, "dtype int3 is not known"),
        (["caption", "-", "-"], 2, "standard input can be read once"),
        (["caption", "{scene}", "--seed", "-1"], 2, "not a whole number from 0 to 4294967295"),
        (["convert-to-gguf", "{empty}", "--quant", "q9"], 2, "quant q9 is not known"),
        (["ask", " ", "x.png"], 2, "the question is empty"),
        (["caption", "--prompt", "", "x.png"], 2, "the prompt is empty"),
        (["ask", "What\udcff?", "x.png"], 2, "the text is not UTF-8"),
        (["ask", "What?", "--mmproj", "{scene}", "{scene}"], 2, "--mmproj is given without a model"),
        (["caption", "x.png", "--style", "loud"], 2, "style loud is not known"),
        (["caption", "x.png", "--detail", "9.5"], 2, "--detail 9.5 is not known"),
        (["caption", "x.png", "-n", "none"], 2, "none is not a whole number of 1 or more"),
        (["frobnicate"], 2, "No such command frobnicate; see smolcli --help"),
        (["captoin"], 2, "No such command captoin; did you mean caption?"),
        (["caption", "--modle", "x"], 2, "No such option --modle; did you mean --model?"),
        (["caption", "--o", "x"], 2, "No such option --o; see smolcli caption --help"),
        (
            ["caption", "{scene}", "-m", "nanoo"],
            3,
            "nanoo: not a known name, Hugging Face id, directory or .gguf file; did you",
        ),
        (["models", "pull", "256n"], 3, "256n: not a known name or Hugging Face id; did you mean 256m?"),
        (["models", "pull"], 2, "no model was named; smolcli models list shows the names"),
        (["caption", "x.png", "-m", "no/such-model"], 3, "no/such-model"),
        (["caption", "{scene}", "-o", "/proc/nonexistent/out.txt"], 2, "/proc/nonexistent/out.txt: cannot be written"),
        (["convert-to-gguf", "nowhere"], 3, "nowhere: not a directory, known name or Hugging Face id"),
    ],
)
def test_usage_and_missing_files(tmp_path: Path, words: list[str], code: int, message: str) -> None:
    (tmp_path / "empty").mkdir()
    filled = [word.format(empty=tmp_path / "empty", scene=SAMPLES / "scene.png") for word in words]
    done = smolcli(*filled, *(["-q", "-b", "echo"] if words[0] in ("caption", "ask") else []))
    assert done.returncode == code
    assert message in line(done)
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("backend", "library", "error"),
    [
        ("llamacpp", "llama_cpp", "RuntimeError('Failed to load shared library libllama.so')"),
        ("torch", "torch", "OSError('libtorch.so: cannot open shared object file')"),
        ("torch", "torch", "ImportError('libgomp.so.1: cannot open shared object file')"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_a_missing_dependency(
    tmp_path: Path, backend: str, library: str, error: str
) -> None:
    (tmp_path / library).mkdir()
    for name in ("__init__", "llama_cpp"):
        (tmp_path / library / f"{name}.py").write_text(f"raise {error}\n")
    done = smolcli("caption", SAMPLES / "scene.png", "-m", "nano", "-b", backend, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (3, b"")
    assert f"{backend} is installed and cannot be loaded ({error.split(chr(39))[1]}" in line(done)


def test_a_truncated_file_and_a_decompression_bomb_are_errors(tmp_path: Path) -> None:
    whole = png(Image.effect_noise((80, 80), 90))
    cut, large = tmp_path / "cut.png", tmp_path / "large.png"
    cut.write_bytes(whole[:2000])
    large.write_bytes(png(Image.new("1", (30_000, 30_000))))
    done = smolcli("ocr", cut, large, "-q", "-b", "echo", "-f", "jsonl")
    assert done.returncode == 6
    kinds = [json.loads(record)["error"]["kind"] for record in done.stdout.decode().splitlines()]
    assert kinds == ["truncated", "too-large"]


@pytest.mark.parametrize("later", ["scene.png", "nowhere.png"], ids=["answers", "errors"])
def test_a_closed_pipe_ends_the_run_quietly(later: str) -> None:
    many = " ".join([str(SAMPLES / "scene.png")] + [str(SAMPLES / later)] * 300)
    command = f"{sys.executable} -m smolcli caption -q -b echo -f jsonl {many} 2>/dev/null | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1


def test_without_a_command_there_is_help() -> None:
    done = smolcli()
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") > 10
    assert not done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_no_file_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "smolcli", "caption", "-b", "echo", *[str(SAMPLES / "page.png")] * 5000]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode in (128 + number, -number)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_in_one_line() -> None:
    for words in (["caption", "-q", "-b", "echo", str(SAMPLES / "scene.png")], ["--help"]):
        command = f"{sys.executable} -m smolcli {' '.join(words)} > /dev/full"
        done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
        assert done.returncode == 1
        assert "No space left on device" in line(done)
        assert "unexpected" not in line(done)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(tmp_path: Path, closed: str) -> None:
    out = tmp_path / "out.txt"
    bad = tmp_path / "bad.png"
    command = f"{sys.executable} -m smolcli caption -b echo -o {out} {SAMPLES / 'scene.png'} {bad} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert done.returncode == 5
    assert out.read_text().startswith(f"{SAMPLES / 'scene.png'}: [256x256]")
    assert out.read_text().count("\n") == 1
    assert done.stdout == b""
    assert ("2>&-" in closed) == (done.stderr == b"")


def test_a_closed_standard_output_is_a_failure() -> None:
    command = f"{sys.executable} -m smolcli caption -q -b echo {SAMPLES / 'scene.png'} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert (done.returncode, line(done)) == (
        1, "smolcli: standard output: cannot be written (Bad file descriptor); what was written before is whole\n",
    )  # fmt: skip


def test_interrupt_stops_at_once_where_no_input_is_in_progress(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "smolcli", "caption", "-q", "-b", "echo", str(tmp_path / "pipe")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)  # returns when the program opens the pipe for reading
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    os.close(writer)
    assert running.returncode == 130


def test_interrupt_finishes_the_input_in_progress_and_exits_130() -> None:
    command = [sys.executable, "-m", "smolcli", "caption", *[str(SAMPLES / "page.png")] * 2000, "-f", "jsonl", "-q"]
    running = subprocess.Popen(
        command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )  # unbuffered, because communicate does not see what readline has read ahead
    assert running.stdout is not None
    first = running.stdout.readline()
    os.killpg(running.pid, signal.SIGINT)  # to the child too, as a terminal does
    rest, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    records = [json.loads(record) for record in (first + rest).splitlines()]
    assert 1 <= len(records) < 2000
    assert all(record["error"] is None for record in records)


def test_output_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = smolcli("caption", SAMPLES / "scene.png", "-q", "-b", "echo", "-f", "jsonl", "-o", out)
    assert (done.returncode, done.stdout) == (0, b"")
    assert json.loads(out.read_text())["text"].startswith("[256x256]")


def test_pictures_that_other_tools_get_wrong(tmp_path: Path) -> None:
    """16-bit grey, transparent and rotated pictures give the answer of what they show; plain conversion would not."""
    plain = Image.open(SAMPLES / "scene.png").convert("RGB")
    grey = plain.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    plain.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    paper = Image.new("RGB", plain.size, "white")
    ink = ImageChops.difference(plain, paper).convert("L").point(lambda value: 255 if value else 0)
    clear = Image.composite(plain, Image.new("RGB", plain.size, "blue"), ink)  # blue where it is transparent
    clear.putalpha(ink)
    clear.save(tmp_path / "clear.png")
    Image.composite(plain, paper, ink).save(tmp_path / "plain.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    grey.convert("RGB").save(tmp_path / "grey.png")
    grey.point(lambda value: 255).save(tmp_path / "white.png")
    names = ("plain", "turned", "clear", "grey", "grey16", "white")
    done = smolcli("caption", *[tmp_path / f"{name}.png" for name in names], "-q", "-f", "jsonl")
    records = map(json.loads, done.stdout.decode().splitlines())
    texts = {name: record["text"] for name, record in zip(names, records, strict=True)}
    assert texts["turned"] == texts["clear"] == texts["plain"]
    assert texts["grey16"] == texts["grey"]
    assert len({texts["plain"], texts["grey"], texts["white"]}) == 3


def test_options_that_change_answers_change_the_id() -> None:
    ids = {
        json.loads(smolcli("caption", SAMPLES / "scene.png", "-q", "-b", "echo", "-f", "json", *words).stdout)["id"]
        for words in ([], ["--device", "cpu"], ["--dtype", "float32"], ["--detail", "high"], ["--seed", "3"])
    }
    assert len(ids) == 4  # the seed changes no answer without --temperature


def test_verbose_shows_the_backend_and_the_tokens_of_each_picture() -> None:
    done = smolcli("caption", SAMPLES / "scene.png", "-b", "llamacpp", "-f", "json", "-v", "-j", "3", "--threads", "1")
    assert (
        "nano on llamacpp: cpu, threads: 1, answers at once: at most 3, pictures: mtmd in float32\n"
        in done.stderr.decode()
    )
    tokens = json.loads(done.stdout)["tokens"]
    assert f"scene.png: {tokens['image']} tokens of pictures, {tokens['prompt']} with" in done.stderr.decode()
    assert tokens["image"] % 5 == 0 and tokens["prompt"] > tokens["image"] > 0  # four tiles and the whole picture
