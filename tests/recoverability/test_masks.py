"""Heads on a chain of masks: what they read, when they are certified, and that they are right on every text then."""

import itertools

import numpy as np
import oracle
import pytest
import torch
from by_hand import observability
from comparisons import assert_equal
from sweeps import sweep

from ppl_hmm import (
    HMM,
    MASK,
    ConditionNotMet,
    InvalidInput,
    LinearHead,
    OracleLM,
    PosteriorTask,
    chain_certificate,
    constructed_head,
    find_witness,
    head_certificate,
    latent_posterior,
    masks_needed,
    position_certificate,
    posterior,
    probe_features,
    random_hmm,
    random_memory_hmm,
    random_task,
    sample,
    smallest_half_range,
)

N_MODELS = 100
LONGEST = 5


def random_pair(seed):
    """Return a small model, with zeros or repeated rows now and then, and a task of two or three classes."""
    rng = np.random.default_rng(seed)
    n_states, n_tokens = int(rng.integers(2, 7)), int(rng.integers(2, 5))
    zeros = 0.3 if seed % 3 == 0 else 0.0
    initial, transition, emission = (
        oracle.random_rows(rng, *shape, zeros=zeros) for shape in ((n_states,), (n_states,) * 2, (n_states, n_tokens))
    )
    if seed % 4 == 1:
        emission[-1] = emission[0]
    initial = initial if (initial > 0).sum() > 1 else np.full(n_states, 1 / n_states)
    weights = rng.normal(size=(2 + seed % 2, n_states))
    return HMM(initial, transition, emission), PosteriorTask(weights)


def all_texts(model, length):
    """Return the possible texts of a length (B,T)."""
    texts = np.array(list(itertools.product(range(model.vocabulary_size), repeat=length)))
    return texts[np.isfinite(posterior(model, texts, impossible="mask").log_evidence.numpy())]


def flattened(model, texts, n_masks, prompt=None):
    return probe_features(OracleLM(model), texts, prompt=prompt, n_masks=n_masks).flatten(-2).numpy()


def solvable(model, task, n_masks):
    """Say whether Aᵀ(Rb − π₀∘μ) = 0 has a solution, clearly or clearly not; None between."""
    initial, transition = model.initial.numpy(), model.transition.numpy()
    first = initial @ transition
    rows = (transition.T @ observability(model, n_masks, first))[first > 0] / first[first > 0, None]
    wanted = (transition.T @ (initial * task.contrasts.numpy()).T)[first > 0] / first[first > 0, None]
    left = np.abs(rows @ np.linalg.lstsq(rows, wanted, rcond=1e-13)[0] - wanted).max()
    left = min(left, np.abs(rows @ np.linalg.pinv(rows, rcond=1e-10) @ wanted - wanted).max())
    return True if left < 1e-11 else False if left > 1e-6 else None


@pytest.mark.parametrize("n_masks", [1, 2, 3])
@pytest.mark.parametrize("prompted", [False, True])
def test_features_are_the_conditionals_at_the_masks(n_masks, prompted):
    model = random_hmm("dirichlet", 3, 4, seed=0)
    prompt = np.random.default_rng(0).random((1, 3)) if prompted else None
    texts = all_texts(model, 2)
    inputs = np.c_[np.full((len(texts), n_masks), MASK), texts]
    expected = oracle.truth(model, inputs, prompt).conditionals[:, :n_masks]
    found = probe_features(OracleLM(model), texts, prompt=prompt, n_masks=n_masks)
    assert found.shape == (len(texts), n_masks, model.vocabulary_size)
    assert_equal(found, expected)
    if n_masks == 1:
        assert torch.equal(found[:, 0], probe_features(OracleLM(model), texts, prompt=prompt))


def test_features_of_batches_and_of_memories():
    models = HMM.stack([random_hmm("dirichlet", 3, 4, seed) for seed in (0, 1)])
    texts = [[0, 1, 2], [3, 3, 0]]
    found = probe_features(OracleLM(models), texts, n_masks=2)
    assert found.shape == (2, 2, 2, 4)
    assert_equal(found[1], probe_features(OracleLM(random_hmm("dirichlet", 3, 4, 1)), texts, n_masks=2))
    memory = random_memory_hmm("dirichlet", 2, 2, 4, seed=0)
    found = probe_features(OracleLM(memory), texts, n_masks=3)
    assert_equal(found, probe_features(OracleLM(memory.flatten()), texts, n_masks=3))


@pytest.mark.parametrize("block", sweep(10, quick=4))
def test_certified_heads_are_right_on_every_text(block):
    """Both directions: what is certified is right on all decidable texts; without a solution nothing is certified."""
    certified = refused = 0
    for seed in range(block * N_MODELS // 10, (block + 1) * N_MODELS // 10):
        model, task = random_pair(seed)
        for n_masks in (1, 2, 3):
            certificate = chain_certificate(model, task, n_masks)
            can_be_solved = solvable(model, task, n_masks)
            if can_be_solved is not None:
                assert certificate.recoverable == can_be_solved, (seed, n_masks, certificate.residual)
            if not certificate.recoverable:
                refused += 1
                continue
            certified += 1
            head = constructed_head(model, task, n_masks=n_masks)
            for length in range(1, LONGEST + 1):
                texts = all_texts(model, length)
                answers = task.answers(posterior(model, texts).initial)
                features = torch.from_numpy(flattened(model, texts, n_masks))
                told = answers.decidable & (answers.margins.abs() > certificate.margin_error)
                told &= certificate.sure(features, length)
                assert (head.predict(features[told].numpy()) == answers.labels[told].numpy()).all()
                agreement = certificate.sign_agreement(texts)
                assert agreement.agreeing == agreement.decidable == int(told.sum())
    assert certified >= 10
    assert refused >= 1


@pytest.mark.parametrize("seed", range(12))
def test_the_margin_error_is_that_of_the_formula(seed):
    model, task = random_pair(3 * seed + 1)
    certificate = chain_certificate(model, task, 2)
    initial, transition = model.initial.numpy(), model.transition.numpy()
    weights = np.atleast_2d(certificate.weights.numpy())
    change = (observability(model, 2, initial @ transition) @ weights.T).T - initial * task.contrasts.numpy()
    moved = change @ transition / (initial @ transition)
    error = np.abs(moved).max() if len(moved) == 1 else np.ptp(moved, axis=0).max()
    assert certificate.residual * float(task.contrasts.abs().max()) == pytest.approx(error, rel=1e-6, abs=1e-12)
    rank = np.linalg.svd(observability(model, 2, initial @ transition), compute_uv=False)
    enough = model.n_states <= 2 * model.vocabulary_size
    assert certificate.sigma_min == pytest.approx(rank[-1] if enough else 0, abs=1e-12)


def test_after_a_prompt():
    model, task = random_hmm("dirichlet", 5, 3, seed=4), PosteriorTask([[0] * 5, [1, -1, 0.5, -0.25, -0.5]])
    prompt = np.random.default_rng(1).random((1, 5)) + 0.1
    certificate = chain_certificate(model, task, 2, prompt)
    assert certificate.recoverable
    head = constructed_head(model, task, prompt, n_masks=2)
    texts = all_texts(model, 4)
    answers = task.answers(posterior(model, texts).initial)
    features = flattened(model, texts, 2, prompt)
    told = (answers.margins.abs() > certificate.margin_error).numpy()
    assert (head.predict(features[told]) == answers.labels.numpy()[told]).all()
    assert certificate.sign_agreement(texts).share == 1


@pytest.mark.parametrize(("n_states", "n_masks"), [(15, 2), (20, 3), (30, 4)])
def test_the_models_of_the_paper_need_few_masks(n_states, n_masks):
    for seed in range(4):
        model = random_hmm("wei2021", n_states, 10, seed)
        tokens = sample(model, 300, 40, seed).tokens
        task = random_task(model, seed, tokens)
        certificate = masks_needed(model, task)
        assert certificate.n_masks == n_masks
        assert certificate.residual <= 1e-9
        agreement = certificate.sign_agreement(tokens)
        assert agreement.agreeing == agreement.decidable > 150


def test_one_mask_is_theorem_h():
    for seed in range(20):
        model, task = random_pair(seed)
        if head_certificate(model, task).recoverable:
            assert chain_certificate(model, task, 1).recoverable


def test_the_weights_have_the_least_half_range():
    model, task = random_hmm("dirichlet", 3, 6, seed=0), PosteriorTask([[0, 0, 0], [1, -1, 0.5]])
    one = chain_certificate(model, task, 1)
    assert one.half_range == pytest.approx(smallest_half_range(model, task).half_range, rel=1e-6)
    two = chain_certificate(model, task, 2)
    assert two.half_range <= one.half_range * (1 + 1e-9)  # the first block may be zero
    rows = observability(model, 2, model.initial.numpy() @ model.transition.numpy())
    weights, rng = two.weights.numpy(), np.random.default_rng(0)
    free = np.linalg.svd(rows)[2][3:]
    for _ in range(200):  # no head beside it is narrower
        other = weights + 1e-3 * rng.normal(size=len(free)) @ free
        assert np.ptp(other.reshape(2, -1), axis=1).max() / 2 >= two.half_range * (1 - 1e-9)


def test_where_one_mask_is_refuted_two_can_be_enough():
    model = random_hmm("wei2021", 15, 10, seed=0)
    tokens = sample(model, 2000, 3, 0).tokens.unique(dim=0)
    task = random_task(model, 0, sample(model, 300, 40, 0).tokens)
    answers = task.answers(posterior(model, tokens).initial)
    told, labels = answers.decidable.numpy(), answers.labels.numpy()
    assert find_witness(flattened(model, tokens, 1)[told], labels[told]) is not None
    assert find_witness(flattened(model, tokens, 2)[told], labels[told]) is None
    assert chain_certificate(model, task, 2).recoverable


def test_heads_are_learned_on_several_masks():
    model = random_hmm("wei2021", 30, 10, seed=1)
    tokens = sample(model, 2500, 40, 1).tokens
    task = random_task(model, 1, tokens)
    labels = task.labels(posterior(model, tokens).initial).numpy()
    accuracy = []
    for n_masks in (1, 3):
        X = flattened(model, tokens, n_masks)
        head = LinearHead.select(X[:1500], labels[:1500], X[1500:2000], labels[1500:2000])
        accuracy.append(head.score(X[2000:], labels[2000:]))
    assert accuracy[1] > accuracy[0] + 0.05


def test_no_head_is_constructed_where_the_condition_fails():
    model = random_hmm("wei2021", 15, 10, seed=0)
    task = random_task(model, 0, sample(model, 300, 40, 0).tokens)
    assert masks_needed(model, task, most=1) is None
    with pytest.raises(ConditionNotMet, match="Theorem C"):
        constructed_head(model, task, n_masks=1)


@pytest.mark.parametrize("n_masks", [0, -1, 1.5, "2", True])
def test_numbers_of_masks(n_masks):
    model, task = random_pair(0)
    for call in (
        lambda: chain_certificate(model, task, n_masks),
        lambda: probe_features(OracleLM(model), [[0, 1]], n_masks=n_masks),
        lambda: constructed_head(model, task, n_masks=n_masks),
        lambda: masks_needed(model, task, most=n_masks),
    ):
        with pytest.raises(InvalidInput, match="integer"):
            call()


def test_masks_after_what_is_given():
    """J masks after a prefix see Σ_j A^j W b_j of the filtered law: what one cannot tell of more states than tokens."""
    one_is_enough = 0
    for seed in range(6):
        model = random_hmm("dirichlet", 4, 3, seed)
        task = PosteriorTask(np.random.default_rng(seed).normal(size=(2 + seed % 2, 4)), position=-1, given="prefix")
        one_is_enough += position_certificate(model, task).recoverable
        certificate = position_certificate(model, task, n_masks=2)
        assert certificate.recoverable
        assert certificate.sigma_min > 0
        texts = all_texts(model, 4)
        law = latent_posterior(model, task, texts)
        answers, head = task.answers(law), constructed_head(model, task, n_masks=2)
        features = probe_features(OracleLM(model), texts, position=-1, given="prefix", n_masks=2)
        inputs = np.c_[texts, np.full((len(texts), 2), MASK)]
        assert_equal(features, oracle.truth(model, inputs).conditionals[:, 4:])
        scores = features.flatten(-2) @ torch.as_tensor(head.coef_).mT
        found = scores[:, 0] if task.n_classes == 2 else scores[:, 1] - scores[:, 0]
        expected = law @ (task.contrasts[0] if task.n_classes == 2 else task.contrasts[1] - task.contrasts[0])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
        assert certificate.sign_agreement(texts).agreeing == int(answers.decidable.sum()) == len(texts)
    assert one_is_enough == 0


def test_masks_hide_no_tokens():
    model, _ = random_pair(0)
    with pytest.raises(InvalidInput, match="n_masks: expected 1 for the state at position -1"):
        probe_features(OracleLM(model), [[0, 1]], position=-1, n_masks=2)
    with pytest.raises(InvalidInput, match="H₀"):
        chain_certificate(model, PosteriorTask(torch.eye(model.n_states)[:2], position=0), 2)
    with pytest.raises(InvalidInput, match="support_threshold"):
        constructed_head(model, random_pair(0)[1], n_masks=2, support_threshold=0.1)
    for given in ("text", "context"):
        task = PosteriorTask(torch.eye(model.n_states)[:2], position=0, given=given)
        with pytest.raises(InvalidInput, match=r"n_masks: expected 1 for .*, got 2; ask of H₀"):
            position_certificate(model, task, n_masks=2)
        with pytest.raises(InvalidInput, match="n_masks: expected 1 for"):
            constructed_head(model, task, n_masks=2)
