"""The Pyro distribution against Pyro's own DiscreteHMM, and by the rules of Pyro's shapes."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from comparisons import assert_equal
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_sample

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import posterior, viterbi
from ppl_hmm.models import HMM
from ppl_hmm.programs.distribution import CategoricalHMM

K, V, T = 3, 5, 7
BATCHES = [(), (2,), (4, 2), (4, 1)]


def logits(seed, batch_shape=()):
    stream = torch.Generator().manual_seed(seed)
    shapes = [(K,), (1, K, K), (1, K, V)]
    return [torch.randn(*batch_shape, *shape, dtype=torch.float64, generator=stream) for shape in shapes]


def both(parameters, **options):
    initial, transition, emission = parameters
    return tuple(
        kind(initial, transition, dist.Categorical(logits=emission), **options)
        for kind in (CategoricalHMM, dist.DiscreteHMM)
    )


def texts(seed, *shape):
    return torch.tensor(np.random.default_rng(seed).integers(V, size=(*shape, T)))


@pytest.mark.parametrize("batch_shape", BATCHES)
@pytest.mark.parametrize("value_shape", [(), (2,), (4, 2), (3, 4, 2)])
def test_log_prob_equals_that_of_discrete_hmm(batch_shape, value_shape):
    ours, theirs = both(logits(0, batch_shape))
    assert ours.batch_shape == theirs.batch_shape
    assert ours.event_shape == theirs.event_shape
    value = texts(1, *value_shape)
    assert ours.log_prob(value).shape == theirs.log_prob(value).shape
    assert_equal(ours.log_prob(value), theirs.log_prob(value))


@pytest.mark.parametrize("batch_shape", BATCHES)
def test_gradients_equal_those_of_discrete_hmm(batch_shape):
    parameters = [array.requires_grad_() for array in logits(0, batch_shape)]
    value = texts(1, 3, 4, 2)
    ours, theirs = (torch.autograd.grad(each.log_prob(value).sum(), parameters) for each in both(parameters))
    for one, other in zip(ours, theirs, strict=True):
        assert_equal(one, other)


def test_parameters_of_different_batch_shapes_broadcast():
    initial, transition, emission = logits(0)[0], logits(1, (2,))[1], logits(2, (4, 1))[2]
    ours, theirs = both((initial, transition, emission))
    assert ours.batch_shape == theirs.batch_shape == (4, 2)
    assert_equal(ours.log_prob(texts(1)), theirs.log_prob(texts(1)))


def test_expansion_and_masks_keep_pyros_rules():
    ours, theirs = (each.expand((6, 2)) for each in both(logits(0, (2,)), duration=T))
    assert ours.batch_shape == (6, 2)
    assert ours.event_shape == theirs.event_shape == (T,)
    value, mask = texts(1, 6, 2), torch.arange(12).reshape(6, 2) % 3 == 0
    assert_equal(ours.log_prob(value), theirs.log_prob(value))
    assert_equal(ours.mask(mask).log_prob(value), theirs.mask(mask).log_prob(value))
    assert_equal(ours.to_event(1).log_prob(value), theirs.to_event(1).log_prob(value))
    assert ours.sample().shape == (6, 2, T)
    assert ours.sample(torch.Size((3,))).shape == (3, 6, 2, T)
    assert not ours.has_enumerate_support
    with pytest.raises(NotImplementedError):
        ours.enumerate_support()


def test_unobserved_tokens_and_bad_ones():
    initial, transition, emission = (array.squeeze(0).softmax(-1) for array in logits(0))
    ours = both(logits(0), validate_args=True)[0]
    value = texts(1, 4)
    value[:, 2] = MASK
    assert_equal(ours.log_prob(value), posterior(HMM(initial, transition, emission), value).log_evidence)
    value[1, 3] = V
    with pytest.raises(InvalidInput, match=r"token out of range at sequence 1, position 3.*got 5; check"):
        ours.log_prob(value)
    with pytest.raises(InvalidInput, match=r"got -100"):
        ours.log_prob(torch.full((T,), -100))
    with pytest.raises(InvalidInput, match="observation_dist: expected a Categorical"):
        CategoricalHMM(initial, transition, dist.Normal(torch.zeros(K), 1.0))
    with pytest.raises(InvalidInput, match="DiscreteHMM"):
        CategoricalHMM(initial, torch.zeros(T, K, K), dist.Categorical(logits=torch.zeros(K, V)))
    with pytest.raises(InvalidInput, match="pass duration=T"):
        ours.sample()


def test_states_given_text():
    parameters, value = logits(0, (2,)), texts(1, 3, 2)
    ours = both(parameters)[0]
    smoothed, best, draws = ours.smooth(value), ours.viterbi(value), ours.sample_posterior(value, 4000, seed=0)
    assert smoothed.shape == (3, 2, T, K)
    assert best.shape == (3, 2, T)
    assert draws.shape == (4000, 3, 2, T)
    for p in range(2):
        initial, transition, emission = (array[p].reshape(-1, array.shape[-1]).softmax(-1) for array in parameters)
        model = HMM(initial[0], transition, emission)
        assert_equal(smoothed[:, p], posterior(model, value[:, p]).smoothed)
        assert torch.equal(best[:, p], viterbi(model, value[:, p]).states)
    share = torch.nn.functional.one_hot(draws, K).double().mean(0)
    assert ((share - smoothed).abs() <= 5 * (smoothed * (1 - smoothed) / 4000).sqrt() + 1e-12).all()


def test_it_trains_in_a_pyro_model_where_discrete_hmm_does():
    """From a random start: with AutoDelta's own, equal rows, gradients are rounding errors, which Adam makes large."""
    pyro.set_rng_seed(0)
    data = texts(1, 10)
    losses = []
    for kind in (CategoricalHMM, dist.DiscreteHMM):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)

        def model(kind=kind):
            one = torch.ones((), dtype=torch.float64)
            transition = pyro.sample("transition", dist.Dirichlet(2 * one.expand(K, K)).to_event(1))
            emission = pyro.sample("emission", dist.Dirichlet(2 * one.expand(K, V)).to_event(1))
            with pyro.plate("texts", 10), poutine.scale(scale=2.0):
                law = kind(
                    torch.zeros(K).double(), transition.log()[None], dist.Categorical(logits=emission.log()[None])
                )
                pyro.sample("text", law, obs=data)

        svi = SVI(model, AutoDelta(model, init_loc_fn=init_to_sample), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
        losses.append([svi.step() for _ in range(5)])
    pyro.clear_param_store()
    assert_equal(*losses, 1e-8)
