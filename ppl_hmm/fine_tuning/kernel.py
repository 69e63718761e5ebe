"""Tangent kernels: inner products of gradients of a network's scores. Source: Malladi et al. (2023), §3-4."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.fine_tuning.functions import Function, Read, ScoreFunction
from ppl_hmm.fine_tuning.subspaces import Parameters, Tensors

Kind = Literal["sgd", "sign", "asymmetric-sign"]


def _same(gradients: Tensor) -> Tensor:
    return gradients


# What is done to the gradients of the rows, and of the columns.
_SIDES: dict[Kind, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "sgd": (_same, _same),
    "sign": (torch.sign, torch.sign),
    "asymmetric-sign": (_same, torch.sign),
}


def tangent_kernel(
    lm: Function,
    inputs: ArrayLike | Tensor,
    other: ArrayLike | Tensor | None = None,
    *,
    kind: Kind = "sgd",
    parameters: Parameters | Mapping[str, Tensor] = "all",
    read: Read | None = None,
    chunk: int | None = None,
    memory: float = 2e9,
) -> Tensor:
    """Return the tangent kernel of a network between inputs and others.

    Parameters
    ----------
    lm
        A ``torch.nn.Module`` in float32 or float64, trained or not; or a function f(parameters, inputs).
    inputs
        (N,…), such as tokens (N,T): the rows.
    other
        (M,…): the columns; for ``'asymmetric-sign'`` the training examples. By default ``inputs``.
    kind
        ``'sgd'``: ⟨∇f(x), ∇f(x′)⟩. ``'sign'``: ⟨sign ∇f(x), sign ∇f(x′)⟩. ``'asymmetric-sign'``:
        ⟨∇f(x), sign ∇f(x′)⟩. Adam's early steps are those of sign descent.
    parameters
        ``'all'``, ``'no-embeddings'``, ``'biases'``; names of parameters or modules, such as ``['head.prompt']``;
        :class:`~ppl_hmm.fine_tuning.subspaces.LowRank` or
        :class:`~ppl_hmm.fine_tuning.subspaces.RandomProjection`. For a function, its parameters by name.
    read
        Takes the module and inputs (B,…) and returns logits (B,C); by default the module is called. A module itself,
        such as :class:`~ppl_hmm.fine_tuning.readouts.ClozeHead`, may have parameters: they are named ``head.…``, the
        network's then ``lm.…``.
    chunk
        Examples whose gradients are taken at once; by default as many as fit, at most 64. It changes rounding alone.
    memory
        Bytes that gradients may take.

    Returns
    -------
    torch.Tensor
        (N,M) for two classes, where f is the difference of the logits, or for one score. For C > 2 classes
        (N,C,M,C): blocks of ∇f_c(x) and ∇f_c′(x′).

    Raises
    ------
    InvalidInput
        Parameters that require no gradient or have half precision, a wrong kind, no logits, or more memory than stated.

    See Also
    --------
    ppl_hmm.fisher_kernel, ppl_hmm.posterior_kernel : Kernels of an exact model.
    ppl_hmm.KernelRegression : Regression on kernel rows.
    ppl_hmm.linearization_score : Whether fine-tuning follows the kernel.

    Notes
    -----
    Per-example gradients by ``torch.func.vmap``. Cost C·(N + M) forward and backward passes, O(C²·N·M·P) for the
    products, O(C·(M + chunk)·P) memory. A sign of a gradient that is zero is zero.
    Source: Malladi, Wettig, Yu, Chen & Arora (2023), Definitions 3.2 and 4.2.

    Examples
    --------
    >>> import torch
    >>> from ppl_hmm import tangent_kernel
    >>> linear = torch.nn.Linear(2, 1, bias=False)
    >>> tangent_kernel(linear, [[1.0, 2.0], [0.0, 1.0]]).tolist()  # of a linear function: that of its features
    [[5.0, 2.0], [2.0, 1.0]]
    >>> tangent_kernel(linear, [[1.0, 2.0]], [[-3.0, 0.5]], kind="asymmetric-sign").tolist()
    [[1.0]]
    """
    one_of("kind of tangent kernel", kind, _SIDES)
    function = ScoreFunction.of(lm, read, parameters)
    rows, columns = function.inputs(inputs), None if other is None else function.inputs(other, "other")
    return kernel_of(function, rows, columns, kind, chunk=chunk, memory=memory)


def kernel_of(
    function: ScoreFunction,
    rows: Tensor,
    columns: Tensor | None,
    kind: Kind,
    z: Tensors | None = None,
    chunk: int | None = None,
    memory: float = 2e9,
) -> Tensor:
    """Return the kernel of a score function at coordinates z, by default where it starts."""
    return kernels_of(function, rows, columns, [kind], z, chunk, memory)[kind]


def kernels_of(
    function: ScoreFunction,
    rows: Tensor,
    columns: Tensor | None,
    kinds: Sequence[Kind],
    z: Tensors | None = None,
    chunk: int | None = None,
    memory: float = 2e9,
) -> dict[Kind, Tensor]:
    """Return kernels of several kinds, of gradients that are computed once."""
    held = rows if columns is None else columns
    n_scores = function.scores(function.space.start if z is None else z, held[:1]).shape[-1]
    if isinstance(memory, bool) or not isinstance(memory, Real) or not memory > 0:
        raise InvalidInput("memory", "a number of bytes above 0", repr(memory), "pass e.g. 2e9")
    fitting = function.chunk(len(rows), len(held), n_scores, memory)
    size = fitting if chunk is None else min(at_least("chunk", chunk, 1), fitting)
    kept = function.all_gradients(held, size, z).flatten(0, 1)  # (M·S,D)
    if columns is None:
        parts: Iterable[Tensor] = kept.split(size * n_scores)
    else:
        parts = (part.flatten(0, 1) for part in function.gradients(rows, size, z))
    products = [[_product(part, kept, kind, size * n_scores) for kind in kinds] for part in parts]
    by_kind = zip(kinds, zip(*products, strict=True), strict=True)
    found: dict[Kind, Tensor] = {kind: torch.cat(each) for kind, each in by_kind}
    if not all(torch.isfinite(each).all() for each in found.values()):
        raise InvalidInput("gradients", "finite numbers", "NaN or infinity", "look at what the network computes")
    if n_scores == 1:
        return found
    return {kind: each.reshape(len(rows), n_scores, len(held), n_scores) for kind, each in found.items()}


def _product(rows: Tensor, columns: Tensor, kind: Kind, size: int) -> Tensor:
    """Return the kernel (n,m) of gradients (n,D) and (m,D), of so many columns at a time: signs are copies."""
    of_rows, of_columns = _SIDES[kind]
    left = of_rows(rows)
    return torch.cat([left @ of_columns(part).mT for part in columns.split(size)], dim=1)
