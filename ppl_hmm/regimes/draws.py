"""What random families are made of: rows of weights, and the choice of a family by name."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import InvalidInput, one_of

#: Builders of a family by name, with the defaults of their options.
Families = dict[str, tuple[Callable[..., Any], dict[str, Any]]]


def build(families: Families, regime: str, options: dict[str, Any], *arguments: Any) -> Any:
    """Return a member of the family ``regime``, built from the arguments and its options over their defaults.

    Raises
    ------
    InvalidInput
        Unknown regime or option (with the list).
    """
    one_of("regime", regime, families)
    builder, defaults = families[regime]
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise InvalidInput(
            f"options of regime {regime!r}",
            f"only {', '.join(defaults) or 'none'}",
            ", ".join(unknown),
            "drop the others",
        )
    return builder(*arguments, **{**defaults, **options})


def softmax_rows(*shape: int, temperature: float, stream: torch.Generator) -> Tensor:
    """Return softmax(U / temperature), U uniform on [−½, ½]: nearly one-hot for low temperatures."""
    uniform = torch.rand(*shape, generator=stream, dtype=torch.float64, device=CPU) - 0.5
    return (uniform / temperature).softmax(-1)


def mixture_of_permutations(n_states: int, n_permutations: int, temperature: float, stream: torch.Generator) -> Tensor:
    """Return Σ_i w_i · (random permutation matrix) (K,K), w = softmax(U / temperature)."""
    mixture = softmax_rows(n_permutations, temperature=temperature, stream=stream)
    identity = torch.eye(n_states, dtype=torch.float64, device=CPU)
    permutations = [identity[torch.randperm(n_states, generator=stream, device=CPU)] for _ in range(n_permutations)]
    return sum(
        (weight * matrix for weight, matrix in zip(mixture, permutations, strict=True)), torch.zeros_like(identity)
    )


def dirichlet_rows(shape: tuple[int, ...], concentration: float, stream: torch.Generator) -> Tensor:
    """Return rows from a symmetric Dirichlet."""
    if not isinstance(concentration, Real) or not 0 < concentration < float("inf"):
        raise InvalidInput("concentration", "a positive finite number", repr(concentration), "pass e.g. 1.0")
    # The public distributions take no generator.
    gamma = torch._standard_gamma(  # type: ignore[attr-defined]
        torch.full(shape, float(concentration), dtype=torch.float64, device=CPU), generator=stream
    )
    gamma = gamma.clamp(min=torch.finfo(torch.float64).tiny)
    return gamma / gamma.sum(-1, keepdim=True)
