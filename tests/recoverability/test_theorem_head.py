"""Theorem H in both directions: its head is right on every text where its condition holds, and refuses where not."""

import numpy as np
import oracle
import pytest
import torch
from by_hand import conditionals, entering, margin_error, messages
from sweeps import sweep

from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.constructed import constructed_head
from ppl_hmm.inference.queries import posterior
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE, ConditionNotMet
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.witness import separability
from ppl_hmm.regimes import random_hmm
from ppl_hmm.tasks import PosteriorTask

LONGEST = 4


# What the tests know for themselves.


def possible_texts(model, longest=LONGEST):
    """Every text of 1..longest tokens, one array a length, without those of probability zero, alone or after a mask."""
    first, second = model.initial.numpy(), (model.initial @ model.transition).numpy()
    for length in range(1, longest + 1):
        texts = oracle.all_texts(model.vocabulary_size, length)
        f = messages(model, texts)
        possible = (f @ first > 0) & (f @ second > 0)
        if possible.any():
            yield texts[possible]


def assert_right_on_every_text(model, task, head, certificate, longest=LONGEST):
    """The head classifies every decidable text of up to ``longest`` tokens; return how many there are."""
    n_decidable = 0
    spread = float((task.weights.amax(0) - task.weights.amin(0)).max())
    for texts in possible_texts(model, longest):
        exact = posterior(model, texts)
        labels, margins = task.labels(exact).numpy(), task.margins(exact).numpy()
        predicted = head.predict(probe_features(OracleLM(model), texts))
        clear = np.abs(margins) > RESIDUAL_TOLERANCE * spread
        np.testing.assert_array_equal(predicted[clear], labels[clear])
        agreement = certificate.sign_agreement(texts)
        assert agreement.agreeing == agreement.decidable
        assert agreement.decidable >= clear.sum()
        assert agreement.decidable + agreement.undecidable == len(texts)
        assert agreement.share == 1.0
        n_decidable += clear.sum()
    return n_decidable


def certified(model, task, **options):
    certificate = head_certificate(model, task, **options)
    assert certificate.recoverable
    assert certificate.verdict == "recoverable"
    assert certificate.residual <= RESIDUAL_TOLERANCE
    return constructed_head(model, task, **options), certificate


def refused(model, task, **options):
    with pytest.raises(ConditionNotMet) as caught:
        constructed_head(model, task, **options)
    certificate = caught.value.certificate
    assert certificate.verdict == "undecided"
    assert not certificate.recoverable
    assert certificate.residual > certificate.tolerance
    return certificate, str(caught.value)


def best_relative_residuals(model, task):
    """Smallest relative residual, over b, of Wb = Dμ and of Aᵀ(diag(p1)Wb − π₀∘μ) = 0, by lstsq (p1 > 0)."""
    initial, transition, emission = (value.numpy() for value in (model.initial, model.transition, model.emission))
    entering = initial @ transition
    contrast = task.contrast.numpy()
    systems = (
        (emission, initial * contrast / entering),
        (transition.T @ (entering[:, None] * emission), transition.T @ (initial * contrast)),
    )
    return [relative_residual(matrix, target) for matrix, target in systems]


def relative_residual(matrix, target):
    solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return np.linalg.norm(matrix @ solution - target) / np.linalg.norm(target)


def binary(contrast):
    return PosteriorTask(np.array([np.zeros(len(contrast)), contrast]))


def random_sizes(rng):
    n_states = int(rng.integers(2, 6))
    return n_states, int(rng.integers(n_states, 6))


# Certified and right.


@pytest.mark.parametrize("seed", sweep(50, quick=16))
def test_certified_and_right_on_every_text(seed):
    rng = np.random.default_rng(seed)
    n_states, vocabulary_size = random_sizes(rng)
    model = random_hmm("dirichlet", n_states, vocabulary_size, seed)
    assert not torch.allclose(model.initial @ model.transition, model.initial, atol=1e-4)  # not stationary
    task = binary(rng.normal(size=n_states))
    head, certificate = certified(model, task)
    assert_right_on_every_text(model, task, head, certificate)
    assert certificate.sigma_min == pytest.approx(np.linalg.svd(model.emission.numpy())[1].min(), rel=1e-9)
    np.testing.assert_array_equal(head.coef_, certificate.weights.numpy()[None])
    assert head.intercept_.tolist() == [0.0]


@pytest.mark.parametrize("seed", range(10))
def test_the_score_is_the_margin_up_to_the_stated_factor(seed):
    """bᵀG_1(∅,x) = c(x)·μᵀP(H₀|x), c = π₀ᵀf/p1ᵀf: more than its sign."""
    rng = np.random.default_rng(100 + seed)
    model = random_hmm("dirichlet", *random_sizes(rng), 100 + seed)
    task = binary(rng.normal(size=model.n_states))
    head, certificate = certified(model, task)
    tolerance = 1e-14 * float(certificate.weights.abs().sum()) + 1e-9
    for texts in possible_texts(model):
        f = messages(model, texts)
        evidence = f @ model.initial.numpy()
        margins = f @ (model.initial * task.contrast).numpy() / evidence
        factor = evidence / (f @ (model.initial @ model.transition).numpy())
        scores = head.decision_function(probe_features(OracleLM(model), texts))
        np.testing.assert_allclose(scores, factor * margins, rtol=0, atol=tolerance)
        np.testing.assert_allclose(probe_features(OracleLM(model), texts), conditionals(model, texts), atol=1e-12)


def test_the_random_texts_are_mostly_decidable():
    model = random_hmm("dirichlet", 3, 4, 0)
    task = binary(np.array([1.0, -1.0, 0.2]))
    head, certificate = certified(model, task)
    assert assert_right_on_every_text(model, task, head, certificate) >= 0.99 * (4 + 16 + 64 + 256)


@pytest.mark.parametrize("seed", range(10))
def test_three_classes(seed):
    rng = np.random.default_rng(seed)
    model = random_hmm("dirichlet", int(rng.integers(3, 6)), 5, seed)
    task = PosteriorTask(rng.normal(size=(3, model.n_states)))
    head, certificate = certified(model, task)
    assert certificate.weights.shape == (3, 5)
    assert head.classes_.tolist() == [0, 1, 2]
    assert assert_right_on_every_text(model, task, head, certificate) > 0


def test_three_classes_need_every_difference_but_not_the_common_part():
    """Weights shared by all classes change no label: they may lie where W has no rows of its own."""
    model = aliased_in_proportion(np.random.default_rng(0), full_rank_transition=True)
    shared = np.array([1.0, -1.0, 0.0, 0.0])  # tells apart the aliased states: not representable
    difference = (np.array([0.0, 0.0, 1.0, -1.0]), np.array([0.0, 0.0, -0.5, 2.0]), np.zeros(4))
    task = PosteriorTask(np.array([each + 100 * shared for each in difference]))
    head, certificate = certified(model, task)
    assert_right_on_every_text(model, task, head, certificate)
    refused(model, PosteriorTask(np.array([*difference[:2], shared])))


# Zeros in p1.


def model_with_a_state_never_entered(rng):
    transition = oracle.random_rows(rng, 4, 4)
    transition[:, 2] = 0
    transition /= transition.sum(1, keepdims=True)
    return HMM(oracle.random_rows(rng, 4), transition, oracle.random_rows(rng, 4, 5))


@pytest.mark.parametrize("seed", range(10))
def test_a_state_never_entered_does_not_matter_to_a_task_without_it(seed):
    rng = np.random.default_rng(seed)
    model = model_with_a_state_never_entered(rng)
    contrast = rng.normal(size=4)
    contrast[2] = 0
    head, certificate = certified(model, binary(contrast))
    assert assert_right_on_every_text(model, binary(contrast), head, certificate) > 0
    kept = model.emission.numpy()[[0, 1, 3]]
    assert certificate.sigma_min == pytest.approx(np.linalg.svd(kept)[1].min(), rel=1e-9)


def relative_error(model, contrast, certificate):
    """The margin error over ‖μ‖_∞."""
    return margin_error(model, contrast, entering(model), certificate.weights.numpy()) / np.abs(contrast).max()


NEEDS_STATE_2 = np.array([0.3, 0.0, 2.0, -1.0])


@pytest.mark.parametrize("seed", range(10))
def test_a_task_that_needs_a_state_never_entered_is_solved_through_the_transition(seed):
    """A column of zeros leaves A at rank 3: f(x) has three dimensions, and three emission rows are enough."""
    model = model_with_a_state_never_entered(np.random.default_rng(seed))
    task = binary(NEEDS_STATE_2)
    head, certificate = certified(model, task)
    assert "the task needs states 2, which cannot be entered" in certificate.reasons
    assert "Aᵀ" in certificate.reasons[0]
    assert assert_right_on_every_text(model, task, head, certificate) > 0


@pytest.mark.parametrize("seed", range(10))
def test_a_task_that_needs_a_state_never_entered_is_refused(seed):
    rng = np.random.default_rng(seed)
    model = model_with_a_state_never_entered(rng)
    emission = model.emission.numpy().copy()
    emission[1] = emission[0]  # too few rows for the three dimensions of f
    model = HMM(model.initial, model.transition, emission)
    certificate, message = refused(model, binary(NEEDS_STATE_2))
    assert "the task needs states 2, which cannot be entered" in certificate.reasons
    assert "states 2" in message
    # The condition really fails: no b solves even the weaker equation.
    initial, transition = model.initial.numpy(), model.transition.numpy()
    matrix = transition.T @ ((initial @ transition)[:, None] * emission)
    target = transition.T @ (initial * NEEDS_STATE_2)
    assert relative_residual(matrix, target) > RESIDUAL_TOLERANCE
    assert certificate.residual == pytest.approx(relative_error(model, NEEDS_STATE_2, certificate), rel=1e-6)


def test_a_state_never_entered_and_never_started_from_does_not_matter_at_all():
    """supp(π₀∘μ) ⊆ supp p1 is what counts, not supp μ."""
    rng = np.random.default_rng(0)
    model = model_with_a_state_never_entered(rng)
    initial = model.initial.numpy().copy()
    initial[2] = 0
    model = HMM(initial / initial.sum(), model.transition, model.emission)
    task = binary(NEEDS_STATE_2)
    head, certificate = certified(model, task)
    assert assert_right_on_every_text(model, task, head, certificate) > 0


# The weaker form, through A.


def aliased_in_proportion(rng, full_rank_transition=False):
    """States 0 and 1 emit alike; A has rows 0 and 1 alike, so that f_0 = f_1 for every text, unless full rank."""
    transition, emission = oracle.random_rows(rng, 4, 4), oracle.random_rows(rng, 4, 5)
    emission[1] = emission[0]
    if not full_rank_transition:
        transition[1] = transition[0]
    return HMM(oracle.random_rows(rng, 4), transition, emission)


@pytest.mark.parametrize("seed", range(10))
def test_the_weaker_equation_suffices(seed):
    """Aliased states with the same future: Wb = Dμ has no solution, Aᵀ(diag(p1)Wb − π₀∘μ) = 0 has one."""
    rng = np.random.default_rng(seed)
    model = aliased_in_proportion(rng)
    task = binary(rng.normal(size=4))
    direct, weaker = best_relative_residuals(model, task)
    assert direct > 1e-4
    assert weaker < 1e-12
    head, certificate = certified(model, task)
    assert any("Aᵀ" in reason for reason in certificate.reasons)
    assert assert_right_on_every_text(model, task, head, certificate) > 0


@pytest.mark.parametrize("seed", range(10))
def test_more_states_than_tokens_but_a_transition_of_low_rank(seed):
    """K = 5 > V = 4, rank A = 2: f lives in two dimensions."""
    rng = np.random.default_rng(seed)
    transition = oracle.random_rows(rng, 5, 2) @ oracle.random_rows(rng, 2, 5)
    model = HMM(oracle.random_rows(rng, 5), transition, oracle.random_rows(rng, 5, 4))
    task = binary(rng.normal(size=5))
    direct, weaker = best_relative_residuals(model, task)
    assert direct > 1e-4
    assert weaker < 1e-12
    head, certificate = certified(model, task)
    assert certificate.sigma_min == 0.0
    assert assert_right_on_every_text(model, task, head, certificate) > 0


# Refused: neither equation has a solution.


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_refused_where_no_weights_solve_either_equation(seed):
    rng = np.random.default_rng(seed)
    model = aliased_in_proportion(rng, full_rank_transition=True) if seed % 2 else random_hmm("dirichlet", 6, 3, seed)
    task = binary(rng.normal(size=model.n_states))
    residuals = best_relative_residuals(model, task)
    assert min(residuals) > RESIDUAL_TOLERANCE
    certificate, message = refused(model, task)
    assert certificate.residual == pytest.approx(relative_error(model, task.contrast.numpy(), certificate), rel=1e-6)
    assert certificate.sigma_min < 1e-12
    assert f"{certificate.residual:.3g}" in message
    assert "expected a residual of at most 1e-09" in message
    assert message.endswith("; learn a head instead, or try a prompt or more masks")


def test_the_tolerance_decides():
    rng = np.random.default_rng(1)
    model = aliased_in_proportion(rng, full_rank_transition=True)
    task = binary(rng.normal(size=4))
    residual = head_certificate(model, task).residual
    assert head_certificate(model, task, tolerance=1.01 * residual).recoverable
    assert not head_certificate(model, task, tolerance=0.99 * residual).recoverable


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_no_text_moves_its_margin_by_more_than_the_margin_error(seed):
    """The bound that `residual` stands for, on heads that are wrong: every text, certified or refused."""
    model = random_hmm("dirichlet", 3 + seed % 3, 2 + seed % 3, seed)
    contrast = np.random.default_rng(seed).normal(size=model.n_states)
    certificate = head_certificate(model, binary(contrast))
    weights = certificate.weights.numpy()
    initial, transition, emission = (array.numpy() for array in (model.initial, model.transition, model.emission))
    first = initial @ transition
    worst = 0.0
    for text in oracle.all_texts(model.vocabulary_size, 4):
        message = np.ones(model.n_states)
        for token in reversed(text):
            message = transition @ (emission[:, token] * message)
        margin = (initial * contrast) @ message / (initial @ message)
        score = (first * (emission @ weights)) @ message / (initial @ message)
        worst = max(worst, abs(score - margin))
    assert worst <= certificate.margin_error * (1 + 1e-9) + 1e-14
    error = margin_error(model, contrast, entering(model), certificate.weights.numpy())
    assert certificate.margin_error == pytest.approx(error)


# Refused, and no linear head exists: two texts share G but not the label.


def successors_only_tell(rng):
    """States 0, 1 emit alike but lead to 2 and 3, which emit tokens of their own: after the mask G forgets which."""
    like, back = oracle.random_rows(rng, 2), oracle.random_rows(rng, 2, 2)
    transition = np.zeros((4, 4))
    transition[0, 2] = transition[1, 3] = 1
    transition[2:, :2] = back
    emission = np.zeros((4, 4))
    emission[:2, :2] = like
    emission[2, 2] = emission[3, 3] = 1
    model = HMM(oracle.random_rows(rng, 4), transition, emission)
    return model, np.array([[2], [3]])


def mirrored(rng):
    """A model without zeros that swapping states 0↔1, 2↔3 and tokens 2i↔2i+1 leaves alone.

    States 0, 1 emit alike, and 2, 3 have the same future. So a text and its mirror image share G, and swap P(H₀=0|x)
    with P(H₀=1|x).
    """
    p, pair = oracle.random_rows(rng, 4), oracle.random_rows(rng, 2)
    transition = np.array([p, p[[1, 0, 3, 2]], np.repeat(pair, 2) / 2, np.repeat(pair, 2) / 2])
    alike, own = np.repeat(oracle.random_rows(rng, 3), 2) / 2, oracle.random_rows(rng, 6)
    emission = np.array([alike, alike, own, own[[1, 0, 3, 2, 5, 4]]])
    model = HMM(np.repeat(oracle.random_rows(rng, 2), 2) / 2, transition, emission)
    texts = np.concatenate([rng.integers(6, size=(20, 5))])
    return model, np.concatenate([texts, texts ^ 1])


@pytest.mark.parametrize("build", [successors_only_tell, mirrored])
@pytest.mark.parametrize("seed", range(10))
def test_texts_that_share_conditionals_but_not_labels(build, seed):
    model, texts = build(np.random.default_rng(seed))
    task = binary(np.array([1.0, -1.0, 0.0, 0.0]))
    exact = posterior(model, texts)
    clear = task.margins(exact).abs().numpy() > 1e-6
    first, second = np.split(np.arange(len(texts)), 2)
    first, second = first[clear[first]], second[clear[first]]
    assert len(first) > 0
    # Shared conditionals, opposite labels: by the tests' own formula, and by the package.
    features = probe_features(OracleLM(model), texts).numpy()
    labels = task.labels(exact).numpy()
    for rows in (features, conditionals(model, texts)):
        np.testing.assert_allclose(rows[first], rows[second], rtol=0, atol=1e-13)
    np.testing.assert_array_equal(labels[first], 1 - labels[second])
    refused(model, task)
    kept = np.concatenate([first, second])
    answer = separability(features[kept], labels[kept])
    assert not answer.separable
    assert answer.margin < 1e-9


def test_such_pairs_are_no_obstacle_to_a_task_that_does_not_tell_them_apart():
    model, _ = mirrored(np.random.default_rng(0))
    contrast = np.linalg.pinv(np.diag((model.initial / (model.initial @ model.transition)).numpy()))
    task = binary(contrast @ model.emission.numpy() @ np.array([1.0, -1.0, 2.0, 0.0, -2.0, 0.5]))
    head, certificate = certified(model, task)
    assert assert_right_on_every_text(model, task, head, certificate, longest=3) > 0


# Options and certificates.


def rarely_entered(rng):
    """State 3 is entered with probability about 1e-5 and emits like state 0."""
    transition, emission = oracle.random_rows(rng, 4, 4), oracle.random_rows(rng, 4, 5)
    transition[:, 3] = 1e-5
    transition /= transition.sum(1, keepdims=True)
    emission[3] = emission[0]
    return HMM(np.array([0.3, 0.3, 0.399999, 1e-6]), transition, emission)


def test_the_support_threshold_is_reported():
    rng = np.random.default_rng(0)
    model = rarely_entered(rng)
    task = binary(np.array([1.0, -0.5, 0.2, 0.0]))
    refused(model, task)
    head, certificate = certified(model, task, support_threshold=1e-3)
    assert certificate.support_threshold == 1e-3
    assert "support threshold 0.001: sign agreement is measured, not proved" in certificate.reasons
    assert not any("threshold" in reason for reason in head_certificate(model, task).reasons)
    kept = model.emission.numpy()[:3]
    assert certificate.sigma_min == pytest.approx(np.linalg.svd(kept)[1].min(), rel=1e-9)
    # Measured by hand too.
    texts = oracle.all_texts(5, 4)
    exact = posterior(model, texts)
    right = head.predict(probe_features(OracleLM(model), texts)) == task.labels(exact).numpy()
    agreement = certificate.sign_agreement(texts)
    assert agreement.decidable == len(texts)
    assert agreement.agreeing == right.sum()
    assert agreement.share > 0.98


def test_a_threshold_that_drops_a_state_the_task_needs_is_refused():
    _, message = refused(
        rarely_entered(np.random.default_rng(0)), binary(np.array([1.0, -0.5, 0.2, 0.7])), support_threshold=1e-3
    )
    assert "the task needs states 3, which cannot be entered" in message
    assert "support threshold 0.001" in message


def test_every_state_dropped_is_named():
    _, message = refused(random_hmm("dirichlet", 3, 4, 0), binary(np.array([1.0, 0.0, -1.0])), support_threshold=1.0)
    assert "states 0, 2, which" in message


def test_sign_agreement_counts_wrong_and_undecidable_texts():
    """A head with no sign is wrong on nothing decidable; a head of the wrong sign is wrong on everything."""
    model = random_hmm("dirichlet", 3, 4, 0)
    task = binary(np.array([1.0, -1.0, 0.2]))
    texts = oracle.all_texts(4, 3)
    right = head_certificate(model, task)
    assert right.sign_agreement(texts) == (64, 64, 0)
    wrong = type(right)(**{**vars(right), "weights": -right.weights})
    assert wrong.sign_agreement(texts) == (0, 64, 0)
    assert wrong.sign_agreement(texts).share == 0.0
    silent = type(right)(**{**vars(right), "weights": torch.zeros(4, dtype=torch.float64)})
    assert silent.sign_agreement(texts) == (0, 0, 64)
    assert silent.sign_agreement(texts).share == 1.0


def test_sign_agreement_takes_lengths():
    model = random_hmm("dirichlet", 3, 4, 0)
    certificate = head_certificate(model, binary(np.array([1.0, -1.0, 0.2])))
    texts = oracle.all_texts(4, 3)
    assert certificate.sign_agreement(texts, lengths=np.full(64, 2)) == (64, 64, 0)
    # lengths make a difference: a head right on short text only.
    wrong = type(certificate)(**{**vars(certificate), "weights": -certificate.weights})
    assert wrong.sign_agreement(texts, lengths=np.full(64, 2)) == wrong.sign_agreement(texts[:, :2])


def test_the_zero_task_is_certified_and_decides_nothing():
    model = random_hmm("dirichlet", 3, 4, 0)
    certificate = head_certificate(model, PosteriorTask(np.ones((2, 3))))
    assert certificate.residual == 0.0  # 0/0 := 0
    assert certificate.sign_agreement(oracle.all_texts(4, 2)) == (0, 0, 16)


def test_the_theorem_and_its_inputs_are_on_the_certificate():
    model, task = random_hmm("dirichlet", 3, 4, 0), binary(np.array([1.0, -1.0, 0.2]))
    certificate = head_certificate(model, task, tolerance=1e-8)
    assert certificate.theorem == "Theorem H (3.3)"
    assert certificate.tolerance == 1e-8
    assert certificate.model.identical(model)
    assert certificate.task.identical(task)
    assert certificate.prompt is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -1.0}, "tolerance: expected a non-negative number, got -1.0"),
        ({"tolerance": float("nan")}, "tolerance: expected a non-negative number, got nan"),
        ({"support_threshold": -0.1}, "support_threshold: expected a non-negative number, got -0.1"),
        (
            {"task": binary(np.ones(4))},
            r"task: expected one PosteriorTask on 3 states, got .* weights \(2, 4\)",
        ),
        (
            {"task": PosteriorTask(np.ones((5, 2, 3)))},
            r"one PosteriorTask on 3 states, got .* \(5, 2, 3\)",
        ),
        ({"model": HMM.stack([random_hmm("dirichlet", 3, 4, s) for s in (0, 1)])}, "expected a single HMM"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"model": random_hmm("dirichlet", 3, 4, 0), "task": binary(np.array([1.0, -1.0, 0.2]))}
    with pytest.raises(InvalidInput, match=message):
        constructed_head(**{**arguments, **options})


# Separability.


def test_separable_points():
    features = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
    answer = separability(features, [0, 0, 1, 1])
    assert answer.separable
    assert answer.margin == pytest.approx(0.2, abs=1e-9)  # b = (−1, 1): 0.6 − 0.4
    np.testing.assert_allclose(answer.weights, [-1, 1], atol=1e-9)
    signed = features @ answer.weights * np.array([-1, -1, 1, 1])
    assert signed.min() == pytest.approx(answer.margin, abs=1e-9)


def test_points_that_cross_are_not_separable():
    """(0.5, 0.5) is the middle of the others, which have the other label."""
    answer = separability([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]], [0, 0, 1])
    assert not answer.separable
    assert answer.margin == 0.0
    exclusive_or = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]) / 2
    assert not separability(exclusive_or, [0, 0, 1, 1]).separable
    assert separability(exclusive_or, [0, 1, 0, 1]).separable


def test_one_class_is_separable_by_the_constant_head():
    assert separability([[0.9, 0.1], [0.1, 0.9]], [1, 1]).margin == pytest.approx(1.0)
    assert separability([[0.9, 0.1], [0.1, 0.9]], [0, 0]).margin == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(10))
def test_random_points_on_either_side_of_a_plane(seed):
    rng = np.random.default_rng(seed)
    features = rng.dirichlet(np.ones(5), size=200)
    direction = rng.normal(size=5)
    scores = features @ direction
    labels = (scores >= 0).astype(int)
    answer = separability(features, labels)
    assert answer.margin >= np.abs(scores).min() / np.abs(direction).max() - 1e-9
    np.testing.assert_array_equal(features @ answer.weights >= 0, labels == 1)
    # The same point on both sides.
    assert not separability(np.r_[features, features[:1]], np.r_[labels, 1 - labels[:1]]).separable


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ([[0.5, 0.5]], [0, 1], r"expected shapes \(B, V\) and \(B,\), B at least 1, got \(1, 2\) and \(2,\)"),
        ([0.5, 0.5], [0, 1], r"got \(2,\) and \(2,\); give one label for each row"),
        (np.empty((0, 2)), [], r"B at least 1, got \(0, 2\)"),
        ([[0.5, np.nan]], [1], "features: expected finite numbers, got NaN or infinity; drop the rows"),
        ([[0.5, np.inf]], [1], "features: expected finite numbers"),
        ([[0.5, 0.5], [0.1, 0.9]], [-1, 1], r"labels: expected classes 0, 1, …, got \[-1, 1\]; number the classes"),
        ([[0.5, 0.5], [0.1, 0.9]], [0.5, 1], r"labels: expected classes 0, 1, …, got \[0.5, 1.0\]"),
    ],
)
def test_separability_reads_bad_input(features, labels, message):
    with pytest.raises(InvalidInput, match=message):
        separability(features, labels)
