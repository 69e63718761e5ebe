"""Backends of exact inference, and which one computes what.

- ``torch``: step by step in torch, on any device (:mod:`ppl_hmm.exact.backends.recursive`); the slow reference.
- ``torch-bfloat16``: the same for float32 parameters, with products in bfloat16, sums and scales in float32: for
  thousands of states, where the products are all there is. Each product is right to three roundings, a factor of
  1 ± 2⁻⁸ each, so the log-evidence is off by at most 0.012 nats a token. Only ever by name.
- ``numba``: compiled loops on the CPU (:mod:`ppl_hmm.exact.backends.compiled`), where numba is installed (extra
  ``fast``) and compiles; machine code is kept on disk where that can be written.
- ``triton``: one kernel a pass on NVIDIA GPUs (:mod:`ppl_hmm.exact.backends.fused`), where triton is installed (extra
  ``gpu``).

All keep :class:`~ppl_hmm.exact.backends.contract.Backend` and give the same answers. The rule: on the CPU ``numba``, up
to :data:`MOST_COMPILED_STATES` states; on an NVIDIA GPU of compute capability 8 or later ``triton``, up to
:data:`MOST_FUSED_STATES` states, if it gives torch's answers there; else ``torch``. On the CPU it
follows timings; on the GPU the kernels are faster at every size that fits on chip. The environment variable
``PPL_HMM_BACKEND`` overrides the rule, and an argument of the functions of :mod:`ppl_hmm.exact.chain` both.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import os
import re

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.exact.algebra import REDUCED, SCALED
from ppl_hmm.exact.backends.contract import Backend
from ppl_hmm.exact.backends.recursive import Recursive
from ppl_hmm.exact.recursion import Chain

#: More states than this are faster as matrix products of torch.
MOST_COMPILED_STATES = 1024

#: More states than this, by precision, do not fit on chip.
MOST_FUSED_STATES = {torch.float32: 128, torch.float64: 64}

#: How far its answers may be from torch's, by precision.
_AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-10}
_OLDEST_TRITON = (3, 6)
_LOWEST_CAPABILITY = (8, 0)  # of the GPU
VARIABLE = "PPL_HMM_BACKEND"
_log = logging.getLogger("ppl_hmm")
_BY_RULE = "auto"
_NO_NUMBA = ("no numba", "pip install 'ppl-hmm[fast]'")
_TORCH = Recursive(SCALED)
_TORCH_BFLOAT16 = Recursive(REDUCED)


def choose(transition: Tensor, backend: str | None = None) -> Backend:
    """Return the backend named by the argument, by the environment or by the rule, for parameters as these.

    Raises
    ------
    InvalidInput
        An unknown name; ``numba`` where it does not compile, ``triton`` where it is not installed; either of them for
        arrays that it does not compute with.
    """
    name = backend or os.environ.get(VARIABLE) or _BY_RULE
    one_of("backend", name, (_BY_RULE, "numba", "torch", "torch-bfloat16", "triton"))
    if name == "torch":
        return _TORCH
    if name == "torch-bfloat16":
        if transition.dtype != torch.float32:
            raise InvalidInput("backend", "float32 parameters", str(transition.dtype), "call .to(torch.float32)")
        return _TORCH_BFLOAT16
    if name == "triton":
        _require_triton(transition)
        return _fused()
    on_cpu = transition.device.type == "cpu" and transition.dtype in (torch.float32, torch.float64)
    if name == "numba":
        if not has_numba():
            raise InvalidInput("backend", "numba to compile", *_numba_fault())
        if not on_cpu:
            raise InvalidInput("backend", "parameters on the CPU", str(transition.device), "choose backend 'torch'")
        return _compiled()
    if on_cpu and transition.shape[-1] <= MOST_COMPILED_STATES and has_numba():
        return _compiled()
    if _suits_triton(transition) and has_triton() and _agrees_with_torch(transition.device, transition.dtype):
        return _fused()
    return _TORCH


def _require_triton(transition: Tensor) -> None:
    """Raise unless triton is installed and computes with parameters as these."""
    if not has_triton():
        raise InvalidInput("backend", "triton 3.6 or later to be installed", "none", "pip install 'ppl-hmm[gpu]'")
    most = MOST_FUSED_STATES.get(transition.dtype)
    if most is None:
        remedy = "call .to(torch.float32) or .to(torch.float64)"
        raise InvalidInput("backend", "float32 or float64 parameters", str(transition.dtype), remedy)
    # Triton's interpreter takes tensors of the CPU: slow, to test with.
    if transition.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        remedy = "call .to(device='cuda'), or choose backend 'torch'"
        raise InvalidInput("backend", "parameters on an NVIDIA GPU", str(transition.device), remedy)
    if transition.shape[-1] > most:
        expected, remedy = f"at most {most} states in {transition.dtype}", "choose backend 'torch'"
        raise InvalidInput("backend", expected, str(transition.shape[-1]), remedy)


def _suits_triton(transition: Tensor) -> bool:
    """Say whether the rule takes parameters as these to triton."""
    return (
        transition.device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(transition.device) >= _LOWEST_CAPABILITY
        and transition.shape[-1] <= MOST_FUSED_STATES.get(transition.dtype, 0)
    )


@functools.cache
def _agrees_with_torch(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether triton works here, by a small text that torch reads too; the first call on a device asks."""
    stream = torch.Generator("cpu").manual_seed(0)
    shapes = (1, 17), (1, 17, 17), (1, 5, 17)
    initial, transition, table = (
        torch.rand(shape, generator=stream, dtype=dtype, device="cpu").softmax(-1).to(device) for shape in shapes
    )
    ids = torch.randint(5, (1, 20, 40), generator=stream, device="cpu").to(device)
    chain = Chain(initial, transition, table, ids)
    expected, _ = _TORCH.smooth(chain, range(40), own_token=True)
    try:
        ours, _ = _fused().smooth(chain, range(40), own_token=True)
    except Exception as error:  # of triton, its compiler or the driver: torch computes without them
        _log.warning("torch computes in place of triton, which does not run on %s: %s", device, error)
        return False
    atol = _AGREEMENT[dtype]
    agrees = all(torch.allclose(*pair, rtol=0, atol=atol) for pair in zip(ours[:3], expected[:3], strict=True))
    if not agrees:
        _log.warning("torch computes in place of triton, whose answers differ on %s: please report it", device)
    return agrees


@functools.cache
def has_numba() -> bool:
    """Say whether numba is installed and compiles; where it is installed and does not, log why."""
    fault = _numba_fault()
    if fault and fault != _NO_NUMBA:
        _log.warning("torch computes in place of numba: %s; %s", *fault)
    return not fault


def _numba_fault() -> tuple[str, str] | tuple[()]:
    """Return what keeps numba from compiling, and the remedy; nothing where nothing does."""
    if importlib.util.find_spec("numba") is None:
        return _NO_NUMBA
    try:
        from numba import config

        if config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
            return "NUMBA_DISABLE_JIT", "unset it"
        _compiled()
    except Exception as error:  # of an installation that is broken, or not made for this numpy
        return f"{type(error).__name__} ({' '.join(str(error).split())})", "install another version of numba"
    return ()


@functools.cache
def has_triton() -> bool:
    """Say whether a triton that is new enough is installed."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        version = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("triton"))
    except importlib.metadata.PackageNotFoundError:  # it came under another name: nobody knows how old it is
        return False
    return version is not None and tuple(map(int, version.groups())) >= _OLDEST_TRITON


@functools.cache
def _fused() -> Backend:
    from ppl_hmm.exact.backends.fused import Fused  # triton need not be installed

    return Fused()


@functools.cache
def _compiled() -> Backend:
    from ppl_hmm.exact.backends.compiled import Compiled  # numba takes a while to import

    return Compiled()
