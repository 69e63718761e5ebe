"""Prefixes, mixed states and entropies: by fractions over all texts, by closed forms, and as published."""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
from comparisons import check
from sweeps import sweep

from ppl_hmm import HMM, MemoryHMM, beliefs, entropies, log_likelihood, mixed_states, posterior, prefixes, process
from ppl_hmm.exact.belief_tree import cells
from ppl_hmm.models.mealy import as_machine

LONGEST = 3


def dyadic_model(seed):
    """Return a random HMM whose entries are eighths, so that its rows sum to one exactly; zeros, K = 1, V = 1."""
    rng = np.random.default_rng(seed)
    n_states, n_tokens = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    sizes = ((n_states, None), (n_states, n_states), (n_tokens, n_states))
    return HMM(*(rng.multinomial(8, np.full(n, 1 / n), size=rows) / 8 for n, rows in sizes))


def exact_laws(model, length):
    """Return P(x, S_T) as tuples of fractions, by text, for all texts that are possible."""
    machine = as_machine(model, "test")
    matrices = [[[Fraction(each) for each in row] for row in rows] for rows in machine.matrices.tolist()]
    laws = {(): tuple(Fraction(each) for each in machine.initial.tolist())}
    for _ in range(length):
        laws = {
            (*text, x): tuple(sum(p * row[s] for p, row in zip(law, rows, strict=True)) for s in range(len(rows)))
            for text, law in laws.items()
            for x, rows in enumerate(matrices)
        }
        laws = {text: law for text, law in laws.items() if sum(law)}
    return laws


def normalised(law):
    return tuple(each / sum(law) for each in law)


def exact_entropy(law):
    """Return the entropy of fractions to forty digits."""
    with localcontext(prec=40):
        shares = (Decimal(p.numerator) / Decimal(p.denominator) for p in law if p)
        return -sum((p * p.ln() for p in shares), Decimal(0))


def assert_between(bounds, value, widest=1e-9):
    lower, upper = bounds
    assert Decimal(float(lower)) <= value <= Decimal(float(upper))
    assert upper - lower <= widest


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_fractions_agree(seed):
    model = dyadic_model(seed)
    found, machine = entropies(model, LONGEST), mixed_states(model, LONGEST)
    blocks = []
    for length in range(LONGEST + 1):
        laws = exact_laws(model, length)
        texts = prefixes(model, length)
        assert list(map(tuple, texts.tokens.tolist())) == list(laws)
        np.testing.assert_allclose(texts.probability, [float(sum(law)) for law in laws.values()], rtol=1e-14)
        expected = [[float(each) for each in normalised(law)] for law in laws.values()]
        np.testing.assert_allclose(texts.beliefs, expected, rtol=1e-13, atol=0)
        assert machine.n_beliefs.values[length] == len(set(map(normalised, laws.values())))
        blocks.append(exact_entropy([sum(law) for law in laws.values()]))
        assert_between(found.block_entropy.values[length], blocks[-1])
        if length:
            assert_between(found.myopic_entropy.values[length - 1], blocks[-1] - blocks[-2])
    seen = set().union(*({normalised(law) for law in exact_laws(model, n).values()} for n in range(LONGEST + 1)))
    assert machine.sizes["mixed_state"] == len(seen)


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_tokens_lead_from_mixed_state_to_mixed_state(seed):
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    machine = mixed_states(model, LONGEST)
    for text in itertools.product(range(model.vocabulary_size), repeat=LONGEST):
        state, law = 0, 1.0
        for token in text:
            law *= machine.next_token.values[state, token]
            state = machine.successor.values[state, token]
            if state < 0:
                break
        assert law == pytest.approx(log_likelihood(model, [text]).exp().item(), rel=1e-12, abs=1e-300)
        assert (law > 0) == (state >= 0)
        if law:
            np.testing.assert_allclose(machine.belief[state], posterior(model, [text]).smoothed[0, -1], atol=1e-9)


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_coarse_cells_leave_bounds_true(seed):
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    fine, coarse = entropies(model, 5), entropies(model, 5, tolerance=0.1)
    for name in ("block_entropy", "myopic_entropy", "mean_loss", "entropy_rate", "excess_entropy"):
        lower, upper = coarse[name].values.T
        assert (lower <= fine[name].values[..., 1]).all()
        assert (fine[name].values[..., 0] <= upper).all()
        assert (lower <= upper).all()


def binary(p):
    return -sum(q * math.log(q) for q in (p, 1 - p) if q)


CLOSED_FORMS = {
    "golden_mean": ({"p": 0.3}, binary(0.3) / 1.3),
    "even": ({"p": 0.4}, binary(0.4) / 1.6),
    "z1r": ({"p": 0.2}, binary(0.2) / 3),
    "rrxor": ({"p": 0.5, "q": 0.3}, (binary(0.5) + binary(0.3)) / 3),
    "cyclic": ({"n_states": 5, "skip": 0.2}, binary(0.2)),
    "sns": (
        {},
        sum(-f * math.log(f) for n in range(1, 200) if (f := n / 2 ** (n + 1))) / 4,
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms_of_entropy_rates(name):
    parameters, expected = CLOSED_FORMS[name]
    lower, upper = entropies(process(name, **parameters)).entropy_rate.values
    assert lower - 1e-15 <= expected <= upper + 1e-15  # the formula is rounded, too
    assert upper - lower <= 1e-6


def test_closed_forms_of_excess_entropies():
    for name, phases in (("golden_mean", None), ("z1r", 3), ("even", None)):
        lower, upper = entropies(process(name), precision=1e-9).excess_entropy.values
        expected = math.log(phases) if phases else binary(1 / 3)  # what the state tells
        expected -= entropies(process(name)).entropy_rate.values.mean() if name == "golden_mean" else 0
        assert lower - 1e-6 <= expected <= upper + 1e-6
        assert upper - lower <= 1e-5


PUBLISHED = {  # entropy rate, mean loss of predictions from 1..10 tokens
    "mess3": (0.7934576, 0.802512),
    "rrxor": (0.462098, 0.578185),
    "z1r": (0.231049, 0.294700),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    found = entropies(process(name), 10)
    rate, loss = PUBLISHED[name]
    lower, upper = found.entropy_rate.values
    assert lower - 5e-7 <= rate <= upper + 5e-7
    assert upper - lower < 1e-6
    np.testing.assert_allclose(found.mean_loss, loss, rtol=0, atol=5e-7)


def test_mess3_is_between_narrow_bounds():
    lower, upper = entropies(process("mess3"), precision=2e-7).entropy_rate.values
    assert 0.7934574 < lower < upper < 0.7934579


def test_published_numbers_of_beliefs():
    rrxor, z1r = mixed_states(process("rrxor"), 7), mixed_states(process("z1r"), 7)
    assert rrxor.n_beliefs.values.tolist() == [1, 2, 4, 8, 12, 17, 17, 17]
    assert (rrxor.sizes["mixed_state"], z1r.sizes["mixed_state"]) == (36, 7)
    assert (rrxor.attrs["complete"], z1r.attrs["complete"]) == (1, 1)
    mess3 = mixed_states(process("mess3"), 7)
    assert mess3.n_beliefs.values.tolist() == [3**n for n in range(8)]
    assert mess3.attrs["complete"] == 0
    assert (mess3.successor.values[mess3.depth.values == 7] == -1).all()


def test_a_start_that_is_not_stationary():
    model = HMM([1, 0, 0], [[0, 0.5, 0.5], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0.5, 0.5], [0, 0, 1]])
    found = entropies(model)  # a coin for ever, or nothing new: what the first tokens tell
    np.testing.assert_allclose(found.entropy_rate, math.log(2) / 2, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.excess_entropy, math.log(2), rtol=0, atol=1e-3)  # which of the two it is
    assert found.myopic_entropy.values[0] == pytest.approx(binary(0.25), abs=1e-9)


def test_entropy_rates_of_a_product_add_up():
    both = entropies(process("product", factors=["z1r", "even"]), 3).entropy_rate.values
    assert both[0] <= math.log(2) <= both[1] + 1e-12  # a third and two thirds


def test_improbable_texts_are_left_out():
    model = process("mess3")
    every, few = prefixes(model, 5), prefixes(model, 5, 0.01)
    likely = every.probability > 0.01
    assert 0 < len(few.tokens) == int(likely.sum()) < len(every.tokens)
    assert few.tokens.equal(every.tokens[likely])
    assert few.beliefs.equal(every.beliefs[likely])
    assert prefixes(process("rrxor"), 3).beliefs.shape[-1] == 5


@pytest.mark.parametrize("name", ["mess3", "rrxor", "sns"])
def test_beliefs_are_those_along_the_texts(name):
    model = process(name)
    found = prefixes(model, 5)
    along = beliefs(model if isinstance(model, HMM) else model.hmm, found.tokens)
    last = along.filtered[:, -1]
    np.testing.assert_allclose(found.beliefs, last if isinstance(model, HMM) else model.mealy_beliefs(last), atol=1e-13)
    np.testing.assert_allclose(found.log_probability, along.log_prefix[:, -1], rtol=1e-13)


def test_long_texts_do_not_underflow():
    model = process("cyclic", n_states=3, skip=0.0, noise=0.4)
    found = prefixes(HMM(model.initial, model.transition, [[1, 0, 0]] * 3), 2000)
    assert found.log_probability.tolist() == pytest.approx([0], abs=1e-12)


def test_beliefs_that_differ_by_rounding_share_a_cell():
    rng = np.random.default_rng(0)
    laws = oracle.random_rows(rng, 50, 4, zeros=0.3)
    again = laws * (1 + 1e-15 * rng.normal(size=laws.shape))
    number = cells(torch.tensor(np.concatenate([laws, again])), 1e-10)
    assert number[:50].equal(number[50:])
    assert len(set(number.tolist())) == len({tuple(row) for row in laws.tolist()})


def test_bad_arguments():
    model, memory = process("mess3"), MemoryHMM([[1]], [1], [[1]], [0], [[[1]]])
    check(lambda: prefixes(model, -1), "length", "at least 0", "-1")
    check(lambda: prefixes(model, 3, -0.1), "min_probability", "0..1", "-0.1")
    check(lambda: prefixes(model, 3, math.nan), "min_probability", "0..1", "nan")
    check(lambda: prefixes(model, 3, 0.9), "min_probability", "some text exceeds", "0.9")
    check(lambda: entropies(model, 0), "length", "at least 1", "0")
    check(lambda: entropies(model, precision=-1), "precision", "0..inf", "-1")
    for tolerance in (0, 2, math.nan, True, "fine"):
        for function in (lambda each: entropies(model, tolerance=each), lambda each: mixed_states(model, 2, each)):
            check(lambda call=function, each=tolerance: call(each), "tolerance", "1e-12..1", repr(tolerance))
    for function in (lambda m: prefixes(m, 2), lambda m: mixed_states(m, 2), entropies):
        check(lambda function=function: function(memory), "model of", "an HMM or MealyHMM", "MemoryHMM")
        check(lambda function=function: function("mess3"), "model of", "an HMM or MealyHMM", "str")
        check(lambda function=function: function(HMM.stack([model, model])), "", "single", "(2,)")


def test_what_takes_too_much_room_is_said_before_it_is_taken(monkeypatch):
    model = process("mess3")
    for name in ("prefixes.LARGEST_TREE", "mixed_states.MOST_BELIEFS", "entropies.LARGEST_WALK"):
        monkeypatch.setattr(f"ppl_hmm.inference.{name}", 1000)
    assert len(prefixes(model, 5).tokens) == 243
    check(lambda: prefixes(model, 30), "prefixes of 30 tokens", "at most 1000", "243 texts of 5 tokens")
    check(lambda: mixed_states(model, 30), "mixed states", "at most 1000", "1093 after 6 tokens")
    check(lambda: entropies(model, 30), "entropies", "at most 1000", "more after 4 tokens")
    rate = entropies(model, 2).entropy_rate.values  # as far as there is room
    assert rate[0] < 0.7934576 < rate[1] < rate[0] + 0.03
