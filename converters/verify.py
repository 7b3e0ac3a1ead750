"""Comparing a pair of GGUF files with its checkpoint on a fixed set of probes (pictures and questions).

The checkpoint runs on PyTorch in float32 on the CPU and gives the reference: its greedy answers. llama.cpp then
evaluates those answers with the pair, so that each token is compared after the same tokens before it.
`run_reference` and `compare_pair` are called in child processes (smolcli.process.child).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from gguf import LlamaFileType
from numpy.typing import NDArray
from safetensors.numpy import save_file

from smolcli import registry
from smolcli.backends.image_processor import Layout
from smolcli.errors import SmolError, UnavailableError
from smolcli.models.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ModelFiles
from smolcli.models.gguf_header import read_header
from smolcli.models.lora import Adapter
from smolcli.options import Model
from smolcli.process.child import call

from .probes import probes
from .quantization import QUANTIZATIONS
from .thresholds import thresholds_of

MAX_TOKENS = 24  # of an answer
NAME = "verified"  # of both sides: turns depend on a name that ends in -Base
CHECKPOINT_BACKEND = registry.backends("checkpoint")[0]
GGUF_BACKEND = registry.backends("gguf")[0]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Trace:
    """The results of a checkpoint for one probe.

    `answer` has the tokens of its greedy answer except the last one (the end token or the MAX_TOKENS-th). `logits`
    (1 + len(answer), vocabulary) are those at each of its tokens and at the one left out, `embeddings` (image tokens,
    hidden) those of the pictures.
    """

    probe: str
    answer: list[int]
    logits: Floats
    embeddings: Floats


@dataclass(frozen=True)
class Difference:
    """The first token that differs in an answer: its position from 1, the text before it, and both tokens as text."""

    probe: str
    token: int
    after: str
    wanted: str
    said: str


@dataclass(frozen=True)
class Agreement:
    """How well a pair and its checkpoint agree, over the tokens of all answers and over all image embeddings.

    `top1` is the share of equal top tokens. `kl` and `kl_99` are the mean and the 99th percentile of the KL divergence
    of the pair's distribution from the checkpoint's, in nats; `cosine` and `cosine_least` are the mean and the minimum
    over embeddings. `same` of `probes` greedy answers are equal; `difference` is in the first one that is not.
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
        """A line for each threshold that is missed; empty if the conversion is right."""
        vision = thresholds_of(self.vision)
        text = min(thresholds_of(self.language), vision, key=lambda thresholds: thresholds.top1)  # both change the text
        missed = {
            f"top-1 agreement {self.top1:.3f} is below {text.top1}": self.top1 < text.top1,
            f"KL divergence {self.kl:.2g} is above {text.kl}": not self.kl <= text.kl,
            f"cosine of embeddings {self.cosine:.5f} is below {vision.cosine}": not self.cosine >= vision.cosine,
        }
        return [line for line, is_missed in missed.items() if is_missed]


def verify(
    checkpoint: Path,
    pairs: Sequence[tuple[Path, Path]],
    lora: Path | None = None,
    threads: int | None = None,
    verbose: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Agreement]:
    """Compare each pair (language model file, mmproj file) with the checkpoint, into which PEFT merges `lora` first.

    `progress` is called with a line about what runs next. Raises SmolError for a pair made of another checkpoint,
    ModelError for files that cannot be loaded, EngineError for a crash, UnavailableError for a missing library.
    """
    check_libraries(lora)
    progress(f"{checkpoint}: running PyTorch, float32")
    layout, traces = call("smolcli.converters.verify:run_reference", checkpoint, lora, threads, verbose=verbose)
    agreements = []
    for gguf, mmproj in pairs:
        progress(f"{gguf}: running llama.cpp")
        arguments = (gguf, mmproj, layout, traces, threads)
        agreements.append(call("smolcli.converters.verify:compare_pair", *arguments, verbose=verbose))
    return agreements


def check_libraries(lora: Path | None = None) -> None:
    """Raise UnavailableError, with the command that installs it, for a library that `verify` needs."""
    for backend in (CHECKPOINT_BACKEND, GGUF_BACKEND):
        registry.require(registry.BACKENDS, backend)
    if lora is not None and find_spec("peft") is None:
        raise UnavailableError(
            "the comparison with an adapter needs the library peft", registry.install_command("peft")
        )


def run_reference(checkpoint: Path, lora: Path | None = None, threads: int | None = None) -> tuple[Layout, list[Trace]]:
    """Return the layout of a checkpoint's tiles and its traces of all probes, with the adapter `lora` merged in."""
    options = Model(device="cpu", dtype="float32", threads=threads)
    backend_class = registry.load(registry.BACKENDS, CHECKPOINT_BACKEND)
    load = {} if lora is None else {"load": _load_with_peft}
    with closing(backend_class(ModelFiles(NAME, checkpoint, adapter=lora), options, **load)) as backend:
        traces = []
        for name, prompt in probes(backend.layout.tile).items():
            answer = backend.greedy(prompt, MAX_TOKENS)[: MAX_TOKENS - 1]
            logits, embeddings = backend.logits(prompt, answer), backend.embeddings(prompt)
            traces.append(Trace(name, answer, logits.numpy(), embeddings.numpy()))
        return backend.layout, traces


def _load_with_peft(files: ModelFiles, dtype: Any) -> Any:
    """Load a checkpoint and have PEFT merge its adapter: another merging than the one that is verified.

    PEFT reads its own names of tensors only, and needs a model of the adapter's vocabulary.
    """
    from peft import PeftModel  # an optional library

    from smolcli.backends.pytorch_checkpoint import load_model

    assert files.adapter is not None
    adapter, model = Adapter(files.adapter), load_model(replace(files, adapter=None), dtype)
    if adapter.vocabulary is not None:
        model.resize_token_embeddings(adapter.vocabulary, mean_resizing=False)
    with tempfile.TemporaryDirectory(prefix="smolcli-") as folder:
        shutil.copy(adapter.directory / ADAPTER_CONFIG, folder)
        save_file(adapter.as_peft_names_it(), Path(folder) / ADAPTER_WEIGHTS)
        return PeftModel.from_pretrained(model, folder).merge_and_unload()


def compare_pair(
    gguf: Path, mmproj: Path, layout: Layout, traces: Sequence[Trace], threads: int | None = None
) -> Agreement:
    """Compare a pair with its checkpoint's `layout` of tiles and `traces`.

    Raises SmolError if it has another layout or other shapes, so is not made of this checkpoint.
    """
    files = ModelFiles(NAME, gguf=gguf, mmproj=mmproj)
    wanted: list[NDArray[np.intp]] = []  # the top token of the checkpoint at each position, by probe
    said: list[NDArray[np.intp]] = []  # that of the pair
    divergences, cosines, differences = [], [], []
    options = Model(threads=threads, vision_encoder="mtmd")
    with closing(registry.load(registry.BACKENDS, GGUF_BACKEND)(files, options)) as backend:
        if backend.layout != layout:
            message = f"{mmproj}: splits pictures as {backend.layout}, its checkpoint as {layout}"
            raise SmolError(message, "convert it again")
        for trace, prompt in zip(traces, probes(backend.layout.tile).values(), strict=True):
            logits, embeddings = backend.logits(prompt, trace.answer), backend.embeddings(prompt)
            if (logits.shape, embeddings.shape) != (trace.logits.shape, trace.embeddings.shape):
                raise SmolError(f"{gguf}: not made of this checkpoint", "give --against the checkpoint it was made of")
            wanted.append(trace.logits.argmax(-1))
            said.append(logits.argmax(-1))
            divergences.append(divergence(trace.logits, logits))
            cosines.append(cosine(trace.embeddings, embeddings))
            for position in np.flatnonzero(wanted[-1] != said[-1])[:1].tolist():
                texts = [backend.detokenize(trace.answer[:position])]
                texts += [backend.detokenize([int(tokens[-1][position])]) for tokens in (wanted, said)]
                differences.append(Difference(trace.probe, position + 1, *texts))
    kl, similarities = np.concatenate(divergences), np.concatenate(cosines)
    return Agreement(
        language=_file_type(gguf),
        vision=_file_type(mmproj),
        tokens=len(kl),
        top1=float(np.mean(np.concatenate(wanted) == np.concatenate(said))),
        kl=float(kl.mean()),
        kl_99=float(np.percentile(kl, 99)),
        cosine=float(similarities.mean()),
        cosine_least=float(similarities.min()),
        probes=len(traces),
        same=len(traces) - len(differences),
        difference=differences[0] if differences else None,
    )


def divergence(p: Floats, q: Floats) -> NDArray[np.float64]:
    """Return the KL divergence (n,) of the distribution `q` from `p`, in nats; both are logits (n, vocabulary)."""
    log_p, log_q = (_log_softmax(logits.astype(np.float64)) for logits in (p, q))
    nats: NDArray[np.float64] = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    return nats


def cosine(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Return the cosine (n,) of each row of `a` and the same row of `b`, both (n, hidden)."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    cosines: NDArray[np.float64] = (first * second).sum(-1) / lengths
    return cosines


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(-1, keepdims=True)
    log_probabilities: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return log_probabilities


def _file_type(gguf: Path) -> str:
    """Return the quantization in a file's header: a key of QUANTIZATIONS, or llama.cpp's name of another file type."""
    number = read_header(gguf).keys.get("general.file_type")
    known = {quantization.file: name for name, quantization in QUANTIZATIONS.items()}
    try:
        file_type = LlamaFileType(number)  # type: ignore[arg-type]
    except ValueError:
        return "unknown"
    return known.get(file_type, file_type.name.removeprefix("MOSTLY_").lower())
