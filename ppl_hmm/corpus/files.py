"""Texts from plain text files."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Literal

from ppl_hmm.base.atomic import as_path
from ppl_hmm.corpus.units import Unit, check_unit, split
from ppl_hmm.errors import ForeignFile, one_of

Sentence = Literal["file", "paragraph", "line", "sentence"]

# Where one text ends and the next begins.
_ENDS: dict[str, re.Pattern[str] | None] = {
    "file": None,
    "paragraph": re.compile(r"\n\s*\n"),
    "line": re.compile(r"\n"),
    "sentence": re.compile(r"(?<=[.!?])\s+|\n\s*\n"),
}
_SPACE = re.compile(r"\s+")
# What no list of numbers has, and what it has between them.
_NO_NUMBERS = re.compile(r"[^\d\s,;-]")
_SEPARATED = {"char": re.compile(r"\d[,; \t]"), "word": re.compile(r"\d[,;]")}
_REMEDY = "check the path"

_log = logging.getLogger("ppl_hmm")


def read_text(
    path: str | Path, unit: Unit = "char", sentence: Sentence = "file", *, encoding: str = "utf-8"
) -> list[str]:
    """Read the texts of a plain text file; a run of white space becomes one space.

    Parameters
    ----------
    unit
        ``'char'`` or ``'word'``: of which the file must have at least two different ones.
    sentence
        What a text is: the whole ``'file'``, a ``'paragraph'`` (until a blank line), a ``'line'``, or a ``'sentence'``
        (until a full stop, question or exclamation mark, or a blank line). Empty ones are left out.
    encoding
        Of the file.

    Raises
    ------
    ForeignFile
        The file is missing, empty, binary, or in another encoding (at which byte); it has one token alone.
    InvalidInput
        An unknown unit, sentence or encoding.

    See Also
    --------
    Vocabulary : Numbers for the characters or words of the texts.

    Notes
    -----
    A warning is logged for a file of numbers with separators, which would not be the tokens themselves.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from ppl_hmm import read_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "corpus.txt")
    ...     _ = path.write_text("One day.  Another day!")
    ...     read_text(path), read_text(path, "word", "sentence")
    (['One day. Another day!'], ['One day.', 'Another day!'])
    """
    check_unit(unit)
    one_of("sentence", sentence, _ENDS)
    if not isinstance(encoding, str):
        raise ForeignFile("encoding", "one that Python knows", repr(encoding), "pass e.g. 'utf-8'")
    content = _decoded(as_path(path), encoding)
    if _SEPARATED[unit].search(content) and not _NO_NUMBERS.search(content):
        _log.warning(
            "file %s holds numbers, and each %s of them is read as a token of its own; if numbers are tokens, fit "
            "them: fit_em([[int(x) for x in line.replace(',', ' ').split()] for line in open(path)], n, seed=0)",
            *(path, unit),
        )
    end = _ENDS[sentence]
    parts = [_SPACE.sub(" ", part).strip() for part in ([content] if end is None else end.split(content))]
    texts = [part for part in parts if part]
    if not texts:
        raise ForeignFile(f"file {path}", "text", "an empty file", "choose a file with text")
    types = {token for text in texts for token in split(text, unit)}
    if len(types) < 2:
        got = f"only {', '.join(map(repr, types)) or 'none'}"
        raise ForeignFile(f"file {path}", f"at least two different {unit}s", got, "choose a longer text")
    return texts


def _decoded(path: Path, encoding: str) -> str:
    """Return the characters of a file, without the mark that some editors put first."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ForeignFile(f"file {path}", "a text file", reason, _REMEDY) from None
    try:
        text = content.decode(encoding)
    except LookupError:
        raise ForeignFile("encoding", "one that Python knows", repr(encoding), "pass e.g. 'utf-8'") from None
    except UnicodeDecodeError as error:
        if b"\0" in content:
            raise _binary(path, content) from None
        got = f"byte {content[error.start]:#04x} at {error.start}"
        raise ForeignFile(
            f"file {path}", f"text in {encoding}", got, "name its encoding, e.g. latin-1, or convert the file"
        ) from None
    if "\0" in text:
        raise _binary(path, content)
    return text.removeprefix("\ufeff")


def _binary(path: Path, content: bytes) -> ForeignFile:
    return ForeignFile(f"file {path}", "a text file", f"a binary one: byte 0x00 at {content.index(0)}", _REMEDY)
