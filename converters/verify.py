"""Does a GGUF pair say what its checkpoint says? Both answer a fixed set of probes.

The checkpoint runs on PyTorch in float32 on the CPU and gives the reference: its greedy answers. The pair runs on
llama.cpp and is led along those answers, token by token, so that every token is compared after the same words.
`reference` and `compared` are for a child process (smolcli.process.child).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from gguf import LlamaFileType
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from smolcli import registry
from smolcli.backends.image_processor import Layout
from smolcli.errors import SmolError, UnavailableError
from smolcli.models.files import ModelFiles
from smolcli.models.gguf_header import read_header
from smolcli.options import Model
from smolcli.process.child import call
from smolcli.types import Frame, Prompt

from .quantization import QUANTIZATIONS

MOST_TOKENS = 24  # of an answer
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """What a quantization must reach: share of equal best tokens, mean KL divergence in nats, mean cosine."""

    top1: float
    kl: float
    cosine: float


# Beyond the losses measured on the models of docs/gguf.md, and far from those of a half converted wrongly.
LIMITS: Mapping[str, Limits] = {
    "f32": Limits(0.98, 1e-3, 0.9999),
    "f16": Limits(0.98, 1e-3, 0.9999),
    "bf16": Limits(0.97, 1e-2, 0.999),
    "q8_0": Limits(0.95, 2e-2, 0.999),
    "q6_k": Limits(0.90, 5e-2, 0.99),
    "q5_k_m": Limits(0.75, 3e-1, 0.99),
    "q5_1": Limits(0.75, 3e-1, 0.99),
    "q5_0": Limits(0.75, 3e-1, 0.99),
    "q4_k_m": Limits(0.65, 6e-1, 0.97),
    "q4_1": Limits(0.65, 6e-1, 0.97),
    "q4_0": Limits(0.65, 6e-1, 0.97),
    "q3_k_m": Limits(0.60, 1.0, 0.9),
}


@dataclass(frozen=True)
class Trace:
    """What a checkpoint makes of one probe: its greedy answer, the logits along it, the embeddings of the pictures.

    `answer` lacks its last token, be it the one that ends it or the MOST_TOKENS-th, which `logits` tell: they are
    (1 + len(answer), vocabulary), `embeddings` (image tokens, hidden).
    """

    probe: str
    answer: list[int]
    logits: Floats
    embeddings: Floats


@dataclass(frozen=True)
class Difference:
    """The first token of an answer that differs, its place from 1, the words before it, and what each would say."""

    probe: str
    token: int
    after: str
    wanted: str
    said: str


@dataclass(frozen=True)
class Agreement:
    """How far a pair and its checkpoint agree: over the tokens of all answers, and over all image embeddings.

    `kl` and `kl_99` are the mean and the 99th percentile of the KL divergence of the pair's distribution from the
    checkpoint's, in nats; `cosine` and `cosine_least` the mean and the least cosine of two embeddings.
    `same` of `probes` greedy answers are equal; `difference` is in the first that is not.
    """

    language: str
    vision: str
    tokens: int
    top1: float
    kl: float
    kl_99: float
    cosine: float
    cosine_least: float
    probes: int
    same: int
    difference: Difference | None

    @property
    def failures(self) -> list[str]:
        """Which limits are missed; empty where the conversion is proved."""
        sight = _limits(self.vision)
        words = min(_limits(self.language), sight, key=lambda limits: limits.top1)  # either half changes the words
        missed = {
            f"top-1 agreement {self.top1:.3f} is below {words.top1}": self.top1 < words.top1,
            f"KL divergence {self.kl:.2g} is above {words.kl}": not self.kl <= words.kl,
            f"cosine of embeddings {self.cosine:.5f} is below {sight.cosine}": not self.cosine >= sight.cosine,
        }
        return [what for what, is_missed in missed.items() if is_missed]


def verify(
    checkpoint: Path,
    pairs: Sequence[tuple[Path, Path]],
    lora: Path | None = None,
    threads: int | None = None,
    verbose: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Agreement]:
    """Compare every (language half, vision half) with the checkpoint directory, into which PEFT merges `lora`.

    `progress` is told what is about to run. Raises SmolError for a pair that is made of something else, ModelError
    for files that cannot be loaded, EngineError for a crash.
    """
    check_libraries(lora)
    progress(f"{checkpoint}: asking PyTorch, float32")
    layout, traces = call("smolcli.converters.verify:reference", checkpoint, lora, threads, verbose=verbose)
    found = []
    for gguf, mmproj in pairs:
        progress(f"{gguf}: asking llama.cpp")
        job = (gguf, mmproj, layout, traces, threads)
        found.append(call("smolcli.converters.verify:compared", *job, verbose=verbose))
    return found


def check_libraries(lora: Path | None = None) -> None:
    """UnavailableError, with the command that installs it, for a library that `verify` would miss."""
    for backend in ("torch", "llamacpp"):
        registry.require(registry.BACKENDS, backend)
    if lora is not None and find_spec("peft") is None:
        raise UnavailableError("an adapter is compared by means of the library peft", "pip install peft")


def reference(checkpoint: Path, lora: Path | None = None, threads: int | None = None) -> tuple[Layout, list[Trace]]:
    """How a checkpoint cuts pictures, and its answers to every probe, with the adapter `lora` merged into it."""
    options = Model(device="cpu", dtype="float32", threads=threads)
    with closing(registry.load(registry.BACKENDS, "torch")(ModelFiles(checkpoint.name, checkpoint), options)) as torch:
        if lora is not None:
            from peft import PeftModel  # wanted for this alone

            torch.model = PeftModel.from_pretrained(torch.model, lora).merge_and_unload()
        traces = []
        for name, prompt in probes(torch.layout.tile).items():
            answer = torch.greedy(prompt, MOST_TOKENS)[: MOST_TOKENS - 1]
            logits, embeddings = torch.logits(prompt, answer), torch.embeddings(prompt)
            traces.append(Trace(name, answer, logits.numpy(), embeddings.numpy()))
        return torch.layout, traces


def compared(
    gguf: Path, mmproj: Path, layout: Layout, traces: Sequence[Trace], threads: int | None = None
) -> Agreement:
    """How far a pair agrees with its checkpoint: with how that cuts pictures, and with its traces."""
    files = ModelFiles(gguf.stem, gguf=gguf, mmproj=mmproj)
    wanted: list[NDArray[np.intp]] = []
    said: list[NDArray[np.intp]] = []
    divergences, cosines, differences = [], [], []
    options = Model(threads=threads, vision_engine="mtmd")
    with closing(registry.load(registry.BACKENDS, "llamacpp")(files, options)) as llama:
        if llama.layout != layout:
            what = f"{mmproj}: cuts pictures as {llama.layout}, its checkpoint as {layout}"
            raise SmolError(what, "convert it again")
        for trace, prompt in zip(traces, probes(llama.layout.tile).values(), strict=True):
            logits, embeddings = llama.logits(prompt, trace.answer), llama.embeddings(prompt)
            if (logits.shape, embeddings.shape) != (trace.logits.shape, trace.embeddings.shape):
                raise SmolError(f"{gguf}: not made of this checkpoint", "give --against the checkpoint it was made of")
            wanted.append(trace.logits.argmax(-1))
            said.append(logits.argmax(-1))
            divergences.append(divergence(trace.logits, logits))
            cosines.append(cosine(trace.embeddings, embeddings))
            for place in np.flatnonzero(wanted[-1] != said[-1])[:1].tolist():
                words = [llama.words(trace.answer[:place])]
                words += [llama.words([int(tokens[-1][place])]) for tokens in (wanted, said)]
                differences.append(Difference(trace.probe, place + 1, *words))
    kl, near = np.concatenate(divergences), np.concatenate(cosines)
    return Agreement(
        language=_file_type(gguf),
        vision=_file_type(mmproj),
        tokens=len(kl),
        top1=float(np.mean(np.concatenate(wanted) == np.concatenate(said))),
        kl=float(kl.mean()),
        kl_99=float(np.percentile(kl, 99)),
        cosine=float(near.mean()),
        cosine_least=float(near.min()),
        probes=len(traces),
        same=len(traces) - len(differences),
        difference=differences[0] if differences else None,
    )


def divergence(p: Floats, q: Floats) -> NDArray[np.float64]:
    """KL divergence of the distribution `q` from `p`, in nats, for each row of logits (n, vocabulary)."""
    first, second = (_log_softmax(each.astype(np.float64)) for each in (p, q))
    found: NDArray[np.float64] = (np.exp(first) * (first - second)).sum(-1)
    return found


def cosine(a: Floats, b: Floats) -> NDArray[np.float64]:
    """The cosine of each two rows (n, hidden)."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    found: NDArray[np.float64] = (first * second).sum(-1) / lengths
    return found


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def _file_type(gguf: Path) -> str:
    """A key of QUANTIZATIONS, or llama.cpp's name of another file type."""
    number = read_header(gguf).keys.get("general.file_type")
    known = {one.file: name for name, one in QUANTIZATIONS.items()}
    try:
        file_type = LlamaFileType(number)  # type: ignore[arg-type]
    except ValueError:
        return "unknown"
    return known.get(file_type, file_type.name.removeprefix("MOSTLY_").lower())


def _limits(quantization: str) -> Limits:
    return LIMITS.get(quantization, LIMITS["q3_k_m"])


# ---- the probes ----------------------------------------------------------------------------------


def probes(tile: int) -> dict[str, Prompt]:
    """Pictures drawn from nothing and questions about them: one and many tiles, several pictures, frames, none.

    `tile` is the side of a tile in pixels, which the page is twice as wide as.
    """
    circle, square = _shape("ellipse", "red"), _shape("rectangle", "blue")
    moving = [_shape("ellipse", "green", shift) for shift in (-36, 0, 36)]
    return {
        "a shape": Prompt.user(circle, "Describe this image in one sentence."),
        "a line of text": Prompt.user(_text(128, 128, ["Total 47.30"]), "What is written in the image?"),
        "a page": Prompt.user(_text(2 * tile, tile, _LINES), "What is written in the image?"),
        "a gradient": Prompt.user(_gradient(300, 200), "Describe this image."),
        "noise": Prompt.user(_noise(200, 260), "What is this?"),
        "blank": Prompt.user(_frame(Image.new("RGB", (128, 128), "gray")), "What is written in the image?"),
        "two pictures": Prompt.user("First ", circle, " then ", square, " Which is round?"),
        "frames": Prompt.user(*moving, "In which direction does it move?", split=False),
        "no picture": Prompt.user("What is the capital of France?", system="Answer briefly."),
    }


_LINES = ["Invoice 2024-117", "Paper, A4      12.50", "Ink, black     31.00", "Total          43.50", "Thank you!"]


def _frame(image: Image.Image) -> Frame:
    return Frame(image.tobytes(), *image.size)


def _shape(kind: str, colour: str, shift: int = 0) -> Frame:
    image = Image.new("RGB", (128, 128), "white")
    getattr(ImageDraw.Draw(image), kind)((44 + shift, 44, 84 + shift, 84), fill=colour)
    return _frame(image)


def _text(width: int, height: int, lines: Sequence[str]) -> Frame:
    image = Image.new("RGB", (width, height), "white")
    draw, face = ImageDraw.Draw(image), ImageFont.load_default(20)
    for number, line in enumerate(lines):
        draw.text((8, 12 + 32 * number), line, fill="black", font=face)
    return _frame(image)


def _gradient(width: int, height: int) -> Frame:
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    channels: list[Any] = [x + 0 * y, y + 0 * x, (1 + np.sin(9 * x * y)) / 2]
    return _frame(Image.fromarray((np.stack(channels, -1) * 255).astype(np.uint8)))


def _noise(width: int, height: int) -> Frame:
    return _frame(Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)))
