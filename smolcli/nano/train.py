"""Trains nano from scratch: `python -m smolcli.nano.train --out runs/nano` (docs/models.md has the whole story).

First the vision tower alone learns to name what each cell of a tile holds; the language model joins
when it can, and lessons are added as the loss falls, never by the clock. A checkpoint is written
every few minutes; the same command goes on from it.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing as mp
import os
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, SmolVLMConfig, SmolVLMForConditionalGeneration

from smolcli.models.chat_template import END, IMAGE, Grid, segments, text
from smolcli.nano import dataset
from smolcli.nano.dataset import CELL_CLASSES, CELLS, IGNORE, THINGS, Lesson
from smolcli.nano.synthetic_images import TILE, Rng
from smolcli.nano.tokenizer import SIZE, tokenizer
from smolcli.system.atomic_file import atomic_write

PATCH, SCALE = 8, 2
TOKENS = CELLS * CELLS
GRIDS = tuple(Grid(r, c) for r, c in ((1, 2), (2, 1), (2, 2), (1, 3), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3), (4, 4)))
AHEAD = 32  # batches: a stage begins so long after the loss allows it, since painters are ahead of the lesson
STAGES = ("cells", "words", "lines", "pages")


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: object
) -> tuple[Tensor, None]:
    """Plain attention of the vision tower: at 256 patches its backward is faster on a CPU than the fused one."""
    scores = torch.matmul(query * scaling, key.transpose(-1, -2))
    return torch.matmul(scores.softmax(-1).to(value.dtype), value).transpose(1, 2).contiguous(), None


AttentionInterface.register("smolcli_plain", _attention)


def config() -> SmolVLMConfig:
    """nano's sizes: 4.6 million parameters, a tile of 128 pixels is 64 tokens of 16 x 16."""
    token = tokenizer().get_vocab()
    return SmolVLMConfig(
        image_token_id=token[IMAGE],
        scale_factor=SCALE,
        tie_word_embeddings=False,
        vision_config={
            "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 3,
            "image_size": TILE, "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama", "architectures": ["VLlama3ForCausalLM"], "vocab_size": SIZE, "hidden_size": 192,
            "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3,
            "head_dim": 32, "max_position_embeddings": 8192, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
            "bos_token_id": 1, "eos_token_id": token[END], "pad_token_id": 2, "tie_word_embeddings": False,
        },
    )  # fmt: skip


class Student(nn.Module):
    """The model, with two throw-away heads: what is in each cell, characters and shapes, and where the cell is.

    The second keeps a cell's place in what the language model is given: without it the model names a thing but
    does not learn to say where it is, and so not where it goes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vlm = SmolVLMForConditionalGeneration(config())
        self.vlm.model.vision_model.config._attn_implementation = "smolcli_plain"
        self.cells = nn.Linear(192, 2 * len(CELL_CLASSES))
        self.places = nn.Linear(192, 2 * CELLS)
        self._start()

    def _start(self) -> None:
        """2-D sine and cosine positions at full size; keys that begin near the queries."""
        vision = self.vlm.model.vision_model
        side = TILE // PATCH
        with torch.no_grad():
            vision.embeddings.position_embedding.weight.copy_(_sine_positions(side, 192))
            for layer in vision.encoder.layers:
                q, k = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
                nn.init.xavier_uniform_(q)
                k.copy_(q + 0.3 * torch.randn_like(q) * q.std())

    def see(self, tiles: Tensor) -> Tensor:
        """uint8 (n, 128, 128, 3) -> (n, 64, 192): what the language model is given."""
        pixels = tiles.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        vision = self.vlm.model.vision_model
        patches = vision.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        hidden = patches + vision.embeddings.position_embedding.weight
        hidden = vision.encoder(inputs_embeds=hidden).last_hidden_state
        seen: Tensor = self.vlm.model.connector(vision.post_layernorm(hidden))
        return seen

    def name_cells(self, seen: Tensor) -> Tensor:
        """(n, 64, 192) -> (n, 64, 2, classes)."""
        named: Tensor = self.cells(seen)
        return named.view(*named.shape[:-1], 2, len(CELL_CLASSES))

    def place_loss(self, seen: Tensor) -> Tensor:
        """Cross-entropy of each cell's row and column, from (n, 64, 192)."""
        side = torch.arange(CELLS, device=seen.device)
        wanted = torch.cartesian_prod(side, side).expand(len(seen), TOKENS, 2)
        return F.cross_entropy(self.places(seen).float().view(-1, CELLS), wanted.reshape(-1))

    def read(self, seen: Tensor, ids: Tensor) -> Tensor:
        """Embeddings in the places of image tokens, then the language model: (b, length, vocabulary)."""
        embeds = self.vlm.model.text_model.embed_tokens(ids)
        embeds = embeds.masked_scatter((ids == self.vlm.config.image_token_id).unsqueeze(-1), seen.to(embeds.dtype))
        hidden = self.vlm.model.text_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        logits: Tensor = self.vlm.lm_head(hidden)
        return logits


def _sine_positions(side: int, width: int) -> Tensor:
    quarter = width // 4
    rate = torch.exp(-math.log(100.0) * torch.arange(quarter) / quarter)
    angle = torch.arange(side)[:, None] * rate
    wave = torch.cat([angle.sin(), angle.cos()], 1)
    down = wave[:, None].expand(side, side, 2 * quarter)
    across = wave[None].expand(side, side, 2 * quarter)
    return torch.cat([down, across], 2).reshape(side * side, width)


# ---- batches -------------------------------------------------------------------------------------


@dataclass
class Batch:
    """`tiles` uint8 (n, 128, 128, 3); `cells` int16 (n, 64, 2); `ids`, `labels` int64 (b, length), or None.

    `weights` float32 (b, length) goes with the labels: one by the root of its answer's length, so that a page does
    not drown a question whose answer is one word.
    """

    tiles: np.ndarray[Any, Any]
    cells: np.ndarray[Any, Any]
    ids: np.ndarray[Any, Any] | None
    labels: np.ndarray[Any, Any] | None
    weights: np.ndarray[Any, Any] | None


def _single(rng: Rng, stage: int) -> Lesson:
    kind = rng.random()
    if stage == 0:
        return (
            dataset.dense(rng)
            if kind < 0.82
            else dataset.objects(rng, False)
            if kind < 0.97
            else dataset.blank(rng, False)
        )
    if stage == 1:
        return (
            dataset.read(rng, False, 2, 0.2)
            if kind < 0.7
            else dataset.one(rng, False)
            if kind < 0.95
            else dataset.blank(rng, False)
        )
    if kind < 0.42:
        return dataset.read(rng, False, 6 if rng.random() < 0.8 else 1, 0.35)
    return dataset.objects(rng, False) if kind < 0.96 else dataset.blank(rng, False)


def lesson_batch(seed: int, number: int, stage: int, tiles: int) -> Batch:
    """Batch `number` of a run: one family of lessons, about `tiles` tiles."""
    rng = np.random.default_rng((seed, number))
    family = rng.random()
    motion, pages = ((0.0, 0.0), (0.0, 0.0), (0.22, 0.0), (0.1, 0.32))[stage]
    if family < motion:
        batch = [dataset.motion(rng, False) for _ in range(max(2, tiles // 4))]
    elif family < motion + pages:
        batch = _tiled(rng, tiles)
    else:
        batch = [_single(rng, stage) for _ in range(tiles)]
    return _collate(batch, stage > 0)


def _tiled(rng: Rng, tiles: int) -> list[Lesson]:
    weights = np.array([1 / grid.tiles for grid in GRIDS]) ** 0.5
    grid = GRIDS[int(rng.choice(len(GRIDS), p=weights / weights.sum()))]
    batch = []
    for _ in range(max(2, round(1.2 * tiles / grid.tiles))):
        kind = rng.random()
        if kind < 0.72:
            batch.append(dataset.read(rng, False, 100, 0.35, grid))
        else:
            batch.append(dataset.objects(rng, False, grid=grid) if kind < 0.96 else dataset.blank(rng, False, grid))
    return batch


def _collate(batch: list[Lesson], talk: bool) -> Batch:
    tiles, cells = np.concatenate([x.tiles for x in batch]), np.concatenate([x.cells for x in batch])
    if not talk:
        return Batch(tiles, cells, None, None, None)
    rows = [_row(lesson) for lesson in batch]
    shape = len(rows), max(len(ids) for ids, _ in rows)
    ids, weights = np.full(shape, 2, np.int64), np.zeros(shape, np.float32)
    for k, (row, weight) in enumerate(rows):
        ids[k, : len(row)], weights[k, : len(row)] = row, weight
    return Batch(tiles, cells, ids, np.where(weights > 0, ids, IGNORE), weights)


def _row(lesson: Lesson) -> tuple[list[int], list[float]]:
    """A lesson's conversation as token ids, and each one's weight: none where it is asked."""
    ids, weights, asked = list[int](), list[float](), text(segments(lesson.prompt, lesson.grids), TOKENS)
    for question, answer in ((asked, lesson.answer), *lesson.further):
        turn = question if question is asked else f"\nUser: {question}{END}\nAssistant:"
        given, said = tokenizer().encode(turn).ids, tokenizer().encode(f" {answer}{END}").ids
        ids += given + said
        weights += [0.0] * len(given) + [len(said) ** -0.5] * len(said)
    return ids, weights


def _draw_forever(drawn: Any, stages: Any, seed: int, first: int, step: int, tiles: int) -> None:
    torch.set_num_threads(1)
    number = first
    while True:
        with stages.get_lock():
            latest, begins = stages
        stage = latest if number >= begins else latest - 1
        drawn.put((stage, lesson_batch(seed, number, stage, tiles)))
        number += step


def _next(painter: Any, drawn: Any) -> Any:
    while True:
        try:
            return drawn.get(timeout=60)
        except queue.Empty:
            if not painter.is_alive():
                raise RuntimeError(f"a painter has ended with code {painter.exitcode}") from None


# ---- the run -------------------------------------------------------------------------------------


@dataclass
class State:
    """What a run is at; smoothed losses decide the stage, which `begins` at that step."""

    step: int = 0
    pictures: int = 0
    stage: int = 0
    begins: int = 0
    cell_accuracy: float = 0.0
    talk_loss: float = 9.0
    seconds: float = 0.0


def losses(student: Student, batch: Batch, device: torch.device) -> tuple[Tensor, float, float]:
    """Total loss, accuracy on cells that hold a character or a shape, loss of the text (nan without)."""
    tiles, cells = torch.from_numpy(batch.tiles).to(device), torch.from_numpy(batch.cells).long().to(device)
    with torch.autocast(device.type, torch.bfloat16):
        seen = student.see(tiles)
        named = student.name_cells(seen)
        place_loss = student.place_loss(seen)
        logits = labels = weights = None
        if batch.ids is not None and batch.labels is not None and batch.weights is not None:
            labels, weights = torch.from_numpy(batch.labels).to(device), torch.from_numpy(batch.weights).to(device)
            logits = student.read(seen.reshape(-1, seen.shape[-1]), torch.from_numpy(batch.ids).to(device))
    thing = (cells > 0) & (cells < len(THINGS))
    weight = torch.where(thing, 1.0, 0.15).flatten()
    each = F.cross_entropy(named.float().flatten(0, 2), cells.flatten(), ignore_index=IGNORE, reduction="none")
    cell_loss = (each * weight).sum() / weight.sum() + 0.2 * place_loss
    accuracy = float((named.argmax(-1) == cells)[thing].float().mean()) if thing.any() else float("nan")
    if logits is None or labels is None or weights is None:
        return cell_loss, accuracy, float("nan")
    asked = labels[:, 1:] != IGNORE
    each = F.cross_entropy(logits[:, :-1][asked].float(), labels[:, 1:][asked], reduction="none")
    weight = weights[:, 1:][asked]
    talk = (each * weight).sum() / weight.sum()
    return talk + 0.5 * cell_loss, accuracy, float(talk.detach())


def optimizers(student: Student) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the rest."""
    inside = [(n, p) for n, p in student.named_parameters() if ".layers." in n and p.ndim == 2]
    names = {n for n, _ in inside}
    rest = [p for n, p in student.named_parameters() if n not in names]
    muon = torch.optim.Muon([p for _, p in inside], lr=4e-3, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02)]


def rate(pictures: int, total: int, decay: float) -> float:
    """Warm-up over 2,000 pictures, level, then linear to 2 % over the last `decay` of the run."""
    left = (total - pictures) / max(1.0, decay * total)
    return max(0.02, min(1.0, (pictures + 1) / 2000, left))


def promote(state: State) -> bool:
    """Whether the smoothed losses allow the next stage."""
    ready = (state.cell_accuracy > 0.66, state.talk_loss < 1.0, state.talk_loss < 0.15, False)[state.stage]
    if ready and state.step >= state.begins:
        state.stage, state.begins = state.stage + 1, state.step + AHEAD
        return True
    return False


class Mean:
    """A running mean of the weights: what is judged and shipped, at any moment of a run."""

    def __init__(self, student: Student, decay: float = 0.998) -> None:
        self.weights = {name: value.detach().clone() for name, value in student.state_dict().items()}
        self._pairs = [(self.weights[n], v) for n, v in student.state_dict().items() if v.is_floating_point()]
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """One step's worth; early on it follows more closely."""
        weight = 1 - min(self._decay, (step + 1) / (step + 10))
        torch._foreach_lerp_([mean for mean, _ in self._pairs], [now for _, now in self._pairs], weight)


def save(path: Path, student: Student, mean: Mean, opts: list[torch.optim.Optimizer], state: State) -> None:
    """Writes the checkpoint whole or not at all."""
    kept = {
        "student": student.state_dict(),
        "mean": mean.weights,
        "opts": [o.state_dict() for o in opts],
        "state": asdict(state),
    }
    with atomic_write(path) as file:
        torch.save(kept, file)


@contextmanager
def _painting(args: argparse.Namespace, state: State) -> Iterator[tuple[Any, list[tuple[Any, Any]]]]:
    """The stage as painters see it, and each with the queue of what it has drawn; they end with the block."""
    context = mp.get_context("fork")
    stages = context.Array("i", [state.stage, state.begins])
    painters: list[tuple[Any, Any]] = []
    try:
        for worker in range(args.painters):
            drawn = context.Queue(maxsize=max(1, AHEAD // args.painters - 2))
            first = state.step + (worker - state.step) % args.painters
            painter = (drawn, stages, args.seed, first, args.painters, args.tiles)
            process = context.Process(target=_draw_forever, args=painter, daemon=True)
            process.start()
            painters.append((process, drawn))
        yield stages, painters
    finally:
        for process, _ in painters:
            process.kill()  # they have inherited this process's handlers: one that takes SIGTERM would go on
            process.join()


def train(args: argparse.Namespace) -> None:
    """Trains from `args.out`'s checkpoint, from `args.start`, or from nothing, until `args.pictures` were seen."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.out.mkdir(parents=True, exist_ok=True)
    student, state = Student().to(device), State()
    opts = optimizers(student)
    file = args.out / "checkpoint.pt"
    if file.exists():
        kept = torch.load(file, map_location=device, weights_only=True)
        student.load_state_dict(kept["student"])
        for opt, was in zip(opts, kept["opts"], strict=True):
            opt.load_state_dict(was)
        state = State(**kept["state"])
    elif args.start:
        student.vlm.load_state_dict(
            SmolVLMForConditionalGeneration.from_pretrained(args.start, dtype=torch.float32).state_dict()
        )
        state.stage = args.stage
    mean = Mean(student)
    if file.exists() and "mean" in kept:
        for name, value in kept["mean"].items():
            mean.weights[name].copy_(value)
    bases = [opt.param_groups[0]["lr"] for opt in optimizers(student)]
    log = open(args.out / "log.jsonl", "a", encoding="utf-8")
    started, saved, before = time.time(), time.time(), state.seconds
    with _painting(args, state) as (stages, painters):
        while state.pictures < args.pictures:
            drawn_for, batch = _next(*painters[state.step % args.painters])
            scale = rate(state.pictures, args.pictures, args.decay)
            loss, accuracy, talk = losses(student, batch, device)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            for opt, base in zip(opts, bases, strict=True):
                opt.param_groups[0]["lr"] = base * scale
                opt.step()
                opt.zero_grad(set_to_none=True)
            mean.update(state.step)
            state.step += 1
            state.pictures += len(batch.tiles)
            state.seconds = before + time.time() - started
            if accuracy == accuracy:
                state.cell_accuracy += 0.01 * (accuracy - state.cell_accuracy)
            if talk == talk and drawn_for == state.stage:
                state.talk_loss = talk if state.talk_loss == 9.0 else state.talk_loss + 0.01 * (talk - state.talk_loss)
            if promote(state):
                with stages.get_lock():
                    stages[:] = state.stage, state.begins
                state.talk_loss = 9.0
            if state.step % 50 == 0:
                line = {
                    **asdict(state),
                    "rate": scale,
                    "talk": talk,
                    "loss": float(loss.detach()),
                    "stage_name": STAGES[state.stage],
                }
                print(json.dumps(line), file=log, flush=True)
            if time.time() - saved > args.save_every:
                save(file, student, mean, opts, state)
                saved = time.time()
    save(file, student, mean, opts, state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the log")
    parser.add_argument("--pictures", type=int, default=450_000, help="tiles to learn from, in all")
    parser.add_argument("--decay", type=float, default=0.35, help="the last part of the run, in which the rate falls")
    parser.add_argument("--tiles", type=int, default=32, help="tiles a batch")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--painters", type=int, default=1, help="processes that draw")
    parser.add_argument("--save-every", type=float, default=180, help="seconds between checkpoints")
    parser.add_argument("--start", type=Path, help="weights to begin with, as smolcli ships them, instead of none")
    parser.add_argument("--stage", type=int, default=0, help=f"with --start: 0 to 3 for {', '.join(STAGES)}")
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
