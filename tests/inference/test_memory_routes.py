"""Independent routes to the same numbers with a memory: brute force, our recursions, the flattened model, Pyro."""

import dataclasses
import functools
import itertools
import subprocess
import sys

import numpy as np
import oracle
import peak_memory
import pytest
import torch
from comparisons import TOLERANCE, arrays_of, assert_equal
from hypothesis import given, strategies as st
from sweeps import sweep

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.exact import mixture
from ppl_hmm.inference.queries import (
    MemoryPosterior,
    log_likelihood,
    masked_conditionals,
    memory_posterior,
    posterior,
    sample_posterior,
    viterbi,
)
from ppl_hmm.inference.rows import LikelihoodRows
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.models import MemoryHMM, MemoryPrompt
from ppl_hmm.programs import enumeration
from ppl_hmm.regimes import random_memory_hmm

EVERY_BACKEND = True
SEEDS = range(120)
STATE_FIELDS = ("log_evidence", "initial", "smoothed")
FIELDS = (*STATE_FIELDS, "memory")

each_seed = pytest.mark.parametrize("seed", sweep(SEEDS, quick=40))
few_seeds = pytest.mark.parametrize("seed", sweep(20, quick=8))
seeds = st.integers(1_000, 100_000)


@functools.cache
def case_of(seed):
    return oracle.random_memory_case(seed)


@functools.cache
def truth_of(seed):
    case = case_of(seed)
    return oracle.memory_truth(case.model, case.masked_tokens, case.prompt)


def options_of(case):
    return {"prompt": case.prompt, "lengths": case.lengths}


def n_prompt_of(case):
    return 0 if case.prompt is None else len(case.prompt)


def random_texts(seed, n_cells=2, n_values=2, n_states=3, vocabulary_size=4, shape=(5, 6)):
    """Return a model without zeros, and text."""
    rng = np.random.default_rng(seed)
    model = MemoryHMM(
        oracle.random_rows(rng, n_cells, n_values),
        oracle.random_rows(rng, n_states),
        oracle.random_rows(rng, n_states, n_states),
        rng.permutation(np.arange(n_states) % n_cells),
        oracle.random_rows(rng, n_values, n_states, vocabulary_size),
    )
    return model, rng.integers(vocabulary_size, size=shape)


def random_memory_prompt(seed, *shape):
    return np.random.default_rng(seed).gamma(1.0, size=shape)


def telling():
    """Return a model whose states stay; state h tells the value of cell h, as token 0 or 1, for ever."""
    return MemoryHMM([[0.5, 0.5], [0.25, 0.75]], [0.5, 0.5], np.eye(2), [0, 1], [[[1, 0, 0]] * 2, [[0, 1, 0]] * 2])


def cases_cover(condition):
    return sum(bool(condition(case_of(seed))) for seed in SEEDS)


def test_the_random_cases_cover_what_they_should():
    assert cases_cover(lambda case: case.model.n_states == 1) >= 10
    assert cases_cover(lambda case: case.model.n_memory_values == 1) >= 10
    assert cases_cover(lambda case: case.model.n_cells == 1) >= 10
    assert cases_cover(lambda case: case.model.n_cells == 3 and case.model.n_memory_values == 3) >= 10
    assert cases_cover(lambda case: len(case.model.cell_of_state.unique()) < case.model.n_cells) >= 10
    assert cases_cover(lambda case: case.tokens.shape[1] == 1) >= 10
    assert cases_cover(lambda case: case.lengths is not None) >= 10
    assert cases_cover(lambda case: case.prompt is not None and (case.prompt == 0).any()) >= 10
    assert cases_cover(lambda case: (case.tokens == MASK).any()) >= 10
    for field in ("memory_prior", "initial", "transition", "emission"):
        assert cases_cover(lambda case, field=field: (getattr(case.model, field) == 0).any()) >= 10
    assert sum((truth_of(seed).log_evidence == -np.inf).any() for seed in SEEDS) >= 10


# Brute force.


def check_against_brute_force(case, expected):
    options, possible = options_of(case), expected.log_evidence > -np.inf
    ours = posterior(case.model, case.tokens, impossible="mask", **options)
    assert isinstance(ours, MemoryPosterior)
    for field in FIELDS:
        assert_equal(getattr(ours, field), getattr(expected, field))
    assert ours.possible.tolist() == possible.tolist()
    assert_equal(log_likelihood(case.model, case.tokens, **options), expected.log_evidence)
    assert_equal(masked_conditionals(case.model, case.tokens, impossible="mask", **options), expected.conditionals)
    if possible.any():
        text, prompt = case.masked_tokens[possible], case.prompt
        assert_equal(memory_posterior(case.model, text, prompt=prompt), expected.memory[possible])
        assert_equal(memory_posterior(case.model, text, prompt=prompt, joint=True), expected.joint[possible])


@each_seed
def test_recursion_equals_brute_force(seed):
    check_against_brute_force(case_of(seed), truth_of(seed))


@given(seeds)
def test_recursion_equals_brute_force_on_any_seed(seed):
    case = oracle.random_memory_case(seed)
    check_against_brute_force(case, oracle.memory_truth(case.model, case.masked_tokens, case.prompt))


@each_seed
def test_best_path_equals_brute_force(seed):
    case = case_of(seed)
    ours = viterbi(case.model, case.tokens, impossible="mask", **options_of(case))
    memories = oracle.given_memories(case.model, case.prompt)
    for b, text in enumerate(case.texts):
        paths = oracle.all_paths(case.model.n_states, n_prompt_of(case) + len(text))
        reported = np.delete(paths, range(1, 1 + n_prompt_of(case)), axis=1)  # all but the prompt's states
        logs = oracle.memory_log_joint(memories, text)
        assert_equal(ours.log_probability[b], logs.max())
        assert (ours.states[b, len(text) :] == -1).all()
        found = [ours.initial_state[b].item(), *ours.states[b, : len(text)].tolist()]
        if logs.max() == -np.inf:
            assert set(found) | set(ours.memory[b].tolist()) == {-1}
            continue
        (row,) = [i for i, each in enumerate(memories) if list(each.memory) == ours.memory[b].tolist()]
        assert_equal(logs[row, (reported == found).all(1)].max(), logs.max())


def test_best_path_takes_the_lowest_memory_and_states_among_equals():
    same = [[0.5, 0.5]] * 2
    best = viterbi(MemoryHMM(same, [0.5, 0.5], same, [0, 1], [same, same]), [[0, 1, MASK]])
    assert best.memory.tolist() == [[0, 0]]
    assert best.initial_state.tolist() == [0]
    assert best.states.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("seed", range(10))
def test_probabilities_of_all_texts_sum_to_one(seed):
    model = oracle.random_memory_model(np.random.default_rng(seed), 2, 3, 3, 3)
    assert_equal(log_likelihood(model, oracle.all_texts(3, 4)).exp().sum(), 1)


# The model written out on the pairs of a memory and a state: state c·K + h.


def flattened_options(case):
    prompt = case.prompt
    if prompt is not None:
        prompt = np.concatenate([each.prompt for each in oracle.given_memories(case.model, prompt)], axis=1)
    return {"prompt": prompt, "lengths": case.lengths}


def without_memory(law, model):
    """Sum a law of pairs (…,C·K) over memories."""
    return law.unflatten(-1, (-1, model.n_states)).sum(-2)


@each_seed
def test_the_flattened_model_gives_the_same(seed):
    case = case_of(seed)
    model, options = case.model, {**options_of(case), "impossible": "mask"}
    flat, flat_options = model.flatten(), {**flattened_options(case), "impossible": "mask"}
    ours, theirs = posterior(model, case.tokens, **options), posterior(flat, case.tokens, **flat_options)
    assert torch.equal(ours.possible, theirs.possible)
    assert_equal(ours.log_evidence, theirs.log_evidence)
    assert_equal(ours.initial, without_memory(theirs.initial, model))
    assert_equal(ours.smoothed, without_memory(theirs.smoothed, model))
    if ours.possible.any():
        joint = memory_posterior(model, case.masked_tokens[ours.possible], prompt=case.prompt, joint=True)
        of_pairs = theirs.initial.unflatten(-1, (-1, model.n_states)).sum(-1)
        assert_equal(joint.flatten(1), of_pairs[ours.possible])
    assert_equal(
        masked_conditionals(model, case.tokens, **options), masked_conditionals(flat, case.tokens, **flat_options)
    )
    best, flat_best = viterbi(model, case.tokens, **options), viterbi(flat, case.tokens, **flat_options)
    assert_equal(best.log_probability, flat_best.log_probability)


def test_cells_that_no_state_reads_change_nothing():
    # 16 cells of two values are the most that is allowed: 2^16 memories.
    model, tokens = random_texts(0, n_cells=2, n_states=2, shape=(2, 2))
    unread = oracle.random_rows(np.random.default_rng(1), 14, 2)
    padded = MemoryHMM(
        np.vstack([model.memory_prior, unread]), model.initial, model.transition, model.cell_of_state, model.emission
    )
    ours, padded_ours = posterior(model, tokens), posterior(padded, tokens)
    for field in STATE_FIELDS:
        assert_equal(getattr(padded_ours, field), getattr(ours, field))
    assert_equal(padded_ours.memory[:, :2], ours.memory)
    assert_equal(padded_ours.memory[:, 2:], np.tile(unread, (2, 1, 1)))
    assert_equal(masked_conditionals(padded, tokens), masked_conditionals(model, tokens))


# Pyro's enumeration of the Pyro program: it refuses impossible text, so it sees the possible ones.


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_enumeration_equals_brute_force(seed):
    case, expected = case_of(seed), truth_of(seed)

    def some(chosen):
        return case.tokens[chosen], {
            "prompt": case.prompt,
            "lengths": None if case.lengths is None else case.lengths[chosen],
        }

    possible = expected.log_evidence > -np.inf
    if possible.any():
        text, options = some(possible)
        theirs = enumeration.posterior(case.model, text, **options)
        assert isinstance(theirs, MemoryPosterior)
        assert theirs.possible.all()
        for field in FIELDS:
            assert_equal(getattr(theirs, field), getattr(expected, field)[possible])
    for i in range(case.tokens.shape[1]):
        possible = expected.conditionals[:, i].sum(-1) > 0
        if possible.any():
            text, options = some(possible)
            theirs = enumeration.masked_conditionals(case.model, text, positions=[i], **options)
            assert_equal(theirs[:, 0], expected.conditionals[possible, i])


# Names of values, cells and states.


@given(seeds)
def test_names_do_not_matter(seed):
    case, rng = oracle.random_memory_case(seed), np.random.default_rng(seed)
    model = case.model
    values, cells, states = map(rng.permutation, (model.n_memory_values, model.n_cells, model.n_states))
    renamed = MemoryHMM(
        model.memory_prior[cells][:, values],
        model.initial[states],
        model.transition[states][:, states],
        torch.tensor(np.argsort(cells))[model.cell_of_state[states]],
        model.emission[values][:, states],
    )
    prompt = None if case.prompt is None else case.prompt[:, values][:, :, states]
    options = {"lengths": case.lengths, "impossible": "mask"}
    ours = posterior(model, case.tokens, prompt=case.prompt, **options)
    other = posterior(renamed, case.tokens, prompt=prompt, **options)
    assert_equal(other.log_evidence, ours.log_evidence)
    assert_equal(other.initial, ours.initial[:, states])
    assert_equal(other.smoothed, ours.smoothed[..., states])
    assert_equal(other.memory, ours.memory[:, cells][..., values])
    assert_equal(
        masked_conditionals(renamed, case.tokens, prompt=prompt, **options),
        masked_conditionals(model, case.tokens, prompt=case.prompt, **options),
    )


# Impossible text.


@each_seed
def test_impossible_text_masked_is_zero_rows_never_nan(seed):
    case = case_of(seed)
    ours = posterior(case.model, case.tokens, impossible="mask", **options_of(case))
    assert torch.equal(ours.possible, ours.log_evidence > -torch.inf)
    for rows in (ours.initial, ours.smoothed, ours.memory):
        assert (rows[~ours.possible] == 0).all()
        assert_equal(rows[ours.possible].sum(-1), torch.ones(rows[ours.possible].shape[:-1]))
    for conditionals in (
        masked_conditionals(case.model, case.tokens, impossible="mask", **options_of(case)),
        OracleLM(case.model).conditionals(case.tokens, **options_of(case)),
    ):
        sums = conditionals.sum(-1)
        assert ((sums == 0) | ((sums - 1).abs() < TOLERANCE)).all()


@each_seed
def test_impossible_text_is_named_with_its_first_impossible_position(seed):
    case, n_prompt = case_of(seed), n_prompt_of(case_of(seed))
    impossible = truth_of(seed).log_evidence == -np.inf
    if not impossible.any():
        assert posterior(case.model, case.tokens, **options_of(case)).possible.all()
        return
    sequence = int(impossible.argmax())

    def possible_until(end):
        """Say whether the prompt's and the text's first ``end`` rows are possible."""
        prompt = case.prompt[:end] if n_prompt else None
        text = case.masked_tokens[sequence, : max(0, end - n_prompt)]
        return (oracle.memory_log_joint(oracle.given_memories(case.model, prompt), text) > -np.inf).any()

    first = next(end for end in itertools.count(1) if not possible_until(end)) - 1
    where = f"prompt token {first}" if first < n_prompt else f"position {first - n_prompt}"
    for function in (posterior, viterbi, memory_posterior, functools.partial(sample_posterior, n_draws=1, seed=0)):
        with pytest.raises(ImpossibleText) as caught:
            function(case.model, case.tokens, **options_of(case))
        assert f"sequence {sequence} is impossible from {where} on" in str(caught.value)


def test_impossible_text_is_impossible_for_every_memory_together():
    # Each token alone is possible; both never are, as a state tells one value of one cell.
    with pytest.raises(ImpossibleText, match="sequence 1 is impossible from position 2 on"):
        posterior(telling(), [[0, 0, MASK], [1, MASK, 0]])
    both = MemoryHMM.stack([telling(), dataclasses.replace(telling(), memory_prior=[[1, 0]] * 2)])
    with pytest.raises(ImpossibleText, match="sequence 0 under model 1 is impossible from position 0 on"):
        posterior(both, [[1, 1]])
    with pytest.raises(ImpossibleText, match="context of position 2 in sequence 0"):
        masked_conditionals(telling(), [[0, 1, MASK]])


def test_the_memory_is_learned_from_what_its_readers_say():
    ours = posterior(telling(), [[MASK, 1], [MASK, MASK]])
    # State 0 (cell 0 holds 1) or state 1 (cell 1 holds 1): 1/2·1/2 against 1/2·3/4.
    assert_equal(ours.initial, [[0.4, 0.6], [0.5, 0.5]])
    assert_equal(ours.memory[0], [[0.6 * 0.5, 0.4 + 0.6 * 0.5], [0.4 * 0.25, 0.6 + 0.4 * 0.75]])
    assert_equal(ours.memory[1], telling().memory_prior)
    assert_equal(ours.log_evidence.exp(), [0.625, 1])


# Batches of models, dtypes, blocks.


@pytest.mark.parametrize("shared_text", [True, False])
def test_batches_equal_one_by_one(shared_text):
    rng = np.random.default_rng(5)
    models = [oracle.random_memory_model(rng, n_cells=2, n_values=2, n_states=3, vocabulary_size=4) for _ in range(6)]
    prompts = rng.gamma(1.0, size=(6, 2, 2, 3)) * (rng.random((6, 2, 2, 3)) > 0.2)
    tokens = rng.integers(-1, 4, size=(5, 4) if shared_text else (6, 5, 4))
    lengths = rng.integers(0, 5, size=5)
    batch = MemoryHMM.stack(models)
    assert len({tuple(row) for row in batch.cell_of_state.tolist()}) > 1

    def everything(model, text, prompt):
        options = {"prompt": prompt, "lengths": lengths, "impossible": "mask"}
        best, encoded = viterbi(model, text, **options), OracleLM(model).encode(text, lengths)
        return {
            **arrays_of(posterior(model, text, **options)),
            **{f"best {name}": value for name, value in vars(best).items()},
            "evidence": log_likelihood(model, text, prompt=prompt, lengths=lengths),
            "conditionals": masked_conditionals(model, text, positions=[1, -1], **options),
            "encoded": encoded.conditionals(torch.tensor(prompt), [1, 0]),
        }

    both = everything(batch, tokens, prompts)
    for p, model in enumerate(models):
        for name, single in everything(model, tokens if shared_text else tokens[p], prompts[p]).items():
            assert_equal(both[name][p], single)


def test_batches_of_batches_keep_their_shape():
    rng = np.random.default_rng(0)
    models = [[oracle.random_memory_model(rng, 2, 3, 2, 4) for _ in range(2)] for _ in range(3)]
    batch = MemoryHMM.stack([MemoryHMM.stack(row) for row in models])
    tokens = np.full((5, 4), MASK)
    result = posterior(batch, tokens)
    assert result.memory.shape == (3, 2, 5, 2, 3)
    assert result.smoothed.shape == (3, 2, 5, 4, 2)
    assert memory_posterior(batch, tokens).shape == (3, 2, 5, 2, 3)
    assert memory_posterior(batch, tokens, joint=True).shape == (3, 2, 5, 3, 3)
    assert viterbi(batch, tokens).memory.shape == (3, 2, 5, 2)
    draws = sample_posterior(batch, tokens, 7, seed=0)
    assert draws.memory.shape == (3, 2, 5, 7, 2)
    assert draws.states.shape == (3, 2, 5, 7, 4)
    assert masked_conditionals(batch, tokens).shape == (3, 2, 5, 4, 4)
    assert_equal(result.memory, batch.memory_prior[:, :, None].expand(-1, -1, 5, -1, -1))


def test_float32_parameters_give_float32():
    model, tokens = random_texts(0)
    prompt = random_memory_prompt(0, 2, 2, 3)
    single, bound = model.to(torch.float32), 1e-5
    exact, ours = posterior(model, tokens, prompt=prompt), posterior(single, tokens, prompt=prompt)
    for field in FIELDS:
        assert getattr(ours, field).dtype == torch.float32
        assert_equal(getattr(ours, field), getattr(exact, field), bound)
    for function in (log_likelihood, memory_posterior, masked_conditionals):
        assert function(single, tokens, prompt=prompt).dtype == torch.float32
        assert_equal(function(single, tokens, prompt=prompt), function(model, tokens, prompt=prompt), bound)
    best, exact_best = viterbi(single, tokens).log_probability, viterbi(model, tokens).log_probability
    assert best.dtype == torch.float32
    assert_equal(best, exact_best, bound)
    encoded = OracleLM(single).encode(tokens).conditionals(torch.tensor(prompt), [0, 2])
    assert encoded.dtype == torch.float32
    assert_equal(encoded, masked_conditionals(model, tokens, prompt=prompt, positions=[0, 2]), bound)


@few_seeds
def test_many_small_blocks_give_the_same(seed, monkeypatch):
    case = case_of(seed)
    model, options = case.model, options_of(case)
    text = LikelihoodRows.of(model, case.tokens, **options).text
    possible = case.masked_tokens[truth_of(seed).log_evidence > -np.inf]

    def everything():
        masking = {**options, "impossible": "mask"}
        found = {
            **arrays_of(posterior(model, case.tokens, **masking)),
            **vars(viterbi(model, case.tokens, **masking)),
            "evidence": log_likelihood(model, case.tokens, **options),
            "conditionals": masked_conditionals(model, case.tokens, **masking),
        }
        if len(possible):
            found["joint"] = memory_posterior(model, possible, prompt=case.prompt, joint=True)
            draws = sample_posterior(model, possible, 9, seed=0, prompt=case.prompt)
            found |= {f"drawn {name}": value for name, value in vars(draws).items()}
        return found

    assert len(list(mixture.blocks(text))) == 1
    one = everything()
    monkeypatch.setattr(mixture, "BLOCK_BYTES", 1)
    assert len(list(mixture.blocks(text))) == text.n_memories
    for name, values in everything().items():
        assert_equal(values, one[name], 1e-12)


@pytest.mark.parametrize(
    "function",
    [
        posterior,
        memory_posterior,
        masked_conditionals,
        log_likelihood,
        viterbi,
        lambda model, tokens: sample_posterior(model, tokens, 1, seed=0),
    ],
)
def test_no_block_holds_more_text_than_the_budget(function, monkeypatch):
    model, tokens = random_texts(0, n_cells=6, n_states=2, shape=(5, 100))  # 64 memories of a long text
    budget, sizes, block_of = 1 << 16, [], mixture.block_of

    def counted(text, chosen):
        block = block_of(text, chosen)
        sizes.append(block.chain.ids.numel() * block.chain.ids.element_size())
        return block

    monkeypatch.setattr(mixture, "BLOCK_BYTES", budget)
    monkeypatch.setattr(mixture, "block_of", counted)
    function(model, tokens)
    assert 0 < max(sizes) <= budget


@pytest.mark.parametrize(
    "function",
    [
        posterior,
        memory_posterior,
        masked_conditionals,
        log_likelihood,
        viterbi,
        lambda model, tokens: sample_posterior(model, tokens, 1, seed=0),
        lambda model, tokens: OracleLM(model).encode(tokens),
        enumeration.posterior,
        enumeration.masked_conditionals,
    ],
)
def test_a_memory_too_large_is_refused_with_its_size(function):
    model, tokens = random_texts(0, n_cells=12, n_values=4, n_states=12)
    with pytest.raises(InvalidInput, match=r"at most 65536 memories .*, got m\^N = 4\^12 = 16777216; use fewer"):
        function(model, tokens)


# The perfect masked language model.


@each_seed
def test_oracle_lm_equals_masked_conditionals(seed):
    case, expected = case_of(seed), truth_of(seed)
    assert_equal(OracleLM(case.model).conditionals(case.tokens, **options_of(case)), expected.conditionals)
    encoded = OracleLM(case.model).encode(case.tokens, case.lengths)
    prompt = None if case.prompt is None else torch.tensor(case.prompt)
    assert_equal(encoded.conditionals(prompt), expected.conditionals)
    for i in range(case.tokens.shape[1]):
        assert_equal(encoded.conditionals(prompt, [i])[:, 0], expected.conditionals[:, i])


@few_seeds
def test_probe_features_are_the_conditionals_of_a_mask_before_the_text(seed):
    case = case_of(seed)
    masked = np.concatenate([np.full((3, 1), MASK), case.masked_tokens], axis=1)
    expected = masked_conditionals(case.model, masked, prompt=case.prompt, positions=[0], impossible="mask")[:, 0]
    assert_equal(probe_features(OracleLM(case.model), case.tokens, impossible="mask", **options_of(case)), expected)


@pytest.mark.parametrize("positions", [None, [0], [2, -1]])
def test_prompts_have_leading_dimensions_of_restarts(positions):
    models = [random_texts(seed)[0] for seed in range(2)]
    tokens = np.random.default_rng(2).integers(-1, 4, size=(2, 6, 5))
    prompts = random_memory_prompt(3, 7, 2, 2, 2, 3)  # (restarts, P, L, m, K)
    many = OracleLM(MemoryHMM.stack(models)).encode(tokens).conditionals(torch.tensor(prompts), positions)
    for restart, p in itertools.product(range(7), range(2)):
        alone = masked_conditionals(models[p], tokens[p], prompt=prompts[restart, p], positions=positions)
        assert_equal(many[restart, p], alone)
    single = OracleLM(models[0]).encode(tokens[0]).conditionals(torch.tensor(prompts[:, 0]), positions)
    assert_equal(single, many[:, 0])


@pytest.mark.parametrize(("n_cells", "n_values"), [(2, 2), (1, 3), (2, 1)])
def test_oracle_lm_is_differentiable_in_the_prompt(n_cells, n_values):
    model, tokens = random_texts(3, n_cells, n_values, n_states=3, vocabulary_size=3, shape=(2, 3))
    text = OracleLM(model).encode(tokens)
    logits = torch.tensor(np.log(random_memory_prompt(0, 2, n_values, 3)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: text.conditionals(values.exp(), [0, 2]), (logits,))


# Gradients.


def softmax_model(prior, initial, transition, cells, emission):
    return MemoryHMM(prior.softmax(-1), initial.softmax(-1), transition.softmax(-1), cells, emission.softmax(-1))


@pytest.mark.parametrize("seed", range(3))
def test_log_likelihood_is_differentiable_in_parameters_and_prompt(seed):
    stream = torch.Generator().manual_seed(seed)
    logits = [
        torch.randn(*shape, dtype=torch.float64, generator=stream, requires_grad=True)
        for shape in [(2, 2), (3,), (3, 3), (2, 3, 3), (2, 2, 3)]
    ]
    tokens = np.random.default_rng(seed).integers(-1, 3, size=(2, 3))

    def function(prior, initial, transition, emission, prompt):
        model = softmax_model(prior, initial, transition, [0, 1, 0], emission)
        return log_likelihood(model, tokens, prompt=prompt.exp(), lengths=[3, 1])

    assert torch.autograd.gradcheck(function, logits)


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_gradients_of_the_log_likelihood_are_expected_counts(seed):
    case, expected = case_of(seed), truth_of(seed)
    model = case.model
    prior, emission = (getattr(model, name).clone().requires_grad_() for name in ("memory_prior", "emission"))
    learned = MemoryHMM(prior, model.initial, model.transition, model.cell_of_state, emission)
    evidence = log_likelihood(learned, case.tokens, **options_of(case))
    for b, text in enumerate(case.masked_tokens):
        of_prior, of_emission = torch.autograd.grad(
            evidence[b], (prior, emission), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        # d log P(x) / d log P(M_j=a) = P(M_j=a | x); a cell's only value is certain, and its prior a constant.
        if model.n_memory_values > 1:
            assert_equal((of_prior * prior).detach(), expected.memory[b])
        # d log P(x) / d log W[a,h,v] = expected number of times that h reads a and emits v
        assert_equal((of_emission * emission).detach(), expected_counts(model, text, case.prompt))


def expected_counts(model, text, prompt):
    """Return E[Σ_t 1(H_t=h, M_cell(h)=a, X_t=v) | text] (m,K,V) by brute force; zeros for impossible text."""
    memories = oracle.given_memories(model, prompt)
    law = oracle.normalised(oracle.memory_log_joint(memories, text))
    n_prompt = 0 if prompt is None else len(prompt)
    paths = oracle.all_paths(model.n_states, n_prompt + len(text))
    counts = np.zeros(model.emission.shape)
    for (c, each), (t, token), h in itertools.product(enumerate(memories), enumerate(text), range(model.n_states)):
        if token != MASK:
            counts[each.memory[model.cell_of_state[h]], h, token] += law[c, paths[:, 1 + n_prompt + t] == h].sum()
    return counts


def interior(*shape):
    """Return rows that are far from zero."""
    return torch.tensor(oracle.random_rows(np.random.default_rng(0), *shape) + 1 / shape[-1]) / 2


@pytest.mark.parametrize("what", ["memory_prior", "emission", "prompt"])
def test_log_likelihood_is_differentiable_where_a_memory_is_impossible(what):
    """The model written out has the derivative; ours must be the same."""
    arrays = {"memory_prior": interior(1, 2), "emission": interior(2, 2, 2), "prompt": interior(1, 2, 2)}
    if what == "emission":
        arrays[what][0] = torch.tensor([1.0, 0.0])  # value 0 never emits token 1
    else:
        arrays[what][0, 0] = 0
        if what == "memory_prior":
            arrays[what][0, 1] = 1
    point = arrays[what].requires_grad_()
    model = MemoryHMM(arrays["memory_prior"], interior(2), interior(2, 2), [0, 0], arrays["emission"])
    ours = log_likelihood(model, [[0, 1]], prompt=arrays["prompt"])
    # With one cell a pair of a memory and a state is one of a value and a state.
    flat = log_likelihood(model.flatten(), [[0, 1]], prompt=arrays["prompt"].flatten(1))
    assert_equal(ours.detach(), flat.detach())
    assert_equal(torch.autograd.grad(ours.sum(), point)[0], torch.autograd.grad(flat.sum(), point)[0])


def test_oracle_lm_is_differentiable_where_a_prompt_makes_a_memory_impossible():
    prompt = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]], dtype=torch.float64, requires_grad=True)
    model = MemoryHMM(interior(1, 2), interior(2), interior(2, 2), [0, 0], interior(2, 2, 2))
    of_model = OracleLM(model).encode([[1, 0]]).conditionals(prompt)[0, :, 0].sum()
    of_flat = OracleLM(model.flatten()).encode([[1, 0]]).conditionals(prompt.flatten(1))[0, :, 0].sum()
    assert_equal(of_model.detach(), of_flat.detach())
    assert_equal(torch.autograd.grad(of_model, prompt)[0], torch.autograd.grad(of_flat, prompt)[0])


def test_impossible_text_has_no_evidence_and_gradient_zero():
    prior, emission = (getattr(telling(), name).clone().requires_grad_() for name in ("memory_prior", "emission"))
    model = MemoryHMM(prior, [0.5, 0.5], np.eye(2), [0, 1], emission)
    evidence = log_likelihood(model, [[0, 1], [0, 0]], prompt=[[[1.0, 2.0], [3.0, 4.0]]])
    assert evidence[0] == -torch.inf
    for gradient in torch.autograd.grad(evidence[0], (prior, emission), retain_graph=True):
        assert (gradient == 0).all()
    for gradient in torch.autograd.grad(evidence.sum(), (prior, emission)):
        assert gradient.isfinite().all()


# Draws from the posterior.


@pytest.mark.parametrize("n_prompt", [0, 1])
@pytest.mark.parametrize(
    "model", [*(random_texts(seed, n_states=2, vocabulary_size=3)[0] for seed in range(2)), telling()]
)
def test_draws_follow_the_posterior_of_memories_and_paths(model, n_prompt):
    prompt = random_memory_prompt(0, n_prompt, 2, 2) if n_prompt else None
    tokens, n_draws = np.array([[0, 0], [MASK, 1]]), 40_000
    draws = sample_posterior(model, tokens, n_draws, seed=0, prompt=prompt)
    drawn = torch.cat([draws.memory, draws.initial_state[..., None], draws.states], -1).numpy()
    for b, text in enumerate(tokens):
        law = oracle.normalised(oracle.memory_log_joint(oracle.given_memories(model, prompt), text))
        law = law.reshape((2,) * (5 + n_prompt))
        law = law.sum(3) if n_prompt else law  # the prompt's state is not reported
        count = np.zeros((2,) * 5)
        np.add.at(count, tuple(drawn[b].T), 1)
        standard_error = np.sqrt(law * (1 - law).clip(min=0) / n_draws)
        assert (np.abs(count / n_draws - law) <= 4.5 * standard_error + 1e-12).all()
        assert (count[law == 0] == 0).all()


def test_the_same_seed_gives_the_same_draws():
    model, tokens = random_texts(0)
    one, same, other = (sample_posterior(model, tokens, 50, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.memory, same.memory)
    assert torch.equal(one.states, same.states)
    assert not torch.equal(one.states, other.states)
    assert not torch.equal(one.memory, other.memory)


# Underflow and long text.

TINY = 1e-200


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_underflow_in_random_models_is_rescued(seed):
    # A silent start moves to either of two states with about 1e-200; most states and values give tokens 1, 2 that too.
    rng = np.random.default_rng(seed)
    reach = rng.uniform(0.1, 1, size=2) * TINY
    transition = np.zeros((3, 3))
    transition[0] = [1, *reach]
    transition[1:, 1:] = oracle.random_rows(rng, 2, 2)
    small = rng.uniform(0.1, 1, size=(2, 3, 2)) * np.where(rng.random((2, 3, 1)) < 0.8, TINY, 1e-3)
    emission = np.concatenate([np.ones((2, 3, 1)), small], axis=2)
    emission[..., 0] -= small.sum(-1)
    prior = np.array([[1, TINY], [0.5, 0.5]])
    model = MemoryHMM(prior, [1, 0, 0], transition, rng.integers(2, size=3), emission)
    tokens = rng.integers(0, 3, size=(4, 3))
    prompt = random_memory_prompt(seed, 1, 2, 3) * TINY if seed % 2 else None
    expected = oracle.memory_truth(model, tokens, prompt)
    assert np.isfinite(expected.log_evidence).all()
    ours = posterior(model, tokens, prompt=prompt)
    for field in FIELDS:
        assert_equal(getattr(ours, field), getattr(expected, field))
    assert_equal(log_likelihood(model, tokens, prompt=prompt), expected.log_evidence)
    assert_equal(memory_posterior(model, tokens, prompt=prompt, joint=True), expected.joint)
    assert_equal(masked_conditionals(model, tokens, prompt=prompt), expected.conditionals)
    assert_equal(OracleLM(model).conditionals(tokens, prompt=prompt), expected.conditionals)
    encoded = OracleLM(model).encode(tokens)
    assert_equal(encoded.conditionals(None if prompt is None else torch.tensor(prompt)), expected.conditionals)


def test_a_memory_that_only_looks_best_hides_no_other():
    # State 1 can never start. With value 0 it alone could say the text, at no cost, so the backward message is large;
    # with value 1 each of 100 tokens costs 1e-4, which beside it underflows, and is all that is possible.
    rare = [1e-4, 1 - 1e-4]
    model = MemoryHMM([[0.5, 0.5]], [1, 0], np.eye(2), [0, 0], [[[0, 1], [1, 0]], [rare, rare]])
    tokens = np.array([[MASK, *[0] * 100]])
    assert_equal(masked_conditionals(model, tokens, positions=[0]), [[rare]])
    assert_equal(OracleLM(model).encode(tokens).conditionals(positions=[0]), [[rare]])
    assert_equal(posterior(model, tokens).memory, [[[0, 1]]])
    assert_equal(log_likelihood(model, tokens), [np.log(0.5) + 100 * np.log(1e-4)])


def test_long_text_neither_underflows_nor_drifts():
    length = 3000
    model, tokens = random_texts(0, shape=(2, length))
    flat, prompt = model.flatten(), random_memory_prompt(1, 1, 2, 3)
    case = oracle.Case(model, tokens, None, prompt)
    ours, theirs = posterior(model, tokens, prompt=prompt), posterior(flat, tokens, **flattened_options(case))
    assert (ours.log_evidence < -1000).all()  # below the smallest float
    assert_equal(ours.log_evidence, theirs.log_evidence, 1e-8)
    assert_equal(ours.initial, without_memory(theirs.initial, model))
    assert_equal(ours.smoothed, without_memory(theirs.smoothed, model))
    assert_equal(memory_posterior(model, tokens, prompt=prompt), ours.memory, 1e-9)
    positions = [0, length // 2, length - 1]
    expected = masked_conditionals(flat, tokens, positions=positions, **flattened_options(case))
    assert_equal(masked_conditionals(model, tokens, prompt=prompt, positions=positions), expected)
    assert_equal(OracleLM(model).encode(tokens).conditionals(torch.tensor(prompt), positions), expected)


def test_a_named_prompt_is_the_same_as_its_rows():
    model, tokens = random_texts(0)
    rows = random_memory_prompt(0, 2, 2, 3)
    assert torch.equal(
        log_likelihood(model, tokens, prompt=MemoryPrompt(rows)), log_likelihood(model, tokens, prompt=rows)
    )


def test_a_model_without_memory_has_no_memory_posterior():
    with pytest.raises(InvalidInput, match="memory_posterior: expected a MemoryHMM, got HMM"):
        memory_posterior(telling().flatten(), [[0]])


@pytest.mark.parametrize("n_values", [1, 2, 3])
def test_text_from_the_model_finds_its_memory(n_values):
    model = random_memory_hmm("dirichlet", 4, n_values, 5, seed=0, n_cells=2)
    draw = sample(model, 400, 30, seed=0)
    law = memory_posterior(model, draw.tokens)
    chosen = torch.take_along_dim(law, torch.as_tensor(draw.memory)[..., None], -1)[..., 0]
    # The posterior is calibrated: the true value's probability has the mean of Σ_a P(a|x)².
    difference = chosen - law.square().sum(-1)
    assert abs(difference.mean()) <= 4 * difference.std() / difference.numel() ** 0.5 + 1e-12


# In a process of its own: the peak is of the whole process, and shape checks would take longer than the work.
LARGE = """
import time
import torch
from ppl_hmm.inference.queries import memory_posterior, posterior
from ppl_hmm.regimes import random_memory_hmm

torch.set_num_threads(1)
model = random_memory_hmm("dirichlet", 16, 4, 10, seed=0, n_cells=4)
text = torch.randint(10, (500, 80), generator=torch.Generator().manual_seed(0))
start = time.perf_counter()
law = memory_posterior(model, text)
seconds = time.perf_counter() - start
start = time.perf_counter()
ours = posterior(model, text)
assert (ours.memory - law).abs().max() < 1e-10
print(seconds, time.perf_counter() - start, peak() / 1024)
"""


@pytest.mark.slow
def test_time_and_memory_of_256_memories():
    done = subprocess.run([sys.executable, "-c", peak_memory.CODE + LARGE], capture_output=True, text=True, check=True)
    seconds, _, gigabytes = map(float, done.stdout.split())
    assert seconds <= 20
    assert gigabytes < 4
