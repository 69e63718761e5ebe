"""The regime ginc and its diagnostics: the construction, exact concept posteriors, and prompts of examples."""

import math

import numpy as np
import oracle
import pytest
import torch
from scipy import stats
from sweeps import sweep

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.inference.concepts import (
    concept_information,
    concept_posterior,
    in_context_prediction,
    next_token_law,
    tokens_to_reveal,
)
from ppl_hmm.inference.queries import masked_conditionals, posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, ConceptHMM
from ppl_hmm.regimes import random_hmm
from ppl_hmm.regimes.ginc import DELIMITER, VALUE_STAYS, in_context_text
from ppl_hmm.storage.files import load, save

N_CONCEPTS, N_VALUES, N_SLOTS, N_TOKENS = 3, 4, 5, 9


def ginc(seed=0, *, n_concepts=N_CONCEPTS, n_values=N_VALUES, n_slots=N_SLOTS, n_tokens=N_TOKENS, **options):
    n_states = n_concepts * n_values * n_slots
    return random_hmm("ginc", n_states, n_tokens, seed, n_concepts=n_concepts, n_slots=n_slots, **options)


def blocks(model):
    """Transitions within each concept as (C, value, slot, value, slot)."""
    grid = model.transition.reshape(N_CONCEPTS, N_VALUES, N_SLOTS, N_CONCEPTS, N_VALUES, N_SLOTS)
    return torch.stack([grid[c, :, :, c] for c in range(N_CONCEPTS)])


def random_concepts(seed):
    """Concepts of unequal size with their states in any order, exact zeros, one concept that may never occur."""
    rng = np.random.default_rng(seed)
    n_concepts = int(rng.integers(1, 4))
    sizes = rng.integers(1, 3, size=n_concepts)
    concept = rng.permutation(np.repeat(np.arange(n_concepts), sizes))
    n_states, n_tokens, zeros = len(concept), int(rng.integers(1, 4)), rng.choice([0.0, 0.4])
    transition = np.zeros((n_states, n_states))
    for c in range(n_concepts):
        own = np.flatnonzero(concept == c)
        transition[np.ix_(own, own)] = oracle.random_rows(rng, len(own), len(own), zeros=zeros)
    return ConceptHMM(
        oracle.random_rows(rng, n_states, zeros=zeros),
        transition,
        oracle.random_rows(rng, n_states, n_tokens, zeros=zeros),
        concept,
    )


def random_text(model, seed):
    rng = np.random.default_rng(seed)
    length = next(t for t in (4, 3, 2, 1) if model.n_states ** (t + 1) <= oracle.MAX_PATHS)
    tokens = rng.integers(model.vocabulary_size, size=(3, int(rng.integers(1, length + 1))))
    tokens[rng.random(tokens.shape) < 0.2] = MASK
    return tokens


def summed_by_concept(model, law):
    concept = model.concept_of_state.numpy()
    return np.stack([np.asarray(law)[..., concept == c].sum(-1) for c in range(model.n_concepts)], -1)


# The construction.


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_transitions_are_products_of_one_value_matrix_and_the_concepts_slot_matrix(seed, smoothing):
    inside = blocks(ginc(seed, smoothing=smoothing))
    values = inside[:, :, 0].sum(-1)  # (C, value, value): where the value goes from slot 0
    slots = inside[:, 0].sum(-2)  # (C, slot, slot)
    torch.testing.assert_close(torch.einsum("cvw,cst->cvswt", values, slots), inside, rtol=0, atol=1e-15)
    torch.testing.assert_close(values, values[:1].expand_as(values), rtol=0, atol=1e-15)
    assert (values.diagonal(dim1=1, dim2=2) >= VALUE_STAYS - 1e-15).all()
    for matrix in (*values, *slots):  # permutations, so columns sum to one as well
        torch.testing.assert_close(matrix.sum(0), torch.ones(len(matrix), dtype=torch.float64))
    assert not torch.allclose(slots[0], slots[1])
    assert (inside > 0).all() == (smoothing > 0)


def test_concepts_are_blocks_of_consecutive_states_and_equally_likely():
    model = ginc()
    assert type(model) is ConceptHMM
    assert model.n_concepts == N_CONCEPTS
    assert model.concept_of_state.tolist() == sorted(model.concept_of_state.tolist())
    across = model.concept_of_state[:, None] != model.concept_of_state
    assert (model.transition[across] == 0).all()
    by_concept = model.initial.view(N_CONCEPTS, -1)
    torch.testing.assert_close(by_concept.sum(1), torch.full((N_CONCEPTS,), 1 / N_CONCEPTS, dtype=torch.float64))
    # softmax(U / 10), U of range one
    assert (by_concept.amax(1) / by_concept.amin(1) <= math.exp(0.1)).all()
    assert not torch.allclose(by_concept[0], by_concept[1])


def test_emissions_are_one_table_and_slot_0_alone_delimits():
    model = ginc()
    assert ((model.emission == 0) | (model.emission == 1)).all()
    tables = model.emission.argmax(-1).view(N_CONCEPTS, N_VALUES, N_SLOTS)
    assert (tables == tables[0]).all()
    assert (tables[..., 0] == DELIMITER).all()
    assert (tables[..., 1:] != DELIMITER).all()
    assert len(tables[..., 1:].unique()) > 3


def test_seeds_and_numbers_of_concepts():
    assert ginc(0).identical(ginc(0))
    assert not ginc(0).allclose(ginc(1))
    fewer, more = ginc(n_concepts=2), ginc(n_concepts=5)
    n_states = fewer.n_states
    torch.testing.assert_close(more.transition[:n_states, :n_states], fewer.transition, rtol=0, atol=0)
    torch.testing.assert_close(more.emission[:n_states], fewer.emission, rtol=0, atol=0)


def test_sizes_by_default_and_at_the_edge():
    assert random_hmm("ginc", 16, 2, 0).n_concepts == 4
    one = ginc(n_concepts=1, n_values=1, n_slots=2, n_tokens=2)
    assert (one.n_states, one.n_concepts) == (2, 1)
    assert torch.equal(ginc(smoothing=1).transition[0, :2], ginc(smoothing=1.0).transition[0, :2])


@pytest.mark.parametrize(
    ("n_states", "n_tokens", "options", "message"),
    [
        (24, 5, {}, r"n_states of regime 'ginc': expected a multiple of n_concepts · n_slots = 16, got 24"),
        (8, 5, {"n_concepts": 3}, "a multiple of n_concepts · n_slots = 12, got 8"),
        (16, 1, {}, "vocabulary_size of regime 'ginc': expected an integer of at least 2, got 1"),
        (16, 5, {"n_slots": 1}, "n_slots: expected an integer of at least 2, got 1"),
        (16, 5, {"n_concepts": 0}, "n_concepts: expected an integer of at least 1, got 0"),
        (16, 5, {"n_concepts": 2.0}, r"n_concepts: expected an integer of at least 1, got 2\.0"),
        (16, 5, {"smoothing": -0.1}, r"smoothing: expected a number in \[0, 1\], got -0.1"),
        (16, 5, {"smoothing": float("nan")}, "smoothing.*got nan"),
        (16, 5, {"n_values": 4}, "only n_concepts, n_slots, smoothing, got n_values"),
    ],
)
def test_sizes_that_do_not_fit(n_states, n_tokens, options, message):
    with pytest.raises(InvalidInput, match=message):
        random_hmm("ginc", n_states, n_tokens, 0, **options)


# The record.


def test_the_record_round_trips(tmp_path):
    models = ConceptHMM.stack([ginc(0), ginc(1)])
    for record in (ginc(), models, ginc().to(dtype=torch.float32)):
        save(record, tmp_path / "model.nc")
        again = load(tmp_path / "model.nc")
        assert type(again) is ConceptHMM
        assert record.identical(again)
        assert record.identical(ConceptHMM.from_dataset(record.to_dataset()))
    assert models.batch_shape == (2,)
    assert models[1].identical(ginc(1))
    assert models.n_concepts == N_CONCEPTS
    assert not ginc().identical(HMM(ginc().initial, ginc().transition, ginc().emission))
    assert ginc().to(dtype=torch.float32).concept_of_state.dtype == torch.int64
    grown = ConceptHMM(ginc().initial.requires_grad_(), ginc().transition, ginc().emission, ginc().concept_of_state)
    assert grown.initial.requires_grad
    assert not grown.detach().initial.requires_grad


def test_without_its_concepts_a_file_is_a_plain_model(tmp_path):
    ginc().to_dataset().drop_vars("concept_of_state").to_netcdf(tmp_path / "model.nc", engine="h5netcdf")
    assert type(load(tmp_path / "model.nc")) is HMM


def test_it_is_a_model_wherever_one_is_asked_for():
    models = ConceptHMM.stack([ginc(0), ginc(1)])
    plain = HMM(models.initial, models.transition, models.emission)
    drawn, same = sample(models, 5, 6, 0), sample(plain, 5, 6, 0)
    assert torch.equal(drawn.tokens, same.tokens)
    assert torch.equal(posterior(models, drawn.tokens).initial, posterior(plain, drawn.tokens).initial)


HALF = [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"concept_of_state": [0, 1]},
            r"transition\[0, 1\]: expected 0 between concepts 0 and 1 of the two states, got 0.5",
        ),
        ({"concept_of_state": [0, 2], "transition": np.eye(2)}, "a state of every concept 0..2, got none of concept 1"),
        ({"concept_of_state": [0, -1]}, r"concept_of_state\[1\]: expected a concept 0, 1, …, got -1"),
        ({"concept_of_state": [0, 0, 0]}, "one concept for each of 2 states, got shape"),
        ({"concept_of_state": [0.0, 0.0]}, "concept_of_state: expected integers, got torch.float64"),
        ({"transition": [[0.5, 0.4], [0.5, 0.5]]}, "transition row 0 is not a distribution"),
        ({"emission": [[1.0]]}, "sizes of HMM"),
    ],
)
def test_records_that_are_not_right(change, message):
    right = {"initial": [0.5, 0.5], "transition": HALF, "emission": HALF, "concept_of_state": [0, 0]}
    assert ConceptHMM(**right).n_concepts == 1
    with pytest.raises(InvalidInput, match=message):
        ConceptHMM(**{**right, **change})


def test_a_transition_between_concepts_is_named_in_a_batch():
    transition = np.stack([np.eye(3), [[1, 0, 0], [0, 1, 0], [0, 0.25, 0.75]]])
    with pytest.raises(InvalidInput, match=r"transition\[1, 2, 1\]: expected 0 between concepts 1 and 0"):
        ConceptHMM(np.full((2, 3), 1 / 3), transition, np.ones((2, 3, 1)), [[0, 0, 1], [0, 0, 1]])
    with pytest.raises(InvalidInput, match=r"concept_of_state of model \[1\].*none of concept 1"):
        ConceptHMM(np.full((2, 3), 1 / 3), np.stack([np.eye(3)] * 2), np.ones((2, 3, 1)), [[0, 0, 1], [0, 0, 0]])


# The posterior of the concept.


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_concept_posteriors_are_sums_over_paths(seed):
    model = random_concepts(seed)
    tokens = random_text(model, seed)
    found = concept_posterior(model, tokens, impossible="mask")
    expected = [
        [summed_by_concept(model, oracle.marginals(model, text[:t])[0]) for t in range(len(text) + 1)]
        for text in tokens
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_the_next_token_is_a_sum_over_paths(seed):
    model = random_concepts(seed)
    tokens = random_text(model, seed)
    found = next_token_law(model, tokens, impossible="mask")
    expected = [oracle.conditional(model, np.append(text, MASK), len(text)) for text in tokens]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("model", [ginc(0), ginc(1, smoothing=0.05), ginc(2, n_concepts=1)])
def test_two_routes_agree_on_drawn_text(model):
    tokens = sample(model, 20, 12, 0).tokens
    found = concept_posterior(model, tokens)
    assert found.shape == (20, 13, model.n_concepts)
    for t in range(1, 13):
        whole = posterior(model, tokens[:, :t]).initial
        np.testing.assert_allclose(found[:, t], summed_by_concept(model, whole), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found[:, 0], np.full((20, model.n_concepts), 1 / model.n_concepts), rtol=1e-12)
    extended = torch.nn.functional.pad(tokens, (0, 1), value=MASK)
    other = masked_conditionals(model, extended, positions=[-1])[:, 0]
    torch.testing.assert_close(next_token_law(model, tokens), other, rtol=1e-10, atol=1e-12)


def test_lengths_are_masks_and_tell_nothing_further():
    model = ginc(smoothing=0.05)
    tokens = sample(model, 4, 8, 0).tokens
    found = concept_posterior(model, tokens, lengths=[8, 5, 0, 1])
    masked = tokens.clone()
    masked[1, 5:], masked[2, 0:], masked[3, 1:] = MASK, MASK, MASK
    assert torch.equal(found, concept_posterior(model, masked))
    whole = concept_posterior(model, tokens)
    torch.testing.assert_close(found[1, :6], whole[1, :6])
    torch.testing.assert_close(found[1, 5:], whole[1, 5:6].expand(4, -1))
    torch.testing.assert_close(found[2], whole[2, :1].expand(9, -1))


def test_one_concept_is_certain_and_one_token_will_do():
    model = ginc(n_concepts=1)
    tokens = sample(model, 3, 1, 0).tokens
    assert (concept_posterior(model, tokens) == 1).all()
    assert tokens_to_reveal(concept_posterior(model, tokens), [0, 0, 0], level=1).tolist() == [0, 0, 0]


def test_single_precision_stays_single():
    model = ginc(smoothing=0.05)
    tokens = sample(model, 10, 300, 0).tokens
    found = concept_posterior(model.to(dtype=torch.float32), tokens)
    assert found.dtype == next_token_law(model.to(dtype=torch.float32), tokens).dtype == torch.float32
    np.testing.assert_allclose(found, concept_posterior(model, tokens), atol=1e-3)


# Concept 0 writes token 0 alone, concept 1 token 1 alone, concept 2 both.
STRICT = ConceptHMM([0.25, 0.25, 0.5], np.eye(3), [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], [0, 1, 2])


def test_impossible_text_is_an_error_or_zero_rows():
    tokens = [[0, 0, 1], [0, 1, 2], [2, 0, 0]]
    for call in (concept_posterior, next_token_law):
        with pytest.raises(ImpossibleText, match="sequence 1 is impossible from position 2 on"):
            call(STRICT, tokens)
        with pytest.raises(InvalidInput, match="unknown value of 'impossible'"):
            call(STRICT, tokens, impossible="drop")
    found = concept_posterior(STRICT, tokens, impossible="mask")
    expected = [
        [[1 / 4, 1 / 4, 1 / 2], [1 / 2, 0, 1 / 2], [2 / 3, 0, 1 / 3], [0, 0, 1]],
        [[1 / 4, 1 / 4, 1 / 2], [1 / 2, 0, 1 / 2], [0, 0, 1], [0, 0, 0]],
        [[1 / 4, 1 / 4, 1 / 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-15)
    assert tokens_to_reveal(found, [2, 2, 2]).tolist() == [3, -1, -1]
    laws = next_token_law(STRICT, tokens, impossible="mask")
    np.testing.assert_allclose(laws, [[0.5, 0.5, 0], [0, 0, 0], [0, 0, 0]], atol=1e-15)


def test_a_concept_that_is_nearly_excluded_comes_back():
    # Independent tokens: each concept is one state, and log odds are counts times log(p/q).
    p, q = 0.999, 0.001
    model = ConceptHMM([0.5, 0.5], np.eye(2), [[p, q], [q, p]], [0, 1])
    tokens = np.repeat([0, 1], [3000, 3001])[None]
    found = concept_posterior(model, tokens)[0]
    odds = np.concatenate([[0], np.cumsum(np.where(tokens[0] == 0, 1, -1))]) * math.log(p / q)
    expected = np.exp(-np.logaddexp(0, np.stack([-odds, odds], -1)))
    assert abs(odds).max() > 20_000  # far below the smallest float
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert tokens_to_reveal(found[None], [1]).tolist() == [6001]


def test_paths_below_the_smallest_float_count():
    # Token 1 needs a step of 1e-200, then an emission of 1e-200 in concept 0 and of three times that in concept 1.
    tiny = 1e-200
    transition = np.kron(np.eye(2), [[1 - tiny, tiny], [0, 1]])
    emission = [[1, 0], [1 - tiny, tiny], [1, 0], [1 - 3 * tiny, 3 * tiny]]
    model = ConceptHMM([0.5, 0, 0.5, 0], transition, emission, [0, 0, 1, 1])
    np.testing.assert_allclose(concept_posterior(model, [[1]])[0, 1], [0.25, 0.75], rtol=1e-10)
    for text in ([0, 1], [1, 1, 0], [1, 0, 1]):
        expected = [summed_by_concept(model, oracle.marginals(model, text[:t])[0]) for t in range(len(text) + 1)]
        np.testing.assert_allclose(concept_posterior(model, [text])[0], expected, rtol=1e-10)
        np.testing.assert_allclose(
            next_token_law(model, [text])[0], oracle.conditional(model, [*text, MASK], len(text)), rtol=1e-10
        )


def test_only_models_of_concepts_will_do():
    plain = HMM(STRICT.initial, STRICT.transition, STRICT.emission)
    with pytest.raises(InvalidInput, match="model of concepts: expected a ConceptHMM, got HMM"):
        concept_posterior(plain, [[0]])
    with pytest.raises(InvalidInput, match="token out of range at sequence 0, position 1"):
        concept_posterior(STRICT, [[0, 3]])


# What it reveals.

LAWS = np.array([[0.5, 0.96, 0.9, 0.97, 1.0], [0.5, 0.2, 0.4, 0.96, 0.94], [0.96, 0.97, 0.95, 0.99, 0.98]])
POSTERIOR = torch.from_numpy(np.stack([LAWS, 1 - LAWS], -1))


def test_revealed_means_for_good():
    assert tokens_to_reveal(POSTERIOR, [0, 0, 0], level=0.9499).tolist() == [3, -1, 0]
    assert tokens_to_reveal(POSTERIOR, torch.tensor([0, 0, 1])).tolist() == [3, -1, -1]
    assert tokens_to_reveal(POSTERIOR, [0, 0, 0], level=0.5).tolist() == [0, 3, 0]
    assert tokens_to_reveal(POSTERIOR, [0, 0, 0], level=1).tolist() == [4, -1, -1]


@pytest.mark.parametrize(
    ("concept", "level", "message"),
    [
        ([0, 0], 0.95, "concept: expected 3 integers, one for each text"),
        ([0.0, 0.0, 0.0], 0.95, "3 integers, one for each text, got shape"),
        ([0, 0, 2], 0.95, r"concept of text 2: expected 0..1, got 2"),
        ([0, -1, 0], 0.95, r"concept of text 1: expected 0..1, got -1"),
        ([0, 0, 0], 0.0, "level: expected a probability above 0, got 0.0"),
        ([0, 0, 0], 1.5, "level: expected a probability above 0, got 1.5"),
        ([0, 0, 0], float("nan"), "level: expected a probability above 0, got nan"),
    ],
)
def test_what_is_no_concept_or_level(concept, level, message):
    with pytest.raises(InvalidInput, match=message):
        tokens_to_reveal(POSTERIOR, concept, level)


def test_information_is_the_fall_of_entropy():
    expected = [[stats.entropy(row[0]) - stats.entropy(law) for law in row] for row in POSTERIOR.numpy()]
    np.testing.assert_allclose(concept_information(POSTERIOR), expected, atol=1e-14)
    assert (concept_information(POSTERIOR)[1] < 0).sum() == 0  # from the uniform law there is no way up
    assert concept_information(POSTERIOR)[2, 2] < 0
    with pytest.raises(InvalidInput, match=r"posterior row .* is not a distribution"):
        concept_information(torch.zeros(1, 2, 2))


def test_the_mean_of_information_is_the_mutual_information():
    model = next(model for model in map(random_concepts, range(60)) if model.n_concepts == 3 == model.vocabulary_size)
    texts = oracle.all_texts(model.vocabulary_size, 3)
    law = np.exp([oracle.log_evidence(model, text) for text in texts])
    prior = summed_by_concept(model, model.initial)
    mutual = 0.0
    for text, weight in zip(texts, law, strict=True):
        if weight > 0:
            given = summed_by_concept(model, oracle.marginals(model, text)[0])
            mutual += weight * sum(p * math.log(p / q) for p, q in zip(given, prior, strict=True) if p > 0)
    possible = law > 0
    mean = law[possible] @ concept_information(concept_posterior(model, texts[possible]))[:, -1].numpy()
    assert mutual > 0.01
    np.testing.assert_allclose(mean, mutual, atol=1e-12)


# Prompts of examples.


def test_prompts_are_examples_between_delimiters():
    model = ginc()
    text = in_context_text(model, 50, 3, 4, 0)
    assert text.tokens.shape == (50, 3 * 5 + 3)
    assert (text.tokens[:, 4::5] == DELIMITER).all()
    slots = torch.arange(model.n_states) % N_SLOTS
    for start, concept, tokens in zip(text.start, text.concept, text.tokens, strict=True):
        states = start.nonzero()[:, 0]
        assert (start[states] == 1 / N_VALUES).all()
        assert (model.concept_of_state[states] == concept).all()
        slot = slots[states].unique()
        assert len(slot) == 1
        assert slot > 0
        assert set(tokens[::5].tolist()) <= set(model.emission[states].argmax(-1).tolist())
    assert set(text.concept.tolist()) == set(range(N_CONCEPTS))
    again = in_context_text(model, 50, 3, 4, 0)
    assert torch.equal(text.tokens, again.tokens)
    assert not torch.equal(text.tokens, in_context_text(model, 50, 3, 4, 1).tokens)


def test_examples_are_independent_draws_of_the_concepts_chain():
    model = ginc(n_concepts=1, n_values=2, n_slots=2, n_tokens=3, smoothing=0.5)  # one slot to start in
    text = in_context_text(model, 20_000, 1, 3, 0)
    start, transition, emission = text.start[0].numpy(), model.transition.numpy(), model.emission.numpy()
    joint = np.einsum("h,hx,hi,iy,ij,jz->xyz", start, emission, transition, emission, transition, emission)
    test_law = joint.sum(2)
    pairs = np.multiply.outer(joint, test_law)
    count = np.zeros(pairs.shape)
    tokens = text.tokens.numpy()
    np.add.at(count, tuple(tokens[:, column] for column in (0, 1, 2, 4, 5)), 1)
    assert (count[pairs == 0] == 0).all()
    usual = pairs * len(tokens) >= 5
    expected = pairs[usual] / pairs[usual].sum() * count[usual].sum()
    assert stats.chisquare(count[usual], expected).pvalue > 1e-4


@pytest.mark.parametrize("example_length", [2, 3, 4])
def test_the_answer_is_what_the_concept_says_of_the_test_example_alone(example_length):
    model = ginc(n_concepts=2, n_values=2, n_slots=3, n_tokens=4)
    text = in_context_text(model, 12, 2, example_length, 0)
    found = in_context_prediction(model, text)
    for row in range(12):
        # A silent state that moves to the example's first states, as H₀ is silent here.
        start = np.append(np.zeros(model.n_states), 1.0)
        transition = np.zeros((model.n_states + 1, model.n_states + 1))
        transition[:-1, :-1], transition[-1, :-1] = model.transition, text.start[row]
        emission = np.concatenate([model.emission, np.full((1, 4), 0.25)])
        started = HMM(start, transition, emission)
        test = text.tokens[row, -(example_length - 1) :].tolist()
        law = masked_conditionals(started, [[*test, MASK]], positions=[-1])[0, 0]
        assert law[found.answer[row]] == pytest.approx(float(law.max()), abs=1e-12)


def test_predictions_are_the_mixtures_and_impossible_prompts_have_none():
    model = ginc()
    text = in_context_text(model, 100, 4, 4, 0)
    found = in_context_prediction(model, text)
    assert 0 < found.possible.sum() < 100  # as released, independent examples are often impossible
    torch.testing.assert_close(found.law, next_token_law(model, text.tokens, impossible="mask"))
    last = concept_posterior(model, text.tokens, impossible="mask")[:, -1]
    torch.testing.assert_close(found.concept, last[torch.arange(100), text.concept])
    assert (found.law[~found.possible] == 0).all()
    assert (found.concept[~found.possible] == 0).all()
    assert not found.correct[~found.possible].any()
    assert torch.equal(found.possible, posterior(model, text.tokens, impossible="mask").possible)
    assert torch.equal(found.correct, found.possible & (found.law.argmax(-1) == found.answer))


def test_smoothed_transitions_make_every_prompt_possible_and_examples_help():
    model = ginc(n_concepts=10, n_slots=6, n_tokens=16, smoothing=0.05)
    none, many = (in_context_prediction(model, in_context_text(model, 400, n, 5, 0)) for n in (0, 8))
    assert none.possible.all()
    assert many.possible.all()
    share = [float(each.correct.double().mean()) for each in (none, many)]
    error = math.sqrt(sum(p * (1 - p) / 400 for p in share))
    assert share[1] - share[0] > 4 * error
    assert many.concept.mean() - none.concept.mean() > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ginc(), 0, 1, 3, 0), "n_texts: expected an integer of at least 1"),
        ((ginc(), 1, -1, 3, 0), "n_examples: expected an integer of at least 0"),
        ((ginc(), 1, 1, 1, 0), "example_length: expected an integer of at least 2"),
        ((STRICT, 1, 1, 3, 0), "one model of the regime 'ginc', got ConceptHMM with 3 states"),
        ((random_hmm("dirichlet", 4, 3, 0), 1, 1, 3, 0), "one model of the regime 'ginc', got HMM"),
        ((ConceptHMM.stack([ginc(), ginc()]), 1, 1, 3, 0), r"batch dimensions \(2,\)"),
    ],
)
def test_prompts_that_cannot_be_drawn(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        in_context_text(*arguments)
