"""The topics of `smolcli help`: exit-codes, environment and fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from smolcli.cli.help import Page, Row
from smolcli.errors import ErrorKind, Exit


class Variable(NamedTuple):
    """An environment variable: what it does. A secret one is never shown."""

    name: str
    about: str
    is_secret: bool = False


ENVIRONMENT = (
    Variable(
        "SMOLCLI_MODEL",
        "The model, where -m is not given. Every option has such a variable: SMOLCLI_MAX_TOKENS; "
        "SMOLCLI_CAPTION_STYLE for one command. `smolcli config show --all --json` lists them.",
    ),
    Variable("SMOLCLI_NO_CONFIG", "1: ignore config.toml, as --no-config does."),
    Variable("HF_HOME", "Folder of the Hugging Face cache, which holds the models. [default: ~/.cache/huggingface]"),
    Variable("HF_HUB_CACHE", "Folder of the models alone. [default: $HF_HOME/hub]"),
    Variable("HUGGINGFACE_HUB_CACHE", "The same, by its old name."),
    Variable("HF_ENDPOINT", "Address of the hub to download models from. [default: https://huggingface.co]"),
    Variable("HF_TOKEN", "Token for models that need a login.", is_secret=True),
    Variable("HF_HUB_OFFLINE", "1: download no model."),
    Variable("TRANSFORMERS_OFFLINE", "1: the same."),
    Variable("HTTP_PROXY", "Proxy for http URLs.", is_secret=True),
    Variable("HTTPS_PROXY", "Proxy for https URLs and for models.", is_secret=True),
    Variable("ALL_PROXY", "Proxy for both, where they have none of their own.", is_secret=True),
    Variable("NO_PROXY", "Hosts to reach without a proxy.", is_secret=True),
    Variable("SSL_CERT_FILE", "File of the certificates that https is checked with. [default: the system's]"),
    Variable("SSL_CERT_DIR", "Folder of such certificates."),
    Variable("XDG_CONFIG_HOME", "Folder of smolcli/config.toml. [default: ~/.config]"),
    Variable("XDG_CACHE_HOME", "Folder of what smolcli keeps between runs. [default: ~/.cache]"),
    Variable("TMPDIR", "Folder of temporary files, for conversions, benchmarks and Ray. [default: /tmp]"),
    Variable("CUDA_VISIBLE_DEVICES", "The GPUs that PyTorch may use; empty: no GPU."),
    Variable("OMP_NUM_THREADS", "Threads of the numerical libraries; --threads sets those of the model."),
    Variable("OMP_WAIT_POLICY", "How idle threads wait: passive or active. [default: passive, after a moment]"),
    Variable("GOMP_SPINCOUNT", "How long idle threads of GCC's OpenMP spin before they sleep. [default: 1000]"),
    Variable("LLAMA_CPP_LIB_PATH", "Folder of llama.cpp's libraries. [default: that of llama-cpp-python]"),
    Variable("MTMD_CPP_LIB", "Folder of its library mtmd. [default: that of llama-cpp-python]"),
    Variable("RAY_ADDRESS", "The Ray cluster, with --engine ray --address auto."),
)
TERMINAL_VARIABLES = (
    Variable("NO_COLOR", "Any value: no colour in help and on the terminal."),
    Variable("FORCE_COLOR", "Any value: colour in help where it is not written to a terminal too."),
    Variable("COLUMNS", "Width of help and tables. [default: the terminal's]"),
    Variable("PAGER", "Program that shows `smolcli help` on a terminal. [default: less]"),
)

RECORD_FIELDS = {
    "path": "The input as it was named; - is standard input.",
    "id": "SHA-256 over the input's content, the task, the model, the backend and the options that change answers: "
    "what --resume compares.",
    "sha256": "SHA-256 of the input's content; empty where it could not be read.",
    "stamp": "Size and times of the file when it was read.",
    "task": "The command: caption, ask, ocr or video-summarize.",
    "text": "The answer.",
    "data": "The answer as JSON, with --schema, --also, --style tags and for videos; else null.",
    "model": "The model's name.",
    "backend": "What ran the model.",
    "finish_reason": "stop (the model ended), length (--max-tokens), repetition (a loop was cut) or error.",
    "tokens": "Numbers of tokens: prompt (all before the answer), image (those of them that are pictures), new.",
    "seconds": "Seconds in each stage: load, media (opening and cutting), encode, prefill, decode.",
    "notices": "What to know about the answer, as that a file was cut short; mostly empty.",
    "memory": "Largest memory so far in the run, in bytes: parent and engine (the two processes) and gpu.",
    "error": "null, or why there is no answer: kind (a word for scripts) and message.",
    "blank": "Whether ocr found no text in the input; the text is empty then.",
    "embedded": "Whether --write-metadata wrote into the input, which has another SHA-256 since.",
    "paths": "With --together the inputs in order, else null.",
    "confidence": "How sure the model was, from 0 to 1: the geometric mean of its tokens' probabilities; else null.",
    "page": "With --split-pages the number of the page, from 1; else null.",
    "is_last_page": "Whether it is the record of a document's last page: then all are there.",
}


def exit_codes(page: Page) -> None:
    """Add the exit codes and the kinds of error to `page`."""
    page.paragraph(
        "Exit codes of every command. Scripts may rely on them; take a code that is not listed as a failure."
    )
    page.table("Exit codes", [Row(str(int(code)), _sentence(code.meaning)) for code in Exit])
    page.paragraph(
        "Errors are one line on standard error, `smolcli: PATH: what is wrong; what to do`, and two on a terminal: "
        "`error: PATH: what is wrong`, `hint: what to do`. A failed input does not end a run of many; it becomes a "
        "record with `error`, whose `kind` is one of these."
    )
    page.table("Kinds of error", [Row(kind.value, _sentence(kind.meaning)) for kind in ErrorKind])


def environment(page: Page) -> None:
    """Add the environment variables to `page`."""
    page.paragraph("Environment variables that smolcli and its libraries read. Options of the command line win.")
    page.table("Settings", [Row(variable.name, variable.about) for variable in ENVIRONMENT])
    page.table("For help and the terminal", [Row(variable.name, variable.about) for variable in TERMINAL_VARIABLES])


def fields(page: Page) -> None:
    """Add the fields of a record to `page`."""
    page.paragraph(
        "A record is the result of one input: one JSON object a line with -f jsonl. Fields are only ever added. "
        "CSV and TSV have a column for each of these, and for each part, as tokens.new."
    )
    page.table("Fields", [Row(name, text) for name, text in RECORD_FIELDS.items()])


def _sentence(meaning: str) -> str:
    return f"{meaning[0].upper()}{meaning[1:]}."


TOPICS: dict[str, Callable[[Page], None]] = {"exit-codes": exit_codes, "environment": environment, "fields": fields}
