"""The scheduler: prompts to replies, the same for every backend.

A prompt is prepared in a thread (generation/prefetcher.py) and becomes a sequence (generation/sequence.py), which is
data: its prompt, its state, and the tokens chosen so far. The backend only computes (backends/base.py): it has
`max_sequences` slots, each for the evaluation of one sequence. One loop moves all sequences:

    admit      a prepared prompt becomes a sequence that is WAITING for a slot; there are no more of them than slots
    prefill    the waiting sequences that have memory are PREFILLING: the backend gives each a slot and evaluates their
               prompts together. Each gets its first token and is RUNNING. These two fill every free slot
    decode     one step: the backend evaluates the last token of every running sequence, and each gets its next one
    finish     a sequence that chose a stop token, has max_tokens or completes its object is FINISHED: its slot is
               freed. One that repeats itself frees its slot too, and is WAITING once more, with a penalty
    preempt    where memory is short, sequences free their slots and are WAITING; nothing of their replies is lost

What comes of it is a stream of pieces:

- `Piece.index` counts the prompts in the order in which they were taken. Pieces of several replies may interleave.
- The first piece of an index comes when work on its prompt begins, before its pictures are encoded, and is empty. The
  engine learns from it which input is being processed.
- The last piece of an index has `finish`. A prompt that cannot be answered ends in a piece whose finish has a fault;
  nothing is raised for one prompt, since that would end the others too.
- The iterable of prompts may yield None: no prompt is ready now. The sequences that there are go on, and the iterable
  is asked again. With no sequence at all, it must wait for a prompt instead: None then raises RuntimeError.
- A reply that repeats itself without end (generation/repetition.py) is stopped, and the prompt is tried once more with
  a penalty on the tokens that the second attempt has generated itself. Text that was yielded cannot be taken back, so
  `finish.text` is the whole reply; the pieces of the second attempt are empty, and the tokens and seconds of the finish
  are those of both. If both loop, the reply is the first one up to its loop, with the finish reason "repetition".
  A reply of a fixed length (`options.has_length`) is not stopped.

>>> from smolcli.backends.echo import Echo
>>> from smolcli.models.files import ModelFiles
>>> from smolcli.options import Model
>>> echo = Echo(ModelFiles("echo"), Model())
>>> for piece in generate(echo, [Prompt.user("What is on it?"), Prompt.user("How many?")], Generate(max_tokens=3)):
...     print((piece.index, piece.text, piece.finish and piece.finish.reason))
(0, '', None)
(0, 'What', None)
(0, ' is', None)
(0, ' on', None)
(0, '', 'length')
(1, '', None)
(1, 'How', None)
(1, ' many?', None)
(1, '', 'stop')
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from smolcli import registry
from smolcli.backends.base import Backend, Logits, PrefillResult, PreparedPrompt, Scores
from smolcli.errors import DeviceLostError, EngineError, ErrorKind
from smolcli.generation.faults import prompt_too_long, to_fault
from smolcli.generation.prefetcher import PendingPrompt, Prefetcher, Prepare
from smolcli.generation.sampler import AllowedTokens, LogitsFilter, MinTokens, RepetitionPenalty, Sampler
from smolcli.generation.sequence import Attempt, Sequence, State, share_prefill_seconds
from smolcli.options import Generate
from smolcli.types import Fault, Finish, Piece, Prompt, Seconds, Tokens

if TYPE_CHECKING:  # llguidance is loaded for a schema only
    from smolcli.generation.grammar import Grammar

# At most so many tiles are encoded for prompts that are prefilled together, unless a single prompt has more. A CPU may
# take seconds for each, and no reply goes on meanwhile: after --timeout (600 s) the engine's watch calls that a hang.
MAX_GROUP_TILES = 16
RETRY_PENALTY = 1.3  # for a reply that is tried again; the authors of CTRL (arXiv 1909.05858) use 1.2 for every text


def generate(
    backend: Backend,
    prompts: Iterable[Prompt | None],
    options: Generate,
    *,
    load_seconds: float = 0.0,
    prepare: Prepare | None = None,
) -> Iterator[Piece]:
    """Answer every prompt, by the rules above; see Scheduler for the arguments and what is raised."""
    return Scheduler(backend, options, load_seconds=load_seconds, prepare=prepare).run(prompts)


class Scheduler:
    """Answers prompts on one backend.

    `load_seconds`, what loading the model took, counts for the first reply. `prepare` gets the index of a prompt and
    the prompt, and is called in one of several threads; by default it is the backend's. What it raises is the fault of
    that reply alone. `options.schema` is JSON text from json_schema.canonicalize.

    `steps` is the number of decode steps so far, `rows` the sum of the sequences in each.

    Raises UsageError if the schema cannot be enforced, and UnavailableError if the library that enforces it is not
    installed.
    """

    def __init__(
        self, backend: Backend, options: Generate, *, load_seconds: float = 0.0, prepare: Prepare | None = None
    ) -> None:
        self._backend, self._options, self._load_seconds = backend, options, load_seconds
        self._prepare = prepare or (lambda _, prompt: backend.prepare(prompt))
        self._grammar: Grammar | None = None
        if options.schema is not None:
            grammar_class: type[Grammar] = registry.load(registry.ON_DEMAND, "--schema")
            if (tokenizer := backend.grammar_tokenizer()) is not None:  # echo has none
                self._grammar = grammar_class(tokenizer, options.schema)
        self._sequences: list[Sequence] = []  # in the order of their prompts, all but the finished ones
        # How many sequences may run together: fewer after memory was short, one more after each reply that has ended.
        self._most_running = backend.max_sequences
        self.steps = self.rows = 0

    def run(self, prompts: Iterable[Prompt | None]) -> Iterator[Piece]:
        """Answer every prompt. Raises what `prompts` raises, and DeviceLostError."""
        prefetcher = Prefetcher(prompts, self._prepare, limit=self._backend.max_sequences)
        try:
            while self._sequences or not prefetcher.is_exhausted:
                if len(self._running()) < self._backend.max_sequences:
                    yield from self._fill_slots(prefetcher)
                else:
                    prefetcher.fill()
                yield from self._decode()
                self._sequences = [sequence for sequence in self._sequences if sequence.state is not State.FINISHED]
        finally:
            for sequence in self._sequences:
                self._backend.release(sequence.index)
            prefetcher.close()

    def _fill_slots(self, prefetcher: Prefetcher) -> Iterator[Piece]:
        """Admit and prefill, group by group, until there is no free slot, or no prompt that is prepared and fits.

        A slot is filled once at most before the running sequences get their step: those that are finished count.
        """
        yield from self._admit(prefetcher)
        while fitting := self._fitting():
            yield from self._prefill_group(fitting, prefetcher.prepared())
            yield from self._admit(prefetcher)

    # ---- admit -----------------------------------------------------------------------------------------

    def _admit(self, prefetcher: Prefetcher) -> Iterator[Piece]:
        """Make sequences of prepared prompts while there are slots for them, and memory for all that wait.

        With no sequence at all, wait for the next prompt, and until it is prepared.
        """
        while len(self._sequences) < self._backend.max_sequences and len(self._fitting()) == len(self._waiting()):
            pending = prefetcher.take(wait=not self._sequences)
            if pending is None:
                break
            yield Piece(pending.index, "")
            yield from self._begin(pending)
        if self._sequences:  # the iterable may yield None
            prefetcher.fill()  # so that the next prompts are prepared while these are evaluated

    def _begin(self, pending: PendingPrompt) -> Iterator[Piece]:
        """Make a sequence of a prompt, or end its reply if it cannot be prepared or does not fit into the context."""
        load, self._load_seconds = self._load_seconds, 0.0
        try:
            prompt, media_seconds = pending.result()
        except Exception as error:
            yield Piece(pending.index, "", Finish("error", seconds=Seconds(load), fault=to_fault(error)))
            return
        seconds = Seconds(load, media_seconds)
        if prompt.length >= self._backend.context_length:
            tokens = Tokens(prompt.length, prompt.image_tokens)
            fault = prompt_too_long(prompt.length, self._backend.context_length)
            yield Piece(pending.index, "", Finish("error", tokens, seconds, fault))
            return
        self._sequences.append(Sequence(pending.index, prompt, self._new_attempt(prompt), seconds))

    def _new_attempt(self, prompt: PreparedPrompt, penalty: float | None = None) -> Attempt:
        options, stop_tokens = self._options, self._backend.stop_tokens
        grammar = None if self._grammar is None else self._grammar.start()
        filters: list[LogitsFilter] = []
        if penalty is not None:
            filters.append(RepetitionPenalty(penalty))
        if grammar is not None:
            filters.append(AllowedTokens(grammar))
        if options.min_tokens:
            filters.append(MinTokens(options.min_tokens, stop_tokens))
        max_tokens = min(options.max_tokens, self._backend.context_length - prompt.length)
        sampler, detokenize = Sampler(options, filters), self._backend.detokenizer()
        return Attempt(sampler, detokenize, stop_tokens, max_tokens, options.has_length, grammar)

    # ---- prefill ---------------------------------------------------------------------------------------

    def _waiting(self) -> list[Sequence]:
        return [sequence for sequence in self._sequences if sequence.state is State.WAITING]

    def _running(self) -> list[Sequence]:
        return [sequence for sequence in self._sequences if sequence.state is State.RUNNING]

    def _fitting(self) -> list[Sequence]:
        """The waiting sequences, from the first, that have memory beside the running ones and not too many tiles.

        There is at least one if no other is running, since `Backend.fits` says so.
        """
        waiting = self._waiting()
        if not waiting:
            return []
        fitting = waiting[: self._room_for(waiting)]
        totals = accumulate(len(sequence.prompt.tiles) for sequence in fitting)
        within_limit = [total <= MAX_GROUP_TILES for total in totals].count(True)
        return fitting[: max(1, within_limit)]

    def _room_for(self, sequences: list[Sequence]) -> int:
        """How many of these, the first, have memory beside the running ones."""
        below_limit = sequences[: max(0, self._most_running - len(self._running()))]
        lengths = [sequence.prefill_request.max_length for sequence in below_limit]
        return self._backend.fits(lengths) if lengths else 0

    def _prefill_group(self, group: list[Sequence], upcoming: list[PreparedPrompt]) -> Iterator[Piece]:
        """Prefill some sequences together, and choose their next tokens; tiles of `upcoming` may be encoded with them.

        If that fails, none of them has a slot. The halves of the group are then prefilled, without `upcoming`, and one
        that fails alone ends with a fault, or waits if memory is short and another sequence will free some. The failure
        may have emptied caches that made the group fit: `fits` is asked again.
        """
        for sequence in group:
            sequence.state = State.PREFILLING
        started = time.perf_counter()
        try:
            result = self._backend.prefill([sequence.prefill_request for sequence in group], upcoming)
        except DeviceLostError:
            raise
        except Exception as error:
            fault = to_fault(error)  # the error itself holds what was allocated in vain
        else:
            yield from self._advance(self._note_prefill(group, result, time.perf_counter() - started))
            return
        if len(group) == 1 and not upcoming:
            yield from self._prefill_failed(group[0], fault)
            return
        middle = (len(group) + 1) // 2
        for half in (group[:middle], group[middle:]):
            room = self._room_for(half)
            for sequence in half[room:]:
                sequence.state = State.WAITING
            if room:
                yield from self._prefill_group(half[:room], [])

    def _prefill_failed(self, sequence: Sequence, fault: Fault) -> Iterator[Piece]:
        """End a reply whose prompt cannot be prefilled alone, unless there may be memory for it later."""
        running = len(self._running())
        if fault.kind == ErrorKind.MEMORY and running:
            sequence.state, self._most_running = State.WAITING, running
        else:
            yield self._fail(sequence, fault)

    def _note_prefill(self, group: list[Sequence], result: PrefillResult, seconds: float) -> list[Choice]:
        """Choose the next tokens of a group that was prefilled in so many seconds."""
        choices = self._choose_tokens(group, result.logits)
        share_prefill_seconds(group, result.encode_seconds, seconds - result.encode_seconds)
        return choices

    # ---- decode ----------------------------------------------------------------------------------------

    def _decode(self) -> Iterator[Piece]:
        """Have the last token of every running sequence evaluated, and choose the next ones.

        They share the time in equal parts. If it fails, their caches may have the token or not: all of them fail. Where
        memory is short they are WAITING instead, and at most half as many go on together.
        """
        running = self._running()
        if not running:
            return
        started = time.perf_counter()
        try:
            logits = self._backend.decode({sequence.index: sequence.attempt.tokens[-1] for sequence in running})
        except DeviceLostError:
            raise
        except Exception as error:
            fault = to_fault(error)
            if fault.kind == ErrorKind.MEMORY and len(running) > 1:
                self._preempt(running)
            else:
                for sequence in running:
                    yield self._fail(sequence, fault)
            return
        self.steps += 1
        self.rows += len(running)
        choices = self._choose_tokens(running, logits)
        share = (time.perf_counter() - started) / len(running)
        for sequence in running:
            sequence.decode_seconds += share
        yield from self._advance(choices)

    def _preempt(self, running: list[Sequence]) -> None:
        """Free the slots of these sequences; they are prefilled again with the tokens that they have so far."""
        self._most_running = len(running) // 2
        for sequence in running:
            self._backend.release(sequence.index)
            sequence.state = State.WAITING

    # ---- a sequence goes on, is tried again, or is finished ----------------------------------------------

    def _choose_tokens(self, sequences: list[Sequence], logits: Mapping[int, Logits | Scores]) -> list[Choice]:
        """Choose the next token of each sequence; one that was lost, or whose grammar gives up, has an error."""
        choices = []
        for sequence in sequences:
            choice = Choice(sequence)
            try:
                if sequence.index not in logits:
                    raise EngineError("the reply was lost when others needed its place", "run it again with -j 1")
                choice.text = sequence.attempt.add_token(logits[sequence.index])
            except DeviceLostError:
                raise
            except Exception as error:
                choice.fault = to_fault(error)
            choices.append(choice)
        return choices

    def _advance(self, choices: list[Choice]) -> Iterator[Piece]:
        """Yield the text of each chosen token. Where an attempt has ended, begin a second one or end the reply.

        The pieces of a second attempt are empty: readers have seen the text of the first.
        """
        for choice in choices:
            sequence, attempt = choice.sequence, choice.sequence.attempt
            if choice.fault is not None:
                yield self._fail(sequence, choice.fault)
                continue
            sequence.state = State.RUNNING
            if choice.text:
                yield Piece(sequence.index, choice.text if sequence.looped is None else "")
            if attempt.reason is None:
                continue
            self._backend.release(sequence.index)
            if attempt.has_looped and sequence.looped is None:
                sequence.retry(self._new_attempt(sequence.prompt, RETRY_PENALTY))
            else:
                self._most_running += 1
                yield Piece(sequence.index, "", sequence.finish())

    def _fail(self, sequence: Sequence, fault: Fault) -> Piece:
        """Free the slot of a sequence and end its reply with a fault."""
        self._backend.release(sequence.index)
        return Piece(sequence.index, "", sequence.finish(fault))


@dataclass
class Choice:
    """What choosing the next token of a sequence gave: text, or a fault."""

    sequence: Sequence
    text: str = ""
    fault: Fault | None = None
