"""Causal language models: the exact one, one of a user's own, and the features that heads read."""

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_equal

from ppl_hmm import (
    HMM,
    MASK,
    CausalLM,
    CausalOracleLM,
    LinearHead,
    OracleLM,
    SoftPrompt,
    beliefs,
    example,
    next_token_features,
    probe_features,
    sample,
)
from ppl_hmm.errors import ImpossibleText, InvalidInput

MODEL = oracle.random_model(np.random.default_rng(3), 3, 4)
TEXT = [[0, 1, 2], [3, MASK, 1]]
# State 1 is never reached; nothing follows token 2.
STRICT = HMM([1, 0], [[1, 0], [0.5, 0.5]], [[0.5, 0.5, 0], [0.25, 0.25, 0.5]])


class Bigram:
    """A causal language model of the user's own: P(next | last token), uniform without one."""

    vocabulary_size, batch_shape, prompt_shape, prompt_constraint = 4, (), (4,), "real"

    def __init__(self):
        self.law = torch.tensor(np.random.default_rng(0).dirichlet(np.ones(4), 4))

    def next_token_laws(self, tokens, **_):
        start = torch.full((len(tokens), 1, 4), 0.25, dtype=torch.float64)
        return torch.cat([start, self.law[tokens]], dim=1)

    def law_after(self, tokens, *, suffix=None, lengths=None, **_):
        ends = torch.full((len(tokens),), tokens.shape[1]) if lengths is None else lengths
        last = tokens.gather(1, ends[:, None] - 1)[:, 0] if suffix is None else suffix[-1].expand(len(tokens))
        return self.law[last]


def test_the_oracle_gives_beliefs_as_laws_of_tokens():
    lm, prompt = CausalOracleLM(MODEL), SoftPrompt([[0.5, 1.0, 0.0]])
    found = beliefs(MODEL, TEXT, prompt=prompt, lengths=[3, 2], impossible="mask")
    assert_equal(lm.next_token_laws(TEXT, prompt=prompt, lengths=[3, 2]), found.next_token)
    assert_equal(lm.law_after(TEXT, prompt=prompt, lengths=[3, 2])[0], found.next_token[0, 3])
    assert_equal(lm.law_after(TEXT, prompt=prompt, lengths=[3, 2])[1], found.next_token[1, 2])
    assert (lm.vocabulary_size, lm.batch_shape, lm.prompt_shape, lm.prompt_constraint) == (4, (), (3,), "nonnegative")
    memory, _ = example("memory")
    assert CausalOracleLM(memory).prompt_shape == (2, 2)


@pytest.mark.parametrize("lm", [CausalOracleLM(MODEL), Bigram()], ids=["oracle", "own"])
def test_causal_language_models_keep_the_protocol(lm):
    assert isinstance(lm, CausalLM)
    assert_equal(lm.next_token_laws(torch.tensor([[0, 1]])).sum(-1), np.ones((1, 3)))
    features = next_token_features(lm, [[0, 1, 2], [3, 1, 1]], lengths=[3, 1])
    laws = lm.next_token_laws(torch.tensor([[0, 1, 2], [3, 1, 1]]), lengths=torch.tensor([3, 1]))
    assert_equal(features, torch.stack([laws[0, 3], laws[1, 1]]))
    templated = next_token_features(lm, [[0, 1, 2], [3, 1, 1]], [2, 0], lengths=[3, 1])
    laws = lm.next_token_laws(torch.tensor([[0, 1, 2, 2, 0], [3, 2, 0, 0, 0]]), lengths=torch.tensor([5, 3]))
    assert_equal(templated, torch.stack([laws[0, 5], laws[1, 3]]))


def test_features_after_soft_templates_and_prompts():
    rows, prompt = np.array([[0.2, 1.0, 0.5], [1.0, 0.0, 0.3]]), [[1.0, 0.5, 0.5]]
    found = next_token_features(CausalOracleLM(MODEL), TEXT, rows, prompt=prompt)
    for text, law in zip(np.array(TEXT), found, strict=True):
        before = oracle.likelihood_rows(MODEL, text, np.array(prompt))  # no text ends in a mask
        expected = oracle.after_rows(MODEL, [*before, *rows]) @ MODEL.transition.numpy() @ MODEL.emission.numpy()
        assert_equal(law, expected)
    masked = next_token_features(CausalOracleLM(MODEL), TEXT, [MASK])
    assert_equal(masked, beliefs(MODEL, TEXT).predicted[:, -1] @ MODEL.transition @ MODEL.emission)


def test_batches_of_models_and_ragged_or_empty_texts():
    other = oracle.random_model(np.random.default_rng(4), 3, 4)
    found = next_token_features(CausalOracleLM(HMM.stack([MODEL, other])), [[], [0, 1]], [2], impossible="mask")
    assert found.shape == (2, 2, 4)
    for model, features in zip((MODEL, other), found, strict=True):
        assert_equal(features[0], next_token_features(CausalOracleLM(model), [[]], [2], impossible="mask")[0])
        assert_equal(features[1], next_token_features(CausalOracleLM(model), [[0, 1]], [2], impossible="mask")[0])


def test_masks_at_the_end_are_no_part_of_a_text():
    lm, template = CausalOracleLM(MODEL), [2, MASK]
    expected = next_token_features(lm, [[0, 1, 2], [3, 1, 1]], template, lengths=[3, 1], impossible="mask")
    ways = ([[0, 1, 2], [3]], [[0, 1, 2, MASK, MASK], [3, MASK, MASK, MASK, MASK]])
    for tokens in ways:
        assert_equal(next_token_features(lm, tokens, template, impossible="mask"), expected)
    longer = next_token_features(lm, ways[1], template, lengths=[4, 2], impossible="mask")
    assert_equal(longer, next_token_features(lm, [[0, 1, 2], [3]], [MASK, *template], impossible="mask"))


def test_heads_learn_from_next_token_features():
    drawn = sample(MODEL, 200, 6, 0)
    features = next_token_features(CausalOracleLM(MODEL), drawn.tokens)
    labels = (features[:, 0] > features[:, 0].median()).long()
    assert LinearHead(C=1e6).fit(features, labels).score(features, labels) > 0.99


def test_single_precision_stays_single():
    lm = CausalOracleLM(MODEL.to(dtype=torch.float32))
    assert next_token_features(lm, TEXT, [0]).dtype == torch.float32


def test_impossible_texts_and_templates_are_named():
    lm = CausalOracleLM(STRICT)
    with pytest.raises(ImpossibleText, match="sequence 1: expected positive probability"):
        next_token_features(lm, [[0], [2]])
    with pytest.raises(ImpossibleText, match="sequence 0 with its template"):
        next_token_features(lm, [[0], [1]], [2])
    two = CausalOracleLM(HMM.stack([HMM([0, 1], STRICT.transition, STRICT.emission), STRICT]))
    with pytest.raises(ImpossibleText, match="sequence 0 under model 1 with its template"):
        next_token_features(two, [[0]], [2])
    assert (next_token_features(lm, [[0], [1]], [2], impossible="mask") == 0).all()
    assert (lm.next_token_laws([[2, 0]])[0, 1:] == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: next_token_features(CausalOracleLM(MODEL), TEXT, [1, 4]), r"token 1 of template: .* 0\.\.3.* got 4"),
        (lambda: next_token_features(CausalOracleLM(MODEL), TEXT, []), "template: expected at least one token"),
        (lambda: next_token_features(CausalOracleLM(MODEL), TEXT, "no"), "template: expected an array of numbers"),
        (lambda: next_token_features(CausalOracleLM(MODEL), TEXT, [0.5]), "template: expected integers"),
        (lambda: next_token_features(CausalOracleLM(MODEL), TEXT, [[1, 0, 1]]), "template: expected integers"),
        (lambda: next_token_features(CausalOracleLM(MODEL), TEXT, [[1.0]]), r"template: expected shape \('L', 3\)"),
        (lambda: next_token_features(CausalOracleLM(MODEL), TEXT, [[-1.0, 0, 1]]), "template row entry"),
        (lambda: next_token_features(CausalOracleLM(MODEL), [[4]]), "token out of range"),
        (lambda: next_token_features(CausalOracleLM(MODEL), TEXT, impossible=0), "unknown value of 'impossible'"),
        (lambda: next_token_features(OracleLM(MODEL), TEXT), r"take the causal .* CausalOracleLM\(lm.model\)"),
        (lambda: next_token_features(MODEL, TEXT), r"wrap the model: CausalOracleLM\(model\)"),
        (lambda: probe_features(CausalOracleLM(MODEL), TEXT), r"take the masked .* OracleLM\(lm.model\)"),
        (lambda: CausalOracleLM(TEXT), "model of a CausalOracleLM: expected an HMM"),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()


def test_what_an_own_model_returns_is_checked():
    class Wrong(Bigram):
        def law_after(self, *_, **__):
            return self.law[:1].log()

    with pytest.raises(InvalidInput, match="law_after of Wrong: expected shape"):
        next_token_features(Wrong(), TEXT)
    with pytest.raises(InvalidInput, match=r"law_after of Wrong: .* logarithms \.exp"):
        next_token_features(Wrong(), TEXT[:1])
