"""Write files and directories whole or not at all: aside first, then renamed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ppl_hmm.errors import ForeignFile, InvalidInput

_PART = ".part"
_ATTEMPTS, _SECONDS_BETWEEN = 20, 0.01  # of removing what is still written to


def as_path(path: object, what: str = "file") -> Path:
    """Return a path; raise :class:`InvalidInput` for what is none, or can be none of a file."""
    try:
        found = Path(path)  # type: ignore[arg-type]
        if b"\0" in os.fsencode(found):
            raise ValueError
    except TypeError:
        raise InvalidInput(f"path of a {what}", "a string or a Path", type(path).__name__, "pass the path") from None
    except ValueError:  # also of characters that the file system cannot encode
        expected, got = "characters that file names can have", ascii(str(path))
        raise InvalidInput(f"path of a {what}", expected, got, "choose another path") from None
    return found


def write_bytes(
    content: bytes | memoryview, path: str | Path, what: str = "file", remedy: str = "choose another path"
) -> None:
    """Write a file that takes the place of an old one when it is complete and on the disk.

    A symbolic link keeps pointing where it did, and an old file's permissions are kept.

    Raises
    ------
    ForeignFile
        The place cannot be written: no such directory, no permission, a full disk, something that is no file. What was
        there is unchanged.
    """
    target = Path(os.path.realpath(as_path(path, what)))
    with written_aside(path, what, remedy) as aside:
        if target.exists() and not target.is_file():  # a device, too, must not be renamed over
            raise OSError("something that is no file is there")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError("the file there is read-only")
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, aside)


@contextmanager
def written_aside(path: str | Path, what: str, remedy: str = "choose another path") -> Iterator[Path]:
    """Yield a new path beside ``path``; the file or directory written there is renamed to ``path`` at the end.

    After any error nothing is left of it, and what was at ``path`` is unchanged. A directory replaces nothing but an
    empty one.

    Raises
    ------
    ForeignFile
        Any ``OSError`` in between.
    """
    target = Path(os.path.realpath(as_path(path, what)))
    aside = target.with_name(f".{uuid4().hex}{_PART}")
    try:
        yield aside
        aside.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ForeignFile(f"{what} {path}", "a place that can be written", reason, remedy) from None
    finally:
        remove(aside)


def is_part(path: Path) -> bool:
    """Say whether a path is what a write leaves that was killed."""
    return path.name.startswith(".") and path.name.endswith(_PART)


def remove(path: Path) -> None:
    """Remove a file or a directory, whether it is there or not.

    Zarr writes in threads: after one has failed, others may still add files for a moment.
    """
    for _ in range(_ATTEMPTS):
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink(missing_ok=True)
        if not os.path.lexists(path):
            return
        time.sleep(_SECONDS_BETWEEN)


def create(content: bytes, path: Path) -> None:
    """Write a file unless there is one: of several writers the first wins, and nobody sees half of it.

    Raises
    ------
    OSError
        The place cannot be written.
    """
    aside = path.with_name(f".{uuid4().hex}{_PART}")
    try:
        aside.write_bytes(content)
        try:
            os.link(aside, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            aside.replace(path)
    finally:
        remove(aside)
