"""Texts as Pyro passes them: (…,T), in any integer or floating type."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.labels import read
from ppl_hmm.base.tokens import MASK, as_tokens, by_position
from ppl_hmm.errors import InvalidInput


def whole_tokens(value: ArrayLike | Tensor, vocabulary_size: int, device: torch.device) -> Tensor:
    """Return texts (…,T) as whole numbers, at least one, read as by :func:`~ppl_hmm.base.tokens.as_tokens`.

    Raises
    ------
    InvalidInput
        Tokens that are not whole, no tokens, named dimensions without ``position``.
    """
    if _is_table(value):
        value = as_tokens(value, vocabulary_size, device=device)
    batch = (schema.SEQUENCE,) if schema.SEQUENCE in getattr(value, "dims", ()) else ()
    array = read(value, (*batch, schema.POSITION), "tokens")
    tokens = as_tensor(array.values, device, what="tokens", kind="integers", missing=MASK)
    if tokens.ndim == 0 or 0 in tokens.shape:
        raise InvalidInput("tokens", "texts (…, T), not none", f"shape {tuple(tokens.shape)}", "pass a text")
    tokens = by_position(tokens, array.labels.get(schema.POSITION))
    if not tokens.is_floating_point():
        return tokens
    ids = tokens.long()
    wrong = ids != tokens
    if wrong.any():
        where = wrong.nonzero()[0].tolist()
        raise InvalidInput(f"tokens{where}", "a whole number", str(tokens[tuple(where)].item()), "pass integers")
    return ids


def _is_table(value: Any) -> bool:
    """Say whether this is an array-like (B,T), also of rows of different lengths, but no tensor."""
    try:
        return not isinstance(value, Tensor) and np.ndim(value) == 2
    except (TypeError, ValueError):  # no rectangle
        return True
