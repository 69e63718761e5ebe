"""Certificates and witnesses in rational arithmetic: what is proved is true, and what is not is not claimed."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import oracle
import pytest
import rational
from comparisons import case, check

from ppl_hmm import (
    HMM,
    OracleLM,
    PosteriorTask,
    chain_certificate,
    exact_witness,
    example,
    find_witness,
    head_certificate,
    posterior,
    probe_features,
    prompt_certificate,
    random_hmm,
    random_task,
    sample,
)
from ppl_hmm.recoverability import exact_witness as exact_witnesses, proof
from ppl_hmm.recoverability.rationals import floats, integers, laws, solve
from ppl_hmm.schema import Cause, Verdict

# Numbers and equations.


def test_floats_are_integers_over_one_power_of_two():
    values = np.array([[0.1, -3.0, 5e-324], [0.0, 1e300, 2.0**-60]])
    exact, exponent = integers(values)
    assert [[Fraction(n, 1 << exponent) for n in row] for row in exact] == [[*map(Fraction, row)] for row in values]
    assert (floats(rational.fractions(values)) == values).all()
    assert floats(np.array([Fraction(10) ** 400, -(Fraction(10) ** 400)], object)).tolist() == [np.inf, -np.inf]


def test_rows_are_completed_to_laws():
    rows = np.random.default_rng(0).dirichlet(np.ones(7), size=50)
    exact, exponent = laws(rows)
    assert (exact.sum(1) == 1 << exponent).all()
    moved = np.abs(exact - integers(rows)[0]) / 2.0**exponent
    assert ((moved > 0).sum(1) <= 1).all()
    assert 0 < moved.max() < 1e-15
    assert (laws(whole(rows))[0] == integers(whole(rows))[0]).all()


def whole(rows):
    """Return rows whose floats sum to one exactly, as multiples of 2^-40: zeros stay."""
    rounded = np.round(np.asarray(rows) * 2.0**40) / 2.0**40
    largest = rounded.argmax(-1)[..., None]
    rest = 1 - rounded.sum(-1, keepdims=True) + np.take_along_axis(rounded, largest, -1)
    np.put_along_axis(rounded, largest, rest, -1)
    return rounded


def eliminated(matrix, target):
    """Say whether matrix·x = target has a solution, by Gaussian elimination of fractions."""
    rows = [[*map(Fraction, row), Fraction(value)] for row, value in zip(matrix, target, strict=True)]
    for column in range(len(matrix[0])):
        pivot = next((row for row in rows if row[column]), None)
        if pivot is not None:
            rows.remove(pivot)
            rows = [[a - row[column] / pivot[column] * b for a, b in zip(row, pivot, strict=True)] for row in rows]
    return not any(row[-1] for row in rows)


def test_equations_are_solved_or_contradicted():
    rng, solved = np.random.default_rng(0), 0
    for _ in range(200):
        n_rows, n_columns = rng.integers(1, 6, size=2)
        entries = rng.integers(-2, 3, size=(n_rows, n_columns + 1)) * 10 ** int(rng.integers(0, 12))
        matrix = np.array(entries[:, :-1].tolist(), object).reshape(n_rows, n_columns)
        target = np.array(entries[:, -1].tolist(), object)
        solution, obstruction = solve(matrix, target)
        assert (solution is not None) == eliminated(matrix.tolist(), target.tolist())
        if solution is None:
            assert not (obstruction @ matrix).any()
            assert obstruction @ target != 0
        else:
            assert obstruction is None
            assert (matrix @ solution == target).all()
            solved += 1
    assert 50 < solved < 150


def test_a_prime_that_divides_a_minor_is_left_for_another():
    prime = 2**61 - 1
    solution, _ = solve(np.array([[prime, 0], [0, 1]], object), np.array([1, 1], object))
    assert solution.tolist() == [Fraction(1, prime), 1]


# Certificates.


def random_pair(seed):
    """Return a small model, with zeros or repeated rows now and then, a task of two or three classes, and a prompt."""
    rng = np.random.default_rng(seed)
    n_states, n_tokens = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    shapes = (n_states,), (n_states,) * 2, (n_states, n_tokens)
    initial, transition, emission = (oracle.random_rows(rng, *shape, zeros=0.3 * (seed % 3 == 0)) for shape in shapes)
    if seed % 4 == 1:
        emission[-1] = emission[0]
    initial = initial if (initial > 0).sum() > 1 else np.full(n_states, 1 / n_states)
    model = HMM(*map(whole, (initial, transition, emission)))
    task = PosteriorTask(rng.normal(size=(2 + seed % 2, n_states)))
    return model, task, oracle.random_prompt(rng, 1, n_states) if seed % 5 == 0 else None


def equations(model, task, n_masks, prompt):
    """Aᵀ R and Aᵀ(π₀∘μ) as they are written, in fractions; the law after a prompt is normalised."""
    initial, transition, emission = (
        rational.fractions(array.numpy()) for array in (model.initial, model.transition, model.emission)
    )
    law = initial
    for row in () if prompt is None else rational.fractions(prompt):
        law = (law @ transition) * row
        law = law / (law.sum() or 1)
    laws = [law @ transition]
    for _ in range(n_masks - 1):
        laws.append(laws[-1] @ transition)
    blocks = []
    for j, each in enumerate(laws, start=1):
        block = each[:, None] * emission
        for _ in range(n_masks - j):
            block = transition.T @ block
        blocks.append(block)
    weights = rational.fractions(task.weights.numpy())
    contrasts = weights[1:] - weights[:1] if len(weights) == 2 else weights - weights[:1]
    return transition.T @ np.hstack(blocks), (initial * contrasts) @ transition


def test_proofs_hold_by_the_equations_as_they_are_written():
    solved = 0
    for seed in range(60):
        model, task, prompt = random_pair(seed)
        n_masks = 1 + seed % 2
        certificate = chain_certificate(model, task, n_masks, prompt, exact=True)
        matrix, targets = equations(model, task, n_masks, prompt)
        expected = all(eliminated(matrix.tolist(), target.tolist()) for target in targets)
        found = certificate.proof
        assert found.solved == expected
        assert certificate.holds_exactly()
        if found.solved:
            solved += 1
            assert certificate.recoverable
            assert (found.weights @ matrix.T == targets).all()
        else:
            assert not (found.obstruction @ matrix).any()
            assert (targets @ found.obstruction).any()
    assert 20 < solved < 50


def test_proved_heads_are_right_on_every_text_in_rationals():
    n_texts = 0
    for seed in range(24):
        model, task, _ = random_pair(seed)
        certificate = head_certificate(model, task, exact=True)
        if not certificate.proof.solved:
            continue
        truth, contrasts = rational.ExactModel(model), rational.contrasts(task.weights.numpy())
        for text in rational.texts(model.vocabulary_size, 3):
            exact = truth.of(text)
            if exact is not None and exact.conditionals is not None:
                label, margin, _ = rational.decision(contrasts, exact.shares)
                answer, _, _ = rational.decision(certificate.proof.weights, exact.conditionals)
                assert margin == 0 or answer == label
                n_texts += 1
    assert n_texts > 300


@pytest.mark.parametrize("gap", [1e-9, 1e-13, 2.0**-52])
def test_nearly_dependent_rows_are_certified_exactly(gap):
    """Two of four states differ by a gap that float64 takes for rounding: their head exists nonetheless."""
    emission = np.array(
        [[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25], [0.1, 0.5, 0.2, 0.2], [0.5, 0.1, 0.1, 0.3]]
    )
    emission[1, :2] += gap, -gap
    transition = np.random.default_rng(0).dirichlet(np.ones(4), size=4)
    model, task = HMM([0.25] * 4, transition, emission), PosteriorTask([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    certificate = head_certificate(model, task, exact=True)
    assert certificate.verdict is Verdict.RECOVERABLE
    assert certificate.cause is Cause.CONDITION_HOLDS
    assert certificate.holds_exactly()
    assert head_certificate(model, task).residual >= certificate.residual
    if gap < 1e-12:
        assert certificate.sigma_min < 1e-12
    assert certificate.reasons[0].startswith("true of these floats only") == (gap < 1e-15)


def test_a_head_that_no_floats_carry_out_is_named_first():
    """0.2 is written as two neighbouring floats: whoever meant equal rows is told that the proof is of the floats."""
    emission = [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.1, np.nextafter(0.2, 1), 0.7]]
    model = HMM([0.4, 0.3, 0.3], [[0.8, 0.2, 0.0], [0.0, 0.2, 0.8], [0.1, 0.1, 0.8]], emission)
    task = PosteriorTask([[0, 1, 0], [0, 0, 1]])
    certificate = head_certificate(model, task, exact=True)
    assert certificate.recoverable
    assert certificate.reasons[0] == (
        "true of these floats only: the head needs weights of about 1e16; `weights` is not that head"
    )


def test_what_is_withheld_at_ten_states_is_proved():
    verdicts = []
    for seed in range(3):
        model = random_hmm("wei2021", 10, 10, seed=seed)
        task = random_task(model, 0, sample(model, 500, 20, seed=0).tokens)
        certificate = head_certificate(model, task, exact=True)
        assert certificate.recoverable
        assert certificate.holds_exactly()
        verdicts.append(head_certificate(model, task).recoverable)
    assert not all(verdicts)  # float64 decides not all of them


def test_rounding_of_rows_recovers_nothing():
    """R has rank J(V−1)+1 at most where rows sum to one: as floats they do not, and it would have one more."""
    for seed in range(5):
        model, task = random_hmm("dirichlet", 4, 2, seed=seed), PosteriorTask([[0, 0, 0, 0], [1.0, -1, 2, 0.5]])
        assert not chain_certificate(model, task, 2, exact=True).proof.solved
        assert chain_certificate(model, task, 3, exact=True).proof.solved


def test_prompts_are_proved_too():
    model, task = example("aliased")
    certificate = prompt_certificate(model, task, exact=True)
    assert certificate.recoverable
    assert certificate.proof.solved
    assert certificate.holds_exactly()
    without = head_certificate(model, task, exact=True)
    assert not without.proof.solved
    assert not without.recoverable


def test_a_proof_of_another_certificate_does_not_hold():
    model, task, _ = random_pair(4)
    certificate = head_certificate(model, task, exact=True)
    assert certificate.proof.solved
    weights = certificate.proof.weights.copy()
    weights[0, 0] += Fraction(1, 10**400)
    assert not dataclasses.replace(
        certificate, proof=dataclasses.replace(certificate.proof, weights=weights)
    ).holds_exactly()
    other = PosteriorTask(task.weights + 2.0**-40 * task.weights.new_tensor([[0.0], [1.0]]))
    assert not dataclasses.replace(certificate, task=other).holds_exactly()
    assert not head_certificate(model, task).holds_exactly()  # nothing was proved


def test_work_beyond_the_limit_is_withheld(monkeypatch):
    model, task, _ = random_pair(2)
    monkeypatch.setattr(proof, "EXACT_LIMIT", 10)
    certificate = head_certificate(model, task, exact=True)
    assert certificate.cause is Cause.TOO_LARGE
    assert certificate.verdict is Verdict.UNDECIDED
    assert "no proof was sought" in certificate.reasons[-1]
    assert certificate.proof is None


def test_weights_beyond_float64_are_proved_and_not_returned():
    """W's second row is the first but for two entries of 2^-1040: b has entries of about 2^1040."""
    tiny = 2.0**-1040
    emission = [[1.0, 2 * tiny, tiny], [1.0, tiny, 2 * tiny]]
    model, task = HMM([0.5, 0.5], [[0.75, 0.25], [0.25, 0.75]], emission), PosteriorTask([[1.0, 0], [0, 1.0]])
    certificate = head_certificate(model, task, exact=True)
    assert certificate.recoverable
    assert certificate.holds_exactly()
    assert certificate.weights.isfinite().all()
    assert "weights of about 1e3" in certificate.reasons[0]


# Witnesses.


def texts_of(model, length):
    """Return all texts of a length that are possible."""
    texts = np.array(list(itertools.product(range(model.vocabulary_size), repeat=length)))
    return texts[np.isfinite(posterior(model, texts, impossible="mask").log_evidence.numpy())]


def nearly_deterministic(seed):
    """Return a model that needs more tokens than it has, a task of two or three classes, and a prompt now and then."""
    rng, drawn = np.random.default_rng(seed), random_hmm("wei2021", 6, 3, seed=seed)
    model = HMM(*(whole(array.numpy()) for array in (drawn.initial, drawn.transition, drawn.emission)))
    prompt = oracle.random_prompt(rng, 1, 6) if seed % 3 == 0 else None
    return model, PosteriorTask(rng.normal(size=(2 + seed % 2, 6))), prompt


def assert_witness(witness, model, task, prompt=None):
    """Check labels and balance of a witness of one mask in fractions, by conditionals of another computation."""
    truth, contrasts = rational.ExactModel(model, prompt), rational.contrasts(task.weights.numpy())
    exact = [truth.of(text) for text in witness.tokens.tolist()]
    assert [rational.decision(contrasts, each.shares)[0] for each in exact] == witness.labels.tolist()
    features = np.array([each.conditionals for each in exact])
    assert witness.weights.min() >= 0
    assert sum(witness.weights.ravel()) == 1
    for label in range(task.n_classes):
        own = witness.weights[witness.labels == label].sum(1) @ features[witness.labels == label]
        assert (own == witness.weights[:, label] @ features).all()


def test_witnesses_balance_exactly():
    found = 0
    for seed in range(12):
        model, task, prompt = nearly_deterministic(seed)
        witness = exact_witness(model, task, texts_of(model, 4), prompt)
        if witness is not None:
            assert_witness(witness, model, task, prompt)
            assert witness.holds_exactly()
            assert not chain_certificate(model, task, 1, prompt, exact=True).proof.solved
            rounded = witness.rounded
            assert rounded.relative_residual < 1e-14
            assert head_certificate(model, task).refuted_by(rounded).verdict is Verdict.NOT_RECOVERABLE
            found += 1
    assert found > 8


def test_a_witness_of_two_masks_reads_both():
    model, task = random_hmm("wei2021", 8, 2, seed=1), PosteriorTask(np.random.default_rng(1).normal(size=(3, 8)))
    texts = texts_of(model, 7)
    witness = exact_witness(model, task, texts, n_masks=2)
    assert witness.holds_exactly()
    features = probe_features(OracleLM(model), witness.tokens, n_masks=2).flatten(-2).numpy()
    np.testing.assert_allclose(witness.rounded.features, features, rtol=1e-13)
    assert find_witness(features, witness.labels) is not None
    assert (texts[witness.texts] == witness.tokens).all()


def test_a_witness_that_was_changed_does_not_hold():
    model, task = example("aliased")
    witness = exact_witness(model, task, texts_of(model, 2))
    assert witness.holds_exactly()
    weights = witness.weights.copy()
    weights[weights > 0] += Fraction(1, 10**300)
    assert not dataclasses.replace(witness, weights=weights).holds_exactly()
    assert not dataclasses.replace(witness, weights=0 * weights).holds_exactly()
    assert not dataclasses.replace(witness, labels=1 - witness.labels).holds_exactly()


def test_rounding_makes_no_witness():
    """Two texts differ in their features by rounding alone, and in their labels: some head tells them apart."""
    tiny = 2.0**-60
    emission = [[0.5, 0.5, 0], [0.5 * (1 - tiny), 0.5, tiny / 2], [0, 0, 1.0]]
    model = HMM([0.5, 0.5, 0], [[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0, 1.0]], emission)
    task = PosteriorTask([[1.0, 0, 0], [0, 1.0, 0]])
    assert head_certificate(model, task, exact=True).recoverable
    assert exact_witness(model, task, texts_of(model, 3)) is None


def test_a_witness_up_to_rounding_only_is_said_to_be_one(caplog, monkeypatch):
    """Rows that differ by one float: what balances without that float does not balance exactly."""
    (model, task), texts = example("aliased"), texts_of(example("aliased")[0], 2)
    of_equal_rows = exact_witness(model, task, texts).rounded
    monkeypatch.setattr(exact_witnesses, "find_witness", lambda *_, **__: of_equal_rows)
    emission = model.emission.clone()
    emission[2, 1] = np.nextafter(float(emission[2, 1]), 1)
    assert exact_witness(HMM(model.initial, model.transition, emission), task, texts) is None
    assert "but that is rounding" in caplog.text


def test_where_nothing_is_found_nothing_is_said_of_rounding(caplog):
    model, task = random_hmm("dirichlet", 3, 5, seed=0), PosteriorTask([[1.0, 0, 0], [0, 0, 1.0]])
    assert exact_witness(model, task, texts_of(model, 2)) is None
    assert not caplog.text


def test_a_witness_is_shown_in_a_line():
    witness = exact_witness(*example("aliased"), texts_of(example("aliased")[0], 2))
    assert repr(witness) == "ExactWitness(texts=array([0, 5, 6]), labels=array([0, 1, 1]), n_masks=1)"


BAD = [
    case(
        "threshold",
        lambda: head_certificate(*example("aliased"), support_threshold=0.1, exact=True),
        "support_threshold of an exact proof",
        "0",
        "0.1",
    ),
    case("masks", lambda: exact_witness(*example("aliased"), [[0, 1]], n_masks=0), "n_masks", "at least 1", "0"),
    case("model", lambda: exact_witness(3, example("aliased")[1], [[0, 1]]), "exact_witness", "HMM", "int"),
]


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_bad_input(call, what, expected, got, error):
    check(call, what, expected, got, error)


@pytest.mark.slow
@pytest.mark.parametrize(("n_states", "n_masks"), [(8, 1), (10, 1), (15, 2), (20, 3), (30, 4)])
def test_models_of_the_paper_are_proved(n_states, n_masks):
    """All of 20 models are proved with J ≥ (K−1)/(V−1) masks, and have no solution with one fewer from K = 15 on."""
    for seed in range(20):
        model = random_hmm("wei2021", n_states, 10, seed=seed)
        task = random_task(model, seed, sample(model, 500, 20, seed=seed).tokens)
        certificate = chain_certificate(model, task, n_masks, exact=True)
        assert certificate.proof.solved
        assert certificate.holds_exactly()
        if n_states >= 15:
            assert not chain_certificate(model, task, n_masks - 1, exact=True).proof.solved


@pytest.mark.slow
@pytest.mark.parametrize("n_states", [15, 20, 25, 30])
def test_models_of_the_paper_are_refuted_exactly(n_states):
    n_proved = 0
    for seed in range(20):
        model = random_hmm("wei2021", n_states, 10, seed=seed)
        task = random_task(model, seed, sample(model, 500, 20, seed=seed).tokens)
        witness = exact_witness(model, task, texts_of(model, 3))
        n_proved += witness is not None and witness.holds_exactly()
    assert n_proved >= 19
