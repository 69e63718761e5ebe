"""Transfer: no language model, however chosen, makes a head worse than the bounds say; and how close they come."""

import numpy as np
import oracle
import pytest
from scipy.optimize import brentq, linprog
from scipy.special import rel_entr
from sweeps import sweep

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import masked_conditionals, posterior
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.transfer import law_ratio, smallest_half_range, transfer, transfer_bounds
from ppl_hmm.regimes import random_hmm
from ppl_hmm.tasks import PosteriorTask

N_TRIALS = 200
ROUNDING = 1e-12  # of sums of shares


# Exact conditionals of random models and their law of texts.


def possible_texts(model, length):
    """Every text of ``length`` tokens that is possible, alone and after a mask, its probability, and G (B,V)."""
    texts = oracle.all_texts(model.vocabulary_size, length)
    probability = posterior(model, texts, impossible="mask").log_evidence.exp().numpy()
    masked = np.concatenate([np.full_like(texts[:, :1], MASK), texts], axis=1)
    conditionals = masked_conditionals(model, masked, positions=[0], impossible="mask")[:, 0].numpy()
    possible = (probability > 0) & (conditionals.sum(1) > 0)
    return texts[possible], probability[possible], conditionals[possible]


def random_head(rng, model):
    """A head of either kind: constructed for a random task where there is one, else random; two classes or three."""
    n_classes = int(rng.choice([2, 2, 3]))
    task = PosteriorTask(rng.normal(size=(n_classes, model.n_states)))
    constructed = smallest_half_range(model, task).weights
    if constructed is not None and rng.random() < 0.7:
        return constructed.numpy()
    return rng.normal(size=(n_classes, model.vocabulary_size) if n_classes > 2 else model.vocabulary_size)


# Language models that are wrong. Each takes G (B,V), the head, the texts' probabilities, and a size in (0, 1).


def mixed_with_noise(rng, G, head, probability, size):
    return (1 - size) * G + size * rng.dirichlet(np.ones(G.shape[1]), size=len(G))


def biased_alike(rng, G, head, probability, size):
    return normalised(G * np.exp(5 * size * rng.normal(size=G.shape[1])))


def noisy_logits(rng, G, head, probability, size):
    return normalised(G * np.exp(3 * size * rng.normal(size=G.shape)))


def too_sure(rng, G, head, probability, size):
    return normalised(G ** (1 + 4 * size))


def hardly_wrong(rng, G, head, probability, size):
    return normalised(G * (1 + 1e-9 * size * rng.normal(size=G.shape)))


def with_zeros(rng, G, head, probability, size):
    """Tokens that have some probability lose it, in a few texts: ε = ∞."""
    kept = (rng.random(G.shape) > size / 3) | (G.max(1, keepdims=True) == G)
    return normalised(G * kept)


def flips_cheapest(rng, G, head, probability, size):
    """The adversary: texts that take the least KL to flip come first."""
    flips = cheapest_flips(G, head)
    return flipped(G, flips, np.argsort([np.inf if row is None else rel_entr(g, row).sum() for g, row in flips]), size)


def flips_likeliest(rng, G, head, probability, size):
    return flipped(G, cheapest_flips(G, head), np.argsort(-probability), size)


KINDS = (
    mixed_with_noise,
    biased_alike,
    noisy_logits,
    too_sure,
    hardly_wrong,
    with_zeros,
    flips_cheapest,
    flips_likeliest,
)


def normalised(rows):
    return rows / rows.sum(1, keepdims=True)


def flipped(G, flips, order, size):
    """Flip a share ``size`` of the texts, in that order, and one at least, of those that can be."""
    result = G.copy()
    for i in [i for i in order if flips[i][1] is not None][: max(1, round(size * len(G)))]:
        result[i] = flips[i][1]
    return result


def cheapest_flips(G, head):
    return [(g, cheapest_flip(g, head)) for g in G]


def cheapest_flip(g, head):
    """The Ĝ of least KL(g‖Ĝ) that the head gives to another class, if tokens of positive probability allow it.

    Where bᵀĜ = 0 for b = b_y − b_c it is g_v/(1 + λb_v), λ the root of Σ_v b_v g_v/(1 + λb_v); b is shifted to cross.
    """
    heads = per_class(head)
    own = best_class(heads, g)
    found = []
    for other in set(range(len(heads))) - {own}:
        b = heads[own] - heads[other]
        b = b + 1e-9 * np.abs(b).max()
        least = b[g > 0].min()
        if b @ g <= 1e-14 or least >= 0:
            continue
        score, largest = (lambda c, b=b: (b * g / (1 + c * b)).sum()), (1 - 1e-13) / -least
        if score(largest) < 0:  # else only a token that is next to impossible could do it
            root = brentq(score, 0, largest, xtol=1e-300)
            found.append(normalised((g / (1 + root * b))[None])[0])
    return min(found, key=lambda row: rel_entr(g, row).sum(), default=None)


def per_class(head):
    """(C,V); zeros and b for two classes."""
    return np.stack([np.zeros_like(head), head]) if np.ndim(head) == 1 else np.asarray(head)


def best_class(heads, row):
    return max(range(len(heads)), key=lambda c: (row @ heads[c], c))


def trial(seed):
    rng = np.random.default_rng(seed)
    n_states, vocabulary_size = int(rng.integers(2, 5)), int(rng.integers(2, 6))
    model = (
        oracle.random_model(rng, n_states, vocabulary_size)
        if seed % 3
        else random_hmm("wei2021", n_states, vocabulary_size, seed)
    )
    _, probability, G = possible_texts(model, int(rng.integers(1, 4)))
    head = random_head(rng, model)
    kind = KINDS[seed % len(KINDS)]
    size = rng.choice([1e-6, 1e-3, 0.05, 0.3, 0.9])
    return kind, G, kind(rng, G, head, probability, size), head, probability


def naive_error(G, approximate, head, probability):
    """The weighted share of texts that the head classifies otherwise, one text after another."""
    heads, wrong = per_class(head), 0.0
    for g, other, weight in zip(G, approximate, probability, strict=True):
        wrong += weight * (best_class(heads, g) != best_class(heads, other))
    return wrong / probability.sum()


def naive_bounds(G, head, probability, excess):
    """The three minima over t for two classes, each t tried by itself: the margins, and a grid that must not win."""
    scores, share = np.abs(G @ head), probability / probability.sum()
    scores[scores <= 4e-16 * np.abs(head).sum()] = 0
    half_range, norm = (head.max() - head.min()) / 2, np.abs(head).max()
    candidates = np.concatenate([scores[scores > 0], np.geomspace(1e-9, 2 * norm, 500)])
    bound = sharp = of_norm = 1.0
    for t in candidates:
        below = share[scores < t].sum()
        second = 2 * excess * half_range**2 / t**2
        bound = min(bound, below + second)
        sharp = min(sharp, (share * np.maximum(1 - (scores / t) ** 2, 0)).sum() + second)
        of_norm = min(of_norm, below + norm * np.sqrt(2 * excess) / t)
    return bound, sharp, of_norm


# The bounds hold.


@pytest.mark.parametrize("seed", sweep(N_TRIALS, quick=40))
def test_the_bounds_hold(seed):
    kind, G, approximate, head, probability = trial(seed)
    result = transfer(G, approximate, head, probability)
    assert result.error == pytest.approx(naive_error(G, approximate, head, probability), abs=ROUNDING)
    assert result.error <= result.sharp_bound + ROUNDING
    assert result.sharp_bound <= result.bound + ROUNDING
    assert result.bound <= result.norm_bound + ROUNDING
    assert result.norm_bound <= 1
    if kind is not hardly_wrong:
        share = probability / probability.sum()
        assert result.excess == pytest.approx(share @ rel_entr(G, approximate).sum(1), rel=1e-6, abs=1e-12)


def tightness():
    """For each kind of language model: trials, those with an error, those of them with a bound below 1, and averages.

    These are medians and geometric means of bound/error where there is an error, for the sharp bound, the bound and the
    norm bound.
    """
    results = {kind.__name__: [] for kind in KINDS}
    for seed in range(N_TRIALS):
        kind, G, approximate, head, probability = trial(seed)
        answer = transfer(G, approximate, head, probability)
        results[kind.__name__].append((answer.error, answer.sharp_bound, answer.bound, answer.norm_bound))
    table = {}
    for name, rows in results.items():
        wrong = np.array([row for row in rows if row[0] > 0]).reshape(-1, 4)
        ratios = wrong[:, 1:] / wrong[:, :1]
        medians = np.median(ratios, axis=0) if len(wrong) else np.full(3, np.nan)
        means = np.exp(np.log(ratios).mean(0)) if len(wrong) else np.full(3, np.nan)
        table[name] = (len(rows), len(wrong), int((wrong[:, 2] < 1).sum()), medians, means)
    return table


def test_tightness_by_kind_of_language_model():
    table = tightness()
    assert [row[0] for row in table.values()] == [N_TRIALS // len(KINDS)] * len(KINDS)
    for name in ("flips_cheapest", "flips_likeliest"):
        _, n_wrong, n_informative, medians, means = table[name]
        assert n_wrong >= 20
        assert n_informative >= 5
        assert medians[0] <= medians[1] < medians[2]
        assert means[0] < means[1] < means[2]
    assert table["flips_cheapest"][3][0] < 1.5  # within half of the error
    for name in ("mixed_with_noise", "biased_alike", "noisy_logits", "with_zeros"):
        assert table[name][1] >= 3
        # Whoever does not aim at the head is farther from the bound.
        assert table[name][3][0] > table["flips_cheapest"][3][0]


def test_the_sharp_bound_is_attained():
    """Two nearly equal tokens, where Pinsker's inequality is an equality: the cheapest 30 of 100 texts are flipped."""
    margins = 1e-4 * np.arange(1, 101)
    G = np.stack([(1 + margins) / 2, (1 - margins) / 2], axis=1)
    approximate = G.copy()
    approximate[:30] = 0.5 + 1e-9 * np.array([-1.0, 1.0])
    result = transfer(G, approximate, [1.0, -1.0])
    assert result.error == pytest.approx(0.3)
    assert result.sharp_bound == pytest.approx(0.3, rel=1e-3)
    # k texts count as lost, and the others pay: min over k of k/100 + 94.55/(k+1)², and k/100 + √94.55/(k+1).
    k = np.arange(100)
    assert result.bound == pytest.approx((k / 100 + 94.55 / (k + 1) ** 2).min(), rel=1e-3)
    assert result.norm_bound == pytest.approx((k / 100 + np.sqrt(94.55) / (k + 1)).min(), rel=1e-3)


# The minimum, ties and limits.


@pytest.mark.parametrize("seed", sweep(30, quick=10))
def test_the_minimum_over_t_is_exact(seed):
    rng = np.random.default_rng(seed)
    G = rng.dirichlet(np.ones(4), size=40)
    G[rng.random(40) < 0.3] = G[0]  # equal margins
    head, probability = rng.normal(size=4), rng.random(40) * (rng.random(40) < 0.8)
    excesses = np.array([0.0, 1e-12, 1e-6, 1e-3, 0.01, 0.1, 10.0])
    bounds = transfer_bounds(G, head, excesses, probability)
    assert bounds.half_range == (head.max() - head.min()) / 2
    for i, excess in enumerate(excesses):
        bound, sharp, norm = naive_bounds(G, head, probability, excess)
        assert float(bounds.bound[i]) == pytest.approx(bound, abs=ROUNDING)
        assert float(bounds.sharp_bound[i]) == pytest.approx(sharp, abs=ROUNDING)
        assert float(bounds.norm_bound[i]) == pytest.approx(norm, abs=ROUNDING)
        t = float(bounds.threshold[i])
        if np.isfinite(t):
            below = probability[np.abs(G @ head) < t - 1e-15].sum() / probability.sum()
            assert below + 2 * excess * bounds.half_range**2 / t**2 == pytest.approx(bound, abs=ROUNDING)


def test_the_bounds_grow_with_excess():
    rng = np.random.default_rng(0)
    bounds = transfer_bounds(rng.dirichlet(np.ones(4), size=50), rng.normal(size=4), np.geomspace(1e-9, 10, 60))
    for values in (bounds.bound, bounds.sharp_bound, bounds.norm_bound):
        assert (values.diff() >= 0).all()
        assert values[0] < 0.1
        assert values[-1] == 1


def test_infinite_excess_bounds_nothing():
    G, head = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([1.0, -0.5])
    result = transfer(G, [[1.0, 0.0], [0.9, 0.1]], head)
    assert (result.excess, result.bound, result.sharp_bound, result.norm_bound) == (np.inf, 1, 1, 1)
    assert result.threshold == np.inf
    # A text of weight zero does not count, however wrong Ĝ is there; nor does a constant head make it NaN.
    assert transfer(G, [[1.0, 0.0], [0.9, 0.1]], head, [0, 2]).excess == 0
    assert transfer(G, [[1.0, 0.0], [0.9, 0.1]], [3.0, 3.0]).bound == 1


def test_a_tie_can_be_lost_and_counts():
    """Score 0 is class 1 and any loss flips it; score 1e-17 is rounding, and counts as a tie."""
    G = np.array([[0.5, 0.5], [0.9, 0.1]])
    exact = transfer(G, G, [1.0, -1.0])
    assert (exact.error, exact.excess, exact.bound) == (0, 0, 0.5)
    flipped = transfer(G, [[0.5 - 1e-9, 0.5 + 1e-9], [0.9, 0.1]], [1.0, -1.0])
    assert flipped.error == 0.5
    assert 0.5 <= flipped.bound < 0.5 + 1e-12
    assert 0 < flipped.excess < 1e-16
    third = np.array([[1 / 3, 1 / 3, 1 / 3]])
    assert transfer(third, third, [0.1, 0.2, -0.3]).bound == 1


def test_a_head_of_zeros_and_a_constant_head():
    G = np.array([[0.5, 0.5], [0.9, 0.1]])
    assert transfer(G, G[::-1], [0.0, 0.0]).bound == 1
    constant = transfer(G, G[::-1], [2.0, 2.0])
    assert (constant.half_range, constant.bound, constant.error) == (0, 0, 0)


def test_heads_in_units_and_forms_that_mean_the_same():
    rng = np.random.default_rng(0)
    G, approximate = rng.dirichlet(np.ones(4), size=(2, 30))
    head, weights = rng.normal(size=4), rng.random(30)
    expected = transfer(G, approximate, head, weights)
    other = rng.normal(size=4)
    for same in (1e-150 * head, 1e150 * head, head[None], np.stack([other, other + head])):
        result = transfer(G, approximate, same, 7 * weights)
        assert result.error == pytest.approx(expected.error)
        for name in ("excess", "bound", "sharp_bound", "norm_bound"):
            assert getattr(result, name) == pytest.approx(getattr(expected, name), rel=1e-9)


# The loss on the model's own text.


def rare_context():
    """Half the texts start in state 0, which comes back once in forty steps: a language model hardly meets them."""
    transition = np.array([[0, 1, 0], [0, 0, 1], [0.025, 0, 0.975]])
    return HMM([0.5, 0, 0.5], transition, np.eye(3))


def test_the_own_excess_loss_bounds_nothing_until_multiplied():
    model = rare_context()
    _, of_task, G = possible_texts(model, 1)
    own_model = HMM(model.initial @ model.transition, model.transition, model.emission)  # contexts of a mask
    own = np.exp([oracle.log_evidence(own_model, text) for text in possible_texts(model, 1)[0]])
    head = np.array([1.0, -1.0, -1.0])  # is the silent state 0?
    labels = PosteriorTask([[0, 1, 1], [1, 0, 0]]).labels(posterior(model, possible_texts(model, 1)[0])).numpy()
    np.testing.assert_array_equal(G @ head >= 0, labels == 1)

    approximate = G.copy()
    approximate[labels == 1] = [0.499, 0.501, 0]  # wrong exactly where the language model is hardly scored
    own_excess = own @ rel_entr(G, approximate).sum(1)
    result = transfer(G, approximate, head, of_task)
    assert result.error == pytest.approx(0.5)
    claimed = float(transfer_bounds(G, head, own_excess, of_task).bound)
    assert claimed == pytest.approx(2 * 0.0125 * -np.log(0.499))
    assert claimed == pytest.approx(0.017, abs=5e-4)  # a thirtieth of the error

    ratio = float((model.initial / (model.initial @ model.transition)).max())
    assert ratio == pytest.approx(40)
    assert law_ratio(model) == pytest.approx(40)
    assert result.excess == pytest.approx(ratio * own_excess)  # here the ratio is attained
    assert float(transfer_bounds(G, head, ratio * own_excess, of_task).bound) >= result.error


@pytest.mark.parametrize("seed", sweep(40, quick=13))
def test_the_law_ratio_bounds_the_ratio_of_every_text(seed):
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, int(rng.integers(1, 5)), int(rng.integers(1, 4)))
    prompt = oracle.random_prompt(rng, 1, model.n_states) if seed % 2 else None
    law = law_ratio(model, prompt)
    rows = 0 if prompt is None else len(prompt)
    for text in oracle.all_texts(model.vocabulary_size, 3):
        task = np.exp(oracle.log_evidence(model, text))
        masked = np.concatenate([[MASK], text])
        before = 1.0 if not rows else np.exp(oracle.log_evidence(model, [], prompt))
        context = np.exp(oracle.log_evidence(model, masked, prompt))
        assert before == 0 or task * before <= law * context * (1 + 1e-9) or np.isinf(law)
    initial, entering = model.initial, model.initial @ model.transition
    if prompt is None and (entering > 0).all():
        assert law <= float((initial / entering).max()) * (1 + 1e-12)


# The smallest half-range.


def equation(model, task):
    """W, and Dμ for each class against class 0 (1,K) or (C,K); p1 > 0."""
    initial, entering = model.initial.numpy(), (model.initial @ model.transition).numpy()
    return model.emission.numpy(), task.contrasts.numpy() * initial / entering


def widest(head):
    heads = per_class(head)
    return max(np.ptp(one - other) for one in heads for other in heads) / 2


@pytest.mark.parametrize("seed", sweep(40, quick=13))
def test_the_smallest_half_range_on_a_line(seed):
    """K = V−1: the heads are b₀ + zn, and their range is least where two entries cross."""
    rng = np.random.default_rng(seed)
    n_states = int(rng.integers(1, 6))
    model = random_hmm("dirichlet", n_states, n_states + 1, seed)
    task = PosteriorTask(rng.normal(size=(2, n_states)))
    emission, target = equation(model, task)
    b = np.linalg.lstsq(emission, target[0], rcond=None)[0]
    n = np.linalg.svd(emission)[2][-1]
    i, j = np.triu_indices(n_states + 1, 1)
    crossings = (b[i] - b[j]) / (n[j] - n[i])
    least = min(np.ptp(b + z * n) for z in crossings) / 2

    result = smallest_half_range(model, task)
    assert result.half_range == pytest.approx(least, rel=1e-7)
    assert result.half_range == pytest.approx(widest(result.weights.numpy()), rel=1e-12)
    np.testing.assert_allclose(emission @ result.weights.numpy(), target[0], atol=1e-10 * np.abs(b).max())
    if n_states > 1:  # else H₀ is certain
        assert result.half_range <= widest(head_certificate(model, task).weights.numpy()) * (1 + 1e-9)


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_the_smallest_half_range_by_another_programme(seed):
    """With the equality left to the solver, and from the dual: max targetᵀy over ‖Wᵀy‖₁ ≤ 2, 1ᵀWᵀy = 0."""
    rng = np.random.default_rng(seed)
    n_states, vocabulary_size = int(rng.integers(1, 5)), int(rng.integers(5, 9))
    model = random_hmm("dirichlet", n_states, vocabulary_size, seed)
    task = PosteriorTask(rng.normal(size=(2, n_states)))
    emission, target = equation(model, task)
    result = smallest_half_range(model, task)
    V, K = vocabulary_size, n_states
    # min h: b = c + r, |r| ≤ h, W(c + r) = target; variables r, c, h.
    bounded = np.vstack([np.c_[np.eye(V), np.zeros(V), -np.ones(V)], np.c_[-np.eye(V), np.zeros(V), -np.ones(V)]])
    primal = linprog(
        np.r_[np.zeros(V + 1), 1], bounded, np.zeros(2 * V),
        np.c_[emission, np.ones(K), np.zeros(K)], target[0], (None, None),
    )  # fmt: skip
    # Dual: y with 1ᵀy = 0 (the middle is free) and ‖Wᵀy‖₁ ≤ 1; Wᵀy = plus − minus.
    dual = linprog(
        np.r_[-target[0], np.zeros(2 * V)], np.r_[np.zeros(K), np.ones(2 * V)][None], [1],
        np.vstack([np.c_[emission.T, -np.eye(V), np.eye(V)], np.r_[np.ones(K), np.zeros(2 * V)]]), np.zeros(V + 1),
        [(None, None)] * K + [(0, None)] * (2 * V),
    )  # fmt: skip
    assert result.half_range == pytest.approx(primal.fun, rel=1e-6, abs=1e-9)
    assert result.half_range == pytest.approx(-dual.fun, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(15))
def test_the_smallest_half_range_of_three_classes(seed):
    """The heads are chosen together: no step in the null space lowers the widest (which is convex: so none at all)."""
    rng = np.random.default_rng(seed)
    model = random_hmm("dirichlet", 3, 5, seed)
    task = PosteriorTask(rng.normal(size=(3, 3)))
    emission, target = equation(model, task)
    result = smallest_half_range(model, task)
    weights = result.weights.numpy()
    np.testing.assert_allclose(emission @ (weights - weights[:1]).T, target.T, atol=1e-9 * np.abs(weights).max())
    assert result.half_range == pytest.approx(widest(weights), rel=1e-12)
    null = np.linalg.svd(emission)[2][3:]
    for _ in range(500):
        step = rng.normal(size=(3, 2)) @ null * 10.0 ** rng.uniform(-4, 1)
        assert widest(weights + step) >= result.half_range * (1 - 1e-9)
    pairs = [(0, 1), (0, 2), (1, 2)]
    single = max(smallest_half_range(model, PosteriorTask(task.weights[list(pair)])).half_range for pair in pairs)
    assert result.half_range >= single * (1 - 1e-9)


def test_no_head_has_infinite_half_range():
    rng = np.random.default_rng(0)
    degenerate = random_hmm("degenerate", 4, 4, 0)
    unreachable = HMM([0.5, 0.5, 0], [[0, 1, 0], [0, 0, 1], [0, 1, 0]], np.eye(3))  # state 0 is never entered
    for model in (degenerate, unreachable):
        task = PosteriorTask(rng.normal(size=(2, model.n_states)))
        assert smallest_half_range(model, task) == (np.inf, None)
    # Less is asked where the task does not need that state, and nothing of the task that is zero.
    assert smallest_half_range(unreachable, PosteriorTask([[0, 0, 0], [0, 1, 0]])).half_range < np.inf
    assert smallest_half_range(degenerate, PosteriorTask(np.ones((2, 4)))).half_range == 0


def test_the_smallest_half_range_behind_a_prompt():
    rng = np.random.default_rng(0)
    model, task = random_hmm("dirichlet", 3, 5, 0), PosteriorTask(rng.normal(size=(2, 3)))
    prompt = oracle.random_prompt(rng, 2, 3)
    result = smallest_half_range(model, task, prompt)
    certificate = head_certificate(model, task, prompt)
    np.testing.assert_allclose(model.emission @ result.weights, model.emission @ certificate.weights, atol=1e-10)
    assert result.half_range < widest(certificate.weights.numpy())


def test_the_narrowest_head_classifies_right():
    rng = np.random.default_rng(1)
    model, task = random_hmm("dirichlet", 3, 5, 1), PosteriorTask(rng.normal(size=(2, 3)))
    texts, _, G = possible_texts(model, 3)
    margins = task.margins(posterior(model, texts)).numpy()
    clear = np.abs(margins) > RESIDUAL_TOLERANCE
    scores = G @ smallest_half_range(model, task).weights.numpy()
    np.testing.assert_array_equal(scores[clear] > 0, margins[clear] > 0)


# Bad input.

G2 = np.array([[0.5, 0.5], [0.9, 0.1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((G2, G2[:1], [1, 0]), r"approximate: expected shape \(2, 2\), that of conditionals, got shape \(1, 2\)"),
        ((G2, G2, [1, 0, 0]), r"head: expected finite weights \(2,\), or \(C, 2\) for C classes, got shape \(3,\)"),
        ((G2, G2, [1, np.nan]), r"head: .* got shape \(2,\) with NaN or infinity"),
        ((G2, 2 * G2, [1, 0]), "approximate row 0 is not a distribution: .* a sum of 2"),
        ((0 * G2, G2, [1, 0]), "conditionals row 0 is not a distribution: .* a sum of 0"),
        ((G2[0], G2, [1, 0]), r"conditionals: expected distributions \(B, V\), got shape \(2,\)"),
        ((np.nan * G2, G2, [1, 0]), "conditionals: .* with NaN or infinity"),
        ((G2, G2, [1, 0], [1, -1]), r"weights: expected finite numbers \(2,\) of at least 0, not all 0"),
        ((G2, G2, [1, 0], [0, 0]), "weights: .* with sum 0"),
        ((G2, G2, [1, 0], [1, 1, 1]), r"weights: .* got shape \(3,\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        transfer(*arguments)


@pytest.mark.parametrize("excess", [-1.0, np.nan, [[0.1]]])
def test_bad_excess(excess):
    with pytest.raises(InvalidInput, match=r"excess: expected numbers \(E,\) of at least 0"):
        transfer_bounds(G2, [1, 0], excess)


def test_batches_are_refused():
    models = HMM.stack([random_hmm("dirichlet", 3, 4, seed) for seed in (0, 1)])
    with pytest.raises(InvalidInput, match="a single HMM"):
        law_ratio(models)
    with pytest.raises(InvalidInput, match="a single HMM"):
        smallest_half_range(models, PosteriorTask(np.ones((2, 3))))
