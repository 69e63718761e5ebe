"""On a GPU the kernels give the CPU's answers, and are what the rule takes. Only run when asked for by the marker."""

import pytest
import torch
from chains import arrays
from comparisons import assert_equal
from fused_checks import assert_counts_agree, assert_passes_agree, rounding_bound

from ppl_hmm import (
    beliefs,
    log_likelihood,
    masked_conditionals,
    posterior,
    random_hmm,
    sample,
    sample_posterior,
    viterbi,
)
from ppl_hmm.base.tokens import ends
from ppl_hmm.exact import backends
from ppl_hmm.exact.backends.fused import Fused, launch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
# One text and few states go in segments, many texts in blocks.
SHAPES = [
    {"n_sequences": 300, "length": 100},
    {"n_sequences": 1, "length": 2000},
    {"n_sequences": 37, "length": 1, "n_models": 3},
]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=["many", "long", "one token"])
each_size = pytest.mark.parametrize("n_states", [1, 8, 30, 64])


@each_shape
@each_size
@pytest.mark.parametrize("zeros", [0.0, 0.3])
def test_double_precision(shape, n_states, zeros):
    given = arrays(1, n_states=n_states, zeros=zeros, **shape)
    assert_passes_agree(given, 0, device="cuda")
    assert_counts_agree(given, 0, device="cuda")


@each_shape
@pytest.mark.parametrize("n_states", [1, 8, 30, 64, 128])
def test_single_precision(shape, n_states):
    given = arrays(1, n_states=n_states, dtype=torch.float32, **shape)
    bound = rounding_bound(shape["length"], n_states)
    assert_passes_agree(given, 0, device="cuda", tolerance=bound)
    assert_counts_agree(given, 0, device="cuda", tolerance=3 * bound)


def test_one_long_text_goes_in_segments():
    assert launch.segments_of(1, 2000, 30) > 1
    assert launch.segments_of(300, 100, 30) == 1


def test_the_rule(monkeypatch):
    monkeypatch.delenv(backends.VARIABLE, raising=False)

    def chosen(n_states, dtype):
        return backends.choose(torch.empty(1, n_states, n_states, dtype=dtype, device="cuda"))

    for dtype, most in backends.MOST_FUSED_STATES.items():
        assert isinstance(chosen(most, dtype), Fused)
        assert chosen(most + 1, dtype) is backends.choose(torch.eye(2)[None], "torch")
    assert not isinstance(chosen(3, torch.float16), Fused)


def test_ends_of_texts():
    text = torch.tensor([[0, 2, -1, 1], [-1, -1, -1, -1], [1, -1, -1, -1]])
    for tokens in (text, text[:, :0], text[None].expand(3, -1, -1)):
        assert torch.equal(ends(tokens.cuda()).cpu(), ends(tokens))


@pytest.mark.parametrize("n_states", [30, 200])
def test_what_users_call(n_states):
    model = random_hmm("dirichlet", n_states, 10, seed=0)
    text = sample(model, 20, 50, seed=0).tokens
    there = model.to(device="cuda")
    for compute in (
        lambda model: posterior(model, text).smoothed,
        lambda model: beliefs(model, text).filtered,
        lambda model: beliefs(model, text).next_token,
        lambda model: masked_conditionals(model, text),
        lambda model: log_likelihood(model, text),
        lambda model: viterbi(model, text).log_probability,
    ):
        ours = compute(there)
        assert ours.device.type == "cuda"
        assert_equal(ours.cpu(), compute(model))
    draws = sample_posterior(there, text, 3, seed=0).states
    assert draws.shape == (20, 3, 50)
