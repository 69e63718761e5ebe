"""Numbers that other libraries publish in their tests: hmmlearn, dynamax, Pyro, pytorch-struct.

Inputs and numbers are theirs, read at hmmlearn e01a10e, dynamax cfb005f, Pyro ff6ae1c and pytorch-struct 7146de5; the
code is ours.
"""

import math

import numpy as np
import pytest
import torch
from published import Exact, Example, Ours, check, observed

from ppl_hmm import HMM, MASK, log_likelihood, posterior, viterbi

EVERY_BACKEND = True


UMBRELLA = Example(
    name="hmmlearn, test_base.py, TestBaseAgainstWikipedia",
    start="0.5 0.5",
    transition="0.7 0.3; 0.3 0.7",
    emission="0.9 0.1; 0.2 0.8",
    alphabet="uo",
    text="uuouu",
    published={
        "log_likelihood": "-3.3725",
        "forward": "0.4500 0.1000; 0.3105 0.0410; 0.0230 0.0975; 0.0408 0.0150; 0.0298 0.0046",
        "backward": "0.0661 0.0455; 0.0906 0.1503; 0.4593 0.2437; 0.6900 0.4100; 1.0000 1.0000",
        "path": "AABAA",
        "log_path_probability": "-4.4590",
        "smoothed": "0.8673 0.1327; 0.8204 0.1796; 0.3075 0.6925; 0.8204 0.1796; 0.8673 0.1327",
    },
)
BOB = Example(
    name="hmmlearn, test_categorical_hmm.py; dynamax, test_models.py: walk, shop, clean when rainy or sunny",
    start="0.6 0.4",
    transition="0.7 0.3; 0.4 0.6",
    emission="0.1 0.4 0.5; 0.6 0.3 0.1",
    alphabet="wsc",
    text="wsc",
    states="RS",
    published={
        "path": "SRR",
        "path_probability": "0.01344",
        "likeliest": "SRR",
        "smoothed": "0.231703 0.768297; 0.624063 0.375937; 0.863977 0.136023",  # the digits that the test compares
    },
)
# Drawn as the test draws with its key 0 (jax_threefry_partitionable=False), in float32, and rows divided by their sums.
DYNAMAX = Example(
    name="dynamax, inference_test.py: test_hmm_smoother, test_hmm_posterior_mode",
    start="0.49912554 0.50087446",
    transition="0.357522339 0.642477661; 0.528436542 0.471563458",
    **observed(
        range(5),
        lambda t: math.exp([1.48108089, 1.091998219, -0.689964831, 0.487750143, -0.208340153][t]),
        lambda t: math.exp([-0.162098795, -0.00243944, -0.908983409, 1.348452806, -0.179609522][t]),
    ),
    published={
        "log_likelihood": "1.5738",
        "filtered": "0.8375 0.1625; 0.6519 0.3481; 0.4710 0.5290; 0.2555 0.7445; 0.4776 0.5224",
        "smoothed": "0.8127 0.1873; 0.6380 0.3620; 0.5040 0.4960; 0.2564 0.7436; 0.4776 0.5224",
        "path": "AABBA",
    },
)
# The rolls that the notebook draws (key 42, likewise) and does not print; they have its frequencies of sixes.
CASINO = Example(
    name="dynamax, docs/notebooks/hmm/casino_hmm_inference.ipynb: 300 rolls",
    start="1/2 1/2",
    transition="0.95 0.05; 0.1 0.9",
    emission="1/6 1/6 1/6 1/6 1/6 1/6; 1/10 1/10 1/10 1/10 1/10 1/2",
    alphabet="123456",
    text="6166665666644432314213244562342433654325363462364513646626146325646366632413463634615566642616565365"
    "6161623142534654412365243322522445366666526655153536564365665315451666166616441264355526666633233243"
    "1155136664624253265366432265555151222635432514215132142251663524664666364626462546453423553565113625",
    published={"log_likelihood": "-517.95"},
)
EXAMPLES = [each for each in globals().values() if isinstance(each, Example)]


@pytest.mark.parametrize(
    ("example", "quantity"),
    [pytest.param(each, name, id=f"{each.name}: {name}") for each in EXAMPLES for name in each.published],
)
def test_every_printed_digit(example, quantity):
    check(example, quantity)


def test_hmmlearn_itself():
    """Both conversions keep the probability of a text."""
    theirs = pytest.importorskip("hmmlearn.hmm").CategoricalHMM(2, init_params="")
    theirs.startprob_, theirs.transmat_ = np.array([0.6, 0.4]), np.array([[0.7, 0.3], [0.4, 0.6]])
    theirs.emissionprob_ = np.array([[0.1, 0.4, 0.5], [0.6, 0.3, 0.1]])
    ours = HMM.from_hmmlearn(theirs)
    expected = Exact(BOB).log_likelihood
    assert float(log_likelihood(ours, [BOB.tokens])[0]) == pytest.approx(expected, rel=1e-12)
    assert ours.to_hmmlearn().score(np.array(BOB.tokens)[:, None]) == pytest.approx(expected, rel=1e-12)


def test_dynamax_stability():
    """test_hmm_smoother_stability: log likelihoods of standard deviation 100, here 200 positions and 10 states."""
    stream = torch.Generator().manual_seed(0)
    transition = torch.rand(10, 10, generator=stream, dtype=torch.float64)
    rows = (100 * torch.randn(200, 10, generator=stream, dtype=torch.float64)).clamp(-300, 300).exp()
    model = HMM(torch.full((10,), 0.1), transition / transition.sum(1, keepdim=True), torch.ones(10, 1))
    states = posterior(model, [[MASK] * 3], prompt=rows)
    assert states.log_evidence.isfinite().all()
    np.testing.assert_allclose(states.smoothed.sum(-1), 1, rtol=1e-9)


# Pyro, tests/contrib/mue/test_missingdatahmm.py: a row of zeros is a missing observation. No number is printed there:
# expected are products of matrices, here fractions.
MISSING_DATA = {
    "0": ("0.9 0.08 0.02", "0.1 0.8 0.1; 0.5 0.3 0.2; 0.4 0.4 0.2", "0.99 0.01; 0.01 0.99; 0.5 0.5"),
    "1": ("0.2 0.7 0.1", "0.8 0.1 0.1; 0.2 0.6 0.2; 0.1 0.1 0.8", "0.4 0.6; 0.99 0.01; 0.7 0.3"),
    "state_infer": ("0.9 0.08 0.02", "0.1 0.8 0.1; 0.5 0.3 0.2; 0.4 0.4 0.2", "0.9 0.1; 0.1 0.9; 0.5 0.5"),
}


@pytest.mark.parametrize("text", ["10110?", "000???"])
@pytest.mark.parametrize("parameters", MISSING_DATA)
def test_pyro_missing_data(parameters, text):
    example = Example("missing data", *MISSING_DATA[parameters], "01", text, {}, states="abc")
    ours, exact = Ours(example), Exact(example)
    assert ours.path == exact.path
    for quantity in ("log_likelihood", "filtered", "smoothed"):
        expected = np.array(getattr(exact, quantity), float)
        np.testing.assert_allclose(np.array(getattr(ours, quantity)), expected, rtol=1e-12)


@pytest.mark.parametrize(("start", "sample"), [("0 1 0 0", "121"), ("1 0 0 0", "020")])
def test_pyro_certain_samples(start, sample):
    """test_missingdatahmm.py, test_samples: a cycle and its only sample, here with zeros for exp(-100)."""
    cycle, emission = "0 0 1 0; 0 0 0 1; 1 0 0 0; 0 1 0 0", "1 0 0; 0 1 0; 0 0 1; 0 0 1"
    assert Ours(Example("cycle", start, cycle, emission, "012", sample, {}, states="abcd")).likelihood == 1


@pytest.mark.parametrize("size", [1, 2, 3, 4, 10, 20])
def test_pyro_marginals_rise(size):
    """tests/infer/test_enum.py, test_compute_marginals_hmm: H₀ = 0, every y = 0, and one state more, seen to be 1."""
    emission = [[0.375, 0.125, 0.5, 0], [0.125, 0.375, 0, 0.5]]  # halves tell y, halves the state itself
    model = HMM([1, 0], [[0.75, 0.25], [0.25, 0.75]], emission)
    law = posterior(model, [[0] * size + [3]]).smoothed[0, :, 1]
    assert float(law[-1]) == pytest.approx(1, rel=1e-12)
    assert (law.diff() > 0).all()


def test_pyro_over_time():
    """tests/distributions/test_hmm.py, test_discrete_hmm_distribution: identity, then flip. States tell the time."""
    steps = torch.zeros(6, 6, dtype=torch.float64)
    steps[:2, 2:4] = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    steps[2:4, 4:] = torch.tensor([[0.1, 0.9], [0.9, 0.1]])
    steps[4:, 4:] = torch.eye(2)
    law = posterior(HMM([0.9, 0.1, 0, 0, 0, 0], steps, torch.ones(6, 1)), [[MASK, MASK]]).smoothed[0]
    expected = [0.1 * 0.9 + 0.9 * 0.1, 0.9**3 + 3 * 0.9 * 0.1**2]
    assert [float(law[0, 3]), float(law[1, 5])] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("length", [2, 3, 10, 20, 22, 30])
def test_pyro_gradients(length):
    """test_enum.py, test_elbo_hmm_in_guide: the loss is −Σ_t E log W[H_t, 1], an expectation under the chain alone.

    E r(H_t) is the likelihood of a row r ≥ 0 at t and of ones elsewhere; 2 makes log W positive.
    """
    published = {2: 0.1029949, 3: 0.25748726, 10: 1.64832076, 20: 3.70781687, 22: 4.11979618, 30: 5.76771452}
    logits = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64).log()
    transition, emission = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    start = torch.tensor([[0, 0, 1], [0.5, 0.5, 0]], dtype=torch.float64)
    padded = torch.cat([torch.nn.functional.pad(transition.softmax(-1), (0, 1)), start[1:]])
    model = HMM(start[0], padded, torch.ones(3, 1))
    row = torch.nn.functional.pad(emission.log_softmax(-1)[:, 1] + 2, (0, 1), value=1.0)
    loss = 0.0
    for t in range(length):
        prompt = torch.cat([torch.ones(t, 3, dtype=torch.float64), row[None]])
        loss = loss - (log_likelihood(model, [[MASK]], prompt=prompt)[0].exp() - 2)
    loss.backward()
    flow, count = published[length], 0.375 * length
    np.testing.assert_allclose(transition.grad, [[flow, -flow]] * 2, rtol=1e-6)
    np.testing.assert_allclose(emission.grad, [[count, -count], [count / 3, -count / 3]], rtol=1e-6)


@pytest.mark.parametrize(("n_states", "n_edges"), [(c, n) for c in (2, 3, 4) for n in (2, 3, 4)] + [(2, 7)])
def test_pytorch_struct_counts_paths(n_states, n_edges):
    """test_algorithms.py, test_linear_chain_counting: C^(N+1) paths; docs/source/model.ipynb prints 256 for C=2, N=7.

    Where all paths are equally probable, the likelihood over the probability of the best one is their number.
    """
    even = torch.full((n_states, n_states), 1 / n_states)
    model, text = HMM(even[0], even, torch.full((n_states, 3), 1 / 3)), [[0, 1, 2, 0, 1, 2, 0][:n_edges]]
    count = (log_likelihood(model, text) - viterbi(model, text).log_probability).exp()
    assert float(count) == pytest.approx(n_states ** (n_edges + 1), rel=1e-5)
