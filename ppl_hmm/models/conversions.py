"""Parameters of other libraries' hidden Markov models, checked under their own names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.checks import check_distributions
from ppl_hmm.errors import InvalidInput


def discrete_parameters(distribution: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return initial law (…,K), transition (…,K,K) and emission (…,K,V) of Pyro's ``DiscreteHMM``."""
    emission = getattr(distribution.observation_dist, "logits", None)
    if emission is None or not hasattr(distribution.observation_dist, "_num_events"):
        raise InvalidInput(
            "observation distribution of DiscreteHMM",
            "Categorical",
            type(distribution.observation_dist).__name__,
            "only tokens are supported",
        )
    transition = distribution.transition_logits
    # Without a time dimension the parameters are constant in time.
    transition, emission = (logits if logits.ndim > 2 else logits[None] for logits in (transition, emission))
    if transition.shape[-3] != 1 or emission.shape[-3] != 1:
        raise InvalidInput(
            "DiscreteHMM",
            "parameters constant in time (time dimension of size 1)",
            f"transition {tuple(transition.shape)}, emission {tuple(emission.shape)}",
            "pass a homogeneous model",
        )
    return distribution.initial_logits.exp(), transition[..., 0, :, :].exp(), emission[..., 0, :, :].exp()


def hmmlearn_parameters(model: Any) -> list[torch.Tensor]:
    """Return ``startprob_`` (K,), ``transmat_`` (K,K) and ``emissionprob_`` (K,V), each checked under its own name."""
    names = ("startprob_", "transmat_", "emissionprob_")
    if all(kind.__name__ != "CategoricalHMM" for kind in type(model).__mro__) or not all(
        hasattr(model, name) for name in names
    ):
        raise InvalidInput(
            "from_hmmlearn",
            "a CategoricalHMM with parameters",
            type(model).__name__,
            "fit it, or set startprob_, transmat_ and emissionprob_",
        )
    parameters = [as_tensor(getattr(model, name), what=name).double() for name in names]
    n_states, n_tokens = parameters[-1].shape if parameters[-1].ndim == 2 else (0, 0)
    shapes = ((n_states,), (n_states, n_states), (n_states, n_tokens))
    for name, values, shape in zip(names, parameters, shapes, strict=True):
        if tuple(values.shape) != shape:
            got = ", ".join(f"{each} {tuple(of.shape)}" for each, of in zip(names, parameters, strict=True))
            expected = "startprob_ (K,), transmat_ (K, K), emissionprob_ (K, V)"
            raise InvalidInput(f"{name} of from_hmmlearn", expected, got, "fit it again, or correct the parameter")
        if not torch.isfinite(values).all():
            where = (~torch.isfinite(values)).nonzero()[0].tolist()
            raise InvalidInput(
                f"{name}{where}", "a finite number", str(values[tuple(where)].item()), "fit it again on more text"
            )
        check_distributions(name, values)
    return parameters
