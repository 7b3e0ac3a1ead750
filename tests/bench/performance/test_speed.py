"""bench speed and bench memory: computations, the loop with a fake backend, and the commands as users run them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from smolcli import registry
from smolcli.bench.configurations import Configuration, configurations
from smolcli.bench.options import Show, Speed, Variants
from smolcli.bench.performance import cli_runner, machine_noise, run, speed, speed_worker
from smolcli.bench.performance.floors import Floors, Machine, ModelSizes
from smolcli.bench.performance.speed import median_figure, stage_figures, step_figures
from smolcli.bench.performance.speed_worker import Case, Sample
from smolcli.bench.pictures import PictureSource, thumbnails
from smolcli.bench.report.results import Report, Result
from smolcli.errors import EngineError, Exit, ModelError, UnavailableError, UsageError
from smolcli.models.tensor_mapping import Text, Vision
from smolcli.options import Generate
from smolcli.system.info import machine
from smolcli.terminal.console import Console
from smolcli.types import Finish, Item, Piece, Prompt, Seconds, Source, Tokens
from tests.helpers import SAMPLES, smolcli
from tests.tiny import make_checkpoint

QUIET = Console(quiet=True)


# ---- figures -------------------------------------------------------------------------------------------


def test_stage_figures_computed_by_hand() -> None:
    """Two pictures of three tiles of 64 tokens; 10 new tokens each, of which the first needs no evaluation."""
    measured = Sample(
        wall=8.0, opening=0.2, cutting=0.4, encode=3.0, prefill=2.0, decode=1.5, prompt=400, image=384, new=20,
        steps=12, rows=18,
    )  # fmt: skip
    figures = {name: figure.value for name, figure in stage_figures([measured], 2, 64).items()}
    assert figures == pytest.approx(
        {"prefill": 400 / 2, "decode": 18 / 1.5, "media": 0.6 / 2, "tile": 3.0 / 6, "images": 2 / 8}
    )


def test_stage_figures_of_one_picture_and_of_text() -> None:
    measured = Sample(
        wall=5.0, opening=0.1, cutting=0.1, encode=2.0, prefill=1.0, decode=1.75, prompt=99, image=64, new=8,
        steps=7, rows=7,
    )  # fmt: skip
    assert stage_figures([measured], 1, 64)["first"].value == 5.0 - 1.75
    text = replace(measured, opening=0, cutting=0, encode=0, prompt=512, image=0, new=1, steps=0, rows=0)
    assert set(stage_figures([text], 1, 64)) == {"prefill", "first"}


def test_floors_are_shares_of_the_time_computed_by_hand() -> None:
    """At 10^9 operations a second a tile of nano takes 1.699 s at least, and a prompt of 100 tokens 0.340 s.

    The decoding steps read a megabyte each, at a hundred in a second.
    """
    text = Text(192, 512, 4, 6, 3, 32, 320, 8192, 10000.0, 1e-5, tied=False)
    vision = Vision(192, 768, layers=6, heads=3, image=128, patch=8, scale=2, epsilon=1e-6)
    floors = Floors(Machine(operations=1e9, bandwidth=1e8), ModelSizes(text, vision, step_bytes=1_000_000))
    measured = Sample(
        wall=20, opening=0.2, cutting=0.4, encode=3 * 1.69869312 * 2, prefill=2 * 0.34003968 * 5, decode=0.5,
        prompt=200, image=192, new=20, steps=15, rows=18,
    )  # fmt: skip
    figures = {name: figure.value for name, figure in step_figures([measured], 2, 64, floors).items()}
    expected = {"rows": 18 / 15, "encode_floor": 50, "prefill_floor": 20, "decode_floor": 15 * 0.01 / 0.5 * 100}
    assert figures == pytest.approx(expected)
    assert set(step_figures([measured], 2, 64, None)) == {"rows"}
    without_pictures = replace(measured, encode=0, image=0, new=1, steps=0, rows=0)
    assert set(step_figures([without_pictures], 1, 64, floors)) == {"prefill_floor"}


def test_a_backend_that_runs_no_model_has_no_floors() -> None:
    with configurations(["nano"], Variants(backend=("echo",)), QUIET) as [configuration]:
        assert speed._floors(configuration) is None


@pytest.mark.parametrize(("count", "outside"), [(1, 0), (2, 0), (5, 0), (8, 0), (9, 1), (15, 3), (20, 5), (50, 17)])
def test_the_interval_of_the_median_is_that_of_the_tables(count: int, outside: int) -> None:
    """Order statistics for 95 %: Conover's and Hahn and Meeker's tables; here for the 93.75 % that five can give."""
    values = list(np.random.default_rng(count).permutation(count).astype(float))
    figure = median_figure(values)
    assert figure.value == np.median(values)
    assert (figure.low, figure.high, figure.count) == (outside, count - 1 - outside, count)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 9, 12):
        figures = [median_figure(list(rng.exponential(size=count))) for _ in range(4000)]
        held = np.mean([figure.low <= np.log(2) <= figure.high for figure in figures])
        assert 0.92 < held < 0.985


# ---- the loop in the engine's process ------------------------------------------------------------------


class Known:
    """Takes so many seconds for every stage as it says, and notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []
        self.options: list[Generate] = []
        self.forgotten = 0

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        self.options.append(options)
        for index, prompt in enumerate(prompt for prompt in prompts if prompt is not None):
            self.asked.append(prompt)
            words = sum(len(part.split()) for part in prompt.turns[0].parts if isinstance(part, str))
            tokens = Tokens(7 + words + 64 * len(prompt.frames), 64 * len(prompt.frames), options.max_tokens)
            yield Piece(index, "")
            yield Piece(index, "", Finish("length", tokens, Seconds(0.0, 0.25, 1.0, 0.5, 2.0)))

    def clear_cache(self) -> None:
        self.forgotten += 1


class Impatient(Known):
    """Answers at once, and may not be given None while nothing is under way."""

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        for index, prompt in enumerate(prompts):
            assert prompt is not None, "None was given while no reply was under way"
            yield Piece(index, "", Finish("length", Tokens(1, 0, options.max_tokens)))


class Scheduled:
    """Stands for the scheduler: what one of these backends answers, in steps of one sequence."""

    def __init__(self, backend: Known, options: Generate) -> None:
        self._backend, self._options = backend, options
        self.steps = self.rows = 0

    def run(self, prompts: Iterable[Prompt | None]) -> Iterator[Piece]:
        for piece in self._backend.generate(prompts, self._options):
            if piece.finish is not None:
                self.steps += piece.finish.tokens.new - 1
                self.rows += piece.finish.tokens.new - 1
            yield piece


def sample(backend: Known, case: Case) -> Sample:
    with ThreadPoolExecutor(2) as pool, patch.object(speed_worker, "Scheduler", Scheduled):
        return speed_worker.measure(backend, pool, case, speed_worker.padded_text(backend, case))  # type: ignore[arg-type]


def test_sample_sums_the_pictures() -> None:
    backend = Known()
    items = tuple(Item.of(str(SAMPLES / name)) for name in ("sign.png", "circles.png", "page.png"))
    measured = sample(backend, Case(items, "What is this?", 0, 5))
    assert (measured.cutting, measured.encode, measured.prefill, measured.decode) == (0.75, 3.0, 1.5, 6.0)
    assert (measured.prompt, measured.image, measured.new) == (3 * (7 + 3 + 64), 3 * 64, 15)
    assert (measured.steps, measured.rows) == (3 * 4, 3 * 4)
    assert 0 < measured.opening < measured.wall * 3
    assert backend.forgotten == 1
    assert backend.options[-1].has_length
    sizes = [(prompt.frames[0].width, prompt.frames[0].height) for prompt in backend.asked]
    assert sizes == [Image.open(item.path).size for item in items]  # in order, each with its picture


def test_pictures_that_open_more_slowly_than_they_are_answered(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 3000)).save(tmp_path / "large.png")
    items = tuple(Item.of(str(tmp_path / "large.png")) for _ in range(6))
    assert sample(Impatient(), Case(items, "What?", 0, 5)).new == 30


@pytest.mark.parametrize("wanted", [64, 100, 513])
def test_padded_text_has_the_requested_tokens(wanted: int) -> None:
    assert sample(Known(), Case((), "What is this?", wanted, 5)).prompt == wanted


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    done = smolcli("bench", "speed", "-m", "nano", "-b", "echo", "--image", tmp_path / "bad.png", "--repeat", 1)
    assert done.returncode == Exit.ALL_FAILED
    assert b"bad.png" in done.stderr and done.stderr.count(b"\n") == 1


def test_start_is_the_time_outside_warm_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 s in all: 4 to load, a cold answer of 2.5 s and a warm one of 1 s, and opening, warm in 0.25 s."""
    cold = {"load": 4.0, "media": 0.5, "encode": 1.5, "prefill": 0.5, "decode": 0.5}
    warm = {"load": 0.0, "media": 0.25, "encode": 0.5, "prefill": 0.25, "decode": 0.25}
    ran = cli_runner.CompletedCommand(10.0, ({"seconds": cold}, {"seconds": warm}))
    monkeypatch.setattr(cli_runner, "run_ask", lambda *_: ran)
    with configurations(["nano"], Variants(), QUIET) as [configuration]:
        [(start, load)] = speed._cold_starts(configuration, Fixed(), 1, lambda: None)  # type: ignore[arg-type]
    assert (start, load) == (10 - 4 - 0.25 - 2 * 1.0, 4.0)


class Fixed:
    def items(self, word: str, count: int) -> tuple[Item, ...]:
        return tuple(Item.of(f"{number}.jpg") for number in range(count))


# ---- configurations --------------------------------------------------------------------------------------------


def names(words: list[str], **options: tuple[object, ...]) -> list[str]:
    with configurations(words, Variants(**options), QUIET) as chosen:  # type: ignore[arg-type]
        return [" ".join(map(str, configuration.settings.values())) for configuration in chosen]


def test_every_combination_once_in_order() -> None:
    engines = ("openvino", "auto", "torch", "mtmd")
    assert names(
        ["nano"], backend=("llamacpp", "torch", "llamacpp"), threads=(1, 2), detail=("low",), vision_encoder=engines
    ) == [
        "nano llamacpp f16 cpu 1 low openvino", "nano llamacpp f16 cpu 1 low mtmd", "nano llamacpp f16 cpu 1 low torch",
        "nano llamacpp f16 cpu 2 low openvino", "nano llamacpp f16 cpu 2 low mtmd", "nano llamacpp f16 cpu 2 low torch",
        "nano torch float32 cpu 1 low", "nano torch float32 cpu 2 low",
    ]  # fmt: skip


def test_vision_engine_is_in_the_command_and_in_the_identity() -> None:
    variants = Variants(backend=("llamacpp",), vision_encoder=("mtmd", "openvino"), dtype="auto")
    with configurations(["nano"], variants, QUIET) as chosen:
        words = [" ".join(configuration.arguments) for configuration in chosen]
        ids = {configuration.identity("ask", Generate()).id_of("") for configuration in chosen}
        ids.add(
            replace(chosen[0], options=replace(chosen[0].options, device="cuda")).identity("ask", Generate()).id_of("")
        )
    assert ["--vision-engine mtmd " in words[0], "--vision-engine openvino " in words[1]] == [True, True]
    assert len(ids) == 3
    exact = replace(variants, vision_encoder=("openvino",), dtype="float32")
    with configurations(["nano"], exact, QUIET) as [configuration]:
        assert "--dtype float32" in " ".join(configuration.arguments)


@pytest.mark.parametrize(("model", "added"), [("docling", {"turns": "docling"}), ("v1", {"raw": True})])
def test_the_turns_of_a_model_are_in_the_identity(model: str, added: dict[str, object], tmp_path: Path) -> None:
    """As they are in that of the other commands, so that `--records` gives no answer to another prompt."""
    folder = make_checkpoint(tmp_path / ("SmolVLM-Base" if model == "v1" else "tuned"), model, 5)
    with configurations([str(folder)], Variants(backend=("numpy",)), QUIET) as [configuration]:
        options = configuration.identity("ask", Generate()).options
    assert options.items() >= added.items()


def test_a_checkpoint_is_measured_in_each_quantization_in_which_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolcli.bench.configurations.may_use_gpu", lambda: False)
    variants = Variants(backend=("torch", "llamacpp"), quant=("int8", "none", "f16"))
    with configurations(["nano"], variants, QUIET) as chosen:
        assert [(configuration.backend, configuration.settings["quant"]) for configuration in chosen] == [
            ("torch", "int8+float32"), ("torch", "float32"), ("llamacpp", "f16"),
        ]  # fmt: skip
        assert ["--quant int8" in " ".join(configuration.arguments) for configuration in chosen] == [True, False, False]
        assert len({configuration.identity("ask", Generate()).id_of("") for configuration in chosen}) == 3
    with pytest.raises(UsageError, match="--quant is for PyTorch, and llama.cpp would run this"):
        names(["nano"], backend=("llamacpp",), quant=("int8",))


def test_missing_pair_is_converted_and_deleted_afterwards() -> None:
    with configurations(["nano"], Variants(backend=("llamacpp",), quant=("f16", "q8_0", "Q4_K_M")), QUIET) as chosen:
        assert [configuration.settings["quant"] for configuration in chosen] == ["f16", "q8_0+f16", "q4_k_m+f16"]
        files = [configuration.files.gguf for configuration in chosen]
        assert all(file is not None and file.exists() for file in files)
        sizes = [file.stat().st_size for file in files if file is not None]
        assert (
            sizes == sorted(sizes, reverse=True) and len({configuration.fingerprint for configuration in chosen}) == 3
        )
        assert [configuration.file_bytes for configuration in chosen] == [
            sum(file.stat().st_size for file in (configuration.files.gguf, configuration.files.mmproj) if file)
            for configuration in chosen
        ]
    assert files[0] is not None and files[0].exists()  # the model's own
    assert all(file is not None and not file.exists() for file in files[1:])


def test_impossible_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="q9_9"):
        names(["nano"], quant=("q9_9",))
    with configurations(["nano"], Variants(quant=("q8_0",)), QUIET) as [configuration]:
        for half in (configuration.files.gguf, configuration.files.mmproj):
            assert half is not None
            (tmp_path / half.name).write_bytes(half.read_bytes())
    with pytest.raises(ModelError, match=r"q4_0 pair of it is here.*checkpoint"):
        names([str(tmp_path)], quant=("q4_0",))
    assert names([str(tmp_path)], quant=("q8_0",))[0].split()[1:3] == ["llamacpp", "q8_0+f16"]
    for quant in ((), ("q8_0",)):
        with pytest.raises(UsageError, match="PyTorch"):
            names(["nano"], backend=("llamacpp",), quant=quant, device="xpu")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"--quant q8_0 is for llama\.cpp"):
        names(["nano"], backend=("torch",), quant=("q8_0",))


def test_quantizations_are_measured_in_numpy_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "llama_cpp" else True)
    with pytest.raises(UnavailableError, match=r"llamacpp needs the library llama_cpp.*'smolcli\[llamacpp\]'"):
        names(["nano"], quant=("f16",))
    assert names(["nano"], quant=("f16",), backend=("numpy",), threads=(1,)) == ["nano numpy f16 cpu 1 auto"]


def test_the_pair_of_another_model_in_the_same_folder_is_not_taken(tmp_path: Path) -> None:
    with configurations(["nano"], Variants(quant=("f16", "q8_0")), QUIET) as [half, eighth]:
        for configuration, name in ((half, "alpha"), (eighth, "beta")):
            assert configuration.files.gguf and configuration.files.mmproj
            quant = str(configuration.settings["quant"]).split("+")[0]
            (tmp_path / f"{name}-{quant}.gguf").write_bytes(configuration.files.gguf.read_bytes())
            (tmp_path / f"mmproj-{name}-f16.gguf").write_bytes(configuration.files.mmproj.read_bytes())
    with pytest.raises(ModelError, match="no q8_0 pair"):
        names([str(tmp_path / "alpha-f16.gguf")], quant=("q8_0",))
    assert names([str(tmp_path / "beta-q8_0.gguf")], quant=("q8_0",))


def test_models_of_one_name_are_named_by_location(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "same").mkdir(parents=True)
        with configurations(["nano"], Variants(), QUIET) as [configuration]:
            for half in (configuration.files.gguf, configuration.files.mmproj):
                assert half is not None
                (tmp_path / place / "same" / half.name).write_bytes(half.read_bytes())
    labels = names([str(tmp_path / place / "same") for place in ("a", "b")])
    assert [name.split()[0] for name in labels] == [str(tmp_path / place / "same") for place in ("a", "b")]


# ---- pictures and the machine --------------------------------------------------------------------------


def test_generated_pictures_have_their_size_and_differ(tmp_path: Path) -> None:
    paths = [item.path for item in PictureSource(tmp_path).items("320x200", 3)]
    assert [Image.open(path).size for path in paths] == [(320, 200)] * 3
    assert len({Path(path).read_bytes() for path in paths}) == 3
    assert Path(paths[0]).read_bytes() == Path(PictureSource(tmp_path / "..").items("320x200", 1)[0].path).read_bytes()


def test_users_pictures_are_in_order_and_repeated_if_too_few(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    paths = [Path(item.path).name for item in PictureSource(tmp_path).items(str(tmp_path), 4)]
    assert paths == ["1.png", "2.png", "10.png", "1.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no picture"):
        PictureSource(tmp_path).items(str(tmp_path / "empty"), 1)


def test_thumbnails_are_jpegs_or_empty_for_unreadable_sources() -> None:
    [good, bad] = thumbnails([Source(str(SAMPLES / "page.png")), Source("x", b"no picture")], True)
    assert good.startswith("data:image/jpeg;base64,") and bad == ""


def test_noisy_machine_gives_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 ticks the host takes 50 and others 400; this process has 3 s, 300 ticks."""
    times = dict.fromkeys(("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"), 0)
    monkeypatch.setattr(machine_noise, "_cpu_ticks", lambda: times)
    monkeypatch.setattr(machine_noise, "_own_seconds", lambda: 0.0)
    monkeypatch.setattr(machine_noise, "throttled", lambda: 0.0)
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    watch = machine_noise.NoiseWatch()
    assert watch.notices() == []
    monkeypatch.setattr(machine_noise, "_cpu_ticks", lambda: {**times, "user": 700, "idle": 250, "steal": 50})
    monkeypatch.setattr(machine_noise, "_own_seconds", lambda: 3.0)
    monkeypatch.setattr(machine_noise, "throttled", lambda: 1.5)
    assert [word in line for word, line in zip(("5%", "40%", "1.5 s"), watch.notices(), strict=True)] == [True] * 3
    assert [line for line in watch.notices(4.0) if "other programs" in line] == []  # an engine at work is no other one
    monkeypatch.setattr(machine_noise, "_own_seconds", lambda: 6.9)
    monkeypatch.setattr(machine_noise, "_cpu_ticks", lambda: {**times, "user": 700, "idle": 299, "steal": 1})
    monkeypatch.setattr(machine_noise, "throttled", lambda: 0.0)
    assert watch.notices() == []


def test_engine_does_not_count_as_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU seconds that the child says it had go into the watch, those of each case once."""
    cpu_seconds: list[float] = []
    monkeypatch.setattr(
        machine_noise.NoiseWatch, "notices", lambda self, seconds=0.0: cpu_seconds.append(seconds) or []
    )
    with configurations(["nano"], Variants(backend=("echo",)), QUIET) as [configuration]:
        wanted = Speed(image=("none",), new_tokens=(3, 4, 5), repeat=1)
        assert len(list(speed.measure_speed(configuration, wanted, False, lambda: None))) == 3
    assert len(cpu_seconds) == 3 and 0 < cpu_seconds[2] < cpu_seconds[0] / 2  # the first loads the libraries


def test_the_machine_is_described() -> None:
    facts = machine()
    assert facts["cores"] >= 1
    assert facts["memory"] > 2**28
    assert "llama-cpp-python" in facts["libraries"]
    json.dumps(facts)


# ---- the commands --------------------------------------------------------------------------------------


def test_speed_as_a_user_runs_it(tmp_path: Path) -> None:
    picture = SAMPLES / "sign.png"
    words = ("-m", "nano", "-b", "llamacpp", "--image", picture, "--image", "none", "--new-tokens", 9, "--repeat", 2)
    done = smolcli("bench", "speed", *words, "--warmup", 0, "-o", tmp_path / "speed.json")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    seen, text = Report.read(tmp_path / "speed.json").results
    answer = json.loads(smolcli("ask", "Describe this image.", picture, "-f", "json", "-q", "-b", "llamacpp").stdout)
    assert seen.facts == {"tiles": answer["tokens"]["image"] // 64, "tokens": answer["tokens"]["prompt"]}
    shares = {"rows", "prefill_floor", "decode_floor"}
    assert set(seen.figures) == shares | {
        "start", "load", "media", "tile", "prefill", "first", "decode", "images", "encode_floor"
    }  # fmt: skip
    assert set(text.figures) == shares | {"start", "load", "prefill", "first", "decode"}
    assert seen.figures["rows"].value == 1
    assert all(
        figure.value > 0 and figure.low <= figure.value <= figure.high and figure.count == 2
        for figure in seen.figures.values()
    )
    whole = seen.figures["first"].value
    assert seen.figures["media"].value + seen.figures["tile"].value * seen.facts["tiles"] < whole * 1.5
    again = smolcli("bench", "compare", tmp_path / "speed.json", tmp_path / "speed.json")
    assert again.returncode == 0


def test_memory_as_a_user_runs_it() -> None:
    done = smolcli(
        "bench", "memory", "-m", "nano", "--image", "64x64", "--batch", 1, "--batch", 3, "--new-tokens", 2, "--json"
    )
    assert done.returncode == 0, done.stderr
    report = Report.of(json.loads(done.stdout))
    assert [result.settings["batch"] for result in report.results] == [1, 3]
    for result in report.results:
        assert set(result.figures) == {"parent", "engine"}
        assert 10e6 < result.figures["parent"].value < result.figures["engine"].value < 1e9


def test_failed_configuration_does_not_affect_others(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    with configurations(["nano"], Variants(), QUIET) as [configuration]:
        for half in (configuration.files.gguf, configuration.files.mmproj):
            assert half is not None
            (broken / half.name).write_bytes(half.read_bytes()[:4000])
    words = ("bench", "speed", "-m", broken, "-m", "nano", "--image", "none", "--new-tokens", 2, "--repeat", 1)
    done = smolcli(*words, "--json")
    assert done.returncode == Exit.SOME_FAILED
    assert done.stderr.decode().count("\n") == 1 and "broken" in done.stderr.decode()
    bad, good = Report.of(json.loads(done.stdout)).results
    assert not bad.figures and "failed: " in bad.notices[0]
    assert good.figures["decode"].value > 0


def test_failed_combination_does_not_affect_others(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    images = ("--image", SAMPLES / "sign.png", "--image", tmp_path / "bad.png", "--image", "none")
    done = smolcli("bench", "speed", "-m", "nano", *images, "--new-tokens", 2, "--repeat", 1, "--json")
    assert done.returncode == Exit.SOME_FAILED
    good, bad, text = Report.of(json.loads(done.stdout)).results
    assert good.figures["images"].value > 0 and text.figures["prefill"].value > 0
    assert not bad.figures and bad.settings["image"] == str(tmp_path / "bad.png")
    assert "bad.png" in bad.notices[0]


def test_too_short_reply_is_an_error() -> None:
    class Full(Known):
        def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
            return super().generate(prompts, Generate(max_tokens=3))

    with pytest.raises(EngineError, match=r"leaves 3 new tokens, not 5; lower --new-tokens"):
        sample(Full(), Case((), "What is this?", 0, 5))


def test_repeated_pictures_give_no_encoding_time(tmp_path: Path) -> None:
    words = ("--image", SAMPLES / "sign.png", "--batch", 3, "--new-tokens", 2, "--repeat", 1, "--json")
    [result] = Report.of(json.loads(smolcli("bench", "speed", "-m", "nano", *words).stdout)).results
    assert not {"tile", "images", "encode_floor", "prefill_floor"} & set(result.figures)
    assert "decode_floor" in result.figures and "were repeated" in " ".join(result.notices)


def test_an_interrupt_reports_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(setup: Configuration, *_: object) -> Iterator[Result]:
        yield Result(setup.settings, {"decode": median_figure([7.0])})
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "measure_speed", interrupted)
    monkeypatch.setattr(run, "claim_stdout", lambda: io.StringIO())
    shown = Show(output=tmp_path / "a.json", quiet=True)
    assert run.speed(["nano"], Variants(threads=(1, 2)), Speed(), shown) == Exit.INTERRUPTED
    report = Report.read(tmp_path / "a.json")
    assert [result.figures["decode"].value for result in report.results] == [7.0]
    assert "interrupted" in report.notices[0]


def test_exit_code_of_a_worse_report(tmp_path: Path) -> None:
    words = ("bench", "speed", "-m", "nano", "--image", "none", "--new-tokens", 2, "--repeat", 2, "-o")
    assert smolcli(*words, tmp_path / "before.json").returncode == 0
    fields = json.loads((tmp_path / "before.json").read_text())
    fields["results"][0]["notices"] = []  # on a busy machine the figures are unsure, and not judged
    for name, value in (("before", 100.0), ("after", 50.0)):  # whatever this machine took
        fields["results"][0]["figures"]["prefill"] |= {"value": value, "low": value - 1, "high": value + 1}
        (tmp_path / f"{name}.json").write_text(json.dumps(fields))
    fields["results"][0] |= {"figures": {}, "notices": ["failed: it is gone"]}
    (tmp_path / "gone.json").write_text(json.dumps(fields))
    fields["results"][0]["settings"]["threads"] = 77
    (tmp_path / "other.json").write_text(json.dumps(fields))

    def code(first: str, second: str, *more: str) -> int:
        return smolcli("bench", "compare", tmp_path / first, tmp_path / second, *more).returncode

    assert code("before.json", "before.json") == 0
    assert code("before.json", "after.json") == 1
    assert code("before.json", "after.json", "--tolerance", "0.6") == 0
    assert code("after.json", "before.json") == 0
    assert code("before.json", "gone.json") == 1
    assert code("before.json", "other.json") == Exit.USAGE


def test_closed_standard_output_is_no_failure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "smolcli", "bench", "speed", "-m", "nano", "-b", "echo", "--repeat", "1"]
    command += ["--report", str(tmp_path / "page.html")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)
    assert "</html>" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("speed", "nano", "256m"), "nano: models are named with -m, as in every command; write -m nano -m 256m"),
        (("speed", "-f", "md", "--json"), "--json and --format md are two formats"),
        (("speed", "--image", "12y9"), "12y9"),
        (("speed", "--image", "0x9"), "0x9"),
        (("speed", "--image", "99999x99999"), "is more than 100,000,000 pixels"),
        (("speed", "-o", "page.html"), "--report page.html"),
        (("speed", "-o", "plot.svg"), "--plot plot.svg"),
        (("memory", "--image", "none"), "none"),
        (("speed", "--report", "page.pdf"), ".html"),
        (("speed", "--plot", "plot.gif"), ".png or .svg"),
        (("speed", "-o", "/proc/nonexistent/x.json"), "folder"),
        (("speed", "-m", "/proc/nonexistent"), "models list"),
        (("speed", "--repeat", "0"), "repeat"),
        (("speed", "-o", SAMPLES / "sign.png"), "sign.png"),
        (("speed", "--image", SAMPLES / "sign.png", "--plot", SAMPLES / "sign.png"), "is read, or written twice"),
        (("speed", "-o", "."), "cannot be written"),
        (("compare", "a.json"), "two reports"),
        (("compare", SAMPLES / "README.md", SAMPLES / "README.md"), "is no report"),
        (("speed", "--prompt-tokens", "3", "-m", "nano", "-b", "llamacpp", "--image", "none"), "prompt of 3 tokens"),
    ],
)
def test_impossible_requests_end_with_one_line(words: tuple[object, ...], message: str) -> None:
    done = smolcli("bench", *words)
    assert done.returncode in (Exit.USAGE, Exit.UNAVAILABLE, Exit.ALL_FAILED)
    assert message in done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == 1
