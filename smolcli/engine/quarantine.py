"""Who is to blame when the engine's child process ends: suspects are tried alone, and crashes in a row are counted.

The child runs native libraries on whatever files the user has. It may end before it is told to: it crashes, or exits,
or the kernel kills it for want of memory. Every input is answered all the same, except one with which it ends twice.

What happens when the child is killed:

1. Its progress cells (progress_cells.py) are in shared memory, which outlives it. They name what it was working on at
   that moment: items that were being opened, prompts that were being prepared, prompts in the model. These requests are
   the **suspects**. Any of them may have ended it, and maybe none has: the kernel also kills a process for the memory
   that another one took. What the child was sent and had not begun with is not suspected. A prompt that the scheduler
   has given to the model is in the model, also while it waits there for memory.
2. A new child is started. Nothing is lost, because client.py keeps every request until its answer was handled; nothing
   is answered twice, because what an earlier child has sent and nobody has read yet is ignored.
3. The suspects are **tried alone**, in the order of the items. The new child is sent the first suspect alone; if that
   is a prompt, first the opening of its item and then the prompt. When it is answered it is acquitted, and the next one
   is tried. After the last one all other requests are sent again, many at a time.
4. If the child ends while it works on the item that is tried, and on no other, the request on trial is **blamed**, or
   the item's opening if that was under way: its error says what ended the child. With a request that is blamed its item
   fails, but not with a page of a document: the others are read. A new child tries the suspects that are left, and then
   goes on as before. The kernel may have killed the second child too for the memory of another program; such a request
   is blamed wrongly.
5. If the child ends before it works on anything, or before it has loaded the model, that says nothing about the
   suspect, which is tried again. Such an end is **unexplained**.

client.py also kills a child in which a request takes too long, and asks `timed_out` instead of `child_exited`. An item
that takes too long to open is blamed at once: it is opened in a thread of its own. So is a prompt if no other prompt
was under way. Replies share the model's steps, so of several prompts any one may have held up the others: all prompts
become suspects, and the one that hangs again when it is tried alone is blamed.

The run ends when it is the engine that is broken, and not an input:

- CRASHES requests were blamed for the end of a child, and no prompt was answered between them. One that only took too
  long does not count, nor one that ended the child while a file was read, which opened an item or looked for what is on
  a page: that is the doing of the file, and while suspects are tried no prompt may be answered between several such
  requests.
- CRASHES ends of children were unexplained, and no prompt was answered between them. After the first of them nothing is
  sent before the model is loaded, so that an input cannot be what ends the loading.
- The engine has said itself that it cannot go on (a FunctionFailed message), whose error client.py raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from smolcli.engine.progress_cells import OPENING, RequestId

CRASHES = 3  # with no answer between them, end the run


@dataclass(frozen=True)
class RequestFails:
    """The request is to blame. A new child goes on with the others, unless this was one crash too many."""

    request: RequestId
    ends_run: bool = False


@dataclass(frozen=True)
class GoOn:
    """A new child goes on; the suspects, if there are any, are tried in it one by one."""


@dataclass(frozen=True)
class RunEnds:
    """Too many children have ended unexplained, so there is no request to blame."""


Verdict = RequestFails | GoOn | RunEnds


class Quarantine:
    """Decides which request has ended a child, which requests may be sent, and whether the run goes on.

    Items 4, 5 and 6 have a prompt each. The child was working on the prompts of 4 and 5 when it was killed; 6 waited.
    First item 4 is tried alone, and a child opens an item before it is asked about it:

    >>> first, second, third = RequestId(4, 0), RequestId(5, 0), RequestId(6, 0)
    >>> quarantine = Quarantine()
    >>> quarantine.child_exited([first, second], was_loaded=True)
    GoOn()
    >>> [quarantine.admits(request) for request in (RequestId(4, OPENING), first, second, third)]
    [True, True, False, False]

    It is answered, and so acquitted. Now item 5 is tried:

    >>> quarantine.request_done(first)
    True
    >>> [quarantine.admits(request) for request in (second, third)]
    [True, False]

    The child ends again while it works on item 5, which is to blame. There are no more suspects, so all are admitted.

    >>> quarantine.child_exited([second], was_loaded=True)
    RequestFails(request=RequestId(number=5, slot=0), ends_run=False)
    >>> quarantine.admits(third)
    True
    """

    def __init__(self) -> None:
        self._suspects: deque[RequestId] = deque()  # to be tried one by one; the first is being tried
        self._must_load_first = False  # whether nothing may be sent before the model is loaded
        self._crashes = 0  # blamed on prompts, since the last answer
        self._unexplained_ends = 0  # since the last answer

    @property
    def suspects(self) -> list[RequestId]:
        """The requests that are tried one by one, the one on trial first."""
        return list(self._suspects)

    def admits(self, request: RequestId, is_loaded: bool = True) -> bool:
        """Whether a request may be sent now, to a child that has loaded the model or not.

        While there are suspects only the first and its opening may.
        """
        if self._must_load_first and not is_loaded:
            return False
        if not self._suspects:
            return True
        suspect = self._suspects[0]
        return request in (suspect, RequestId(suspect.number, OPENING))

    def request_done(self, request: RequestId) -> bool:
        """Acquit the suspect that is being tried, if it is this one. Returns whether `admits` has changed."""
        if not self._suspects or self._suspects[0] != request:
            return False
        self._suspects.popleft()
        return True

    def release(self, number: int) -> bool:
        """Drop the suspects of an item that has its record. Returns whether `admits` has changed."""
        others = [suspect for suspect in self._suspects if suspect.number != number]
        has_changed = len(others) < len(self._suspects)
        self._suspects = deque(others)
        return has_changed

    def model_loaded(self) -> None:
        """Note that a child has loaded the model."""
        self._must_load_first = False

    def reply_succeeded(self) -> None:
        """Count from 0 again, since a prompt was answered: the engine works."""
        self._crashes = self._unexplained_ends = 0

    def child_exited(self, active: Collection[RequestId], was_loaded: bool, read_files: bool = False) -> Verdict:
        """Judge the end of a child that was working on `active` requests, and had loaded the model or not.

        `read_files` says that all it did was to read files.
        """
        if was_loaded and self._suspects and {request.number for request in active} == {self._suspects[0].number}:
            opening = next((request for request in active if request.is_opening), None)
            self._crashes += not read_files
            return self._blame(opening or self._suspects[0], ends_run=self._crashes >= CRASHES)
        if not was_loaded or not active:
            self._must_load_first = True
            self._unexplained_ends += 1
            if self._unexplained_ends >= CRASHES:
                return RunEnds()
        self._suspect(active)
        return GoOn()

    def timed_out(self, request: RequestId, prompts: Collection[RequestId]) -> Verdict:
        """Judge a request that took too long; `prompts` are all prompts that the child was working on, not openings."""
        if request.is_opening or set(prompts) == {request}:
            return self._blame(request)
        self._suspect(prompts)
        return GoOn()

    def _suspect(self, requests: Collection[RequestId]) -> None:
        """Have these requests tried one by one, with those that are suspects already, in the order of their items."""
        self._suspects = deque(sorted({*requests, *self._suspects}))

    def _blame(self, request: RequestId, ends_run: bool = False) -> RequestFails:
        self._suspects = deque(suspect for suspect in self._suspects if suspect != request)
        return RequestFails(request, ends_run)
