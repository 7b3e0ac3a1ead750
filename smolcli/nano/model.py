"""nano's architecture, and the two heads that are only used in training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, SmolVLMConfig, SmolVLMForConditionalGeneration

from smolcli.models.chat_template import END, IMAGE
from smolcli.nano.dataset import CELL_CLASSES, CELLS
from smolcli.nano.synthetic_images import TILE
from smolcli.nano.tokenizer import SIZE, tokenizer

PATCH, SCALE = 8, 2  # pixels a side of a patch, and patches a side of a cell
TOKENS = CELLS * CELLS  # of a tile
WIDTH = 192


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: object
) -> tuple[Tensor, None]:
    """Unfused attention for the vision tower: on a CPU its backward pass over 256 patches is faster than the fused."""
    weights = torch.matmul(query * scaling, key.transpose(-1, -2)).softmax(-1)
    return torch.matmul(weights.to(value.dtype), value).transpose(1, 2).contiguous(), None


def _causal_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: object
) -> tuple[Tensor, None]:
    """Unfused causal attention for the language model, also faster than the fused one on a CPU.

    The queries (b, 6, n, 32) of a group share its keys and values (b, 3, n, 32), so that these are not repeated.
    """
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    grouped = (query * scaling).reshape(batch, groups, heads // groups * length, width)
    scores = torch.matmul(grouped, key.transpose(-1, -2)).view(batch, groups, heads // groups, length, length)
    future = torch.full((length, length), -math.inf, dtype=scores.dtype, device=scores.device).triu(1)
    weights = (scores + future).softmax(-1).to(value.dtype).view(batch, groups, -1, length)
    return torch.matmul(weights, value).view(batch, heads, length, width).transpose(1, 2).contiguous(), None


AttentionInterface.register("smolcli_plain", _attention)
AttentionInterface.register("smolcli_causal", _causal_attention)


def config() -> SmolVLMConfig:
    """Nano's sizes: 4.6 million parameters; a tile of 128 x 128 pixels is 64 tokens, each of 16 x 16 pixels."""
    token = tokenizer().get_vocab()
    return SmolVLMConfig(
        image_token_id=token[IMAGE],
        scale_factor=SCALE,
        tie_word_embeddings=False,
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 3,
            "image_size": TILE, "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama", "architectures": ["VLlama3ForCausalLM"], "vocab_size": SIZE, "hidden_size": WIDTH,
            "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3,
            "head_dim": 32, "max_position_embeddings": 8192, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
            "bos_token_id": 1, "eos_token_id": token[END], "pad_token_id": 2, "tie_word_embeddings": False,
        },
    )  # fmt: skip


class Student(nn.Module):
    """The model and its two training heads: `cells` classifies each cell's content, `places` its row and column.

    The second keeps a cell's position in the embeddings that the language model gets. Without it the model names a
    shape but does not learn to say where it is, and so not in which direction it moves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vlm = SmolVLMForConditionalGeneration(config())
        self.vlm.model.vision_model.config._attn_implementation = "smolcli_plain"
        self.vlm.model.text_model.config._attn_implementation = "smolcli_causal"
        self.cells = nn.Linear(WIDTH, 2 * len(CELL_CLASSES))
        self.places = nn.Linear(WIDTH, 2 * CELLS)
        self._initialize()

    def _initialize(self) -> None:
        """Set full-size 2-D sine and cosine position embeddings, and key weights close to the query weights."""
        vision = self.vlm.model.vision_model
        with torch.no_grad():
            vision.embeddings.position_embedding.weight.copy_(_sine_positions(TILE // PATCH, WIDTH))
            for layer in vision.encoder.layers:
                query, key = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
                nn.init.xavier_uniform_(query)
                key.copy_(query + 0.3 * torch.randn_like(query) * query.std())

    def encode(self, tiles: Tensor) -> Tensor:
        """The embeddings of tiles for the language model: uint8 (n, 128, 128, 3) to (n, 64, 192)."""
        pixels = tiles.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        vision = self.vlm.model.vision_model
        patches = vision.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        hidden = patches + vision.embeddings.position_embedding.weight
        hidden = vision.encoder(inputs_embeds=hidden).last_hidden_state
        embeddings: Tensor = self.vlm.model.connector(vision.post_layernorm(hidden))
        return embeddings

    def classify_cells(self, embeddings: Tensor) -> Tensor:
        """The logits of each cell's two classes: (n, 64, 192) to (n, 64, 2, classes)."""
        logits: Tensor = self.cells(embeddings)
        return logits.view(*logits.shape[:-1], 2, len(CELL_CLASSES))

    def position_loss(self, embeddings: Tensor) -> Tensor:
        """Cross-entropy of each cell's row and column, from embeddings (n, 64, 192)."""
        side = torch.arange(CELLS, device=embeddings.device)
        positions = torch.cartesian_prod(side, side).expand(len(embeddings), TOKENS, 2)
        return F.cross_entropy(self.places(embeddings).float().view(-1, CELLS), positions.reshape(-1))

    def token_logits(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """The language model's logits (b, length, vocabulary) for `ids` (b, length).

        `embeddings` (n, 192) replace the image tokens of `ids`, in their order.
        """
        embeds = self.vlm.model.text_model.embed_tokens(ids)
        is_image = (ids == self.vlm.config.image_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(is_image, embeddings.to(embeds.dtype))
        hidden = self.vlm.model.text_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        logits: Tensor = self.vlm.lm_head(hidden)
        return logits


def _sine_positions(side: int, width: int) -> Tensor:
    """Position embeddings (side * side, width): half of each for the row, half for the column."""
    quarter = width // 4
    rate = torch.exp(-math.log(100.0) * torch.arange(quarter) / quarter)
    angle = torch.arange(side)[:, None] * rate
    wave = torch.cat([angle.sin(), angle.cos()], 1)
    down = wave[:, None].expand(side, side, 2 * quarter)
    across = wave[None].expand(side, side, 2 * quarter)
    return torch.cat([down, across], 2).reshape(side * side, width)
