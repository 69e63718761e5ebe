"""Which state a task asks of, what of the text is given, and where the mask stands that a head reads.

    position  given      labels come from    the mask
    None      'text'     P(H₀|x)             stands in front of the text
    t         'text'     P(H_t|x)            hides x_t, and the head sees x_t as well
    t         'context'  P(H_t|x_{-t})       hides x_t
    t         'prefix'   P(H_t|x up to t)    stands after x_t, and the text ends there

Position 0 is the first token as passed, and −1 the last token of each text: the last one that is not ``MASK``. The
state at position t is the one that emits the token there.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ppl_hmm.base.tokens import MASK, ends
from ppl_hmm.errors import InvalidInput, at_least, one_of

#: What of the text is given to the law that labels come from.
Given = Literal["text", "context", "prefix"]
#: Bytes of features, at most, that heads read which see the token: (V+1)·V numbers a text.
FEATURES_LIMIT = 2_000_000_000
_LARGEST = torch.iinfo(torch.int64).max
_KNOWN = {"text": "the text", "context": "the text without the token there", "prefix": "the text up to it"}


@dataclasses.dataclass(frozen=True)
class Place:
    """A state of a text, and what of the text is given.

    Parameters
    ----------
    position
        None for the silent H₀; t ≥ 0 counted from the front, t < 0 from the end of each text.
    given
        ``'text'``, ``'context'`` (all tokens but the one there) or ``'prefix'`` (the tokens up to it).

    Raises
    ------
    InvalidInput
        A position that is no integer, an unknown ``given``, one of H₀ that is not ``'text'``.
    """

    position: int | None = None
    given: Given = "text"

    def __post_init__(self) -> None:
        one_of("value of 'given'", self.given, _KNOWN)
        if self.position is None:
            if self.given != "text":
                raise InvalidInput(
                    f"given={self.given!r} without a position",
                    "a position that it is about",
                    "position=None, the silent H₀",
                    "pass e.g. position=-1",
                )
            return
        try:
            if isinstance(self.position, bool):
                raise TypeError
            if not -_LARGEST <= operator.index(self.position) <= _LARGEST:
                raise InvalidInput("position", "an integer within 64 bits", str(self.position), "pass e.g. position=-1")
            object.__setattr__(self, "position", operator.index(self.position))
        except TypeError:
            raise InvalidInput(
                "position", "an integer, or None for the silent H₀", repr(self.position), "pass e.g. position=-1"
            ) from None

    def __str__(self) -> str:
        """Return the law in words."""
        if self.position is None:
            return "the silent state H₀ given the text"
        return f"the state at position {self.position} given {_KNOWN[self.given]}"

    @property
    def sees_token(self) -> bool:
        """Whether a head also sees the token that its mask hides."""
        return self.position is not None and self.given == "text"

    def within(self, length: int) -> bool:
        """Say whether texts of so many tokens have this state."""
        return self.position is None or -length <= self.position < length

    def columns(self, tokens: Tensor) -> Tensor:
        """Return the column (…,B) of the state in checked tokens (…,B,T).

        Raises
        ------
        InvalidInput
            H₀, which has none; a text without such a position.
        """
        if self.position is None:
            raise InvalidInput("column of H₀", "a state that emits a token", "the silent H₀", "pass a position")
        n_columns = tokens.shape[-1]
        if self.position >= 0:
            if self.position >= n_columns:
                raise InvalidInput(
                    "position", f"one in {-n_columns}..{n_columns - 1}", str(self.position), "pass longer texts"
                )
            return torch.full(tokens.shape[:-1], self.position, device=tokens.device)
        n_tokens = ends(tokens)
        short = n_tokens < -self.position
        if short.any():
            where = short.nonzero()[0].tolist()
            raise InvalidInput(
                f"position {self.position} of sequence {where[-1]}",
                f"a text of at least {-self.position} tokens",
                str(int(n_tokens[tuple(where)])),
                "leave the sequence out, or count from the front",
            )
        return n_tokens + self.position

    def known(self, tokens: Tensor) -> Tensor:
        """Return checked tokens (…,B,T) with ``MASK`` where they are not given."""
        if self.given == "text":
            return tokens
        own = self.columns(tokens)[..., None]
        if self.given == "context":
            return tokens.scatter(-1, own, MASK)
        return torch.where(torch.arange(tokens.shape[-1], device=tokens.device) > own, MASK, tokens)

    def masks(self, n_masks: int) -> int:
        """Return how many masks a head may read: several in front of the text, or after what is given of it.

        Raises
        ------
        InvalidInput
            Fewer than one; several that would have to hide tokens.
        """
        n_masks = at_least("n_masks", n_masks, 1)
        if n_masks > 1 and self.position is not None and self.given != "prefix":
            remedy = "ask of H₀, whose masks stand in front of the text, or pass given='prefix': they stand after it"
            raise InvalidInput("n_masks", f"1 for {self}", str(n_masks), remedy)
        return n_masks

    def probe(self, tokens: Tensor, n_masks: int = 1) -> Probe:
        """Return checked tokens (…,B,T) with the mask, or the masks, that a head reads.

        Raises
        ------
        InvalidInput
            Masks that :meth:`masks` refuses.
        """
        numbers = torch.arange(self.masks(n_masks), device=tokens.device).repeat(*tokens.shape[:-1], 1)
        masks = torch.full_like(numbers, MASK)
        if self.position is None:
            return Probe(torch.cat([masks, tokens], dim=-1), numbers)
        columns = self.columns(tokens)
        if self.given == "prefix":
            return Probe(torch.cat([self.known(tokens), masks], dim=-1), columns[..., None] + 1 + numbers)
        own = columns[..., None]
        hidden = tokens.gather(-1, own)[..., 0] if self.sees_token else None
        return Probe(tokens.scatter(-1, own, MASK), own, hidden)


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """Text with the J masks that a head reads.

    Attributes
    ----------
    inputs
        (…,B,S): the text as a language model reads it, the mask in it.
    columns
        (…,B,J): where the masks stand.
    hidden
        (…,B): the token that the one mask hides, where the head sees it; else None.
    """

    inputs: Tensor
    columns: Tensor
    hidden: Tensor | None = None

    def features(self, conditionals: Callable[[list[int]], Tensor]) -> Tensor:
        """Return what a head reads (…,B,J·V), mask by mask, or (…,B,(V+1)·V) where it sees the hidden token.

        ``conditionals`` returns G (…,B,n,V) of ``inputs`` at n positions. A head that sees the token x reads G in the
        x-th of V+1 blocks of V entries, the last one for ``MASK``; the others are zero. So its weights depend on x.

        Raises
        ------
        InvalidInput
            Features of more than :data:`FEATURES_LIMIT` bytes, where a head sees the hidden token.
        """
        different = self.columns.unique()
        found = conditionals(different.tolist())
        read = at_columns(found, torch.searchsorted(different, self.columns)).flatten(-2)
        return read if self.hidden is None else in_block_of(self.hidden.to(read.device), read)


def at_columns(values: Tensor, columns: Tensor) -> Tensor:
    """Return values (P…,B,T,n) at J columns (…,B,J) of each text: (P…,B,J,n)."""
    chosen = columns.to(values.device).expand(*values.shape[:-2], -1)
    return torch.take_along_dim(values, chosen[..., None], dim=-2)


def in_block_of(tokens: Tensor, conditionals: Tensor) -> Tensor:
    """Return G (…,B,V) in the block of each token (…,B), the last for ``MASK``, among zeros: (…,B,(V+1)·V).

    Raises
    ------
    InvalidInput
        More than :data:`FEATURES_LIMIT` bytes.
    """
    n_tokens = conditionals.shape[-1]
    n_bytes = conditionals.numel() * (n_tokens + 1) * conditionals.element_size()
    if n_bytes > FEATURES_LIMIT:
        n_rows = conditionals[..., 0].numel()
        raise InvalidInput(
            "features of a head that sees the token at its mask (given='text')",
            f"at most {FEATURES_LIMIT / 1e9:g} GB",
            f"{n_bytes / 1e9:.3g} GB: {n_rows} texts of (V+1)·V = {n_tokens + 1}·{n_tokens} numbers",
            "pass given='context', where a head reads V numbers of each text, or fewer texts",
        )
    block = torch.nn.functional.one_hot(torch.where(tokens == MASK, n_tokens, tokens), n_tokens + 1)
    return (block[..., None] * conditionals[..., None, :]).flatten(-2)
