"""Beliefs over concepts: after prompts and suffixes, of batches and ragged texts, by sums over states."""

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_equal
from sweeps import sweep

from ppl_hmm import MASK, ConceptHMM, beliefs, random_hmm
from ppl_hmm.errors import ImpossibleText
from ppl_hmm.inference.beliefs import law_after
from ppl_hmm.inference.concepts import concept_posterior, next_token_law


def random_concepts(seed, concept_of_state=(0, 1, 0, 2)):
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, len(concept_of_state), 3)
    same = np.equal.outer(concept_of_state, concept_of_state)
    transition = model.transition.numpy() * same + np.eye(len(concept_of_state)) * 1e-3
    transition /= transition.sum(-1, keepdims=True)
    return ConceptHMM(model.initial, transition, model.emission, concept_of_state=list(concept_of_state))


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_two_routes_agree_after_prompts_and_suffixes(seed):
    rng, model = np.random.default_rng(seed), random_concepts(seed)
    tokens, prompt = rng.integers(-1, 3, size=(4, 3)), oracle.random_prompt(rng, 2, 4)
    options = {"prompt": prompt, "lengths": rng.integers(4, size=4), "impossible": "mask"}
    for suffix in (None, [1, MASK], oracle.random_prompt(rng, 1, 4)):
        found = beliefs(model, tokens, suffix=suffix, **options)
        assert_equal(concept_posterior(model, tokens, **options), found.concepts)
        law = next_token_law(model, tokens, suffix=suffix, **options)
        assert_equal(law, law_after(model, tokens, suffix=suffix, **options))
    own = [found.filtered[..., [k for k in range(4) if model.concept_of_state[k] == c]].sum(-1) for c in range(3)]
    assert_equal(found.concepts, torch.stack(own, -1))


def test_batches_are_read_one_by_one_and_text_may_be_empty():
    models = [random_concepts(seed, of) for seed, of in ((0, (0, 1, 0, 2)), (1, (2, 1, 1, 0)))]
    batch, tokens = ConceptHMM.stack(models), [[], [0], [1, 2]]
    options = {"impossible": "mask"}
    posterior, law = (f(batch, tokens, **options) for f in (concept_posterior, next_token_law))
    for number, model in enumerate(models):
        assert_equal(posterior[number], concept_posterior(model, tokens, **options))
        assert_equal(law[number], next_token_law(model, tokens, **options))
        assert_equal(beliefs(batch, tokens, **options).concepts[number], posterior[number])
        prior = [model.initial[model.concept_of_state == concept].sum() for concept in range(3)]
        assert_equal(concept_posterior(model, [[]])[0, 0], prior)
        assert_equal(law[number, 0], model.initial @ model.transition @ model.emission)


def test_an_impossible_suffix_is_named():
    strict = ConceptHMM([0.5, 0.5], np.eye(2), np.eye(2), concept_of_state=[0, 1])
    with pytest.raises(ImpossibleText, match="sequence 1 is impossible from token 0 of the suffix on"):
        next_token_law(strict, [[0], [1]], suffix=[0])
    assert_equal(next_token_law(strict, [[0], [1]], suffix=[0], impossible="mask"), [[1, 0], [0, 0]])


def test_ordinary_models_have_no_concepts():
    assert beliefs(random_hmm("dirichlet", 3, 4, seed=0), [[0]]).concepts is None
