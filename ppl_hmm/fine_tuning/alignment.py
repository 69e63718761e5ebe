"""How alike kernels are."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput
from ppl_hmm.fine_tuning.classes import class_labels


def kernel_alignment(kernel: ArrayLike | Tensor, other: ArrayLike | Tensor) -> float:
    """Return the centred alignment of two kernels on the same examples: 1 where they are alike but for scale.

    Parameters
    ----------
    kernel, other
        (N,N), or blocks (N,C,N,C), of N ≥ 2 examples.

    Raises
    ------
    InvalidInput
        Kernels that are not square or not of one size; one that is constant, which is like nothing.

    See Also
    --------
    ppl_hmm.label_kernel : The kernel of labels.
    ppl_hmm.posterior_kernel : What a text tells of its states.

    Notes
    -----
    ⟨HKH, HK′H⟩ / (‖HKH‖ ‖HK′H‖) in the Frobenius norm, with H = I − 11ᵀ/N. Cost O(N²).
    Source: Cortes, Mohri & Rostamizadeh (2012), Definition 4.

    Examples
    --------
    >>> from ppl_hmm import kernel_alignment, label_kernel
    >>> round(kernel_alignment([[2.0, 0.0], [0.0, 1.0]], label_kernel([0, 1])), 6)
    1.0
    """
    first, second = _centred(kernel, "kernel"), _centred(other, "other kernel")
    if first.shape != second.shape:
        got = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise InvalidInput("kernels to compare", "two of one size", got, "compute both on the same examples")
    return float((first * second).sum() / (first.norm() * second.norm()))


def label_kernel(labels: ArrayLike | Tensor) -> Tensor:
    """Return the kernel (N,N) of labels (N,): 1 for two examples of one class, else 0.

    See Also
    --------
    ppl_hmm.kernel_alignment : Compares it with another.

    Examples
    --------
    >>> from ppl_hmm import label_kernel
    >>> label_kernel(["a", "b", "a"]).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    found = class_labels(labels)
    return torch.from_numpy((found[:, None] == found).astype(float))


def _centred(kernel: ArrayLike | Tensor, what: str) -> Tensor:
    """Return HKH in float64, the scores of one example beside each other."""
    found = as_tensor(kernel, what=what).detach().double()
    half = found.ndim // 2
    if found.ndim not in (2, 4) or found.shape[:half] != found.shape[half:]:
        got = f"shape {tuple(found.shape)}"
        raise InvalidInput(what, "a square one, (N, N) or (N, C, N, C)", got, "see tangent_kernel")
    found = found - found.mean(0, keepdim=True)
    found = found - found.mean(half, keepdim=True)
    flat = found.flatten(0, half - 1).flatten(1)
    if not torch.isfinite(flat).all() or flat.norm() <= 1e-12 * (1 + as_tensor(kernel).detach().double().norm()):
        raise InvalidInput(what, "finite numbers that vary", "a constant, NaN or infinity", "look at its examples")
    return flat
