"""SmolVLM in NumPy alone: the smallest backend, and the file from which to learn how the model works.

A picture is cut into square tiles by image_processor.py. A tile becomes, with the sizes of SmolVLM-256M:

    tile         (512, 512, 3)   red, green and blue of each pixel, 0 to 255
       |  colors are scaled, most often to -1 ... 1, and each square of 16 x 16 pixels, a patch, becomes a row
    patches      (1024, 768)     32 x 32 patches, the 3 * 16 * 16 numbers of each
       |  times a matrix, plus a learned vector for each place in the tile
    x            (1024, 768)     a vector for each patch, of the hidden size, here 768 too
       |  12 layers, each adds two things to x: what attention of 12 heads takes for each patch from all patches, and
       |  what an MLP of 3072 numbers (a matrix, a curve, a matrix) makes of each patch alone. Both read x normalized
    x            (1024, 768)
       |  pixel shuffle: 4 x 4 neighboring patches are laid side by side
    x            (64, 12288)
       |  times a matrix, the connector
    embeddings   (64, 576)       as if the tile were 64 tokens of text

In a prompt, text and tiles are in any order. A token of text becomes a row of a table, a tile its embeddings:

    x            (tokens, 576)   in the order of the prompt
       |  30 layers, as above: attention of 9 heads to the token itself and those before it, whose keys and values (3
       |  heads) are kept in the KV cache, and an MLP of 1536. Queries and keys are turned by their token's position
    x            (tokens, 576)
       |  the vector of the last token, normalized, times a matrix
    logits       (49280,)        of each token of the vocabulary, from which generation/sampler.py chooses the next

Weights and activations are float32. Matrices are (outputs, inputs), hence the `.T`. Rows are patches, or the tokens of
one sequence after those of another.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np

from smolcli.backends.base import Logits, PrefillRequest, PrefillResult, PreparedPrompt
from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.grammar_tokenizer import grammar_tokenizer
from smolcli.backends.numpy_weights import Floats, Layer, Source, open_source, read_limits
from smolcli.backends.prompt_preparer import PromptPreparer
from smolcli.models.chat_template import turns_of
from smolcli.models.files import ModelFiles
from smolcli.models.tensor_mapping import Text
from smolcli.models.tokenizer import has_token, make_detokenizer, tokenize
from smolcli.options import Model
from smolcli.system import memory
from smolcli.system.blas_threads import describe_blas_threads, set_blas_threads
from smolcli.system.cpu import usable_cores

CHUNK = 512  # tokens of a prompt that are evaluated at once; more are no faster, and take more memory
MAX_SEQUENCES = 16  # without --jobs: a page of print is some fifty prompts


def linear(x: Floats, w: Layer, name: str) -> Floats:
    """Multiply by a matrix, and add a bias: (rows, inputs) become (rows, outputs)."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(x: Floats, w: Layer, name: str, epsilon: float) -> Floats:
    """Scale each row to mean 0 and variance 1, then scale and shift it by what was learned: (rows, hidden)."""
    x = x - x.mean(-1, keepdims=True)
    x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def rms_norm(x: Floats, weight: Floats, epsilon: float) -> Floats:
    """Scale each row to a mean square of 1, then by what was learned: (rows, hidden)."""
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon) * weight


def softmax(scores: Floats) -> Floats:
    """Turn each row of scores (..., columns) into positive numbers that sum to 1, in place."""
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores


def gelu(x: Floats) -> Floats:
    """Compute x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), any shape, in one new array: more take longer."""
    y = x * x
    y *= 0.044715
    y += 1
    y *= x  # x + 0.044715 x^3
    y *= np.sqrt(np.float32(2 / np.pi))
    np.tanh(y, out=y)
    y += 1
    y *= x
    y *= 0.5
    return y


def rotate(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Rotary position embedding of queries or keys: (rows, heads, head_dim).

    Numbers i and i + head_dim / 2 are a point in a plane, turned by an angle that grows with the token's position, for
    each i at a speed of its own. The product of a query and a key then depends on how far apart their tokens are. `cos`
    and `sin` are (rows, 1, head_dim), of the angle of each number.
    """
    half = x.shape[-1] // 2
    turned: Floats = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)  # by 90 degrees: (rows, heads, head_dim)
    return x * cos + turned * sin


def attend(q: Floats, k: Floats, v: Floats) -> Floats:
    """Attention of the last tokens of a sequence to themselves and those before: (tokens, heads * head_dim).

    `q` is (tokens, heads, head_dim); `k` and `v` are (kv_heads, all tokens, head_dim). The first heads // kv_heads
    heads of the queries share the first head of keys and values, and so on.
    """
    tokens, heads, head_dim = q.shape
    kv_heads, group = len(k), heads // len(k)
    q = (q * np.float32(head_dim**-0.5)).reshape(tokens, kv_heads, group, head_dim).transpose(1, 2, 0, 3)
    scores = q.reshape(kv_heads, group * tokens, head_dim) @ k.swapaxes(1, 2)  # (kv_heads, group * tokens, all tokens)
    if tokens > 1:  # no token sees a later one
        later = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
        scores.reshape(kv_heads, group, tokens, -1)[..., -tokens:] += later
    attended = softmax(scores) @ v  # (kv_heads, group * tokens, head_dim)
    return attended.reshape(heads, tokens, head_dim).swapaxes(0, 1).reshape(tokens, -1)


class KVCache:
    """The keys and values of one sequence's tokens; `max_length` is the most tokens that it will have."""

    def __init__(self, sizes: Text, max_length: int) -> None:
        self.length, self.max_length = 0, max_length
        # Of each layer its keys [0] and values [1], with space for more: (2, kv_heads, at least `length`, head_dim).
        self._layers = [np.empty((2, sizes.kv_heads, 0, sizes.head_dim), np.float32) for _ in range(sizes.layers)]

    def extend(self, layer: int, keys: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Add the keys and values of new tokens, (tokens, kv_heads, head_dim), and return those of all tokens.

        They are (kv_heads, all tokens, head_dim). The caller adds to `length` when every layer has the new tokens.
        """
        end, old = self.length + len(keys), self._layers[layer]
        if end > old.shape[2]:  # make space for twice as many, so that they are seldom copied
            new = np.empty((*old.shape[:2], max(end, min(2 * end, self.max_length)), old.shape[3]), np.float32)
            new[:, :, : self.length] = old[:, :, : self.length]
            self._layers[layer] = new
        both = self._layers[layer][:, :, :end]  # (2, kv_heads, all tokens, head_dim)
        both[0, :, self.length :] = keys.swapaxes(0, 1)
        both[1, :, self.length :] = values.swapaxes(0, 1)
        return both[0], both[1]


class SmolVLM:
    """Turns tiles into embeddings, and embeddings into logits."""

    def __init__(self, source: Source) -> None:
        self.text, self.vision, self._weights = source.text, source.vision, source.weights()
        self._mean, self._deviation = np.array(source.mean, np.float32), np.array(source.deviation, np.float32)  # (3,)
        self.embeddings = self._weights.language["embed_tokens.weight"]  # (vocab_size, hidden)
        self._head = self._weights.language.get("lm_head.weight", self.embeddings)  # (vocab_size, hidden)
        exponents = np.arange(0, self.text.head_dim, 2) / self.text.head_dim  # (head_dim / 2,)
        self._speeds = np.tile(self.text.rope_theta**-exponents, 2)  # (head_dim,): radians a token, for each number

    def encode(self, tile: bytes, threads: int = 1, run: Callable[..., Iterable[Any]] = map) -> Floats:
        """Turn the RGB bytes of a tile into embeddings: (tokens of a tile, hidden size of the language model)."""
        sizes, w = self.vision, self._weights.vision
        patch, along = sizes.patch, sizes.image // sizes.patch  # patches along a side; what is left over is not seen
        pixels = np.frombuffer(tile, np.uint8).reshape(sizes.image, sizes.image, 3)[: along * patch, : along * patch]
        colors = (pixels / np.float32(255) - self._mean) / self._deviation  # (along * patch, along * patch, 3)
        squares = colors.reshape(along, patch, along, patch, 3).transpose(0, 2, 4, 1, 3)  # (row, column, color, y, x)
        patches = squares.reshape(along * along, 3 * patch * patch)  # (patches, 3 * patch * patch)
        x = patches @ w["embeddings.patch_embedding.weight"].reshape(sizes.hidden, -1).T  # (patches, hidden)
        x += w["embeddings.patch_embedding.bias"] + w["embeddings.position_embedding.weight"]
        parts = np.array_split(x, threads)  # (patches / threads, hidden) each; `run` is then the `map` of a pool
        for layer in self._weights.vision_layers:
            q, k, v = zip(*run(partial(self._queries_keys_values, layer), parts), strict=True)
            finish = partial(self._finish_layer, layer, np.concatenate(k), np.concatenate(v))
            parts = list(run(finish, q, parts))
        x = layer_norm(np.concatenate(parts), w, "post_layernorm", sizes.epsilon)
        scale = sizes.scale  # patches along a side that become one token
        x = x.reshape(along // scale, scale, along // scale, scale, sizes.hidden).swapaxes(1, 2)
        merged = x.reshape(-1, scale * scale * sizes.hidden)  # (tokens, scale * scale * hidden)
        return merged @ w["connector.modality_projection.proj.weight"].T  # (tokens, hidden of the language model)

    def _queries_keys_values(self, w: Layer, x: Floats) -> list[Floats]:
        """The first half of a layer for a part of the patches: (patches, hidden) each."""
        h = layer_norm(x, w, "layer_norm1", self.vision.epsilon)
        return [linear(h, w, f"self_attn.{name}_proj") for name in "qkv"]

    def _finish_layer(self, w: Layer, k: Floats, v: Floats, q: Floats, x: Floats) -> Floats:
        """The rest of it for the part `x`. Attention to all patches goes by head: the scores fit in the CPU's cache."""
        head_dim = self.vision.hidden // self.vision.heads
        q *= np.float32(head_dim**-0.5)
        attended = np.empty_like(x)
        for head in range(self.vision.heads):
            own = slice(head * head_dim, (head + 1) * head_dim)  # this head's part of the hidden size
            weights = softmax(q[:, own] @ k[:, own].T)  # (patches of x, all patches): how much each takes of which
            attended[:, own] = weights @ v[:, own]
        x = x + linear(attended, w, "self_attn.out_proj")
        inner = gelu(linear(layer_norm(x, w, "layer_norm2", self.vision.epsilon), w, "mlp.fc1"))
        return x + linear(inner, w, "mlp.fc2")  # (patches, feed_forward) becomes (patches, hidden)

    @np.errstate(over="ignore")
    def evaluate(self, x: Floats, caches: Sequence[KVCache]) -> Floats:
        """Continue each sequence by the same number of tokens, and return the logits after its last one.

        `x` has the embeddings of the new tokens: (rows, hidden). Each matrix is read from memory once for all rows, as
        reading takes longer than the product of a few rows; only attention goes by sequence. (sequences, vocab_size).
        """
        sizes, count = self.text, len(x) // len(caches)
        positions = np.concatenate([cache.length + np.arange(count) for cache in caches])  # (rows,)
        angles = positions[:, None, None] * self._speeds  # (rows, 1, head_dim)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        for number, w in enumerate(self._weights.language_layers):
            h = rms_norm(x, w["input_layernorm.weight"], sizes.rms_epsilon)  # (rows, hidden)
            q = rotate((h @ w["self_attn.q_proj.weight"].T).reshape(-1, sizes.heads, sizes.head_dim), cos, sin)
            k = rotate((h @ w["self_attn.k_proj.weight"].T).reshape(-1, sizes.kv_heads, sizes.head_dim), cos, sin)
            v = (h @ w["self_attn.v_proj.weight"].T).reshape(-1, sizes.kv_heads, sizes.head_dim)
            attended = np.empty((len(x), sizes.heads * sizes.head_dim), np.float32)  # (rows, heads * head_dim)
            for start, cache in zip(range(0, len(x), count), caches, strict=True):
                own = slice(start, start + count)  # this sequence's rows
                attended[own] = attend(q[own], *cache.extend(number, k[own], v[own]))
            x = x + attended @ w["self_attn.o_proj.weight"].T  # (rows, hidden)
            h = rms_norm(x, w["post_attention_layernorm.weight"], sizes.rms_epsilon)
            gate = h @ w["mlp.gate_proj.weight"].T  # (rows, feed_forward)
            inner = gate / (1 + np.exp(-gate)) * (h @ w["mlp.up_proj.weight"].T)  # SiLU; 0 where exp overflows
            x = x + inner @ w["mlp.down_proj.weight"].T  # (rows, hidden)
        for cache in caches:
            cache.length += count
        last = rms_norm(x[count - 1 :: count], self._weights.language["norm.weight"], sizes.rms_epsilon)
        return last @ self._head.T  # (sequences, hidden) becomes (sequences, vocab_size)


class NumPy:
    """A checkpoint or a GGUF pair on the CPU; up to --jobs sequences are decoded together."""

    name = "numpy"
    limits = staticmethod(read_limits)

    def __init__(self, files: ModelFiles, options: Model) -> None:
        """Load the model. Raises ModelError for damaged files."""
        source = open_source(files)
        tokenizer, self.stop_tokens = source.tokenizer()
        self.model = SmolVLM(source)
        text, self._threads = source.text, options.threads or usable_cores()
        self.context_length, self.max_sequences = text.positions, options.jobs or MAX_SEQUENCES
        self.prepare = PromptPreparer(
            source.layout, options.detail, partial(tokenize, tokenizer), self.context_length,
            turns_of(files, partial(has_token, tokenizer)),
        )  # fmt: skip
        self.detokenizer = make_detokenizer(tokenizer)
        self.grammar_tokenizer = lru_cache(partial(grammar_tokenizer, tokenizer, text.vocabulary, self.stop_tokens))
        self._embedding_cache = EmbeddingCache(self._encode, batch_size=self._threads)
        self.clear_cache = self._embedding_cache.clear
        self._pool = ThreadPoolExecutor(self._threads, "encoder")
        self._caches: dict[int, KVCache] = {}  # of the sequences that have a slot
        token_bytes = 2 * 4 * text.layers * text.kv_heads * text.head_dim  # a float32 key and value in each layer
        self._max_tokens = memory.available_bytes() // 4 // token_bytes  # of all caches: a quarter of memory
        self.device_summary = f"cpu, {describe_blas_threads(self._threads)}, float32"

    def fits(self, lengths: Sequence[int]) -> int:
        free = self._max_tokens - sum(cache.max_length for cache in self._caches.values())
        count = int(np.searchsorted(np.cumsum(lengths), free, side="right"))
        return count if self._caches else max(count, 1)

    def prefill(self, requests: Sequence[PrefillRequest], upcoming: Sequence[PreparedPrompt]) -> PrefillResult:
        started, embeddings = time.perf_counter(), self.model.embeddings
        later = (tile for prompt in upcoming for tile in prompt.tiles)  # may fill the last batch
        tiles = iter(self._embedding_cache.get([tile for r in requests for tile in r.prompt.tiles], later))
        encode_seconds = time.perf_counter() - started
        logits: dict[int, Logits] = {}
        caches: dict[int, KVCache] = {}
        set_blas_threads(self._threads, self.model.text.hidden)
        for request in requests:
            cache = caches[request.sequence] = KVCache(self.model.text, request.max_length)
            parts = [next(tiles) if isinstance(p, bytes) else embeddings[list(p)] for p in request.prompt.parts]
            x = np.concatenate(parts)  # (tokens, hidden)
            for start in range(0, len(x), CHUNK):
                [logits[request.sequence]] = self.model.evaluate(x[start : start + CHUNK], [cache])
        self._caches |= caches
        return PrefillResult(logits, encode_seconds)

    def decode(self, tokens: Mapping[int, int]) -> Mapping[int, Logits]:
        set_blas_threads(self._threads, self.model.text.hidden)
        x = self.model.embeddings[list(tokens.values())]  # (sequences, hidden)
        logits = self.model.evaluate(x, [self._caches[sequence] for sequence in tokens])
        return dict(zip(tokens, logits, strict=True))

    def release(self, sequence: int) -> None:
        self._caches.pop(sequence, None)

    def gpu_peak(self) -> int:
        return 0

    def close(self) -> None:
        self.__dict__.clear()  # may be called again

    def _encode(self, tiles: Sequence[bytes]) -> Iterable[Floats]:
        """Encode each tile in a thread, or one tile alone in all threads."""
        set_blas_threads(1, self.model.vision.hidden)  # with more, all but the matrix products would run on one core
        if len(tiles) == 1:
            return [self.model.encode(tiles[0], self._threads, self._pool.map)]
        return list(self._pool.map(self.model.encode, tiles))
