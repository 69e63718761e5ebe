"""Backends of exact inference, and which one computes what.

- ``torch``: step by step in torch, on any device (:mod:`ppl_hmm.exact.backends.recursive`); the slow reference.
- ``torch-bfloat16``: the same for float32 parameters, with products in bfloat16, sums and scales in float32: for
  thousands of states, where the products are all there is. Each product is right to three roundings, a factor of
  1 ± 2⁻⁸ each, so the log-evidence is off by at most 0.012 nats a token. Only ever by name.
- ``numba``: compiled loops on the CPU (:mod:`ppl_hmm.exact.backends.compiled`), where numba is installed (extra
  ``fast``).

All keep :class:`~ppl_hmm.exact.backends.contract.Backend` and give the same answers. The rule: on the CPU ``numba``, up
to :data:`MOST_COMPILED_STATES` states; else ``torch``. The environment variable ``PPL_HMM_BACKEND`` overrides the rule,
and an argument of the functions of :mod:`ppl_hmm.exact.chain` both.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.exact.algebra import REDUCED, SCALED
from ppl_hmm.exact.backends.contract import Backend
from ppl_hmm.exact.backends.recursive import Recursive

#: More states than this are faster as matrix products of torch.
MOST_COMPILED_STATES = 1024

VARIABLE = "PPL_HMM_BACKEND"
_BY_RULE = "auto"
_TORCH = Recursive(SCALED)
_TORCH_BFLOAT16 = Recursive(REDUCED)


def choose(transition: Tensor, backend: str | None = None) -> Backend:
    """Return the backend named by the argument, by the environment or by the rule, for parameters as these.

    Raises
    ------
    InvalidInput
        An unknown name; ``numba`` where it is not installed, or for arrays that are not on the CPU.
    """
    name = backend or os.environ.get(VARIABLE) or _BY_RULE
    one_of("backend", name, (_BY_RULE, "numba", "torch", "torch-bfloat16"))
    if name == "torch":
        return _TORCH
    if name == "torch-bfloat16":
        if transition.dtype != torch.float32:
            raise InvalidInput("backend", "float32 parameters", str(transition.dtype), "call .to(torch.float32)")
        return _TORCH_BFLOAT16
    on_cpu = transition.device.type == "cpu" and transition.dtype in (torch.float32, torch.float64)
    if name == "numba":
        if not has_numba():
            raise InvalidInput("backend", "numba to be installed", "no numba", "pip install 'ppl-hmm[fast]'")
        if not on_cpu:
            raise InvalidInput("backend", "parameters on the CPU", str(transition.device), "choose backend 'torch'")
        return _compiled()
    return _compiled() if on_cpu and has_numba() and transition.shape[-1] <= MOST_COMPILED_STATES else _TORCH


@functools.cache
def has_numba() -> bool:
    """Say whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _compiled() -> Backend:
    from ppl_hmm.exact.backends.compiled import Compiled  # numba takes a while to import

    return Compiled()
