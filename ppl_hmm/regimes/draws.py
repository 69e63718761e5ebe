"""What random families are made of: rows of weights."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import InvalidInput


def softmax_rows(*shape: int, temperature: float, stream: torch.Generator) -> Tensor:
    """Return softmax(U / temperature), U uniform on [−½, ½]: nearly one-hot for low temperatures."""
    _require_positive("temperature", temperature)
    uniform = torch.rand(*shape, generator=stream, dtype=torch.float64, device=CPU) - 0.5
    return (uniform / max(temperature, torch.finfo(torch.float64).tiny)).softmax(-1)  # else 0 · ∞


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
    _require_positive("concentration", concentration)
    # The public distributions take no generator.
    gamma = torch._standard_gamma(  # type: ignore[attr-defined]
        torch.full(shape, float(concentration), dtype=torch.float64, device=CPU), generator=stream
    )
    gamma = gamma.clamp(min=torch.finfo(torch.float64).tiny)
    return gamma / gamma.sum(-1, keepdim=True)


def _require_positive(what: str, value: float) -> None:
    if not isinstance(value, Real) or not 0 < value < float("inf"):
        raise InvalidInput(what, "a positive finite number", repr(value), "pass e.g. 1.0")
