"""Language models of users: what is missing or wrong is named by its member; half, single and double precision work."""

import numpy as np
import pytest
import torch

from ppl_hmm import InvalidInput, LinearHead, OracleLM, fit_prompt, masked_features, probe_features, random_hmm, sample

MODEL = random_hmm("dirichlet", 3, 4, 0)
TEXT = sample(MODEL, 12, 3, 0).tokens
LABELS = (np.arange(12) % 2).tolist()


class Own:
    """The oracle, as a user would write it: one method changes, or a member is missing."""

    vocabulary_size, batch_shape, prompt_shape, prompt_constraint = 4, (), (3,), "nonnegative"

    def change(self, conditionals):
        return conditionals

    def conditionals(self, tokens, **options):
        return self.change(OracleLM(MODEL).conditionals(tokens, **options))

    def encode(self, tokens, lengths=None):
        return Encoded(OracleLM(MODEL).encode(tokens, lengths), self.change)


class Encoded:
    def __init__(self, text, change):
        self.text, self.change = text, change

    def conditionals(self, prompt=None, positions=None):
        return self.change(self.text.conditionals(prompt, positions))


def own(**members):
    return type("Mine", (Own,), members)()


def by(function):
    return own(change=lambda _, conditionals: function(conditionals))


def fit(lm):
    return fit_prompt(lm, TEXT, LABELS, validation=(TEXT, LABELS), seed=0, restarts=1)


WRONG = {
    "logits": (lambda each: each - 2, r"conditionals of \w+: expected probabilities, got an entry of -.*softmax"),
    "logarithms": (torch.log, r"expected probabilities, got an entry of -.*\.exp"),
    "positive logits": (lambda each: each + 1, "expected rows that sum to 1, got a row that sums to 5"),
    "NaN": (lambda each: each / 0 * 0, "expected finite probabilities, got NaN or infinity"),
    "another V": (lambda each: each[..., :3], r"expected shape \(.*4\): a probability for each of V = 4 tokens"),
    "no positions": (lambda each: each[..., 0, :], "expected shape"),
    "not normalised": (lambda each: each * 1.001, "expected rows that sum to 1, got a row that sums to 1.001"),
    "integers": (lambda each: (each * 0).long(), "expected floating-point probabilities, got torch.int64"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("read", [lambda lm: probe_features(lm, TEXT), lambda lm: masked_features(lm, TEXT), fit])
def test_what_is_no_conditional_law_is_named(name, read):
    function, message = WRONG[name]
    with pytest.raises(InvalidInput, match=message):
        read(by(function))


@pytest.mark.parametrize("member", ["vocabulary_size", "batch_shape", "conditionals"])
def test_missing_members_are_named(member):
    members = {name: value for name, value in vars(Own).items() if name != member and not name.startswith("__")}
    lm = type("Mine", (), members)()
    for read in (lambda: probe_features(lm, TEXT), lambda: masked_features(lm, TEXT), lambda: fit(lm)):
        with pytest.raises(InvalidInput, match=f"Mine without {member}; add what is missing"):
            read()


@pytest.mark.parametrize("member", ["encode", "prompt_shape", "prompt_constraint"])
def test_only_prompts_need_more(member):
    members = {name: value for name, value in vars(Own).items() if name != member and not name.startswith("__")}
    lm = type("Mine", (), members)()
    torch.testing.assert_close(probe_features(lm, TEXT), probe_features(OracleLM(MODEL), TEXT))
    with pytest.raises(InvalidInput, match=f"model of fit_prompt: .* Mine without {member}; add what is missing"):
        fit(lm)


@pytest.mark.parametrize("size", [0, 2.5, True, "4", None])
def test_sizes_that_are_none(size):
    with pytest.raises(InvalidInput, match="vocabulary_size of Mine: expected an integer"):
        probe_features(own(vocabulary_size=size), TEXT)
    with pytest.raises(InvalidInput, match="batch_shape of Mine: expected a tuple"):
        probe_features(own(batch_shape=size), TEXT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_precision_is_a_language_model(dtype):
    lm = by(lambda conditionals: conditionals.to(dtype))
    features, expected = probe_features(lm, TEXT), probe_features(OracleLM(MODEL), TEXT)
    assert features.dtype == dtype
    torch.testing.assert_close(features.double(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)
    assert masked_features(lm, TEXT).conditionals.dtype == dtype
    if dtype == torch.float32:
        assert isinstance(fit(lm).head, LinearHead)


def test_impossible_contexts_may_be_zeros_and_arrays_may_be_numpy():
    zeros = by(lambda conditionals: torch.zeros_like(conditionals))
    assert probe_features(zeros, TEXT, impossible="mask").sum() == 0
    arrays = by(lambda conditionals: conditionals.numpy())
    assert torch.equal(probe_features(arrays, TEXT), probe_features(OracleLM(MODEL), TEXT))
