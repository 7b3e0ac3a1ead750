"""How long earlier answers of a model took, by the records of a results file: the base of what --dry-run expects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from smolcli.records.record_id import Identity


@dataclass(frozen=True)
class Pace:
    """Mean seconds of `records` records: `image_token` to take in a token of a picture, `answer` to write the answer.

    The first ones are those of opening the input, encoding and prefill, the second ones those of decoding.
    """

    records: int
    image_token: float
    answer: float

    def seconds(self, image_tokens: int) -> float:
        """The seconds that an input is expected to take whose pictures have so many tokens."""
        return self.image_token * image_tokens + self.answer


def pace_of(path: Path, identity: Identity) -> Pace | None:
    """The pace of the records in a JSON Lines file that have the task, model and backend of `identity`.

    Failed records do not count, nor copies of others' answers, which took no time. None if no record is left, or if
    the file is none of records.
    """
    count = image_tokens = 0
    before_answer = answer = 0.0
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n") or not line.strip(b"\0\r\n"):  # torn by the end of a run, or by a power cut
                    continue
                fields = json.loads(line)
                is_alike = (fields["task"], fields["model"], fields["backend"]) == _job_of(identity)
                seconds, tokens = fields["seconds"], fields["tokens"]
                if is_alike and fields["error"] is None and seconds["prefill"] + seconds["decode"] > 0:
                    count += 1
                    image_tokens += tokens["image"]
                    before_answer += seconds["media"] + seconds["encode"] + seconds["prefill"]
                    answer += seconds["decode"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not image_tokens:
        return None
    return Pace(count, before_answer / image_tokens, answer / count)


def _job_of(identity: Identity) -> tuple[str, str, str]:
    return identity.task, identity.model, identity.backend
