"""Text at the boundary: integer tokens, masks and lengths, checked once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from ppl_hmm.errors import InvalidInput

#: The token of an unobserved position: its likelihood row is all ones.
MASK = -1


def as_tensor(
    values: ArrayLike | torch.Tensor,
    device: torch.device | None = None,
    *,
    what: str = "array",
    kind: str = "numbers",
) -> torch.Tensor:
    """Return array-likes (lists, NumPy, xarray, torch) as a tensor, keeping their dtype and autograd graph.

    Raises
    ------
    InvalidInput
        Ragged, or not of numbers.
    """
    if isinstance(values, torch.Tensor):
        return values.to(device)
    try:
        # A copy: PyTorch shares memory with NumPy, and warns where that memory is read-only.
        return torch.from_numpy(np.array(values)).to(device)
    except (TypeError, ValueError) as error:
        raise InvalidInput(what, f"a rectangular array of {kind}", str(error), "check the length of each row") from None


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
        Integers in 0..V−1, or ``MASK`` (−1) where nothing is observed; (B,T), shared by all models, or (P…,B,T).
    lengths
        (B,) or (P…,B): position ``lengths[b]`` and later ones are unobserved.
    batch_shape
        The models' leading dimensions P….

    Raises
    ------
    InvalidInput
        Float tokens, a wrong rank, an empty batch, a token out of range, a length beyond T.
    """
    checked = as_tensor(tokens, device, what="tokens", kind="integers")
    if checked.is_floating_point() or checked.is_complex() or checked.dtype == torch.bool:
        raise InvalidInput("tokens", "integers", str(checked.dtype), "convert with .astype(int) if the ids are whole")
    batch_shape = tuple(batch_shape)
    if checked.ndim != 2 and (checked.ndim != len(batch_shape) + 2 or checked.shape[:-2] != batch_shape):
        expected = "shape (B, T)" + (f" or {(*batch_shape, 'B', 'T')}" if batch_shape else "")
        raise InvalidInput("tokens", expected, f"shape {tuple(checked.shape)}", "add or drop dimensions")
    if 0 in checked.shape:
        raise InvalidInput(
            "tokens",
            "at least one sequence of at least one position",
            f"shape {tuple(checked.shape)}",
            "pass a non-empty batch",
        )
    checked = checked.long()
    lowest, highest = extremes(checked)
    if lowest < MASK or highest >= vocabulary_size:
        where = ((checked < MASK) | (checked >= vocabulary_size)).nonzero()[0].tolist()
        raise InvalidInput(
            f"token out of range at sequence {where[-2]}, position {where[-1]}",
            f"an id in 0..{vocabulary_size - 1}, or {MASK} (MASK)",
            str(checked[tuple(where)].item()),
            "check the vocabulary of the text against that of the model",
        )
    return checked if lengths is None else _mask_past_ends(checked, lengths)


def extremes(tokens: torch.Tensor) -> tuple[int, int]:
    """Return the lowest and the highest of integers, not none.

    On the CPU by NumPy: torch wakes its threads for long text, and they would stay in the way of compiled loops.
    """
    if tokens.device.type == "cpu":
        array = tokens.numpy()
        return int(array.min()), int(array.max())
    lowest, highest = torch.aminmax(tokens)
    return int(lowest), int(highest)


def _mask_past_ends(tokens: torch.Tensor, lengths: ArrayLike | torch.Tensor) -> torch.Tensor:
    ends = as_tensor(lengths, tokens.device, what="lengths", kind="integers")
    length = tokens.shape[-1]
    if ends.is_floating_point() or ends.dtype == torch.bool:
        raise InvalidInput("lengths", "integers", str(ends.dtype), "convert with .astype(int)")
    if ends.shape not in (tokens.shape[:-1], tokens.shape[-2:-1]):
        raise InvalidInput(
            "lengths",
            f"shape {tuple(tokens.shape[:-1])}",
            f"shape {tuple(ends.shape)}",
            "give one length for each sequence",
        )
    outside = (ends < 0) | (ends > length)
    if outside.any():
        where = outside.nonzero()[0].tolist()
        raise InvalidInput(
            f"length of sequence {where[-1]}",
            f"0..{length}, the number of positions",
            str(ends[tuple(where)].item()),
            "shorten the length or pad the text",
        )
    past_end = torch.arange(length, device=tokens.device) >= ends[..., None]
    return torch.where(past_end, MASK, tokens)
