"""Split text into characters or words, and join them again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from ppl_hmm.base import foreign
from ppl_hmm.errors import InvalidInput, one_of

Unit = Literal["char", "word"]

# Letters and digits with apostrophes inside; any other mark that is no white space is a word of its own.
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_JOINED_BY: dict[str, str] = {"char": "", "word": " "}


def check_unit(unit: str) -> None:
    """Raise :class:`~ppl_hmm.errors.InvalidInput` unless the unit is ``'char'`` or ``'word'``."""
    one_of("unit", unit, _JOINED_BY)


def as_texts(texts: str | Iterable[str]) -> Sequence[str]:
    """Return one text, or several, as a list of strings.

    Raises
    ------
    InvalidInput
        Anything else.
    """
    if isinstance(texts, str):
        return [texts]
    expected, remedy = "a string, or a list of strings", "read files by read_text(path)"
    if not isinstance(texts, Iterable) or isinstance(texts, (bytes, Mapping)):
        raise InvalidInput("text", expected, foreign.described(texts), remedy)
    each = list(texts)
    wrong = [text for text in each if not isinstance(text, str)]
    if wrong:
        raise InvalidInput("text", expected, f"a list with {foreign.described(wrong[0])}", remedy)
    return each


def split(text: str, unit: Unit) -> list[str]:
    """Return the characters of a text, white space included, or its words, punctuation included."""
    return list(text) if unit == "char" else _WORD.findall(text)


def join(parts: list[str], unit: Unit) -> str:
    """Return characters in a row, or words with spaces between them."""
    return _JOINED_BY[unit].join(parts)
