"""From a model, a text and a prompt to the arrays of exact inference: everything is a likelihood row.

Rows 0..V−1 of the table are the columns of W, row V is the mask's row of ones, rows V+1.. are the prompt's tokens. A
plain HMM is the memory-augmented one whose single cell can hold one value: one set of recursions serves both.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Set
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.tokens import as_text
from ppl_hmm.errors import ImpossibleText, InvalidInput, one_of
from ppl_hmm.exact import mixture
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.models import HMM, MemoryHMM, prompt_rows
from ppl_hmm.models.kinds import Model, Prompt, Text, by_memory_value, memory_of, prompt_shape

Impossible = Literal["raise", "mask"]

#: Memories that are summed over, at most: m^N.
MEMORY_LIMIT = 1 << 16


class LikelihoodRows(NamedTuple):
    """A checked text, with its prompt and model, as rows of one table."""

    text: MemoryText  # models in one dimension P; prompt tokens come first
    batch_shape: tuple[int, ...]
    n_prompt: int
    ends: Tensor | None  # (P,B): rows of each text, where lengths, or its own row, end it; None where all have T

    @classmethod
    def of(
        cls, model: Model, tokens: Text, prompt: Prompt | None = None, lengths: Text | None = None
    ) -> LikelihoodRows:
        """Return the arrays of text (B,T), or (P…,B,T), after a prompt (L,K), or (L,m,K) for memory models.

        Raises
        ------
        InvalidInput
            Text, lengths or prompt that do not fit the model; a memory with more than :data:`MEMORY_LIMIT` values.
        """
        require_kind("model", model)
        batch_shape = model.batch_shape
        options = {"lengths": lengths, "batch_shape": batch_shape, "device": model.device}
        checked, ends = as_text(tokens, model.vocabulary_size, **options)
        ids = _as_rows(checked, model.vocabulary_size)
        ids = ids.expand(*batch_shape, *ids.shape[-2:]).reshape(-1, *ids.shape[-2:])
        cells = memory_arrays(model)
        table = _table(model, prompt)
        table = table.reshape(-1, *table.shape[-3:])
        n_prompt = table.shape[-2] - model.vocabulary_size - 1
        if n_prompt:
            prompt_ids = model.vocabulary_size + 1 + torch.arange(n_prompt, device=ids.device)
            ids = torch.cat([prompt_ids.expand(*ids.shape[:2], -1), ids], dim=-1)
        initial = model.initial.reshape(-1, model.n_states)
        transition = model.transition.reshape(-1, model.n_states, model.n_states)
        if ends is not None:
            ends = n_prompt + ends.expand(*batch_shape, -1).reshape(-1, ids.shape[-2])
        return cls(MemoryText(*cells, initial, transition, table, ids), batch_shape, n_prompt, ends)

    @property
    def text_positions(self) -> range:
        """Row numbers of the text, the prompt's left out."""
        return range(self.n_prompt, self.text.ids.shape[-1])

    def positions(self, positions: Sequence[int] | None) -> list[int]:
        """Return row numbers of positions of the text."""
        return [self.n_prompt + t for t in check_positions(positions, len(self.text_positions))]

    def require_possible(self, possible: Tensor, *, can_mask: bool = False) -> None:
        """Raise :class:`ImpossibleText`, naming a text and its first impossible position, unless all (P,B) have one.

        ``can_mask`` says that the caller has the option ``impossible``, which the message then names.
        """
        if possible.all():
            return
        model, sequence = (~possible).nonzero()[0].tolist()
        first = mixture.first_impossible(self.text.of_one(model, sequence)) - self.n_prompt
        where = f"position {first}" if first >= 0 else f"prompt token {first + self.n_prompt}"
        masked = ", or pass impossible='mask'" if can_mask else ""
        raise ImpossibleText(
            f"{self.name_of(model, sequence)} is impossible from {where} on",
            "text of positive probability",
            "probability 0",
            f"drop the sequence, or smooth the emissions{masked}",
        )

    def name_of(self, model: int, sequence: int) -> str:
        """Return what messages call a text: its number, and that of its model in a batch."""
        return f"sequence {sequence}" + (f" under model {model}" if self.batch_shape else "")

    def unflatten(self, values: Tensor) -> Tensor:
        """Give results (P,B,…) their batch dimensions back."""
        return values.reshape(*self.batch_shape, *values.shape[1:])


def memory_arrays(model: Model) -> tuple[Tensor, Tensor]:
    """Return the memory's prior (P,N,m) and the cell of each state (P,K); for an HMM, one cell of one value."""
    prior, cell_of_state = memory_of(model)
    n_cells, n_values = prior.shape[-2:]
    if n_values**n_cells > MEMORY_LIMIT:
        raise InvalidInput(
            "memory",
            f"at most {MEMORY_LIMIT} memories to sum over",
            f"m^N = {n_values}^{n_cells} = {n_values**n_cells}",
            "use fewer cells or values: exact inference costs m^N chains of K states",
        )
    return prior.reshape(-1, n_cells, n_values), cell_of_state.reshape(-1, model.n_states)


def model_prompt(model: Model, prompt: Prompt, what: str = "prompt") -> Tensor:
    """Return checked rows (L,*prompt_shape), or (P…,L,*prompt_shape), in the order of the model's states."""
    return prompt_rows(
        prompt,
        prompt_shape(model),
        model.batch_shape,
        nonnegative=True,
        like=model.emission,
        names=model.names,
        what=what,
    )


def require_kind(what: str, model: object) -> None:
    """Raise :class:`InvalidInput`, naming the conversion to use, unless this is a model of ours."""
    foreign.require(model, (HMM, MemoryHMM), what, "an HMM or MemoryHMM")


def _as_rows(ids: Tensor, mask_row: int) -> Tensor:
    """Return tokens as numbers of rows, always in a copy: whoever fills a buffer anew must not change a text once read.

    On the CPU by NumPy, for the reason that :func:`~ppl_hmm.base.tokens.extremes` gives.
    """
    if ids.device.type == "cpu":
        tokens = ids.numpy()
        return torch.from_numpy(np.where(tokens < 0, mask_row, tokens))
    return torch.where(ids < 0, mask_row, ids)


def _table(model: Model, prompt: Prompt | None) -> Tensor:
    """Return the table (P…,m,V+1+L,K) of likelihood rows: tokens, the mask, then the prompt's tokens."""
    tokens = by_memory_value(model, model.emission)
    parts = [tokens, torch.ones_like(tokens[..., :1, :])]
    if prompt is not None:
        parts.append(prompt_table(model, prompt))
    return torch.cat(parts, dim=-2)


def prompt_table(model: Model, prompt: Prompt, what: str = "prompt") -> Tensor:
    """Return the likelihood rows (P…,m,L,K) of a prompt's tokens."""
    rows = model_prompt(model, prompt, what)
    rows = by_memory_value(model, rows.movedim(-1 - len(prompt_shape(model)), -1))
    return rows.expand(*model.batch_shape, *rows.shape[-3:])


def masks(impossible: Impossible) -> bool:
    """Say whether the option ``impossible`` asks for masked results; raise :class:`InvalidInput` if unknown."""
    one_of("value of 'impossible'", impossible, ("raise", "mask"))
    return impossible == "mask"


def check_positions(positions: Sequence[int] | None, length: int) -> list[int]:
    """Return non-negative positions of a text of ``length`` tokens; all by default.

    Raises
    ------
    InvalidInput
        A position outside the text, or none at all; booleans, and collections without an order.
    """
    if positions is None:
        return list(range(length))
    try:
        if isinstance(positions, (Mapping, Set, bytes)):
            raise TypeError
        chosen = list(map(_index, positions))
    except TypeError:
        raise InvalidInput(
            "positions", "integers, in a list", repr(positions), "pass e.g. positions=[0]; of a selection, its numbers"
        ) from None
    for position in chosen:
        if not -length <= position < length:
            raise InvalidInput("positions", f"{-length}..{length - 1}", str(position), "count from 0 over the text")
    if not chosen:
        raise InvalidInput("positions", "at least one position", "none", "pass positions=None for all")
    return [position % length for position in chosen]


def _index(value: object) -> int:
    """Return an integer of any library; raise ``TypeError`` for others, and for booleans."""
    if isinstance(value, bool) or getattr(value, "dtype", None) in (torch.bool, np.bool_):
        raise TypeError
    return operator.index(value)  # type: ignore[arg-type]
