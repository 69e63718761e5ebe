"""Second derivatives of log P(x): a tape behind the closed-form gradient, on every backend."""

import numpy as np
import oracle
import pyro
import pyro.distributions as dist
import pytest
import torch
from conftest import BACKENDS
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoLaplaceApproximation

from ppl_hmm import CategoricalHMM, MemoryHMM, log_likelihood, random_hmm, sample
from ppl_hmm.exact import chain
from ppl_hmm.exact.recursion import Chain

each_backend = pytest.mark.parametrize("backend", BACKENDS)
TEXT = torch.tensor([[[0, 1, 1], [2, 0, 2]]])


def parameters(seed, n_states=2, n_rows=3):
    rng = np.random.default_rng(seed)
    shapes = ((1, n_states), (1, n_states, n_states), (1, n_rows, n_states))
    return [torch.tensor(oracle.random_rows(rng, *shape), requires_grad=True) for shape in shapes]


@each_backend
def test_the_hessian_of_a_text_of_one_token_is_that_of_its_formula(backend):
    """P(x) = π₀ A w is linear in each, so that ∂² log P / ∂w² = −(π₀A)(π₀A)ᵀ / P²."""
    initial, transition, table = parameters(0)
    hessian = torch.autograd.functional.hessian(
        lambda rows: chain.log_evidence(Chain(initial, transition, rows, TEXT[:, :1, :1]), backend=backend).sum(), table
    )
    entering = (initial @ transition)[0, 0].detach()
    probability = entering @ table[0, 0].detach()
    expected = -torch.outer(entering, entering) / probability**2
    torch.testing.assert_close(hessian[0, 0, :, 0, 0], expected, rtol=1e-12, atol=0)
    assert (hessian[0, 1:] == 0).all()


@each_backend
def test_functions_of_the_evidence_are_differentiated_twice_and_thrice(backend):
    """What comes from above depends on the parameters, too: each order against differences of the one before."""
    text, (*others, transition) = TEXT[..., :2], [parameters(1)[i] for i in (0, 2, 1)]

    def curvature(moves):
        evidence = chain.log_evidence(Chain(others[0].detach(), moves, others[1].detach(), text), backend=backend)
        (first,) = torch.autograd.grad(evidence.square().sum(), moves, create_graph=True)
        return torch.autograd.grad(first.square().sum(), moves, create_graph=True)

    assert torch.autograd.gradcheck(curvature, transition)


@each_backend
def test_the_hessian_of_a_probability_of_one_token_is_zero(backend):
    """P(x) = π₀ A w is linear in w."""
    initial, transition, table = parameters(3)
    hessian = torch.autograd.functional.hessian(
        lambda rows: chain.log_evidence(Chain(initial, transition, rows, TEXT[:, :, :1]), backend=backend).exp().sum(),
        table,
    )
    torch.testing.assert_close(hessian, torch.zeros_like(hessian), rtol=0, atol=1e-12)


def test_models_with_a_memory():
    rng = np.random.default_rng(2)
    shapes = ((2, 2), (2,), (2, 2), (2, 2, 3))  # two cells of two values, two states, three tokens
    logits = [torch.tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]

    def function(*given):
        prior, initial, transition, emission = (each.softmax(-1) for each in given)
        return log_likelihood(MemoryHMM(prior, initial, transition, [0, 1], emission), TEXT[0, :1, :2])

    assert torch.autograd.gradgradcheck(function, logits)


@each_backend
def test_at_zeros_they_are_right_within_reach_of_floats_and_finite_beyond(backend):
    initial = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    table = torch.tensor([[[0.5, 0.25]]], dtype=torch.float64)

    def evidence(transition, length):
        return chain.log_evidence(
            Chain(initial, transition, table, torch.zeros(1, 1, length).long()), backend=backend
        ).sum()

    identity = torch.eye(2, dtype=torch.float64)[None]
    short = torch.autograd.functional.hessian(lambda moves: evidence(moves, 2), identity)[0, :, :, 0]
    # P = ½a(½a + ¼b) + ¼b(½c + ¼d) at a = d = 1, b = c = 0, a = A[0,0], b = A[0,1], c = A[1,0].
    p, of_b, of_c = 0.25, 0.125 + 0.0625, 0.0
    np.testing.assert_allclose(short[0, 1, 0, 1], -((of_b / p) ** 2), rtol=1e-12)
    np.testing.assert_allclose(short[0, 1, 1, 0], 0.125 / p - of_b * of_c / p**2, rtol=1e-12)
    table = torch.tensor([[[1e-200, 1e-100]]], dtype=torch.float64)
    assert torch.autograd.functional.hessian(lambda moves: evidence(moves, 2), identity).isfinite().all()


def test_impossible_text_has_none():
    leaf = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]], dtype=torch.float64)
    half = torch.full((1, 2, 2), 0.5, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(
        lambda rows: chain.log_evidence(Chain(half[:, 0], half, rows.mT, torch.tensor([[[0, 1]]]))).sum(), leaf
    )
    assert (hessian == 0).all()


def test_a_laplace_approximation_of_pyro():
    """The same precision as with Pyro's own DiscreteHMM, whose log_prob is a tape of torch."""
    text = sample(random_hmm("dirichlet", 2, 3, seed=0), 5, 4, seed=0).tokens

    def precision(law_of):
        def model():
            moves = pyro.sample("moves", dist.Dirichlet(torch.full((2, 2), 30.0).double()).to_event(1))
            emission = pyro.sample("emission", dist.Dirichlet(torch.full((2, 3), 30.0).double()).to_event(1))
            with pyro.plate("texts", len(text)):
                pyro.sample("x", law_of(moves.log(), dist.Categorical(logits=emission.log())), obs=text)

        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        guide = AutoLaplaceApproximation(model)
        SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO()).step()
        return guide.laplace_approximation().get_posterior().precision_matrix

    start = torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    ours = precision(lambda moves, emission: CategoricalHMM(start, moves, emission))
    theirs = precision(lambda moves, emission: dist.DiscreteHMM(start, moves, emission, duration=4))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_a_zero_among_logits_keeps_its_gradient_of_zero():
    """The derivative by the probability is beyond any float; by its logit, −inf, it is zero."""
    moves = torch.eye(2, dtype=torch.float64).log().requires_grad_()
    start = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
    law = CategoricalHMM(start, moves, dist.Categorical(logits=torch.tensor([[0.1, 0.9], [1.0, 0.0]]).double().log()))
    (ours,) = torch.autograd.grad(law.log_prob(torch.zeros(400).long()), moves)
    assert (ours == 0).all()
