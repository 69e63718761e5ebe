"""Theorem P in both directions: constructed prompts and heads are right on every text, or refuse, naming why."""

import itertools

import numpy as np
import oracle
import pytest
import torch
from by_hand import arrays, conditionals, entering, margin_error, margins, messages
from sweeps import sweep

from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.constructed import constructed_head
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.inference.queries import posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.prompts.constructed import constructed_prompt
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.prompts.training import _PATIENCE, _SETTLED, _SETTLED_SHARE
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE, ConditionNotMet
from ppl_hmm.recoverability.covers import best_cover
from ppl_hmm.recoverability.entering import entering_law
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.recoverability.witness import separability
from ppl_hmm.regimes import random_hmm
from ppl_hmm.tasks import PosteriorTask

LONGEST = 4


def possible_texts(model, longest=LONGEST):
    """Every text of 1..longest tokens, one array a length, without those of probability zero."""
    for length in range(1, longest + 1):
        texts = oracle.all_texts(model.vocabulary_size, length)
        possible = messages(model, texts) @ model.initial.numpy() > 0
        if possible.any():
            yield texts[possible]


def binary(contrast):
    return PosteriorTask(np.array([np.zeros(len(contrast)), contrast]))


def contrast_of(task):
    return (task.weights[1] - task.weights[0]).numpy()


def assert_right_on_every_text(model, task, prompt, head, certificate):
    """The head after the prompt classifies every decidable text, by the tests' own margins; count texts by label."""
    contrast = contrast_of(task)
    n_texts = np.zeros(2, int)
    for texts in possible_texts(model):
        margin = margins(model, contrast, texts)
        clear = np.abs(margin) > RESIDUAL_TOLERANCE * np.abs(contrast).max()
        features = probe_features(OracleLM(model), texts, prompt=prompt, impossible="mask").numpy()
        own = conditionals(model, texts, prompt)
        np.testing.assert_allclose(features, own, rtol=0, atol=1e-12)
        wanted = margin >= 0
        np.testing.assert_array_equal(head.predict(features)[clear], wanted[clear])
        np.testing.assert_array_equal((own @ head.coef_[0] >= 0)[clear], wanted[clear])
        # Where the prompt makes a context impossible, the label is a tie.
        assert not clear[own.sum(1) == 0].any()
        exact = posterior(model, texts)
        np.testing.assert_allclose(task.margins(exact), margin, rtol=0, atol=1e-12 * np.abs(contrast).max())
        agreement = certificate.sign_agreement(texts)
        assert agreement.agreeing == agreement.decidable >= clear.sum()
        assert agreement.decidable + agreement.undecidable == len(texts)
        n_texts += np.bincount(wanted[clear], minlength=2)
    return n_texts


def certified(model, task, **options):
    """Return prompt, head and certificate, checked against one another."""
    certificate = prompt_certificate(model, task, **options)
    assert certificate.recoverable
    assert certificate.theorem == "Theorem P (3.6)"
    assert certificate.residual <= RESIDUAL_TOLERANCE
    prompt = constructed_prompt(model, task, **options)
    assert torch.equal(prompt.rows, certificate.prompt.rows)
    assert prompt.rows.shape == (options.get("prompt_length", 1), model.n_states)
    assert (prompt.rows >= 0).all()
    head = constructed_head(
        model, task, prompt, **{key: options[key] for key in options if key in ("support_threshold", "tolerance")}
    )
    np.testing.assert_array_equal(head.coef_, certificate.weights.numpy()[None])
    assert head.intercept_.tolist() == [0.0]
    return prompt, head, certificate


def refused_prompt(model, task, **options):
    with pytest.raises(ConditionNotMet) as caught:
        constructed_prompt(model, task, **options)
    certificate = caught.value.certificate
    assert not certificate.recoverable
    assert certificate.verdict == "undecided"
    assert certificate.residual > certificate.tolerance
    assert str(caught.value).endswith("; learn a prompt instead, or allow a support threshold")
    return certificate


def all_covers(n_states):
    for size in range(1, n_states + 1):
        for states in itertools.combinations(range(n_states), size):
            yield list(states)


def indicator(n_states, states, prompt_length=1):
    rows = np.ones((prompt_length, n_states))
    rows[-1] = 0
    rows[-1, states] = 1
    return rows


def test_the_tests_formulas_agree_with_sums_over_paths():
    """q, G and the margins of this file against the one brute-force truth, prompts of 1 and 2 tokens."""
    rng = np.random.default_rng(0)
    for prompt_length in (1, 2):
        model = oracle.random_model(rng, 4, 3)
        prompt = oracle.random_prompt(rng, prompt_length, 4)
        contrast = rng.normal(size=4)
        for texts in possible_texts(model, longest=2):
            for text in texts:
                masked = np.concatenate([[-1], text])
                truth = oracle.conditional(model, masked, 0, prompt)
                np.testing.assert_allclose(conditionals(model, text[None], prompt)[0], truth, atol=1e-12)
                truth = oracle.marginals(model, text)[0] @ contrast
                np.testing.assert_allclose(margins(model, contrast, text[None])[0], truth, atol=1e-12)


# Certified and right: more states than tokens.

SEEDS = range(50)
NEEDED_LENGTH = {seed: 1 + seed % 3 for seed in SEEDS}


def balanced(model, contrast):
    """Return μ with its negative part rescaled, so that the short texts have both labels."""
    texts = oracle.all_texts(model.vocabulary_size, 3)
    texts = texts[messages(model, texts) @ model.initial.numpy() > 0]
    positive, negative = margins(model, contrast.clip(min=0), texts), margins(model, -contrast.clip(max=0), texts)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.unique((positive / negative)[(positive > 0) & (negative > 0)])
    middle = len(ratio) // 2
    varies = len(ratio) > 1 and ratio[-1] > 1.001 * ratio[0]
    scale = ratio[middle - 1 : middle + 1].mean() if varies else 1.0
    return np.where(contrast < 0, scale * contrast, contrast)


def coverable(seed):
    """K > V, but the states of B move only to S, |S| ≤ V, which holds all that the task needs; the rest go anywhere."""
    rng = np.random.default_rng(seed)
    vocabulary_size = int(rng.integers(2, 5))
    n_states = int(rng.integers(vocabulary_size + 1, 8))
    order = rng.permutation(n_states)
    entered = order[: rng.integers(2, vocabulary_size + 1)]
    cover = rng.permutation(n_states)[: rng.integers(1, 3)]
    transition = oracle.random_rows(rng, n_states, n_states, zeros=0.2)
    transition[cover] = 0
    parts = [entered] if len(cover) == 1 else np.array_split(entered, 2)
    for state, part in zip(cover, parts, strict=True):
        also = rng.random(len(entered)) < 0.3
        targets = np.union1d(part, entered[also])
        transition[state, targets] = oracle.random_rows(rng, len(targets))
    contrast = np.zeros(n_states)
    contrast[entered] = rng.normal(size=len(entered))
    contrast[entered[0]], contrast[entered[1]] = 1.0, -1.0
    model = HMM(oracle.random_rows(rng, n_states), transition, oracle.random_rows(rng, n_states, vocabulary_size))
    return model, binary(balanced(model, contrast)), cover


@pytest.mark.parametrize("seed", sweep(SEEDS, quick=18))
def test_certified_and_right_on_every_text(seed):
    model, task, _ = coverable(seed)
    assert model.n_states > model.vocabulary_size
    prompt, head, certificate = certified(model, task, prompt_length=NEEDED_LENGTH[seed])
    law = entering(model, prompt)
    np.testing.assert_allclose(entering_law(model, prompt), law, rtol=1e-12, atol=0)
    assert (law == 0).any()  # the prompt keeps some states out
    rows = model.emission.numpy()[law > 0]
    values = np.linalg.svd(rows, compute_uv=False)
    assert certificate.sigma_min == pytest.approx(values.min() if len(rows) <= rows.shape[1] else 0.0, rel=1e-9)
    labels = assert_right_on_every_text(model, task, prompt, head, certificate)
    assert labels.sum() > 0


def test_head_tuning_alone_fails_where_prompts_succeed():
    """Of the same 50 models: most heads are refused, and in many no linear head whatever fits all short texts."""
    n_refused = n_hopeless = n_both_labels = 0
    for seed in SEEDS:
        model, task, _ = coverable(seed)
        if head_certificate(model, task).recoverable:
            continue
        n_refused += 1
        with pytest.raises(ConditionNotMet):
            constructed_head(model, task)
        rows, labels = [], []
        for texts in possible_texts(model):
            margin = margins(model, contrast_of(task), texts)
            first = model.initial.numpy() @ model.transition.numpy()
            weights = first * messages(model, texts)
            kept = (weights.sum(1) > 0) & (np.abs(margin) > 1e-6)
            rows.append((weights @ model.emission.numpy())[kept] / weights.sum(1)[kept, None])
            labels.append((margin >= 0)[kept])
        labels = np.concatenate(labels)
        n_both_labels += len(set(labels.tolist())) == 2
        n_hopeless += separability(np.concatenate(rows), labels).margin < 1e-10
    assert n_refused >= 40
    assert n_both_labels >= 30
    assert n_hopeless >= 10


@pytest.mark.parametrize("seed", range(10))
def test_the_score_is_the_margin_up_to_the_stated_factor(seed):
    """bᵀG = (π₀ᵀf / qᵀf)·μᵀP(H₀|x): more than its sign."""
    model, task, _ = coverable(100 + seed)
    prompt, head, certificate = certified(model, task)
    law = entering(model, prompt)
    for texts in possible_texts(model):
        f = messages(model, texts)
        possible = f @ law > 1e-12
        scores = head.decision_function(probe_features(OracleLM(model), texts, prompt=prompt, impossible="mask"))
        wanted = f @ (model.initial.numpy() * contrast_of(task)) / np.where(possible, f @ law, 1)
        tolerance = 1e-13 * float(certificate.weights.abs().sum()) + 1e-11 * np.abs(wanted).max()
        np.testing.assert_allclose(scores[possible], wanted[possible], rtol=0, atol=tolerance)


@pytest.mark.parametrize("seed", range(10))
def test_three_classes(seed):
    model, task, _ = coverable(200 + seed)
    rng = np.random.default_rng(seed)
    needed = contrast_of(task) != 0
    weights = rng.normal(size=(3, model.n_states)) * needed + rng.normal(size=model.n_states)  # a shared part too
    task = PosteriorTask(weights)
    prompt = constructed_prompt(model, task)
    head = constructed_head(model, task, prompt)
    assert head.classes_.tolist() == [0, 1, 2]
    n_clear = 0
    for texts in possible_texts(model):
        law = model.initial.numpy() * messages(model, texts)
        scores = (law / law.sum(1, keepdims=True)) @ weights.T
        ordered = np.sort(scores, axis=1)
        clear = ordered[:, 2] - ordered[:, 1] > 1e-8
        own = conditionals(model, texts, prompt)
        possible = own.sum(1) > 0
        np.testing.assert_array_equal(head.predict(own)[clear & possible], scores.argmax(1)[clear & possible])
        assert not (clear & ~possible).any()
        n_clear += clear.sum()
    assert n_clear > 0


@pytest.mark.parametrize("shared", [0.0, 0.1, 0.7])
def test_what_all_classes_share_is_not_needed(shared):
    """State 2 has the same weight in all three classes: the prompt on it, which enters 0 and 1 only, will do."""
    transition = np.array([[0.3, 0.3, 0.4], [0.2, 0.2, 0.6], [0.4, 0.6, 0.0]])
    model = HMM(np.array([0.3, 0.3, 0.4]), transition, np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]))
    task = PosteriorTask(np.array([[1.0, 0.0, shared], [0.0, 1.0, shared], [0.2, 0.3, shared]]))
    assert head_certificate(model, task, indicator(3, [2])).recoverable
    assert constructed_prompt(model, task).rows.tolist() == [[0.0, 0.0, 1.0]]


def chained(rng, length):
    """Only the state at the end of a chain moves to S alone, and no prompt shorter than ``length`` reaches it.

    From any other state the mask enters V states that the task does not need, with independent rows: W b = 0 on them
    leaves b = 0 only.
    """
    vocabulary_size = int(rng.integers(2, 4))
    n_ordinary = 2 * vocabulary_size
    n_states = n_ordinary + length
    transition = np.zeros((n_states, n_states))
    ordinary = np.arange(n_ordinary)
    # Ordinary states move to ordinary states, and to the chain's first link; the last link moves to S.
    transition[:n_ordinary, : n_ordinary + (length > 1)] = oracle.random_rows(
        rng, n_ordinary, n_ordinary + (length > 1)
    )
    if length == 1:
        transition[:n_ordinary] = oracle.random_rows(rng, n_ordinary, n_states)
    for link in range(n_ordinary, n_states - 1):
        transition[link, link + 1] = 1
    entered = ordinary[:vocabulary_size]
    transition[-1, entered] = oracle.random_rows(rng, vocabulary_size)
    initial = np.zeros(n_states)
    initial[ordinary] = oracle.random_rows(rng, n_ordinary)
    contrast = np.zeros(n_states)
    contrast[entered] = rng.normal(size=vocabulary_size)
    contrast[:2] = 1.0, -1.0
    order = rng.permutation(n_states)  # hide the structure
    emission = oracle.random_rows(rng, n_states, vocabulary_size)
    model = HMM(initial[order], transition[np.ix_(order, order)], emission[order])
    return model, binary(balanced(model, contrast[order]))


@pytest.mark.parametrize("needed", [2, 3])
@pytest.mark.parametrize("seed", sweep(8, quick=3))
def test_longer_prompts_reach_what_shorter_ones_cannot(needed, seed):
    model, task = chained(np.random.default_rng(seed), needed)
    assert np.linalg.matrix_rank(model.transition.numpy()) == model.n_states
    for length in range(1, needed):
        certificate = refused_prompt(model, task, prompt_length=length)
        assert certificate.prompt.rows.shape == (length, model.n_states)
        for states in all_covers(model.n_states) if model.vocabulary_size == 2 else ():
            assert not head_certificate(model, task, indicator(model.n_states, states, length)).recoverable
    for length in (needed, needed + 1):
        prompt, head, certificate = certified(model, task, prompt_length=length)
        labels = assert_right_on_every_text(model, task, prompt, head, certificate)
        assert labels.min() > 0


def test_a_cover_that_moves_elsewhere_with_negligible_probability_still_counts():
    """A leak of 1e-14 is a state entered, to the letter; the certificate bounds what it costs."""
    for leak, recoverable in ((1e-14, True), (1e-5, False)):
        rng = np.random.default_rng(0)
        model, task = chained(rng, 1)
        transition = model.transition.numpy().copy()
        cover = int((transition == 0).sum(1).argmax())
        transition[cover] = (1 - leak) * transition[cover] + leak / model.n_states
        model = HMM(model.initial, transition, model.emission)
        if recoverable:
            prompt, head, certificate = certified(model, task)
            assert 0 < certificate.residual <= RESIDUAL_TOLERANCE
            assert_right_on_every_text(model, task, prompt, head, certificate)
        else:
            refused_prompt(model, task)


# Aliased states: weights help.

ALIAS_SEEDS = range(40)


def aliased(seed):
    """K = V + 1 = 5 states, 0 and 1 (of a quarter of the models also 2) emit alike; the task treats them alike.

    Every fourth model has a state that enters them in just the task's proportion, so that a 0/1 prompt will do.
    """
    rng = np.random.default_rng(seed)
    n_states = 5
    n_aliased = 3 if seed % 4 == 1 else 2
    emission = oracle.random_rows(rng, n_states, 4)
    emission[:n_aliased] = emission[0]
    transition = oracle.random_rows(rng, n_states, n_states, zeros=0.2)
    initial = oracle.random_rows(rng, n_states)
    contrast = rng.normal(size=n_states)
    contrast[:n_aliased] = rng.gamma(2.0, size=n_aliased) * rng.choice([-1, 1])
    contrast[-1] = -contrast[0]
    if seed % 4 == 0:
        proportional = np.abs(initial * contrast)
        transition[3] = proportional / proportional.sum()
    return HMM(initial, transition, emission), binary(contrast)


def is_zero_one_certified(model, task):
    """Say whether the prompt 1_B of some set B is certified, all of them being tried before the answer is no."""
    laws = (indicator(model.n_states, states) for states in all_covers(model.n_states))
    return any(head_certificate(model, task, rows).recoverable for rows in laws)


@pytest.fixture(scope="module")
def alias_counts():
    """For each aliased model: whether a weighted prompt is certified, and whether a 0/1 prompt is."""
    counts = []
    for seed in ALIAS_SEEDS:
        model, task = aliased(seed)
        counts.append((prompt_certificate(model, task).recoverable, is_zero_one_certified(model, task)))
    return np.array(counts)


@pytest.mark.parametrize("seed", ALIAS_SEEDS)
def test_weighted_prompts_do_whatever_zero_one_prompts_do(alias_counts, seed):
    weighted, zero_one = alias_counts[seed]
    assert weighted or not zero_one
    assert zero_one or seed % 4  # planted


def test_weighted_prompts_do_more(alias_counts):
    weighted, zero_one = alias_counts.sum(0)
    assert zero_one >= 10
    assert weighted >= zero_one + 10
    assert weighted < len(ALIAS_SEEDS)  # and not everything


@pytest.mark.parametrize("seed", sweep(ALIAS_SEEDS, quick=16))
def test_aliased_states_certified_and_right_or_refused(alias_counts, seed):
    model, task = aliased(seed)
    if not alias_counts[seed][0]:
        refused_prompt(model, task)
        return
    prompt, head, certificate = certified(model, task)
    law, contrast = entering(model, prompt), contrast_of(task)
    if certificate.reasons[0].startswith("Wb = Dμ"):
        needed = model.initial.numpy()[:2] * np.abs(contrast[:2])
        np.testing.assert_allclose(law[0] * needed[1], law[1] * needed[0], rtol=1e-8)
    assert assert_right_on_every_text(model, task, prompt, head, certificate).sum() > 0


@pytest.mark.parametrize("seed", ALIAS_SEEDS)
def test_an_aliased_task_is_refused_only_where_no_weights_give_its_proportions(alias_counts, seed):
    """By a programme of the tests' own: v ≥ 0 with vᵀA ∝ |π₀∘μ| on the aliased states, all five states entered or not.

    The other rows of W are V − 1 and independent with theirs, so the proportions are all that is needed.
    """
    from scipy.optimize import linprog

    model, task = aliased(seed)
    initial, transition, emission = arrays(model)
    contrast = contrast_of(task)
    group = np.flatnonzero((emission == emission[0]).all(1))
    assert np.linalg.matrix_rank(emission) == model.n_states - len(group) + 1
    others = np.setdiff1d(np.arange(model.n_states), group)
    size = np.abs(initial * contrast)
    feasible = linprog(
        np.zeros(model.n_states),
        A_eq=np.array([transition[:, h] / size[h] - transition[:, group[0]] / size[group[0]] for h in group[1:]]),
        b_eq=np.zeros(len(group) - 1),
        A_ub=-np.array([transition[:, group[0]], *(transition[:, h] for h in others)]),
        b_ub=-np.full(1 + len(others), 1e-3),
        bounds=(0, None),
    )
    if feasible.status == 0:
        assert alias_counts[seed][0]


def test_aliased_states_of_opposite_sign_are_refused():
    for seed in ALIAS_SEEDS[:10]:
        model, task = aliased(seed)
        contrast = contrast_of(task)
        contrast[0] *= -1
        certificate = refused_prompt(model, binary(contrast))
        assert "relative margin error" in certificate.reasons[0]
        assert not is_zero_one_certified(model, binary(contrast))


# The search for covers is exact.


def smallest_singular_value(rows):
    return np.linalg.svd(rows, compute_uv=False).min() if 0 < len(rows) <= rows.shape[1] else 0.0


@pytest.mark.parametrize("seed", sweep(50, quick=16))
def test_the_best_cover_is_the_best_of_all_subsets(seed):
    rng = np.random.default_rng(seed)
    n_states, vocabulary_size = int(rng.integers(2, 8)), int(rng.integers(2, 7))
    moves = rng.random((n_states, n_states)) < rng.uniform(0.1, 0.6)
    needed = rng.random(n_states) < rng.choice([0.15, 0.4, 0.7])
    if seed % 10 == 0:
        needed[:] = False
    emission = oracle.random_rows(rng, n_states, vocabulary_size)
    values = {}
    for states in all_covers(n_states):
        covered = moves[states].any(0)
        if (covered | ~needed).all() and covered.any():
            values[tuple(states)] = smallest_singular_value(emission[covered])
    best = max(values.values(), default=0.0)
    found = best_cover(torch.tensor(moves), torch.tensor(needed), torch.tensor(emission))
    if best == 0:
        assert found is None
    else:
        assert found is not None
        assert values[tuple(sorted(found))] == pytest.approx(best, rel=1e-12)


def test_the_random_covers_are_not_all_trivial():
    """The cases above hold both answers, and covers of several states."""
    sizes = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        n_states, vocabulary_size = int(rng.integers(2, 8)), int(rng.integers(2, 7))
        moves = rng.random((n_states, n_states)) < rng.uniform(0.1, 0.6)
        needed = rng.random(n_states) < rng.choice([0.15, 0.4, 0.7])
        emission = oracle.random_rows(rng, n_states, vocabulary_size)
        found = best_cover(torch.tensor(moves), torch.tensor(needed), torch.tensor(emission))
        sizes.append(0 if found is None else len(found))
    assert min(np.bincount(sizes)[:3]) >= 5


def test_a_large_cover_that_is_better_conditioned_wins():
    """State 0 alone covers all but also enters a near copy; states 1 and 2 together enter the needed ones only."""
    moves = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0]]).bool()
    needed = torch.tensor([True, True, False])
    emission = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.99, 0, 0.01]], dtype=torch.float64)
    assert sorted(best_cover(moves, needed, emission)) == [1, 2]
    assert best_cover(moves[:, [0, 1, 2]] & torch.tensor([True, False, False]), needed, emission) is None


# Refused under a given prompt, and no linear head exists: two texts share G but not the label.


def aliased_with_telling_futures(rng):
    """K = 6 > V = 4. States 0, 1 emit alike but lead to 2 and 3, whose tokens 2 and 3 no other state emits."""
    n_states = 6
    transition = np.zeros((n_states, n_states))
    transition[0, 2] = transition[1, 3] = 1
    transition[2:, [0, 1, 4, 5]] = oracle.random_rows(rng, 4, 4)
    emission = np.zeros((n_states, 4))
    emission[:, :2] = oracle.random_rows(rng, n_states, 2)
    emission[1] = emission[0]
    emission[2:4] = np.eye(4)[2:]
    prompt = oracle.random_prompt(rng, int(rng.integers(1, 4)), n_states) + 1e-3 * rng.random()
    contrast = rng.normal(size=n_states)
    contrast[:2] = rng.gamma(2.0, size=2) * [1, -1]
    return HMM(oracle.random_rows(rng, n_states), transition, emission), contrast, prompt, None


def one_state_entered(rng):
    """K = 5 > V = 3. The prompt's last token is 1 on a state that moves to state 0 only: G is W[0], whatever x."""
    transition, emission = oracle.random_rows(rng, 5, 5), oracle.random_rows(rng, 5, 3)
    transition[4] = np.eye(5)[0]
    contrast = rng.normal(size=5)
    contrast[:2] = 1.0, -1.0
    initial = oracle.random_rows(rng, 5)
    model = HMM(initial, transition, emission)
    # Shift μ so that half of the texts have either label.
    texts = oracle.all_texts(3, 3)
    contrast = contrast - np.median(margins(model, contrast, texts))
    prompt = indicator(5, [4], int(rng.integers(1, 4)))
    return model, contrast, prompt, [h for h in range(1, 5) if contrast[h] != 0]


@pytest.mark.parametrize("build", [aliased_with_telling_futures, one_state_entered])
@pytest.mark.parametrize("seed", sweep(25, quick=8))
def test_texts_that_share_conditionals_but_not_labels(build, seed):
    model, contrast, prompt, not_entered = build(np.random.default_rng(seed))
    task = binary(contrast)
    assert model.n_states > model.vocabulary_size
    texts = np.concatenate([oracle.all_texts(model.vocabulary_size, 3)])
    texts = texts[messages(model, texts) @ model.initial.numpy() > 0]
    features, margin = conditionals(model, texts, prompt), margins(model, contrast, texts)
    # The witness: the pair of texts of equal G and of opposite label, and as far from a tie as can be.
    distance = np.abs(features[:, None] - features[None]).max(-1)
    possible = features.sum(1) > 0
    strength = np.minimum(margin[:, None], -margin[None]) * ((distance < 1e-12) & possible[:, None] & possible)
    pair = list(np.unravel_index(strength.argmax(), strength.shape))
    assert strength.max() > 1e-6
    labels = task.labels(posterior(model, texts[pair])).numpy()
    assert labels.tolist() == [1, 0]
    given = probe_features(OracleLM(model), texts[pair], prompt=prompt).numpy()
    np.testing.assert_allclose(given[0], given[1], rtol=0, atol=1e-12)
    answer = separability(given, labels)
    assert not answer.separable
    assert answer.margin < 1e-9

    # The construction refuses, says which part failed, and by how much.
    for argument in (prompt, SoftPrompt(prompt)):
        with pytest.raises(ConditionNotMet) as caught:
            constructed_head(model, task, prompt=argument)
    certificate, message = caught.value.certificate, str(caught.value)
    assert certificate.verdict == "undecided"
    assert certificate.theorem == "Theorem P (3.6)"
    assert certificate.theorem in message
    np.testing.assert_array_equal(certificate.prompt.rows, prompt)
    law = entering(model, prompt)
    error = margin_error(model, contrast, law, certificate.weights.numpy())
    assert certificate.margin_error == pytest.approx(error, rel=1e-6)
    assert certificate.residual == pytest.approx(error / np.abs(contrast).max(), rel=1e-6)
    assert certificate.residual > RESIDUAL_TOLERANCE
    equation, numbers = certificate.reasons[0].split(": ")
    assert equation in ("Wb = Dμ", "diag(q)Wb = π₀∘μ", "Aᵀ(diag(q)Wb − π₀∘μ) = 0")
    assert numbers == f"relative margin error {certificate.residual:.3g}, {(law > 0).sum()} states entered"
    assert all(reason in message for reason in certificate.reasons)
    outside = [h for h in range(model.n_states) if law[h] == 0 and contrast[h] != 0]
    if not_entered is not None:
        assert outside == not_entered
    if outside:
        names = ", ".join(map(str, outside))
        assert f"the task needs states {names}, which cannot be entered" in certificate.reasons
    else:
        assert len(certificate.reasons) == 1
    # Indeed no b solves even the weakest equation.
    initial, transition, emission = arrays(model)
    matrix, target = transition.T @ (law[:, None] * emission), transition.T @ (initial * contrast)
    rest = target - matrix @ np.linalg.lstsq(matrix, target, rcond=None)[0]
    assert np.linalg.norm(rest) > RESIDUAL_TOLERANCE * np.linalg.norm(target)


def test_a_prompt_of_probability_zero_enters_nothing():
    model, task, _ = coverable(0)
    with pytest.raises(ConditionNotMet) as caught:
        constructed_head(model, task, np.zeros((1, model.n_states)))
    certificate = caught.value.certificate
    needed = np.flatnonzero(contrast_of(task))
    assert certificate.reasons[0].endswith("0 states entered")
    assert f"the task needs states {', '.join(map(str, needed))}, which" in certificate.reasons[1]
    assert certificate.sigma_min == 0.0
    assert not certificate.weights.any()


# The bound on the margin.


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_no_text_moves_its_margin_by_more_than_the_margin_error(threshold):
    """Exhaustive, for prompts good and bad; a text of larger margin is classified right even where refused."""
    n_claimed_when_refused, tightest, n_certified = 0, 0.0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        if seed % 4 == 0:
            model, task, _ = coverable(seed)
            contrast = contrast_of(task)
        else:
            model = oracle.random_model(rng, int(rng.integers(2, 6)), int(rng.integers(2, 5)))
            contrast = rng.normal(size=model.n_states)
        prompt = oracle.random_prompt(rng, int(rng.integers(1, 4)), model.n_states)
        if not entering_law(model, prompt).any() or (model.initial > 0).sum() == 1:
            continue
        if seed % 4 == 0:
            prompt = prompt_certificate(model, task, support_threshold=threshold).prompt
        certificate = head_certificate(model, binary(contrast), prompt, support_threshold=threshold)
        law, weights = entering(model, prompt), certificate.weights.numpy()
        assert certificate.margin_error == pytest.approx(
            margin_error(model, contrast, law, weights), rel=1e-6, abs=1e-13
        )
        n_certified += certificate.recoverable
        worst = 0.0
        for texts in possible_texts(model):
            margin = margins(model, contrast, texts)
            f = messages(model, texts)
            scores = probe_features(OracleLM(model), texts, prompt=prompt, impossible="mask").numpy() @ weights
            moved = scores * (f @ law) / (f @ model.initial.numpy()) - margin
            worst = max(worst, np.abs(moved).max())
            claimed = np.abs(margin) > certificate.margin_error + 1e-12
            np.testing.assert_array_equal(scores[claimed] >= 0, margin[claimed] >= 0)
            n_claimed_when_refused += 0 if certificate.recoverable else claimed.sum()
        rounding = 1e-14 * (1 + np.abs(weights).sum() + np.abs(contrast).max())
        assert worst <= certificate.margin_error * (1 + 1e-9) + rounding
        if not certificate.recoverable:
            tightest = max(tightest, worst / certificate.margin_error)
    assert n_claimed_when_refused > 100
    assert n_certified >= 5
    assert tightest > 0.3  # the bound is not idle


# The support threshold.


def leaking(seed, leak):
    """A model that a prompt of one token solves but for a leak into all states."""
    rng = np.random.default_rng(seed)
    model, task = chained(rng, 1)
    transition = model.transition.numpy().copy()
    cover = int((transition == 0).sum(1).argmax())
    transition[cover] = (1 - leak) * transition[cover] + leak / model.n_states
    return HMM(model.initial, transition, model.emission), task, cover


@pytest.mark.parametrize("seed", range(10))
def test_the_support_threshold_is_reported_and_agreement_is_measured(seed):
    model, task, cover = leaking(seed, 1e-4)
    threshold = 1e-3
    refused_prompt(model, task)
    prompt, _, certificate = certified(model, task, support_threshold=threshold)
    assert certificate.support_threshold == threshold
    assert "support threshold 0.001: sign agreement is measured, not proved" in certificate.reasons
    assert prompt.rows[0].nonzero()[:, 0].tolist() == [cover]
    # The threshold is not passed on by itself: with the prompt alone the head is refused.
    with pytest.raises(ConditionNotMet) as caught:
        constructed_head(model, task, prompt)
    assert not any("threshold" in reason for reason in caught.value.certificate.reasons)
    law = entering(model, prompt)
    rows = model.emission.numpy()[law > threshold]
    assert certificate.sigma_min == pytest.approx(smallest_singular_value(rows), rel=1e-9)
    # The residual forgets what the threshold drops; the margin error does not.
    weights, contrast = certificate.weights.numpy(), contrast_of(task)
    assert certificate.margin_error == pytest.approx(margin_error(model, contrast, law, weights), rel=1e-6)
    assert certificate.margin_error > RESIDUAL_TOLERANCE >= certificate.residual
    n_right = n_texts = 0
    for texts in possible_texts(model):
        margin = margins(model, contrast, texts)
        clear = np.abs(margin) > 1e-12 * np.abs(contrast).max()
        own = conditionals(model, texts, prompt)
        right = (own @ weights >= 0) == (margin >= 0)
        agreement = certificate.sign_agreement(texts)
        assert agreement.decidable == clear.sum()
        assert agreement.agreeing == (right & clear).sum()
        n_right += agreement.agreeing
        n_texts += agreement.decidable
        sure = np.abs(margin) > certificate.margin_error
        assert right[sure].all()
    assert 0.5 < n_right / n_texts <= 1


def test_with_a_threshold_agreement_can_fall_below_one():
    """Why it is measured: a large leak, dropped by a large threshold, costs texts."""
    shares = []
    for seed in range(10):
        model, task, _ = leaking(seed, 0.3)
        certificate = prompt_certificate(model, task, support_threshold=0.1)
        if certificate.recoverable:
            shares.append(certificate.sign_agreement(oracle.all_texts(model.vocabulary_size, LONGEST)).share)
    assert len(shares) >= 3
    assert min(shares) < 1


# Learning from a constructed start.


def learning_problem(seed, n_texts=300):
    """A solvable model, text with both labels, and the constructed prompt."""
    model, task = chained(np.random.default_rng(seed), 1)
    tokens = sample(model, n_texts, 8, seed).tokens
    labels = task.labels(posterior(model, tokens))
    assert 0.05 < labels.double().mean() < 0.95
    return model, task, tokens, labels


def fit(problem, **options):
    model, _, tokens, labels = problem
    options = {"validation": (tokens, labels), "restarts": 2, "seed": 0, **options}
    return fit_prompt(OracleLM(model), tokens, labels, **options)


def logistic_loss(problem, prompt):
    """Mean loss in nats of the best head after this prompt, fitted with the package's penalty 1e-6·‖b‖²/2."""
    from scipy.optimize import minimize

    model, _, tokens, labels = problem
    rows = conditionals(model, tokens.numpy(), prompt)
    sign = 2.0 * labels.numpy() - 1

    def objective(b):
        wrong = -sign * (rows @ b)
        gradient = -(sign / (1 + np.exp(-wrong))) @ rows / len(rows) + 1e-6 * b
        return np.logaddexp(0, wrong).mean() + 5e-7 * b @ b, gradient

    b = minimize(objective, np.zeros(rows.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return np.logaddexp(0, -sign * (rows @ b)).mean()


def newton_loss(problem, prompt, steps=5):
    """The loss after full Newton steps from b = 0, which is where the package's history begins."""
    model, _, tokens, labels = problem
    rows, sign = conditionals(model, tokens.numpy(), prompt), 2.0 * labels.numpy() - 1
    b = np.zeros(rows.shape[1])
    for _ in range(steps):
        wrong = 1 / (1 + np.exp(sign * (rows @ b)))
        gradient = 1e-6 * b - (sign * wrong) @ rows / len(rows)
        curvature = (rows * (wrong * (1 - wrong) / len(rows))[:, None]).T @ rows + 1e-6 * np.eye(len(b))
        b = b - np.linalg.solve(curvature, gradient)
    return np.logaddexp(0, -sign * (rows @ b)).mean()


@pytest.mark.parametrize("seed", sweep(2, quick=1))
def test_the_first_restart_begins_at_the_given_prompt(seed):
    problem = learning_problem(seed)
    model, task, _, _ = problem
    prompt = constructed_prompt(model, task)
    started, alone, elsewhere = fit(problem, start=prompt), fit(problem), fit(problem, start=prompt, seed=1)
    # It takes the place of the first random start, and of no other.
    assert not torch.allclose(started.history[0, 0], alone.history[0, 0])
    torch.testing.assert_close(started.history[:, 1], alone.history[:, 1], rtol=0, atol=1e-9)
    # Until restarts settle, which the one that leads does not; what has settled moves by less than this.
    first, same = started.history[:, 0], elsewhere.history[:, 0]
    torch.testing.assert_close(first[:_PATIENCE], same[:_PATIENCE], rtol=0, atol=1e-9)
    torch.testing.assert_close(first, same, rtol=_SETTLED_SHARE, atol=_SETTLED)
    # The loss it begins with is that of the prompt, its zeros raised to 1e-4.
    begun = newton_loss(problem, prompt.rows.clamp(min=1e-4))
    assert float(started.history[0, 0]) == pytest.approx(begun, rel=1e-6)
    # Rows and SoftPrompt are the same; and so are two tokens.
    again = fit(problem, start=prompt.rows.numpy(), restarts=1)
    torch.testing.assert_close(again.history[0, 0], started.history[0, 0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_learning_from_a_constructed_prompt_does_not_make_it_worse(seed):
    problem = learning_problem(seed)
    model, task, tokens, labels = problem
    prompt = constructed_prompt(model, task)
    learned = fit(problem, start=prompt, restarts=1)
    assert (learned.history[:, 0].min() < learned.history[0, 0]).all()
    assert logistic_loss(problem, learned.prompt) <= logistic_loss(problem, prompt.rows.clamp(min=1e-4)) + 1e-6
    # Accuracy on the training text: of the learned prompt, of its start with a head fitted to it, of random starts.
    lm = OracleLM(model)

    def accuracy(rows, head=None):
        features = probe_features(lm, tokens, prompt=rows, impossible="mask").numpy()
        head = LinearHead.select(features, labels.numpy(), features, labels.numpy()) if head is None else head
        return head.score(features, labels.numpy())

    assert learned.validation_score == accuracy(learned.prompt, learned.head)
    assert accuracy(learned.prompt, learned.head) >= accuracy(prompt.rows.clamp(min=1e-4))
    assert accuracy(learned.prompt, learned.head) >= 0.97
    assert accuracy(prompt, constructed_head(model, task, prompt)) == 1.0


@pytest.mark.parametrize("scale", [1e3, 1e-6])
def test_the_scale_of_the_start_does_not_matter(scale):
    """A prompt's rows are likelihoods: c·u is the same prompt as u."""
    problem = learning_problem(0)
    prompt = constructed_prompt(problem[0], problem[1])
    plain = fit(problem, start=prompt, restarts=1)
    scaled = fit(problem, start=scale * prompt.rows, restarts=1)
    torch.testing.assert_close(scaled.history[0], plain.history[0], rtol=1e-6, atol=0)


def test_a_start_of_several_tokens_and_of_a_batch():
    problem = learning_problem(0, n_texts=100)
    model, task, tokens, labels = problem
    prompt = constructed_prompt(model, task, prompt_length=2)
    long = fit(problem, start=prompt, prompt_length=2, restarts=1)
    assert long.prompt.rows.shape == (2, model.n_states)
    both = OracleLM(HMM.stack([model, model]))
    texts, classes = tokens.expand(2, -1, -1), labels.expand(2, -1)
    options = {"validation": (texts, classes), "prompt_length": 2, "restarts": 1, "seed": 0}
    shared = fit_prompt(both, texts, classes, start=prompt, **options)
    own = fit_prompt(both, texts, classes, start=torch.stack([prompt.rows, torch.ones_like(prompt.rows)]), **options)
    for p in (0, 1):
        torch.testing.assert_close(shared.history[..., p], long.history, rtol=0, atol=1e-8)
    torch.testing.assert_close(own.history[..., 0], long.history, rtol=0, atol=1e-8)
    assert not torch.allclose(own.history[0, :, 1], long.history[0])


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.ones(2, 5), "start: expected 1 prompt tokens, got 2; set prompt_length to match"),
        (
            torch.ones(1, 4),
            r"prompt: expected shape \('L', 5\), got shape \(1, 4\); give one row for each prompt token",
        ),
        (torch.ones(3, 1, 5), r"prompt: expected shape \('L', 5\), got shape \(3, 1, 5\)"),
        (torch.ones(5), r"expected .*, got .*\(5,\)"),
        (torch.ones(0, 5), "prompt: expected at least one prompt token"),
        (
            torch.tensor([[1.0, -1, 1, 1, 1]]),
            r"prompt row entry \[0, 1\]: expected a non-negative likelihood, got -1.0",
        ),
        (torch.tensor([[1.0, torch.nan, 1, 1, 1]]), "finite"),
    ],
)
def test_bad_starts(start, message):
    problem = learning_problem(1, n_texts=60)
    assert problem[0].n_states == 5
    with pytest.raises(InvalidInput, match=message):
        fit(problem, start=start)


# Bad input.

GOOD = {"model": random_hmm("dirichlet", 3, 4, 0), "task": binary(np.array([1.0, -1.0, 0.2]))}
BATCH = HMM.stack([random_hmm("dirichlet", 3, 4, s) for s in (0, 1)])


@pytest.mark.parametrize("function", [prompt_certificate, constructed_prompt])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_length": 0}, "prompt_length: expected an integer of at least 1, got 0"),
        ({"prompt_length": -2}, "prompt_length: expected an integer of at least 1, got -2"),
        ({"prompt_length": 1.5}, "prompt_length: expected an integer of at least 1, got 1.5"),
        ({"prompt_length": True}, "prompt_length: expected an integer of at least 1, got True"),
        ({"support_threshold": -0.1}, "support_threshold: expected a non-negative number, got -0.1"),
        ({"support_threshold": float("nan")}, "support_threshold: expected a non-negative number, got nan"),
        ({"tolerance": -1.0}, "tolerance: expected a non-negative number, got -1.0"),
        ({"model": BATCH}, r"expected a single HMM, got batch dimensions \(2,\)"),
        (
            {"task": binary(np.ones(4))},
            r"task: expected one PosteriorTask on 3 states, got .* weights \(2, 4\)",
        ),
        (
            {"task": PosteriorTask(np.ones((5, 2, 3)))},
            r"one PosteriorTask on 3 states, got .* \(5, 2, 3\)",
        ),
    ],
)
def test_bad_arguments(function, options, message):
    with pytest.raises(InvalidInput, match=message):
        function(**{**GOOD, **options})


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (np.ones((1, 4)), r"prompt: expected shape \('L', 3\), got shape \(1, 4\)"),
        (np.ones((2, 1, 3)), r"prompt: expected shape \('L', 3\), got shape \(2, 1, 3\)"),
        (-np.ones((1, 3)), r"prompt row entry \[0, 0\]: expected a non-negative likelihood, got -1.0"),
        (np.full((1, 3), np.inf), "finite"),
        (np.ones((0, 3)), "prompt: expected at least one prompt token"),
    ],
)
def test_bad_given_prompts(prompt, message):
    with pytest.raises(InvalidInput, match=message):
        constructed_head(**GOOD, prompt=prompt)


def test_the_zero_task_is_certified_by_any_prompt():
    certificate = prompt_certificate(GOOD["model"], PosteriorTask(np.ones((2, 3))))
    assert certificate.recoverable
    assert certificate.residual == 0.0


def test_more_tokens_than_states_need_no_cover_but_may_use_one():
    """Where head tuning works, prompt tuning does: K ≤ V, no zeros."""
    for seed in range(10):
        model = random_hmm("dirichlet", 3, 5, seed)
        task = binary(np.random.default_rng(seed).normal(size=3))
        assert head_certificate(model, task).recoverable
        prompt, head, certificate = certified(model, task)
        assert_right_on_every_text(model, task, prompt, head, certificate)
