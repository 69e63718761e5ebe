"""What follows a text at its end: the tokens of a template, or soft likelihood rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.tokens import MASK, as_text_with_ends
from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.exact import mixture
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.inference.rows import LikelihoodRows, prompt_table, require_kind
from ppl_hmm.models import SoftPrompt
from ppl_hmm.models.kinds import Model, Prompt, Text

Suffix = Text | Prompt


def template_tokens(what: str, suffix: Suffix, vocabulary_size: int) -> Tensor | None:
    """Return the checked tokens (S,) of a suffix with one dimension; None for soft rows, which have more.

    Raises
    ------
    InvalidInput
        Not integers, none, a token outside the vocabulary (which).
    """
    if isinstance(suffix, SoftPrompt):
        return None
    tokens = as_tensor(suffix, what=what, missing=MASK)  # type: ignore[arg-type]
    if tokens.ndim == 0 or not tokens.numel():
        got = "none" if tokens.ndim else "a single number"
        raise InvalidInput(what, "at least one token, in a list", got, f"pass e.g. {what}=[0], or None for nothing")
    if tokens.is_floating_point() and tokens.ndim > 1:
        return None
    if tokens.ndim > 1 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise InvalidInput(
            what,
            "integers (S,), one template for all texts, or rows of likelihoods as floats",
            f"shape {tuple(tokens.shape)} of {tokens.dtype}",
            f"pass e.g. {what}=[0, 1], or {what}=[[1.0, 0.5]] for a soft token of two states",
        )
    outside = (tokens < MASK) | (tokens >= vocabulary_size)
    if outside.any():
        where = int(outside.nonzero()[0])
        expected = f"an id in 0..{vocabulary_size - 1}, or {MASK} (MASK)"
        raise InvalidInput(f"token {where} of {what}", expected, str(int(tokens[where])), "check the vocabulary")
    return tokens.long()


class ReadText(NamedTuple):
    """A checked text of T ≥ 0 tokens as rows, and where each sequence ends."""

    rows: LikelihoodRows
    length: int
    ends: Tensor  # (P,B)

    @classmethod
    def of(cls, model: Model, tokens: Text, prompt: Prompt | None, lengths: Text | None) -> ReadText:
        """Return the rows of text (B,T), or (P…,B,T), after a prompt; errors as those of likelihood rows."""
        require_kind("model", model)
        options = {"lengths": lengths, "batch_shape": model.batch_shape, "device": model.device}
        text, ends = as_text_with_ends(tokens, model.vocabulary_size, **options)
        length = text.shape[-1]
        # Kernels read at least one row: a mask after the text, which changes nothing before it.
        rows = LikelihoodRows.of(model, text if length else pad(text, (0, 1), value=MASK), prompt)
        return cls(rows, length, ends.expand(*model.batch_shape, -1).reshape(-1, text.shape[-2]))

    @property
    def prefixes(self) -> range:
        """Row number of the last token of each prefix x_1..x_t, t = 0..T; −1 for no token at all."""
        return range(self.rows.n_prompt - 1, self.rows.n_prompt + self.length)

    def followed_by(self, model: Model, suffix: Suffix | None) -> Continued:
        """Return the text with a suffix: tokens (S,), or rows (S,K), (S,m,K) with a memory, or (P…,S,…).

        Raises
        ------
        InvalidInput
            A suffix that fits neither the vocabulary nor the model.
        """
        text, start = self.rows.text, self.rows.n_prompt + self.ends
        if suffix is None:
            return Continued(self, text, start - 1)
        tokens, mask = template_tokens("suffix", suffix, model.vocabulary_size), model.vocabulary_size
        table = text.table
        if tokens is None:
            soft = prompt_table(model, suffix, "suffix")
            soft = soft.reshape(-1, *soft.shape[-3:])
            new = table.shape[-2] + torch.arange(soft.shape[-2], device=model.device)
            table = torch.cat([table, soft], dim=-2)
        else:
            new = torch.where(tokens < 0, mask, tokens).to(model.device)
        ids = pad(text.ids, (0, len(new)), value=mask)
        place = torch.arange(ids.shape[-1], device=ids.device) - start[..., None]
        ids = torch.where(place < 0, ids, torch.where(place < len(new), new[place.clamp(0, len(new) - 1)], mask))
        whole = MemoryText(text.memory_prior, text.cell_of_state, text.initial, text.transition, table, ids)
        return Continued(self, whole, start + len(new) - 1)


class Continued(NamedTuple):
    """A text with what follows it."""

    before: ReadText
    text: MemoryText
    last: Tensor  # (P,B): the number of the last row, −1 where there is none

    def require_possible(self, possible: Tensor) -> None:
        """Raise :class:`ImpossibleText`, naming the first impossible token, unless all (P,B) are possible."""
        if possible.all():
            return
        model, sequence = (~possible).nonzero()[0].tolist()
        rows = self.before.rows
        first = mixture.first_impossible(self.text.of_one(model, sequence)) - rows.n_prompt
        within = first - int(self.before.ends[model, sequence])
        where = f"position {first}" if within < 0 else f"token {within} of the suffix"
        raise ImpossibleText(
            f"{rows.name_of(model, sequence)} is impossible from {where if first >= 0 else 'the prompt'} on",
            "text and suffix of positive probability",
            "probability 0",
            "drop the sequence, change the suffix, or pass impossible='mask'",
        )
