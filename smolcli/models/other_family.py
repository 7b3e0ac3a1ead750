"""What holds, and what does not, for a GGUF pair that is not of smolcli's own family, from its headers."""

from __future__ import annotations

import math
from typing import Any

from smolcli import registry
from smolcli.errors import EngineError, ModelError
from smolcli.models import family
from smolcli.models.files import ModelFiles
from smolcli.models.gguf_header import read_header
from smolcli.process.child import call

RUNS_AS = "llama.cpp alone runs it, one answer at a time, with its own chat template; mtmd cuts its pictures"
NO_PROMISE = "nothing is promised about how near its answers are to those of its checkpoint"
DETAIL = (
    "--detail auto and high leave the size of pictures to llama.cpp, and a large one may be thousands of tokens; low "
    "is one tile, N at most N tiles along the longest edge"
)
NO_TEMPLATE = "it has no chat template: it is asked in plain text, as a model that was not trained on turns"
UNASKED = "whether llama.cpp knows its family shows where llama.cpp is installed"


def other_family_facts(files: ModelFiles, warnings: list[str]) -> dict[str, Any]:
    """Return facts of a pair for people, and add warnings; what is damaged is one."""
    assert files.gguf is not None and files.mmproj is not None
    try:
        kind = family.pair_family(files)
        language, vision = read_header(files.gguf), read_header(files.mmproj)
        side, tokens = family.picture_size(files.mmproj, vision.keys)
    except ModelError as error:
        warnings.append(error.what)
        return {}
    template = isinstance(language.keys.get(family.TEMPLATE_KEY), str)
    facts = {
        "family": f"{kind.architecture} with {kind.projector}",
        "runs_as": RUNS_AS,
        "context": language.keys.get(f"{kind.architecture}.context_length"),
        "tile": side,
        "tile_tokens": tokens,
        "chat_template": template,
        "parameters": sum(map(math.prod, [*language.shapes.values(), *vision.shapes.values()])),
    }
    warnings += [NO_PROMISE, DETAIL] + ([] if template else [NO_TEMPLATE])
    warnings += filter(None, [_unknown(kind)])
    return {key: value for key, value in facts.items() if value is not None}


def _unknown(kind: family.PairFamily) -> str:
    """What the installed llama.cpp does not know of a family, as a warning. It is asked in a child process."""
    entry = registry.ON_DEMAND["a model of another family"]
    if not registry.installed(entry):
        return UNASKED
    try:
        part: str = call(entry.target, kind.architecture, kind.projector)
    except EngineError as error:
        return error.what
    return f"it has {part}, which this llama.cpp does not know" if part else ""
