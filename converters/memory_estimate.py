"""An estimate of the memory that llama.cpp needs for a pair of GGUF files; docs/gguf.md has measurements."""

from __future__ import annotations

from smolcli.models.tensor_mapping import Text

PROCESS_BYTES = 60_000_000  # Python, llama.cpp and a picture
CONTEXT = 2048  # tokens: a picture of the reference's 17 tiles, a question and an answer
BATCH = 512  # tokens evaluated at once
F16, F32 = 2, 4  # bytes of a key or value, of an attention score


def estimate_run_memory(text: Text, files: int) -> int:
    """Return the resident bytes of a process that answers about one picture; `files` is the bytes of both files.

    It counts the weights, keys and values of a context, and the attention scores of one layer and batch.
    """
    cache = CONTEXT * text.layers * 2 * text.kv_heads * text.head_dim * F16
    scores = BATCH * CONTEXT * text.heads * F32
    return PROCESS_BYTES + files + cache + scores
