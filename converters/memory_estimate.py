"""What a GGUF pair takes of memory when llama.cpp runs it; docs/gguf.md compares it with what was measured."""

from __future__ import annotations

from .tensor_mapping import Text

PROCESS = 60_000_000  # bytes of Python, llama.cpp and a picture
CONTEXT = 2048  # tokens: a picture of the reference's 17 tiles, a question and an answer
BATCH = 512  # tokens evaluated at once
F16, F32 = 2, 4  # bytes: of a key or value, of an attention score


def run_memory(text: Text, files: int) -> int:
    """Bytes of resident memory of one process that answers about one picture; `files` are the bytes of both halves.

    Weights, keys and values of a context, and the attention scores of one layer and batch.
    """
    cache = CONTEXT * text.layers * 2 * text.kv_heads * text.head_dim * F16
    scores = BATCH * CONTEXT * text.heads * F32
    return PROCESS + files + cache + scores
