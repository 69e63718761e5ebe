"""Text at the boundary: integer tokens, masks and lengths, checked once.

Missing tokens (masked, ``<NA>``, None) are ``MASK``, and so is what rows of different lengths lack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch.nn.functional import pad

from ppl_hmm import schema
from ppl_hmm.base import labels
from ppl_hmm.base.arrays import as_tensor, is_list
from ppl_hmm.errors import InvalidInput

#: The token of an unobserved position: its likelihood row is all ones.
MASK = -1


_TEXT = (schema.SEQUENCE, schema.POSITION)
#: What helps where all texts stand one after another, as hmmlearn has them.
SPLIT = "np.split(X.ravel(), np.cumsum(lengths)[:-1])"
_SPLIT_IT = f"split the text, which then needs no lengths: {SPLIT}"


class CheckedText(NamedTuple):
    """Checked tokens (B,T), or (P…,B,T), ``MASK`` past each end, and lengths (B,), or (P…,B); None where all have T."""

    tokens: torch.Tensor
    lengths: torch.Tensor | None


def as_tokens(
    tokens: ArrayLike | torch.Tensor,
    vocabulary_size: int,
    *,
    lengths: ArrayLike | torch.Tensor | None = None,
    batch_shape: Sequence[int] = (),
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return checked tokens (B,T), or (P…,B,T) for batched models, with ``MASK`` past each length.

    Parameters
    ----------
    tokens
        Integers in 0..V−1, or ``MASK`` (−1) where nothing is observed; (B,T), shared by all models, or (P…,B,T). Also
        a list of B rows of different lengths.
    lengths
        (B,) or (P…,B): position ``lengths[b]`` and later ones are unobserved.
    batch_shape
        The models' leading dimensions P….

    Raises
    ------
    InvalidInput
        Float tokens, a wrong rank, an empty batch, a token out of range, a length beyond T.
    """
    return as_text(tokens, vocabulary_size, lengths=lengths, batch_shape=batch_shape, device=device).tokens


def as_text(
    tokens: ArrayLike | torch.Tensor,
    vocabulary_size: int,
    *,
    lengths: ArrayLike | torch.Tensor | None = None,
    batch_shape: Sequence[int] = (),
    device: torch.device | None = None,
    shortest: int = 1,
) -> CheckedText:
    """Return checked tokens and where each sequence ends; parameters and errors as :func:`as_tokens`.

    Rows of different lengths end where they do, unless ``lengths`` says otherwise. ``shortest`` is the least T allowed.
    """
    array = labels.read(tokens, _TEXT, "tokens")
    rows, own_ends = _filled_up(array.values)
    checked = as_tensor(rows, device, what="tokens", kind="integers", missing=MASK)
    if not checked.numel():
        checked = checked.long()  # no token, no dtype: an empty list has that of floats
    if checked.is_floating_point() or checked.is_complex() or checked.dtype == torch.bool:
        raise InvalidInput(
            "tokens",
            "integers",
            str(checked.dtype) + (" with NaN" if checked.is_floating_point() and checked.isnan().any() else ""),
            "convert with .astype(int) if the ids are whole; with gaps by pandas' .astype('Int64'), <NA> becomes MASK",
        )
    batch_shape = tuple(batch_shape)
    if checked.ndim != 2 and (checked.ndim != len(batch_shape) + 2 or checked.shape[:-2] != batch_shape):
        expected = "shape (B, T)" + (f" or {(*batch_shape, 'B', 'T')}" if batch_shape else "")
        of_one = "put a single text in a list, [text]" if lengths is None else _SPLIT_IT
        remedy = of_one if checked.ndim == 1 else "add or drop dimensions"
        if not checked.numel():
            remedy = "pass at least one text"
        raise InvalidInput("tokens", expected, f"shape {tuple(checked.shape)}", remedy)
    if 0 in checked.shape[:-1] or checked.shape[-1] < shortest:
        raise InvalidInput(
            "tokens",
            "at least one sequence" + " of at least one position" * shortest,
            f"shape {tuple(checked.shape)}",
            "pass a non-empty batch",
        )
    checked = by_position(checked.long(), array.labels.get(schema.POSITION))
    lowest, highest = extremes(checked) if checked.numel() else (MASK, MASK)
    if lowest < MASK or highest >= vocabulary_size:
        where = ((checked < MASK) | (checked >= vocabulary_size)).nonzero()[0].tolist()
        raise InvalidInput(
            f"token out of range at sequence {where[-2]}, position {where[-1]}",
            f"an id in 0..{vocabulary_size - 1}, or {MASK} (MASK)",
            str(checked[tuple(where)].item()),
            "check the vocabulary of the text against that of the model",
        )
    if lengths is None:
        return CheckedText(checked, None if own_ends is None else torch.tensor(own_ends, device=checked.device))
    ends = _checked_lengths(lengths, checked, array.labels.get(schema.SEQUENCE))
    past_end = torch.arange(checked.shape[-1], device=checked.device) >= ends[..., None]
    return CheckedText(torch.where(past_end, MASK, checked), ends)


def as_text_with_ends(
    tokens: ArrayLike | torch.Tensor,
    vocabulary_size: int,
    *,
    lengths: ArrayLike | torch.Tensor | None = None,
    batch_shape: Sequence[int] = (),
    device: torch.device | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return checked tokens (B,T), or (P…,B,T), T ≥ 0, and where each text ends (B,), or (P…,B).

    At its length where ``lengths`` are given, else after its last token that is not ``MASK``. Parameters and errors as
    :func:`as_tokens`.
    """
    options = {"lengths": lengths, "batch_shape": batch_shape, "device": device}
    text = as_text(tokens, vocabulary_size, **options, shortest=0)
    return text.tokens, ends(text.tokens) if lengths is None or text.lengths is None else text.lengths


def ends(tokens: torch.Tensor) -> torch.Tensor:
    """Return where checked texts (…,B,T) end (…,B): after the last token that is not ``MASK``, at 0 without one."""
    if tokens.device.type != "cpu":
        after = torch.arange(1, tokens.shape[-1] + 1, device=tokens.device)
        return pad(torch.where(tokens == MASK, 0, after), (1, 0)).amax(-1)  # 0 before any token
    observed = tokens.numpy() != MASK  # by NumPy: torch would wake its threads, which takes longer
    after = observed.shape[-1] - observed[..., ::-1].argmax(-1) if observed.shape[-1] else np.zeros(observed.shape[:-1])
    return torch.from_numpy(np.where(observed.any(-1), after, 0).astype(np.int64)).to(tokens.device)


def _filled_up(values: Any) -> tuple[Any, list[int] | None]:
    """Return rows of different lengths filled up with ``MASK``, and the lengths; anything else as it is."""
    of_objects = isinstance(values, (np.ndarray, pd.Series)) and values.dtype.kind == "O" and values.ndim == 1
    rows = values.tolist() if of_objects else values
    if not is_list(rows) or not all(map(_is_row, rows)):
        return values, None
    ends = [len(row) for row in rows]
    if len(set(ends)) < 2:
        return rows, None
    return [[*_items(row), *[MASK] * (max(ends) - len(row))] for row in rows], ends


def _is_row(row: Any) -> bool:
    return is_list(row) or isinstance(row, (range, pd.Series)) or getattr(row, "ndim", 0) == 1


def _items(row: Any) -> list:
    return row.tolist() if hasattr(row, "tolist") else list(row)


def by_position(tokens: torch.Tensor, order: labels.Order | None) -> torch.Tensor:
    """Return tokens in the order of their positions, where these are numbered."""
    numbers = (int, float, pd.Timestamp, pd.Timedelta)
    if order is None or not all(isinstance(label, numbers) for label in order) or list(order) == sorted(order):
        return tokens
    return labels.moved(tokens, -1, order, tuple(sorted(order)), "dimension 'position' of tokens")


def extremes(tokens: torch.Tensor) -> tuple[int, int]:
    """Return the lowest and the highest of integers, not none.

    On the CPU by NumPy: torch wakes its threads for long text, and they would stay in the way of compiled loops.
    """
    if tokens.device.type == "cpu":
        array = tokens.numpy()
        return int(array.min()), int(array.max())
    lowest, highest = torch.stack(torch.aminmax(tokens)).tolist()
    return lowest, highest


def _checked_lengths(
    lengths: ArrayLike | torch.Tensor, tokens: torch.Tensor, sequences: labels.Order | None
) -> torch.Tensor:
    """Return lengths (B,), or (P…,B), in the order of the sequences."""
    array = labels.read(lengths, (schema.SEQUENCE,), "lengths")
    ends = as_tensor(array.values, tokens.device, what="lengths", kind="integers")
    length = tokens.shape[-1]
    if ends.is_floating_point() or ends.is_complex() or ends.dtype == torch.bool:
        raise InvalidInput("lengths", "integers", str(ends.dtype), "convert with .astype(int)")
    if ends.shape not in (tokens.shape[:-1], tokens.shape[-2:-1]):
        raise InvalidInput(
            "lengths",
            f"shape {tuple(tokens.shape[:-1])}",
            f"shape {tuple(ends.shape)}",
            _SPLIT_IT if ends.ndim == 1 and ends.sum() == tokens.numel() else "give one length for each sequence",
        )
    ends = labels.matched(ends, array.labels.get(schema.SEQUENCE), sequences, "lengths", "tokens")
    outside = (ends < 0) | (ends > length)
    if outside.any():
        where = outside.nonzero()[0].tolist()
        raise InvalidInput(
            f"length of sequence {where[-1]}",
            f"0..{length}, the number of positions",
            str(ends[tuple(where)].item()),
            "shorten the length or pad the text",
        )
    return ends
