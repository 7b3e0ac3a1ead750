"""What a reply needs of the logits, computed on their device: generation/sampler.py in PyTorch.

A row's three or five numbers are transferred instead of its logits. The uniform random numbers are those of the numpy
sampler, bit for bit; float64 logarithms of two devices may differ in the last digit, which only a near tie can show.
Penalties and the masks of a grammar stay on the host: sequences that have them fetch their logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from smolcli.generation.sampler import GAMMA, MIXING, UNIFORM_BITS

DRAW_SETTINGS = 4  # numbers of a row of which a draw depends: temperature, top_p, seed and step


def summarize(logits: Tensor, draws: Tensor | None = None, has_nucleus: bool = False) -> Tensor:
    """The likeliest token of each row, its logit, and log_sum as in Scores; with draws a drawn token and its logit.

    `logits` are float32 (rows, vocab_size), `draws` float64 (DRAW_SETTINGS, rows). `has_nucleus` says that a top_p is
    less than 1. Returns float32 (rows, 3 or 5): a token's number is exact in it, since no vocabulary has 2^24 tokens.
    """
    highest, likeliest = logits.max(-1)
    log_sum = (logits - highest[:, None]).exp().sum(-1).log()
    columns = [likeliest.float(), highest, log_sum]
    if draws is not None:
        drawn = draw(logits, draws, has_nucleus)
        columns += [drawn.float(), logits.gather(-1, drawn[:, None])[:, 0]]
    return torch.stack(columns, 1)


def draw(logits: Tensor, draws: Tensor, has_nucleus: bool) -> Tensor:
    """Draw a token of each row as Sampler does: int64 (rows,)."""
    temperature, top_p, seed, step = draws[..., None]  # each (rows, 1)
    scaled = logits.double()
    scaled = (scaled - scaled.amax(-1, keepdim=True)) / temperature
    noise = -torch.log(-torch.log(uniform(seed.long(), step.long(), logits.shape[-1])))
    if has_nucleus:
        scaled = scaled.masked_fill(_outside_nucleus(scaled.exp(), top_p), -torch.inf)
    return torch.argmax(scaled + noise, -1)


def uniform(seed: Tensor, step: Tensor, vocab_size: int) -> Tensor:
    """The numbers of sampler.uniform for every token: float64 (rows, vocab_size), of int64 (rows, 1)."""
    tokens = torch.arange(vocab_size, device=seed.device)
    bits = _splitmix64(_splitmix64(_splitmix64(torch.zeros_like(seed), seed), step), tokens)
    return torch.mul(_shift_right(bits, 64 - UNIFORM_BITS).double() + 0.5, 2.0**-UNIFORM_BITS)


def _splitmix64(state: Tensor, number: Tensor) -> Tensor:
    """sampler.splitmix64 in int64, whose products and sums wrap around to the same bits."""
    bits = state + (number + 1) * _signed(GAMMA)
    for shift, factor in MIXING:
        bits = (bits ^ _shift_right(bits, shift)) * _signed(factor)
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Shift in zeros, where >> of int64 shifts in the sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _outside_nucleus(weights: Tensor, top_p: Tensor) -> Tensor:
    """Which tokens are none of the fewest likely ones whose weights sum to `top_p` of the total: bool, as `weights`."""
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    likelier = F.pad(ordered.cumsum(-1)[:, :-1], (1, 0), value=-1.0)  # the sum of those before; the first always stays
    is_outside = likelier >= top_p * weights.sum(-1, keepdim=True)
    return torch.empty_like(is_outside).scatter_(-1, order, is_outside)
