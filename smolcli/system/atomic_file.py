"""Write a file whole or not at all: into a part file in the same folder, which then takes the place of the target.

with atomic_write(Path("out.txt")) as file:
    file.write(b"text")

A target that is a symbolic link is itself replaced; pass its os.path.realpath to replace what it leads to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(
    target: Path, *, sync: bool = False, keep_mode: bool = False, mode: int = 0o666, unique: bool = False
) -> Iterator[BinaryIO]:
    """Open a part file; when the block ends it replaces `target`, on any exception, Ctrl-C included, it is removed.

    `sync` writes it to the disk before the rename, so that a power cut leaves the old file or the new one, not an
    empty one. `keep_mode` gives it the permissions of the target, which must exist; otherwise it gets `mode` less the
    umask. `unique` is for a target that several processes may write at once. Raises OSError.
    """
    part = PartFile(target, part_path(target, unique), mode)
    try:
        yield part.file
        if keep_mode:
            os.chmod(part.path, stat.S_IMODE(os.stat(target).st_mode))
        if sync:
            part.sync()
        part.commit()
    except BaseException:
        part.discard()
        raise


def part_path(target: Path, unique: bool = False) -> Path:
    """Return the path of a hidden file beside `target`, of a length that fits wherever the target's name does.

    Without `unique` it is always the same, so that the next run replaces what a killed run left.
    """
    ending = os.urandom(8).hex() if unique else hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.with_name(f".smolcli-{ending}")


class PartFile:
    """A file being written at `path` that will be renamed to `target`; whatever was at `path` before is removed.

    Ends with `commit` or `discard`. Each method but `discard` raises OSError.
    """

    def __init__(self, target: Path, path: Path, mode: int = 0o666) -> None:
        self.target, self.path = target, path
        path.unlink(missing_ok=True)
        # "x" never writes through a link that somebody has put there.
        self.file: BinaryIO = open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))

    def sync(self) -> None:
        """Write everything to the disk, also what another program has written at `path`."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def commit(self, overwrite: bool = True) -> None:
        """Close the file and rename it to its target; without `overwrite` raises FileExistsError if that exists."""
        self.file.close()
        if not overwrite:
            try:
                os.link(self.path, self.target)  # unlike a rename this fails if the target exists
                self.path.unlink()
                return
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                pass
        os.replace(self.path, self.target)

    def discard(self) -> None:
        """Close and remove the part file; does nothing after `commit`."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()
