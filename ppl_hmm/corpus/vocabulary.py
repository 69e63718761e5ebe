"""Numbers for the characters or words of text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import is_list
from ppl_hmm.base.labels import Names
from ppl_hmm.base.tokens import MASK, as_tokens
from ppl_hmm.corpus.units import Unit, as_texts, check_unit, join, split
from ppl_hmm.errors import InvalidInput, at_least

#: What stands for all that a vocabulary lacks, and for what is not observed.
UNKNOWN, MASKED = "<unknown>", "<mask>"


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The characters or words that tokens stand for.

    Parameters
    ----------
    tokens
        V different strings: token v stands for ``tokens[v]``. ``'<unknown>'`` is added last where it is missing.
    unit
        ``'char'`` or ``'word'``. Punctuation marks are words; an apostrophe inside a word belongs to it.
    lowercase
        Whether text is read in lower case.

    Raises
    ------
    InvalidInput
        No tokens, tokens that are no strings, two equal ones, an unknown unit.

    See Also
    --------
    read_text : Texts from files.
    save, load : A vocabulary as a file.
    HMM.assign_names : A model that carries a vocabulary's tokens as labels.

    Examples
    --------
    >>> from ppl_hmm import Vocabulary
    >>> vocabulary = Vocabulary.from_text("the cat sat on the mat", unit="word")
    >>> vocabulary.tokens
    ('the', 'cat', 'mat', 'on', 'sat', '<unknown>')
    >>> tokens, lengths = vocabulary.encode(["the cat sat", "a cat"])
    >>> tokens
    tensor([[ 0,  1,  4],
            [ 5,  1, -1]])
    >>> vocabulary.decode(tokens)
    ['the cat sat', '<unknown> cat']
    """

    tokens: tuple[str, ...]
    unit: Unit = "char"
    lowercase: bool = False

    def __post_init__(self) -> None:
        check_unit(self.unit)
        if not is_list(self.tokens) and not isinstance(self.tokens, np.ndarray):
            expected, remedy = "a list of strings", "of text, make one by Vocabulary.from_text(text)"
            raise InvalidInput("tokens of a Vocabulary", expected, foreign.described(self.tokens), remedy)
        tokens = tuple(str(token) if isinstance(token, str) else token for token in self.tokens)
        wrong = [token for token in tokens if not isinstance(token, str)]
        if wrong or not tokens:
            got = repr(wrong[0]) if wrong else "none"
            raise InvalidInput("tokens of a Vocabulary", "strings, at least one", got, "pass e.g. ('a', 'b')")
        twice = [token for token, count in Counter(tokens).items() if count > 1]
        if twice:
            raise InvalidInput("tokens of a Vocabulary", "different strings", f"{twice[0]!r} twice", "drop one of them")
        object.__setattr__(self, "tokens", tokens if UNKNOWN in tokens else (*tokens, UNKNOWN))

    @classmethod
    def from_text(
        cls,
        text: str | Iterable[str],
        unit: Unit = "char",
        max_size: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
    ) -> Vocabulary:
        """Return the vocabulary of a text, or of several: the most frequent first, equally frequent ones sorted.

        Parameters
        ----------
        max_size
            The largest V, ``'<unknown>'`` included; what is rarer is unknown. None takes all.
        min_count
            What occurs less often is unknown.

        Raises
        ------
        InvalidInput
            Text without a token, or whose every token is rarer than ``min_count``; sizes below two or counts below one.

        Examples
        --------
        >>> from ppl_hmm import Vocabulary
        >>> Vocabulary.from_text("abracadabra", max_size=3).tokens
        ('a', 'b', '<unknown>')
        """
        check_unit(unit)
        at_least("min_count", min_count, 1)
        if max_size is not None:
            at_least("max_size", max_size, 2)
        counts = Counter(part for each in as_texts(text) for part in split(_in_case(each, lowercase), unit))
        if not counts:
            raise InvalidInput("text of a Vocabulary", f"at least one {unit}", "none", "pass text that is not empty")
        counts.pop(UNKNOWN, None)
        frequent = [(-count, part) for part, count in counts.items() if count >= min_count]
        if not frequent:
            got = f"{max(counts.values(), default=0)} at most"
            raise InvalidInput(f"{unit}s of a Vocabulary", f"one that occurs {min_count} times", got, "lower min_count")
        kept = [part for _, part in sorted(frequent)]
        return cls(tuple(kept if max_size is None else kept[: max_size - 1]), unit, lowercase)

    def __len__(self) -> int:
        """V."""
        return len(self.tokens)

    @property
    def unknown(self) -> int:
        """The token of all that the vocabulary lacks."""
        return self.tokens.index(UNKNOWN)

    @property
    def names(self) -> Names:
        """The labels of dimension ``token``, as records have them: ``model.aligned_to(vocabulary)``."""
        return {schema.TOKEN: self.tokens}

    def encode(self, texts: str | Iterable[str]) -> tuple[Tensor, Tensor]:
        """Return the tokens (B,T) of texts, ``MASK`` past each end, and their lengths (B,); of a string, B = 1.

        What the vocabulary lacks becomes ``unknown``. Cost O(B·T).

        Raises
        ------
        InvalidInput
            No text, or texts without a token.
        """
        numbers = {token: number for number, token in enumerate(self.tokens)}
        rows = [
            [numbers.get(part, numbers[UNKNOWN]) for part in split(_in_case(text, self.lowercase), self.unit)]
            for text in as_texts(texts)
        ]
        lengths = torch.from_numpy(np.array([len(row) for row in rows], dtype=np.int64))
        longest = max(map(len, rows), default=0)
        if not longest:
            got = "no text" if not rows else "empty texts"
            raise InvalidInput("texts to encode", f"at least one {self.unit}", got, "pass text that is not empty")
        tokens = np.full((len(rows), longest), MASK)
        for filled, row in zip(tokens, rows, strict=True):
            filled[: len(row)] = row
        return torch.from_numpy(tokens), lengths

    def decode(self, tokens: Any) -> str | list[str]:
        """Return the text of tokens (T,), or of each row of tokens (B,T), or of a list of rows.

        ``MASK`` at the end of a text is left out, and inside one it is ``'<mask>'``.

        Raises
        ------
        InvalidInput
            As for the tokens of a model of as many tokens.
        """
        single = not len(tokens) or np.ndim(tokens[0]) == 0
        rows = as_tokens([tokens] if single else tokens, len(self)).cpu().numpy()
        texts = [self._text(row) for row in rows]
        return texts[0] if single else texts

    def _text(self, row: np.ndarray) -> str:
        observed = np.flatnonzero(row != MASK)
        row = row[: observed[-1] + 1 if len(observed) else 0]
        return join([MASKED if token == MASK else self.tokens[token] for token in row], self.unit)

    def to_dataset(self) -> xr.Dataset:
        """Return the tokens as labels of the dimension ``token``, with the unit."""
        return xr.Dataset(
            {"unit": ((), self.unit), "lowercase": ((), np.int8(self.lowercase))},
            coords={schema.TOKEN: list(self.tokens)},
            attrs={"kind": type(self).__name__},
        )

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Vocabulary:
        """Return the vocabulary of a dataset that ``to_dataset`` made.

        Raises
        ------
        InvalidInput
            A variable is missing; the labels or the unit are not those of a vocabulary.
        """
        for name in (schema.TOKEN, "unit"):
            if name not in dataset:
                found = ", ".join(map(str, dataset.variables)) or "none"
                raise InvalidInput(f"variable {name!r} of a Vocabulary", "variables token, unit", found, "add it")
        lowercase = bool(dataset["lowercase"].item()) if "lowercase" in dataset else False
        return cls(tuple(dataset[schema.TOKEN].values.tolist()), dataset["unit"].item(), lowercase)


def _in_case(text: str, lowercase: bool) -> str:
    return text.lower() if lowercase else text
