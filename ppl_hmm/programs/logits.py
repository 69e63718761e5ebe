"""Logarithms of parameters, as Pyro's users give them: in several dtypes, and below what probabilities can hold."""

from __future__ import annotations

import functools
import warnings

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.labels import aligned
from ppl_hmm.errors import InvalidInput

_DIMENSIONS = {
    "initial_logits": (schema.STATE,),
    "transition_logits": (schema.STATE, schema.STATE_NEXT),
    "observation_dist": (schema.STATE, schema.TOKEN),
}
# Of the sum of a row in float32.
_ROUNDING = 1e-5


def alike(**logits: ArrayLike | Tensor) -> list[Tensor]:
    """Return logits as tensors of one dtype, the widest among them and float32.

    Labelled arrays are read by their names, as those of a model.

    Raises
    ------
    InvalidInput
        Not real numbers, on several devices, or labels that name no order (of the states of ``observation_dist``).
    """
    tensors = aligned(_DIMENSIONS, **logits)
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1:
        where = ", ".join(f"{what} on {tensor.device}" for what, tensor in tensors.items())
        raise InvalidInput("logits", "all parameters on one device", where, "move them with .to(device)")
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors.values()), torch.float32)
    if dtype.is_complex:
        kinds = ", ".join(f"{what} of {tensor.dtype}" for what, tensor in tensors.items())
        raise InvalidInput("logits", "real numbers", kinds, "pass logarithms of probabilities")
    return [tensor.to(dtype) for tensor in tensors.values()]


def require_floats(**logits: Tensor) -> None:
    """Raise :class:`InvalidInput`, naming the entry, where the probability of a finite logit is no float but zero."""
    for what, values in logits.items():
        lost = (values > -torch.inf) & (values.exp() == 0)
        if lost.any():
            where = lost.nonzero()[0].tolist()
            raise InvalidInput(
                f"{what}{where}",
                f"a logarithm of a probability that {values.dtype} can hold, or -inf for zero",
                f"{values[tuple(where)].item():.6g}",
                "convert float32 to float64; for smaller ones use Pyro's DiscreteHMM",
            )


def warn_of_probabilities(**logits: Tensor) -> None:
    """Warn of logits whose rows are laws themselves: logarithms of laws are zero or less, and no such row sums to one.

    Nothing is said of one state, whose law is certain, nor while a graph is traced.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return
    for what, values in logits.items():
        if values.shape[-1] > 1 and bool((values >= 0).all()):
            total = values.sum(-1)
            if torch.allclose(total, torch.ones_like(total), rtol=0, atol=_ROUNDING):
                warnings.warn(
                    f"{what} look like probabilities: entries are 0 or more, and rows sum to one. Logarithms are read "
                    f"here: pass {what.removesuffix('_logits')}.log(), or logits less their logsumexp.",
                    UserWarning,
                    stacklevel=4,
                )
