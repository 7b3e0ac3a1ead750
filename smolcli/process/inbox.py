"""What several threads and child processes put their messages into, for the one loop that handles them."""

from __future__ import annotations

from typing import Protocol, TypeVar

Message = TypeVar("Message", contravariant=True)


class Inbox(Protocol[Message]):
    """A queue that takes messages of one kind: a SimpleQueue, which may hold those of others too."""

    def put(self, item: Message, /) -> None:
        """Append a message. Called from several threads."""
        ...
