"""Trains nano from scratch: `python -m smolcli.nano.train --out runs/nano` (docs/models.md tells how and for how long).

The materials of the lessons (nano/materials.py) are made first. Then the vision tower alone learns to classify the
content of each cell of a tile. The language model joins when the accuracy allows it, and further lessons are added as
the loss falls, never after a fixed time. With `--start` the heads that classify are new, and learn alone at first. A
checkpoint is written every few minutes; the same command continues from it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smolcli.backends.pytorch_checkpoint import load_model
from smolcli.models.files import ModelFiles
from smolcli.nano import batches, materials
from smolcli.nano.batches import PAD, STAGES, Batch, Painters
from smolcli.nano.dataset import GROUND_CLASSES, IGNORE
from smolcli.nano.model import Student
from smolcli.system.atomic_file import atomic_write

NO_LOSS = 9.0  # the text loss of a stage that has none yet
LOG_EVERY = 50  # steps
HEADS_ALONE = 3200  # tiles at the start from given weights, in which the rest of the model stays as it is
KINDS_LEARNT = 0.3  # the text loss at which the stage `everything` begins: an estimate, no run has reached it yet
GROUP = 8  # rows that the language model computes together


@dataclass
class State:
    """The progress of a run. The smoothed accuracy and loss decide when the next stage begins.

    `pictures` counts tiles. `begins` is the step from which on the batches are of `stage`.
    """

    step: int = 0
    pictures: int = 0
    stage: int = 0
    begins: int = 0
    cell_accuracy: float = 0.0
    talk_loss: float = NO_LOSS
    seconds: float = 0.0


@dataclass(frozen=True)
class Losses:
    """The total loss of a batch, the accuracy of cells with content, and the text loss; nan where there is none."""

    total: Tensor
    cell_accuracy: float
    text: float


def compute_losses(student: Student, batch: Batch, device: torch.device, heads_alone: bool = False) -> Losses:
    """Run the model on a batch, in bfloat16 where autocast allows; with `heads_alone` only the heads get gradients."""
    tiles, cells = torch.from_numpy(batch.tiles).to(device), torch.from_numpy(batch.cells).long().to(device)
    with torch.autocast(device.type, torch.bfloat16):
        with torch.set_grad_enabled(not heads_alone):
            embeddings = student.encode(tiles)
        cell_logits = student.classify_cells(embeddings)
        position_loss = student.position_loss(embeddings)
        answer_loss = None if heads_alone else text_loss(student, batch, embeddings.flatten(0, 1))
    has_content = (cells > 0) & ((cells < GROUND_CLASSES.start) | (cells >= GROUND_CLASSES.stop))
    weight = torch.where(has_content, 1.0, 0.15).flatten()
    entropy = F.cross_entropy(cell_logits.float().flatten(0, 2), cells.flatten(), ignore_index=IGNORE, reduction="none")
    cell_loss = (entropy * weight).sum() / weight.sum() + 0.2 * position_loss
    is_right = (cell_logits.argmax(-1) == cells)[has_content]
    accuracy = float(is_right.float().mean()) if has_content.any() else math.nan
    if answer_loss is None:
        return Losses(cell_loss, accuracy, math.nan)
    return Losses(answer_loss + 0.5 * cell_loss, accuracy, float(answer_loss.detach()))


def text_loss(student: Student, batch: Batch, embeddings: Tensor) -> Tensor | None:
    """The weighted cross-entropy of a batch's answers, given the embeddings (tokens, 192) of its tiles; or None.

    Rows of similar length are computed together, so that a long page does not pad short answers.
    """
    if batch.ids is None or batch.labels is None or batch.weights is None:
        return None
    device, used = embeddings.device, 0
    losses, total_weight = list[Tensor](), float(batch.weights[:, 1:].sum())
    for start in range(0, len(batch.ids), GROUP):
        rows = slice(start, start + GROUP)
        length = 1 + int((batch.ids[rows] != PAD).nonzero()[1].max())
        ids, labels, weights = (
            torch.from_numpy(array[rows, :length]).to(device) for array in (batch.ids, batch.labels, batch.weights)
        )
        image_tokens = int((ids == student.vlm.config.image_token_id).sum())
        logits = student.token_logits(embeddings[used : used + image_tokens], ids)
        used += image_tokens
        is_answer = labels[:, 1:] != IGNORE
        entropy = F.cross_entropy(logits[:, :-1][is_answer].float(), labels[:, 1:][is_answer], reduction="none")
        losses.append((entropy * weights[:, 1:][is_answer]).sum() / total_weight)
    return torch.stack(losses).sum()


def make_optimizers(student: Student) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the other parameters."""
    matrices = [(name, p) for name, p in student.named_parameters() if ".layers." in name and p.ndim == 2]
    names = {name for name, _ in matrices}
    others = [p for name, p in student.named_parameters() if name not in names]
    muon = torch.optim.Muon([p for _, p in matrices], lr=4e-3, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02)]


def learning_rate(pictures: int, total: int, decay: float, heads_alone: int = 0) -> float:
    """The factor of the learning rates after `pictures` of `total` tiles.

    It is 1 for the first `heads_alone` tiles. Then it rises from 0 over 2,000 tiles, stays at 1, and falls linearly to
    0.02 over the last fraction `decay`.
    """
    if pictures < heads_alone:
        return 1.0
    left = (total - pictures) / max(1.0, decay * total)
    return max(0.02, min(1.0, (pictures - heads_alone + 1) / 2000, left))


def promote(state: State, last: int = len(STAGES) - 1) -> bool:
    """Move `state` to the next stage if the smoothed accuracy and loss allow it, and say whether it did.

    `last` is the last stage of the run.
    """
    loss = state.talk_loss
    is_ready = (state.cell_accuracy > 0.66, loss < 1.0, loss < 0.15, loss < KINDS_LEARNT, False)[state.stage]
    if is_ready and state.stage < last and state.step >= state.begins:
        state.stage, state.begins = state.stage + 1, state.step + batches.AHEAD
        return True
    return False


class RunningMean:
    """A running mean of the weights, which is what is evaluated and exported."""

    def __init__(self, student: Student, decay: float = 0.998) -> None:
        self.weights = {name: value.detach().clone() for name, value in student.state_dict().items()}
        self._pairs = [(self.weights[n], v) for n, v in student.state_dict().items() if v.is_floating_point()]
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after a step; in the first steps the mean follows them more closely."""
        weight = 1 - min(self._decay, (step + 1) / (step + 10))
        torch._foreach_lerp_([mean for mean, _ in self._pairs], [latest for _, latest in self._pairs], weight)


class Run:
    """Everything that a checkpoint holds: the model, the mean of its weights, the optimizers and the progress."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self._device = device
        self.student, self.state = Student().to(device), State()
        self._optimizers = make_optimizers(self.student)
        self._base_rates = [optimizer.param_groups[0]["lr"] for optimizer in self._optimizers]
        self._file: Path = args.out / "checkpoint.pt"
        checkpoint = None
        if self._file.exists():
            checkpoint = torch.load(self._file, map_location=device, weights_only=True)
            self.student.load_state_dict(checkpoint["student"])
            for optimizer, saved in zip(self._optimizers, checkpoint["opts"], strict=True):
                optimizer.load_state_dict(saved)
            self.state = State(**checkpoint["state"])
        elif args.start:
            start = load_model(ModelFiles("start", checkpoint=args.start), torch.float32)
            self.student.vlm.load_state_dict(start.state_dict())
            self.state.stage = args.stage
        self.mean = RunningMean(self.student)
        if checkpoint is not None and "mean" in checkpoint:
            for name, value in checkpoint["mean"].items():
                self.mean.weights[name].copy_(value)

    def step(self, batch: Batch, stage: int, scale: float, heads_alone: bool = False) -> Losses:
        """Train on one batch, which was drawn for `stage`, with the learning rates times `scale`."""
        losses = compute_losses(self.student, batch, self._device, heads_alone)
        losses.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimizer, base_rate in zip(self._optimizers, self._base_rates, strict=True):
            optimizer.param_groups[0]["lr"] = base_rate * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        state = self.state
        self.mean.update(state.step)
        state.step += 1
        state.pictures += len(batch.tiles)
        if not math.isnan(losses.cell_accuracy):
            state.cell_accuracy += 0.01 * (losses.cell_accuracy - state.cell_accuracy)
        if not math.isnan(losses.text) and stage == state.stage:
            is_first = state.talk_loss == NO_LOSS
            state.talk_loss = losses.text if is_first else state.talk_loss + 0.01 * (losses.text - state.talk_loss)
        return losses

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        checkpoint = {
            "student": self.student.state_dict(),
            "mean": self.mean.weights,
            "opts": [optimizer.state_dict() for optimizer in self._optimizers],
            "state": asdict(self.state),
        }
        with atomic_write(self._file) as part:
            torch.save(checkpoint, part)


def train(args: argparse.Namespace) -> None:
    """Train on `args.pictures` tiles, from the checkpoint in `args.out`, from `args.start`, or from random weights."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    run = Run(args, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    state, heads_alone = run.state, HEADS_ALONE if args.start else 0
    started, saved, seconds_before = time.time(), time.time(), state.seconds
    painters = Painters(args.painters, args.seed, args.tiles, state.step, state.stage, state.begins)
    with open(args.out / "log.jsonl", "a", encoding="utf-8") as log, closing(painters):
        while state.pictures < args.pictures:
            stage, batch = painters.next_batch(state.step)
            scale = args.rate * learning_rate(state.pictures, args.pictures, args.decay, heads_alone)
            losses = run.step(batch, stage, scale, state.pictures < heads_alone)
            state.seconds = seconds_before + time.time() - started
            if promote(state, args.last_stage):
                painters.begin_stage(state.stage, state.begins)
                state.talk_loss = NO_LOSS
            if state.step % LOG_EVERY == 0:
                line = {
                    **asdict(state),
                    "rate": scale,
                    "talk": losses.text,
                    "loss": float(losses.total.detach()),
                    "stage_name": STAGES[state.stage],
                }
                print(json.dumps(line), file=log, flush=True)
            if time.time() - saved > args.save_every:
                run.save()
                saved = time.time()
    run.save()
    print(f"{state.pictures:,} tiles in {state.seconds / 3600:.1f} hours: {args.out}")


def main() -> None:
    """Parse the command line, make the materials that are not there, and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the log")
    parser.add_argument("--pictures", type=int, default=450_000, help="tiles to train on, in all")
    parser.add_argument("--decay", type=float, default=0.35, help="last fraction of the run, in which the rate falls")
    parser.add_argument("--rate", type=float, default=1.0, help="factor of the learning rates")
    parser.add_argument("--tiles", type=int, default=32, help="tiles a batch")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--painters", type=int, default=1, help="processes that draw")
    parser.add_argument("--save-every", type=float, default=180, help="seconds between checkpoints")
    parser.add_argument("--start", type=Path, help="initial weights, as smolcli ships them, instead of random ones")
    parser.add_argument("--stage", type=int, default=0, help=f"with --start: 0 to 4 for {', '.join(STAGES)}")
    parser.add_argument("--last-stage", type=int, default=len(STAGES) - 1, help="the stage in which the run remains")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    materials.main([])
    train(args)


if __name__ == "__main__":
    main()
