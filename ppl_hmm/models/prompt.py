"""Soft prompts: fake tokens given by their rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from numpy.typing import ArrayLike

from ppl_hmm import schema
from ppl_hmm.base.labels import Names
from ppl_hmm.base.records import Record
from ppl_hmm.errors import InvalidInput


@dataclasses.dataclass(frozen=True, eq=False)
class SoftPrompt(Record):
    """A soft prompt: L fake tokens put before the text, each given by its row.

    Parameters
    ----------
    rows
        (P…,L,K) for an HMM: the likelihood row u_l ≥ 0 of each prompt token. The language model that uses the
        prompt checks the trailing shape and the sign (a trained model takes real embeddings). For a memory model the
        rows are (P…,L,m,K): :class:`MemoryPrompt` is this record with those dimensions named.

    Raises
    ------
    InvalidInput
        Fewer than two dimensions, no prompt token, or a non-finite entry.

    See Also
    --------
    MemoryPrompt : For a memory model.
    constructed_prompt : A prompt that a theorem gives.
    fit_prompt : A prompt that is learned.

    Examples
    --------
    >>> from ppl_hmm import SoftPrompt
    >>> SoftPrompt([[1.0, 0.0, 0.5]]).rows.shape  # one fake token that state 1 never emits
    torch.Size([1, 3])
    """

    rows: torch.Tensor

    if TYPE_CHECKING:  # array-likes become tensors

        def __init__(
            self,
            rows: ArrayLike | torch.Tensor,
            *,
            names: Names = ...,
        ) -> None: ...

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {"rows": (schema.PROMPT_POSITION, schema.STATE)}

    def __post_init__(self) -> None:
        self._convert()
        if 0 in self.rows.shape:
            raise InvalidInput(
                "prompt",
                "at least one prompt token",
                f"shape {tuple(self.rows.shape)}",
                "pass prompt=None for no prompt",
            )


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryPrompt(SoftPrompt):
    """A soft prompt for a :class:`MemoryHMM`: ``rows`` (P…,L,m,K), u[l,a,h] with a the value of the cell h reads.

    See Also
    --------
    SoftPrompt : For an HMM.
    restricting_prompt : A prompt that restricts a cell to some of its values.

    Examples
    --------
    >>> from ppl_hmm import MemoryPrompt
    >>> MemoryPrompt([[[1.0, 1.0], [0.0, 0.0]]]).rows.shape  # no state emits it where its cell holds value 1
    torch.Size([1, 2, 2])
    """

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        "rows": (schema.PROMPT_POSITION, schema.MEMORY_VALUE, schema.STATE)
    }


def prompt_rows(
    prompt: object,
    prompt_shape: tuple[int, ...],
    batch_shape: tuple[int, ...] = (),
    *,
    nonnegative: bool,
    like: torch.Tensor,
    names: Names | None = None,
    what: str = "prompt",
) -> torch.Tensor:
    """Return checked rows (L,*prompt_shape), or (P…,L,*prompt_shape), in the dtype and on the device of ``like``.

    A prompt with named states is brought into the order of ``names``, the model's.

    Raises
    ------
    InvalidInput
        Not a prompt of this shape, other names, or (for likelihood rows) a negative entry.
    """
    named = hasattr(prompt, "dims")  # a labelled array: its dimensions are those of the model's kind of prompt
    kind = MemoryPrompt if named and len(prompt_shape) == 2 else SoftPrompt
    record = prompt if isinstance(prompt, SoftPrompt) else kind(prompt)  # type: ignore[arg-type]
    record = record._in_order(names or {}, "the model")
    rows = record.rows.to(dtype=like.dtype, device=like.device)
    if not torch.isfinite(rows).all() or ((rows == 0) & (record.rows.to(like.device) != 0)).any():
        raise InvalidInput(
            what,
            f"entries in the range of {like.dtype}",
            "one too large or too small",
            "divide each row by its largest entry, or use a float64 model",
        )
    n_own = len(prompt_shape)
    if tuple(rows.shape[-n_own:]) != prompt_shape or tuple(rows.shape[: -n_own - 1]) not in ((), batch_shape):
        raise InvalidInput(
            what,
            f"shape {('L', *prompt_shape)}",
            f"shape {tuple(rows.shape)}",
            f"give one row for each {what} token",
        )
    if nonnegative and (rows < 0).any():
        where = (rows < 0).nonzero()[0].tolist()
        raise InvalidInput(
            f"{what} row entry {where}",
            "a non-negative likelihood",
            str(rows[tuple(where)].item()),
            "pass likelihoods, not embeddings or logarithms",
        )
    return rows
