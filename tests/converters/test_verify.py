"""converters/verify.py: a right conversion passes, a wrong one is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from smolcli.converters import convert, plan, verify, write
from smolcli.converters.probes import probes
from smolcli.converters.thresholds import THRESHOLDS
from smolcli.converters.verify import cosine, divergence, run_reference
from smolcli.errors import SmolError
from smolcli.models import resolve
from smolcli.process import child
from tests.tiny import make_checkpoint

Q = "model.text_model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(autouse=True, scope="module")
def one_reference() -> Iterator[None]:
    """Run PyTorch once a checkpoint for all tests that compare with it."""
    call, results = child.call, {}

    def cached_call(target: str, *args: object, **options: Any) -> object:
        if not target.endswith(":run_reference"):
            return call(target, *args, **options)
        if args not in results:
            results[args] = call(target, *args, **options)
        return results[args]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[verify.__module__], "call", cached_call)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("verify") / "Tiny", "v2", seed=1)


def smolcli(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smolcli", "convert-to-gguf", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_divergence_and_cosine_are_those_of_torch() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 5, 7) * 3
    expected = torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none").sum(
        -1
    )
    assert divergence(p.numpy(), q.numpy()) == pytest.approx(expected.numpy(), rel=1e-5)
    assert cosine(p.numpy(), q.numpy()) == pytest.approx(torch.cosine_similarity(p, q).numpy(), rel=1e-5)


@pytest.mark.slow
def test_the_built_in_model_is_converted_right(tmp_path: Path) -> None:
    """The promise of the project: with f16 each answer of PyTorch in float32, with q8_0 19 of 20 tokens."""
    source = resolve.find_files("nano").checkpoint
    assert source is not None
    planned = plan(source, tmp_path, ["f16", "q8_0"], ["f16"], "nano")
    write(planned)
    f16, q8_0 = verify(source, [(output.path, planned.vision[0].path) for output in planned.language])
    assert f16.same == f16.probes == len(probes(128))
    assert f16.kl < 1e-3 and f16.kl_99 < 1e-3 and f16.cosine_least > 0.9999
    assert (f16.language, f16.vision, q8_0.language) == ("f16", "f16", "q8_0")
    assert q8_0.top1 >= 0.95
    assert f16.failures == q8_0.failures == []
    assert f16.tokens == sum(len(trace.logits) for trace in run_reference(source)[1])


def test_the_logits_of_a_trace_give_its_answer_again(checkpoint: Path) -> None:
    """The answer was generated token by token; the logits are of the whole answer at once."""
    for trace in run_reference(checkpoint)[1]:
        assert trace.logits.argmax(-1)[: len(trace.answer)].tolist() == trace.answer


def rewritten(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def apply(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors")

    return apply


def theta(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["text_config"]["rope_parameters"]["rope_theta"] = 1000.0
    (directory / "config.json").write_text(json.dumps(config))


def gray(directory: Path) -> None:
    settings = json.loads((directory / "preprocessor_config.json").read_text())
    (directory / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.0] * 3}))


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "rows in another order": (rewritten(lambda t: t.update({Q: t[Q].flip(0)})), "top-1 agreement"),
    "another rotary base": (theta, "KL divergence"),
    "other colors": (gray, "cosine"),
    "another vision encoder": (
        rewritten(lambda t: t.update({name: torch.randn_like(t[name]) for name in t if "vision" in name})),
        "cosine",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_wrong_conversion_is_found(case: str, checkpoint: Path, tmp_path: Path) -> None:
    damage, missed_threshold = DAMAGED[case]
    shutil.copytree(checkpoint, tmp_path / "Tiny")
    damage(tmp_path / "Tiny")
    [agreement] = verify(checkpoint, [convert(tmp_path / "Tiny", tmp_path / "out", "f16", "f16")])
    assert any(missed_threshold in line for line in agreement.failures)


def test_the_command_reports_agreement_and_its_exit_code_judges_it(checkpoint: Path, tmp_path: Path) -> None:
    done = smolcli(checkpoint, "-o", tmp_path, "--quant", "f16", "--quant", "q8_0", "--verify")
    assert done.returncode == 0
    assert [Path(line).name for line in done.stdout.split()] == [
        "Tiny-F16.gguf", "Tiny-Q8_0.gguf", "mmproj-Tiny-F16.gguf",
    ]  # fmt: skip
    assert [line.split()[:3] for line in done.stderr.splitlines()[1:3]] == [["f16", "+", "f16"], ["q8_0", "+", "f16"]]
    other = make_checkpoint(tmp_path / "Other", "v2", seed=2)
    done = smolcli("--verify-only", tmp_path / "Tiny-F16.gguf", "--against", other, "--json")
    assert done.returncode == 1
    assert done.stderr.startswith(f"smolcli: {tmp_path}/Tiny-F16.gguf with mmproj-Tiny-F16.gguf: not what its check")
    [agreement] = json.loads(done.stdout)["verify"]
    assert len(agreement["failures"]) == 3 and agreement["same"] < agreement["probes"]
    assert agreement["difference"]["wanted"] != agreement["difference"]["said"]


def test_a_pair_named_as_a_base_model_is_asked_as_its_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    """Turns depend on the name of a model, which a folder of the hub's cache does not have."""
    pair = convert(checkpoint, tmp_path, "f16", "f16")
    renamed = [path.rename(path.with_name(path.name.replace("Tiny", "SmolVLM-256M-Base"))) for path in pair]
    [agreement] = verify(checkpoint, [(renamed[0], renamed[1])])
    assert agreement.failures == [] and agreement.same == agreement.probes


def test_a_checkpoint_of_another_size_is_found(checkpoint: Path, tmp_path: Path) -> None:
    wide = make_checkpoint(tmp_path / "Wide", "v2", seed=1, width=128)
    with pytest.raises(SmolError, match="Wide-F16.gguf: not made of this checkpoint; give --against"):
        verify(checkpoint, [convert(wide, tmp_path, "f16", "f16")])


@pytest.mark.slow
def test_an_mmproj_that_splits_pictures_otherwise_is_found(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "Tiny")
    settings = json.loads((tmp_path / "Tiny" / "preprocessor_config.json").read_text())
    settings["size"]["longest_edge"] = 128
    (tmp_path / "Tiny" / "preprocessor_config.json").write_text(json.dumps(settings))
    language, _ = convert(tmp_path / "Tiny", tmp_path, "f16", "f16")
    done = smolcli("--verify-only", language, "--against", checkpoint)
    assert done.returncode == 1
    assert (
        "mmproj-Tiny-F16.gguf: splits pictures as Layout(tile=64, tokens=16, longest_edge=128, splits=True), its"
        in done.stderr
    )


@pytest.mark.slow
def test_an_adapter_is_compared_with_what_peft_merges(checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5)
    tuned.save_pretrained(str(tmp_path / "tuned"))
    done = smolcli(tmp_path / "tuned", "-o", tmp_path, "--quant", "f16", "--verify")
    assert done.returncode == 0, done.stderr
    assert "Tiny-tuned-F16.gguf" in done.stdout
    done = smolcli("--verify-only", tmp_path / "Tiny-tuned-F16.gguf", "--against", checkpoint)
    assert done.returncode == 1


def test_no_threshold_is_stricter_than_that_of_a_finer_quantization() -> None:
    thresholds = list(THRESHOLDS.values())
    assert np.all(np.diff([row.top1 for row in thresholds]) <= 0)
    assert np.all(np.diff([row.kl for row in thresholds]) >= 0)
    assert np.all(np.diff([row.cosine for row in thresholds]) <= 0)


def test_the_documented_thresholds_are_those_of_the_program() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gguf.md").read_text(encoding="utf-8")
    for name, row in THRESHOLDS.items():
        assert f"| {name} | {row.top1:g} | {row.kl:g} | {row.cosine:g} |" in page
