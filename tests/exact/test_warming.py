"""Warming up leaves nothing to compile."""

import numpy as np
import pytest
import torch
from numba.types import Array

from ppl_hmm import (
    HMM,
    InvalidInput,
    beliefs,
    log_likelihood,
    masked_conditionals,
    posterior,
    sample_posterior,
    viterbi,
)
from ppl_hmm.exact.augmentation import draw_path_counts
from ppl_hmm.exact.backends import warming
from ppl_hmm.exact.backends.compiled import passes, paths
from ppl_hmm.exact.backends.compiled.columns import gradient_by_columns
from ppl_hmm.exact.backends.compiled.gradient import gradient
from ppl_hmm.exact.backends.compiled.narrow import narrow_gradient
from ppl_hmm.exact.recursion import Chain
from ppl_hmm.inference.queries import initial_posterior

KERNELS = (
    passes.floors,
    passes.evidence,
    passes.filtered,
    passes.smooth,
    passes.messages,
    gradient,
    gradient_by_columns,
    narrow_gradient,
    paths.best_path,
    paths.sample_paths,
    paths.path_counts,
)


def test_every_kernel_is_compiled_in_both_precisions():
    warming.warm_up()
    for kernel in KERNELS:
        arrays = [argument for signature in kernel.signatures for argument in signature if isinstance(argument, Array)]
        assert {"float64", "float32"} <= {array.dtype.name for array in arrays}, kernel


def test_nothing_is_left_to_compile(monkeypatch):
    warming.warm_up()
    before = {kernel: set(kernel.signatures) for kernel in KERNELS}
    monkeypatch.setenv("PPL_HMM_BACKEND", "numba")
    for dtype in (torch.float64, torch.float32):
        model = HMM([0.5, 0.5], np.eye(2), [[0.5, 0.5], [0.25, 0.75]]).to(dtype)
        text = [[0, 1], [1, 1]]
        posterior(model, text)
        beliefs(model, text)
        masked_conditionals(model, text)
        initial_posterior(model, text)
        viterbi(model, text)
        sample_posterior(model, text, 3, seed=0)
        laws = (model.initial, model.transition, model.emission.mT)
        chain = Chain(*(law[None] for law in laws), torch.tensor([text]))
        draw_path_counts(chain, torch.tensor([[2, 2]]), torch.Generator())
        table = model.emission.clone().requires_grad_()
        log_likelihood(HMM(model.initial, model.transition, table), text).sum().backward()
    assert {kernel: set(kernel.signatures) for kernel in KERNELS} == before


def test_without_numba_there_is_nothing_to_compile(monkeypatch):
    monkeypatch.setattr(warming, "choose", _none)
    with pytest.raises(InvalidInput, match="numba to compile"):
        warming.warm_up()


def _none(transition, backend):
    raise InvalidInput("backend", "numba to compile", "no numba", "pip install 'ppl-hmm[fast]'")
