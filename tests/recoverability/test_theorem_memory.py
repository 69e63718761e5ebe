"""Theorem M, both directions: what the certificate promises holds on every text, and what breaks it is named.

The witness is the flattened model: posteriors of pairs of a memory and a state, by the plain chain.
"""

import itertools
from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sweeps import sweep

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.configurations import configurations
from ppl_hmm.inference.queries import masked_conditionals, memory_posterior, posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, MemoryHMM, MemoryPrompt
from ppl_hmm.recoverability.attention import observed, of_token, read
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.memory import memory_certificate, memory_prompt_certificate, restricting_prompt
from ppl_hmm.regimes import random_memory_hmm
from ppl_hmm.tasks import MemoryTask, PosteriorTask

CASES = [(n_cells, r, seed) for n_cells in (1, 2, 3) for r in (1, 2, 3) for seed in range(6)]  # 54 models


def all_texts(vocabulary_size, length, masked=0):
    """Every text, and ``masked`` of them again with a mask at a random place."""
    texts = oracle.all_texts(vocabulary_size, length)
    rng = np.random.default_rng(0)
    some = texts[rng.integers(len(texts), size=masked)]
    some[np.arange(masked), rng.integers(length, size=masked)] = MASK
    return torch.tensor(np.concatenate([texts, some]))


def recoverable_case(n_cells, r, seed, **options):
    model = random_memory_hmm("recoverable", r + 2, 2, 2 * r + 3, seed, n_cells=n_cells, n_recoverable=r, **options)
    return model, MemoryTask(np.random.default_rng(seed).normal(size=(2, 2)), 0)


def pairs(model, text, cell, prompt=None):
    """P(M_cell=a, H_i=h | x) (B,T,m,K), by the flattened model."""
    flat_prompt = None
    if prompt is not None:
        given_memories = oracle.given_memories(model, prompt)
        flat_prompt = np.concatenate([each.prompt for each in given_memories], axis=1)
    smoothed = posterior(model.flatten(), text, prompt=flat_prompt).smoothed
    memories = configurations(model.n_cells, model.n_memory_values)
    of_memory = smoothed.unflatten(-1, (len(memories), model.n_states))  # (B,T,C,K)
    chosen = [of_memory[:, :, memories[:, cell] == a].sum(2) for a in range(model.n_memory_values)]
    return torch.stack(chosen, dim=2)


def cavities(model, text, cell, prompt=None):
    """P(M_cell=a, H_i=h | x_{-i}) (B,T,m,K): the text with a mask at i."""
    return torch.stack(
        [
            pairs(model, torch.where(torch.arange(text.shape[1]) == i, MASK, text), cell, prompt)[:, i]
            for i in range(text.shape[1])
        ],
        dim=1,
    )


def assert_reads(certificate, text, prompt=None):
    """Θ, scores and values are what the theorem says, at all positions; return the exact score (B,T)."""
    model, task, states = certificate.model, certificate.task, list(certificate.recoverable_states)
    cell = int(task.target_cell)
    G = masked_conditionals(model, text, prompt=prompt)
    read_off = torch.einsum("ahv,btv->btah", certificate.weights, G)
    torch.testing.assert_close(read_off, cavities(model, text, cell, prompt)[..., states], rtol=0, atol=1e-9)
    exact = pairs(model, text, cell, prompt)[..., states]
    rows = observed(text, model.vocabulary_size)
    likelihood = of_token(G, rows)
    score = read(certificate.score_weights, G, rows) / likelihood
    assert (score <= exact.sum((-2, -1)) + 1e-12).all()  # never promises too much
    torch.testing.assert_close(score, exact.sum((-2, -1)), rtol=0, atol=1e-8)
    values = read(certificate.value_weights, G, rows) / likelihood
    expected = torch.einsum("ca,btah->cbt", task.contrasts, exact)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-8)
    # The soft bound, of every position of every text.
    margins = task.contrasts @ memory_posterior(model, text, prompt=prompt)[:, cell].mT  # (C,B)
    outside = 1 - exact.sum((-2, -1))
    assert ((values - margins[..., None]).abs() <= task.contrasts.abs().max() * outside + 1e-9).all()
    return exact.sum((-2, -1))


# The condition holds.


@pytest.mark.parametrize(("n_cells", "r", "seed"), CASES)
def test_every_admissible_text_is_classified_right(n_cells, r, seed):
    model, task = recoverable_case(n_cells, r, seed)
    certificate = memory_certificate(model, task, recoverable_states=range(r))
    assert certificate.recoverable, certificate.reasons
    assert certificate.recoverable_states == tuple(range(r))
    assert certificate.sigma_min > 0
    text = all_texts(model.vocabulary_size, 3, masked=20)
    score = assert_reads(certificate, text)
    best = score.amax(-1)
    torch.testing.assert_close(certificate.coverage(text), best, rtol=0, atol=1e-12)
    exact = posterior(model, text)
    admissible = (best >= 1 - 1e-12) & task.decidable(exact)
    assert admissible.sum() >= 50
    agreement = certificate.sign_agreement(text)
    assert agreement.agreeing == agreement.decidable >= int(admissible.sum())
    assert certificate.sign_agreement(text[admissible]).agreeing == int(admissible.sum())


def brute_pairs(model, text, position, cell):
    """P(M_cell=a, H_position=h | x) (m,K), a sum over every memory and every path."""
    given_memories = oracle.given_memories(model)
    law = oracle.normalised(oracle.memory_log_joint(given_memories, text))  # (memories, paths)
    states = oracle.all_paths(model.n_states, len(text))[:, 1 + position]
    values = np.array([each.memory[cell] for each in given_memories])
    return np.array(
        [
            [law[np.ix_(values == a, states == h)].sum() for h in range(model.n_states)]
            for a in range(model.n_memory_values)
        ]
    )


@pytest.mark.parametrize(("n_cells", "r"), [*itertools.product((1, 2, 3), (1, 2, 3))])
def test_the_formulas_hold_by_brute_force(n_cells, r):
    # Nothing but Θ comes from the package: G, posteriors, scores, values and labels are summed and written out here.
    model, task = recoverable_case(n_cells, r, seed=100)
    W, mu = model.emission.numpy(), task.contrast.numpy()
    theta = memory_certificate(model, task, recoverable_states=range(r)).weights.numpy()  # (m,r,V)
    rng = np.random.default_rng(r)
    text = rng.integers(model.vocabulary_size, size=(8, 2))
    text[:4, 0] = 0  # token 0 comes from H* only: these are admissible
    text[[0, 4], 1] = MASK
    right = 0
    for x in text:
        for i in range(2):
            hidden = np.where(np.arange(2) == i, MASK, x)
            G = oracle.memory_truth(model, x[None]).conditionals[0, i]
            np.testing.assert_allclose(theta @ G, brute_pairs(model, hidden, i, 0)[:, :r], rtol=0, atol=1e-10)
            likelihood, own = (1.0, 1.0) if x[i] == MASK else (W[:, :r, x[i]], G[x[i]])
            posterior_pairs = brute_pairs(model, x, i, 0)[:, :r]
            joint = likelihood * (theta @ G)
            np.testing.assert_allclose(joint.sum() / own, posterior_pairs.sum(), rtol=0, atol=1e-9)
            np.testing.assert_allclose((mu @ joint).sum(), own * (mu @ posterior_pairs).sum(), rtol=0, atol=1e-10)
            margin = mu @ oracle.memory_truth(model, x[None]).memory[0, 0]
            assert abs((mu @ joint).sum() / own - margin) <= np.abs(mu).max() * (1 - posterior_pairs.sum()) + 1e-9
            if posterior_pairs.sum() >= 1 - 1e-12 and abs(margin) > 1e-9:
                assert ((mu @ joint).sum() >= 0) == (margin >= 0)
                right += 1
    assert right >= 4


def rank(rows):
    """The rank of integer rows, by elimination without rounding."""
    rows, found = [[Fraction(int(entry)) for entry in row] for row in rows], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((row for row in rows if row[column]), None)
        if pivot is None:
            continue
        found += 1
        rows.remove(pivot)
        rows = [[b - a * row[column] / pivot[column] for a, b in zip(pivot, row, strict=True)] for row in rows]
    return found


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_the_condition_is_that_of_the_ranks(seed):
    # Rows of 0 and 1 repeat and depend often; their ranks are exact, for every set of states, in both directions.
    rng = np.random.default_rng(seed)
    n_cells, m, K, V = (int(n) for n in rng.integers([1, 1, 1, 2], [3, 4, 5, 10]))
    counts = rng.integers(0, 2, size=(m, K, V))
    counts[..., 0] |= counts.sum(-1) == 0
    chain = oracle.random_rows(rng, K + 1, K)
    cells, prior = rng.integers(n_cells, size=K), oracle.random_rows(rng, n_cells, m)
    model = MemoryHMM(prior, chain[0], chain[1:], cells, counts / counts.sum(-1, keepdims=True))
    task = MemoryTask(rng.normal(size=(2, m)), 0)
    if m == 1:
        with pytest.raises(InvalidInput, match="memory cell 0: expected more than one possible value"):
            memory_certificate(model, task)
        return
    passing = set()
    for size in range(1, 1 + K):
        for states in map(list, itertools.combinations(range(K), size)):
            own, others = (counts[:, h].reshape(-1, V) for h in (states, [h for h in range(K) if h not in states]))
            readable = rank(np.concatenate([own, others])) == len(own) + rank(others)
            holds = readable and (cells[states] == 0).all()
            certificate = memory_certificate(model, task, recoverable_states=states)
            assert certificate.recoverable == holds, certificate.reasons
            if not holds:
                # The first part of the condition that fails is named.
                part = "one cell" if (cells[states] != 0).any() else "independence" if rank(own) < len(own) else "span"
                assert certificate.reasons[0].startswith(part)
            passing |= set(states) if holds else set()
    found = memory_certificate(model, task)
    assert found.recoverable == bool(passing)
    if passing:
        assert set(found.recoverable_states) == passing


@pytest.mark.parametrize(("n_cells", "r", "seed"), CASES[::5])
def test_the_states_found_are_all_that_can_be_read_off(n_cells, r, seed):
    model, task = recoverable_case(n_cells, r, seed)
    found = memory_certificate(model, task)
    assert found.recoverable
    assert set(range(r)) <= set(found.recoverable_states)
    readers = [h for h in range(model.n_states) if model.cell_of_state[h] == 0]
    for size in range(1, 1 + len(readers)):
        for states in itertools.combinations(readers, size):
            holds = memory_certificate(model, task, recoverable_states=states).recoverable
            assert holds == (set(states) <= set(found.recoverable_states))


@pytest.mark.parametrize("seed", range(5))
def test_three_classes(seed):
    model = random_memory_hmm("recoverable", 4, 3, 10, seed, n_cells=2, n_recoverable=2)
    task = MemoryTask(np.random.default_rng(seed).normal(size=(3, 3)), 0)
    certificate, text = memory_certificate(model, task), sample(model, 300, 4, seed).tokens
    assert_reads(certificate, text)
    agreement = certificate.sign_agreement(text)
    sure = (certificate.coverage(text) > 1 - 1e-12) & task.decidable(posterior(model, text))
    assert agreement.agreeing == agreement.decidable >= int(sure.sum()) > 0


def test_lengths_and_masks():
    model, task = recoverable_case(2, 2, 0)
    certificate = memory_certificate(model, task)
    text = torch.tensor([[0, 1, 0], [0, 0, 0], [MASK, MASK, MASK], [1, 0, 2]])
    lengths = [3, 0, 2, 1]
    coverage = certificate.coverage(text, lengths)
    assert coverage[1] == 0
    exact = posterior(model, text, lengths=lengths).smoothed[..., list(certificate.recoverable_states)].sum(-1)
    assert coverage[3] == pytest.approx(exact[3, 0].item(), abs=1e-12)
    agreement = certificate.sign_agreement(text, lengths)
    assert agreement.agreeing == agreement.decidable
    assert agreement.decidable + agreement.undecidable == 4
    assert agreement.undecidable >= 1  # nothing is claimed of a text without positions


@pytest.mark.parametrize("seed", range(8))
def test_coverage_and_agreement_of_ragged_text(seed):
    # Text of a length is the text cut there: for coverage, by brute force, and for the claims.
    model, task = recoverable_case(1 + seed % 3, 1 + seed % 2, seed)
    certificate, rng = memory_certificate(model, task), np.random.default_rng(seed)
    states = list(certificate.recoverable_states)
    text = rng.integers(model.vocabulary_size, size=(6, 3))
    text[rng.random(text.shape) < 0.2] = MASK
    lengths = np.array([0, 1, 2, 3, 3, 1])
    coverage, pieces = certificate.coverage(text, lengths).numpy(), []
    assert coverage[0] == 0
    for x, length, covered in zip(text[1:], lengths[1:], coverage[1:], strict=True):
        smoothed = oracle.memory_truth(model, x[None, :length]).smoothed[0]
        assert covered == pytest.approx(smoothed[:, states].sum(-1).max(), abs=1e-12)
        assert covered == pytest.approx(certificate.coverage(x[None, :length]).item(), abs=1e-12)
        pieces.append(certificate.sign_agreement(x[None, :length]))
    agreement = certificate.sign_agreement(text, lengths)
    assert agreement.agreeing == sum(each.agreeing for each in pieces)
    assert agreement.decidable == sum(each.decidable for each in pieces)


@pytest.mark.parametrize("seed", range(10))
def test_the_score_of_a_sure_position_is_one(seed):
    model, task = recoverable_case(1 + seed % 3, 1 + seed % 3, seed)
    certificate, text = memory_certificate(model, task), all_texts(model.vocabulary_size, 2)
    G, rows = masked_conditionals(model, text), observed(text, model.vocabulary_size)
    score = read(certificate.score_weights, G, rows) / of_token(G, rows)
    sure = text == 0  # a token of H* only
    assert (score[sure] <= 1 + 1e-12).all()
    assert (score[sure] >= 1 - certificate.attention_tolerance - 1e-12).all()


def test_the_first_hidden_state_is_not_met():
    # The text starts one step after H_0: state 1 can only be H_0, so its rows, repeats of those of state 0, are no
    # obstacle.
    rows = np.eye(3)
    emission = [[rows[0], rows[0]], [rows[1], rows[1]]]
    model = MemoryHMM([[0.3, 0.7]], [0, 1], [[1, 0], [1, 0]], [0, 0], emission)
    certificate = memory_certificate(model, MemoryTask(np.eye(2), 0))
    assert certificate.recoverable
    assert certificate.recoverable_states == (0,)
    assert certificate.sign_agreement([[0], [1], [MASK]])[:2] == (3, 3)


def test_states_whose_probability_underflows_are_met():
    # State 1 is reached with probability 1e-200·1e-200, zero as a float; its rows are those of state 0.
    tiny, rows = 1e-200, np.eye(3)
    transition = [[1, 0, 0], [0, 1, 0], [1 - tiny, tiny, 0]]
    emission = [[rows[0]] * 3, [rows[1]] * 3]
    model = MemoryHMM([[0.3, 0.7]], [1 - tiny, 0, tiny], transition, [0, 0, 0], emission)
    certificate = memory_certificate(model, MemoryTask(np.eye(2), 0))
    assert not certificate.recoverable
    assert certificate.reasons[0].startswith("span")


def test_rows_that_no_text_meets_do_not_matter():
    # State 2 is never reached, value 2 never drawn; both spoil the independence of the rows that are met.
    rows = np.eye(4)[:3]
    emission = [[rows[0], rows[1], rows[0]], [rows[2], rows[1], rows[0]], [rows[0], rows[1], rows[0]]]
    transition = [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]
    model = MemoryHMM([[0.5, 0.5, 0]], [0.5, 0.5, 0], transition, [0, 0, 0], emission)
    task = MemoryTask([[0, 1, 5.0], [1, 0, 7]], 0)
    certificate = memory_certificate(model, task)
    assert certificate.recoverable
    assert certificate.recoverable_states == (0,)
    assert (certificate.weights[2] == 0).all()
    text = torch.tensor([[0, 1], [1, 2], [1, 1]])
    assert certificate.sign_agreement(text)[:2] == (2, 2)
    seen = MemoryHMM([[0.4, 0.4, 0.2]], [0.5, 0.5, 0], transition, [0, 0, 0], emission)
    assert not memory_certificate(seen, task).recoverable


@pytest.mark.parametrize(("n_states", "n_values"), [(1, 2), (1, 4), (2, 2)])
def test_smallest_models(n_states, n_values):
    emission = np.eye(4)[: n_values * n_states].reshape(n_values, n_states, 4)
    stay = np.full((n_states, n_states), 1 / n_states)
    model = MemoryHMM(np.full((1, n_values), 1 / n_values), stay[0], stay, [0] * n_states, emission)
    task = MemoryTask(np.array([[0.0] * n_values, np.arange(n_values) - 0.25]), 0)
    certificate = memory_certificate(model, task)
    text = sample(model, 20, 1, seed=0).tokens
    assert certificate.recoverable
    assert certificate.sign_agreement(text)[:2] == (20, 20)


# The condition fails.


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("breaks", "reason"), [("independence", "independence:"), ("span", "span:"), ("cell", "one cell: states 1")]
)
def test_what_fails_is_named(breaks, reason, seed):
    model, task = recoverable_case(2, 2, seed, breaks=breaks)
    certificate = memory_certificate(model, task, recoverable_states=[0, 1])
    assert certificate.verdict == "undecided"
    assert certificate.reasons[0].startswith(reason)
    if breaks != "cell":
        assert certificate.residual > 1e-3


@pytest.mark.parametrize(("n_cells", "r"), [(1, 1), (1, 3), (2, 2), (3, 1), (3, 3)])
@pytest.mark.parametrize(("breaks", "reason"), [("independence", "independence"), ("span", "span"), ("cell", "cell")])
def test_what_fails_is_named_at_all_sizes(breaks, reason, n_cells, r):
    if breaks == "cell" and n_cells == 1:
        with pytest.raises(InvalidInput, match="sizes of regime 'recoverable'"):
            recoverable_case(n_cells, r, 7, breaks=breaks)
        return
    model, task = recoverable_case(n_cells, r, 7, breaks=breaks)
    certificate = memory_certificate(model, task, recoverable_states=range(r))
    assert certificate.verdict == "undecided"
    assert reason in certificate.reasons[0].split(":")[0]


def test_too_few_tokens_are_refused():
    model = random_memory_hmm("dirichlet", 3, 3, 4, seed=0)
    certificate = memory_certificate(model, MemoryTask(np.eye(2, 3), 0))
    assert not certificate.recoverable
    assert certificate.reasons[0].startswith(("span", "independence"))


def test_a_cell_that_nothing_reads():
    model = MemoryHMM([[0.5, 0.5]] * 2, [1.0], [[1.0]], [0], np.eye(2)[:, None])
    certificate = memory_certificate(model, MemoryTask(np.eye(2), 1))
    assert certificate.verdict == "undecided"
    assert certificate.recoverable_states == ()
    assert certificate.reasons == ("one cell: no state that text can be in reads cell 1",)
    assert certificate.sign_agreement([[0, 1][:1]]).decidable == 0


# Prompts.


def restricted(law, cell, values):
    """The joint law of the memory (B,m,…,m) given that the cell holds one of the values."""
    keep = torch.zeros(law.shape[1 + cell], dtype=law.dtype)
    keep[list(values)] = 1
    kept = law * keep.reshape([-1 if dim == 1 + cell else 1 for dim in range(law.ndim)])
    return kept / kept.flatten(1).sum(1).reshape(-1, *[1] * (law.ndim - 1))


def stationary(model):
    """The model started from the law that its chain keeps."""
    values, vectors = np.linalg.eig(model.transition.numpy().T)
    law = np.abs(vectors[:, np.argmax(values.real)].real)
    return MemoryHMM(model.memory_prior, law / law.sum(), model.transition, model.cell_of_state, model.emission)


@pytest.mark.parametrize("is_stationary", [False, True])
@pytest.mark.parametrize("n_cells", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_prompts_restrict_the_posterior(n_cells, seed, is_stationary):
    model = random_memory_hmm("dirichlet", 5, 3, 4, seed, n_cells=n_cells)
    model = stationary(model) if is_stationary else model
    change = float((model.initial @ model.transition - model.initial).abs().max())
    assert (change < 1e-12) == is_stationary
    cell, values = int(model.cell_of_state[0]), [0, 2]
    prompt = restricting_prompt(model, cell, values)
    assert len(prompt.rows) == (1 if n_cells == 1 else 2)
    text = sample(model, 100, 8, seed).tokens
    before = posterior(model, text)
    assert not torch.allclose(before.memory, posterior(model, text, prompt=prompt).memory, atol=1e-3)
    law = restricted(memory_posterior(model, text, joint=True), cell, values)
    ours = memory_posterior(model, text, prompt=prompt, joint=True)
    torch.testing.assert_close(ours, law, rtol=0, atol=1e-12)


def of_prior(model, memory_prior):
    return MemoryHMM(memory_prior, model.initial, model.transition, model.cell_of_state, model.emission)


@pytest.mark.parametrize("is_stationary", [False, True])
@pytest.mark.parametrize(("n_cells", "seed"), [*itertools.product((1, 2, 3), range(3))])
def test_a_restricting_prompt_only_changes_the_prior(n_cells, seed, is_stationary):
    # After it all laws, of states and of hidden tokens too, are those of the model whose prior has the values only.
    model = random_memory_hmm("dirichlet", 4, 3, 4, seed, n_cells=n_cells)
    model = stationary(model) if is_stationary else model
    cell, values = int(model.cell_of_state[seed]), [1, 2]
    prior = model.memory_prior.clone()
    prior[cell, 0] = 0
    other = of_prior(model, prior / prior.sum(-1, keepdim=True))
    prompt, text = restricting_prompt(model, cell, values), all_texts(4, 3, masked=20)
    ours, theirs = posterior(model, text, prompt=prompt), posterior(other, text)
    torch.testing.assert_close(ours.memory, theirs.memory, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.smoothed, theirs.smoothed, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        masked_conditionals(model, text, prompt=prompt), masked_conditionals(other, text), rtol=0, atol=1e-12
    )
    task = MemoryTask([[0, 1, -1], [0, 0, 0]], cell)
    after, plain = memory_certificate(model, task, prompt), memory_certificate(other, task)
    assert (after.verdict, after.recoverable_states) == (plain.verdict, plain.recoverable_states)
    assert after.memory_values == (1, 2)
    torch.testing.assert_close(after.weights, plain.weights, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_cells", [1, 2])
def test_prompts_restrict_by_brute_force(n_cells):
    rng = np.random.default_rng(n_cells)
    chain, cells = oracle.random_rows(rng, 4, 3), [0, n_cells - 1, 0]
    model = MemoryHMM(oracle.random_rows(rng, n_cells, 3), chain[0], chain[1:], cells, oracle.random_rows(rng, 3, 3, 3))
    prompt, text = restricting_prompt(model, 0, [0, 2]).rows.numpy(), oracle.all_texts(3, 2)
    law = restricted(torch.tensor(oracle.memory_truth(model, text).joint), 0, [0, 2])
    np.testing.assert_allclose(oracle.memory_truth(model, text, prompt).joint, law, rtol=0, atol=1e-12)


def test_the_papers_prompt_needs_a_stationary_model():
    model = random_memory_hmm("dirichlet", 4, 3, 4, seed=0)
    text, paper = sample(model, 100, 8, seed=0).tokens, np.zeros((1, 3, 4))
    paper[:, :2] = 1
    for each, exact in ((model, False), (stationary(model), True)):
        law = restricted(memory_posterior(each, text, joint=True), 0, [0, 1])
        ours = memory_posterior(each, text, prompt=paper, joint=True)
        assert torch.allclose(ours, law, rtol=0, atol=1e-12) == exact


def test_no_prompt_restricts_where_the_chain_cannot_start_again():
    # From state 0 the chain moves on to state 1 and stays: nothing leads back to π₀.
    model = MemoryHMM([[0.5, 0.5]], [1, 0], [[0, 1], [0, 1]], [0, 0], [[[1, 0]] * 2, [[0, 1]] * 2])
    assert restricting_prompt(model, 0, [1]) is None
    certificate = memory_prompt_certificate(model, MemoryTask(np.eye(2), 0))
    assert certificate.prompt is None


@pytest.mark.parametrize(
    ("transition", "n_tokens"),
    [
        # States 0 and 1 read cell 0, state 2 reads cell 1; π₀ is positive everywhere.
        ([[0.2, 0.3, 0.5]] * 3, 2),  # from everywhere to everywhere
        ([[0, 0, 1]] * 3, 0),  # the first token never reads cell 0
        ([[0.5, 0, 0.5], [0.5, 0, 0.5], [0, 1, 0]], 0),  # state 1 is not reached from those that tell the value
    ],
)
def test_when_two_tokens_can_restrict(transition, n_tokens):
    emission = np.random.default_rng(0).dirichlet(np.ones(9), size=(2, 3))
    model = MemoryHMM([[0.5, 0.5]] * 2, [0.3, 0.3, 0.4], transition, [0, 0, 1], emission)
    prompt = restricting_prompt(model, 0, [1])
    assert (0 if prompt is None else len(prompt.rows)) == n_tokens
    certificate = memory_prompt_certificate(model, MemoryTask([[0, 1], [0, 0]], 0))
    assert (certificate.prompt is None) == (n_tokens == 0)
    assert certificate.memory_values == ((1,) if n_tokens else (0, 1))


@pytest.mark.parametrize(("n_cells", "seed"), [*itertools.product((1, 2), range(5))])
def test_a_prompt_makes_do_with_fewer_tokens(n_cells, seed):
    # Two states and values 0, 1, 2 make 6 rows, too many for V; the task compares 0 with 1, and leaves fewer.
    rng, V = np.random.default_rng(seed), 3 + n_cells
    emission = oracle.random_rows(rng, 3, 2, V)
    if n_cells == 2:
        emission[:, 1, 0] = 0  # token 0 comes from state 0, the one that reads the target
        emission /= emission.sum(-1, keepdims=True)
    chain = oracle.random_rows(rng, 3, 2)
    model = MemoryHMM(oracle.random_rows(rng, n_cells, 3), chain[0], chain[1:], [0, n_cells - 1], emission)
    task = MemoryTask([[0, 1, 0], [1, 0, 0]], 0)
    assert not memory_certificate(model, task).recoverable
    certificate = memory_prompt_certificate(model, task)
    assert certificate.recoverable, certificate.reasons
    assert certificate.recoverable_states == ((0, 1) if n_cells == 1 else (0,))
    text = all_texts(V, 3, masked=20)
    score = assert_reads(certificate, text, certificate.prompt.rows.numpy()).amax(-1)
    admissible = (score >= 1 - 1e-12) & task.decidable(posterior(model, text))
    agreement = certificate.sign_agreement(text)
    assert agreement.agreeing == agreement.decidable >= int(admissible.sum()) >= 50
    assert certificate.sign_agreement(text[admissible])[:2] == (int(admissible.sum()),) * 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_cells", [1, 2])
def test_a_prompt_makes_recoverable_what_is_not(n_cells, seed):
    # Cell 0: values 0, 1, 2, the third row of each state a mixture of the other two. The task compares 0 with 1.
    rng = np.random.default_rng(seed)
    emission = oracle.random_rows(rng, 3, 3, 9)
    emission[2] = emission[:2].mean(0)
    cells = [0, 0, n_cells - 1]
    prior, chain = oracle.random_rows(rng, n_cells, 3), oracle.random_rows(rng, 4, 3)
    if n_cells == 2:
        emission[:, 2, :] = emission[0, 2]  # the other cell says nothing: one row
    model = MemoryHMM(prior, chain[0], chain[1:], cells, emission)
    task = MemoryTask([[0, 1, 0], [1, 0, 0]], 0)
    plain = memory_certificate(model, task)
    assert not plain.recoverable
    assert plain.reasons[0].startswith("independence")
    certificate = memory_prompt_certificate(model, task)
    assert certificate.recoverable, certificate.reasons
    assert certificate.memory_values == (0, 1)
    text = sample(model, 200, 4, seed).tokens
    assert_reads(certificate, text, certificate.prompt.rows.numpy())
    agreement = certificate.sign_agreement(text)
    exact = posterior(model, text)
    sure = (certificate.coverage(text) > 1 - 1e-12) & task.decidable(exact)
    assert agreement.agreeing == agreement.decidable >= int(sure.sum())
    if n_cells == 1:
        assert agreement.decidable == len(text)  # all states are recoverable: every position is sure


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.ones((2, 2)) * [[1], [0]], "the task needs values 1 of cell 0, which the prompt excludes"),
        (np.array([[1.0, 0.2], [0.5, 1]]), "the prompt does more than restrict the memory"),
        (np.zeros((2, 2)), "the prompt has probability zero"),
    ],
)
def test_prompts_that_do_not_restrict_are_named(rows, reason):
    # Stationary and doubly stochastic: a row of equal entries for all states restricts.
    model = MemoryHMM([[0.5, 0.5]], [0.5, 0.5], np.full((2, 2), 0.5), [0, 0], np.eye(4).reshape(2, 2, 4))
    task = MemoryTask(np.eye(2), 0)
    assert memory_certificate(model, task, np.ones((1, 2, 2))).recoverable
    certificate = memory_certificate(model, task, MemoryPrompt(rows[None]))
    assert certificate.verdict == "undecided"
    assert certificate.reasons[0].startswith(reason)


@pytest.mark.parametrize("n_prompt", [1, 2, 3])
def test_random_prompts_do_not_restrict(n_prompt):
    model, task = recoverable_case(2, 2, 0)
    assert memory_certificate(model, task).recoverable
    certificate = memory_certificate(model, task, np.random.default_rng(0).random((n_prompt, 2, 4)))
    assert certificate.verdict == "undecided"
    assert certificate.reasons[0].startswith("the prompt does more than restrict the memory")
    # Nor does a good prompt without its second token.
    first = restricting_prompt(model, 0, [0, 1]).rows[:1]
    assert not memory_certificate(model, task, first).recoverable


def test_the_scale_of_prompt_rows_means_nothing():
    model, task = recoverable_case(2, 2, 0)
    rows = restricting_prompt(model, 0, [0, 1]).rows
    for scale in (1e-200, 1e-3, 1e200):
        assert memory_certificate(model, task, rows * scale).recoverable


def test_a_prompt_on_another_cell_is_named():
    emission = np.eye(4).reshape(2, 2, 4)
    model = MemoryHMM([[0.5, 0.5]] * 2, [0.5, 0.5], np.full((2, 2), 0.5), [0, 1], emission)
    prompt = restricting_prompt(model, 1, [0])
    certificate = memory_certificate(model, MemoryTask(np.eye(2), 0), prompt)
    assert certificate.reasons[0] == "the prompt excludes values of other cells than cell 0"


# Never a wrong claim.


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["dirichlet", "wei2021-memory"]),
    st.integers(1, 2),
    st.sampled_from([0.0, 1e-3, 0.1]),
)
def test_no_claim_is_wrong(seed, regime, n_cells, delta):
    rng = np.random.default_rng(seed)
    n_states, n_values, n_tokens = (int(rng.integers(low, high)) for low, high in ((1, 5), (2, 4), (1, 9)))
    n_cells = 1 if regime == "wei2021-memory" else n_cells
    model = random_memory_hmm(regime, n_states, n_values, n_tokens, seed, n_cells=n_cells)
    weights = rng.normal(size=(int(rng.integers(2, 4)), n_values))
    weights[:, rng.random(n_values) < 0.4] = 0  # values that a prompt may exclude
    task = MemoryTask(weights, int(rng.integers(n_cells)))
    text = sample(model, 50, 6, seed).tokens
    for certificate in (
        memory_certificate(model, task, support_threshold=delta),
        memory_prompt_certificate(model, task, support_threshold=delta),
    ):
        if certificate.recoverable:
            agreement = certificate.sign_agreement(text)
            assert agreement.agreeing == agreement.decidable


# Bad arguments.

MODEL, TASK = recoverable_case(2, 1, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: memory_certificate(MODEL.flatten(), TASK), "memory_certificate: expected a single MemoryHMM, got HMM"),
        (lambda: memory_certificate(MemoryHMM.stack([MODEL] * 2), TASK), "expected a single MemoryHMM"),
        (lambda: memory_certificate(MODEL, None), "task: expected one MemoryTask on 2 values .*, got NoneType"),
        (lambda: memory_certificate(MODEL, PosteriorTask(np.eye(2))), "task: expected one MemoryTask on 2 values"),
        (lambda: memory_certificate(MODEL, MemoryTask(np.eye(2, 3), 0)), "task: expected one MemoryTask on 2 values"),
        (lambda: memory_certificate(MODEL, MemoryTask(np.eye(2), 2)), "of a cell in 0..1, got MemoryTask .* of cell 2"),
        (lambda: memory_certificate(MODEL, TASK, recoverable_states=[3]), r"recoverable_states: expected some of 0..2"),
        (lambda: memory_certificate(MODEL, TASK, recoverable_states=[]), r"recoverable_states: expected some of 0..2"),
        (lambda: memory_certificate(MODEL, TASK, tolerance=-1.0), "tolerance: expected a non-negative number"),
        (lambda: memory_certificate(MODEL, TASK, support_threshold=np.nan), "support_threshold: expected a non-neg"),
        (lambda: memory_certificate(MODEL, TASK, np.ones((1, 3))), "prompt: expected shape"),
        (lambda: memory_certificate(MODEL, TASK, support_threshold=-0.1), "support_threshold: expected a non-neg"),
        (lambda: memory_certificate(MODEL, TASK, recoverable_states=[-1]), "recoverable_states: expected some of 0..2"),
        (lambda: memory_certificate(MODEL, TASK, -np.ones((1, 2, 3))), "expected a non-negative likelihood"),
        (lambda: memory_prompt_certificate(MODEL.flatten(), TASK), "expected a single MemoryHMM, got HMM"),
        (lambda: memory_prompt_certificate(MODEL, MemoryTask(np.eye(2), 2)), "of a cell in 0..1"),
        (lambda: restricting_prompt(MODEL.flatten(), 0, [0]), "restricting_prompt: expected a single MemoryHMM"),
        (lambda: restricting_prompt(MemoryHMM.stack([MODEL] * 2), 0, [0]), "restricting_prompt"),
        (lambda: restricting_prompt(MODEL, 2, [0]), r"cell: expected some of 0..1, got \[2\]"),
        (
            lambda: memory_certificate(MODEL, TASK, recoverable_states=[0.5]),
            "recoverable_states: expected some of 0..2",
        ),
        (lambda: memory_certificate(MODEL, TASK, recoverable_states="ab"), "recoverable_states: expected some of 0..2"),
        (lambda: restricting_prompt(MODEL, 0.5, [0]), "cell: expected some of 0..1"),
        (lambda: restricting_prompt(MODEL, 0, []), "memory values: expected some of 0..1"),
        (lambda: restricting_prompt(MODEL, 0, [2]), "memory values: expected some of 0..1"),
        (lambda: head_certificate(MODEL, TASK), "head_certificate: expected a single HMM, got MemoryHMM"),
        (lambda: head_certificate(HMM([1.0], [[1.0]], [[1.0]]), TASK), "task: expected one PosteriorTask on 1 states"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        call()
    what, _, rest = str(caught.value).partition(": expected ")
    expected, _, rest = rest.partition(", got ")
    got, _, remedy = rest.rpartition("; ")
    assert all((what, expected, got, remedy))
