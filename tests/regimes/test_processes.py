"""Known processes: their texts, their stationary start, and what is refused."""

import math

import oracle
import pytest
import torch
from comparisons import check

from ppl_hmm import HMM, MealyHMM, log_likelihood, process
from ppl_hmm.regimes.processes import PROCESSES

NAMES = sorted(set(PROCESSES) - {"product"})


def hmm_of(model):
    return model if isinstance(model, HMM) else model.hmm


def texts_of(name, length, **parameters):
    """Return the texts of a length that the process writes, as strings, with their probabilities."""
    model = hmm_of(process(name, **parameters))
    texts = oracle.all_texts(model.vocabulary_size, length)
    law = log_likelihood(model, texts).exp().tolist()
    return {"".join(map(str, text)): each for text, each in zip(texts, law, strict=True) if each > 0}


@pytest.mark.parametrize("name", NAMES)
def test_they_start_in_their_stationary_law(name):
    model = hmm_of(process(name))
    torch.testing.assert_close(model.initial @ model.transition, model.initial, rtol=1e-14, atol=0)


def test_sizes():
    found = {name: (process(name).n_states, hmm_of(process(name)).n_states) for name in NAMES}
    assert found == {
        "cyclic": (7, 7),
        "even": (2, 3),
        "golden_mean": (2, 2),
        "mess3": (3, 3),
        "rrxor": (5, 8),
        "sns": (2, 3),
        "z1r": (3, 3),
    }


def test_mess3():
    model = process("mess3", x=0.15, alpha=0.6)
    torch.testing.assert_close(model.transition.diagonal(), torch.full((3,), 0.7, dtype=torch.float64))
    torch.testing.assert_close(model.emission[0], torch.tensor([0.6, 0.2, 0.2], dtype=torch.float64))


def test_no_two_zeros_in_a_row_in_the_golden_mean_process():
    texts = texts_of("golden_mean", 5, p=0.3)
    assert set(texts) == {text for text in (f"{number:05b}" for number in range(32)) if "00" not in text}
    assert texts["11111"] == pytest.approx(0.7**5 / 1.3 + 0.3 * 0.7**4 / 1.3)


def test_ones_between_zeros_are_even_in_number_in_the_even_process():
    inside = {text.split("0", 1)[1].rsplit("0", 1)[0] for text in texts_of("even", 7) if text.count("0") > 1}
    assert inside == {each for each in inside if all(len(block) % 2 == 0 for block in each.split("0"))}
    assert {"11", "1111"} <= inside


def test_every_third_token_of_rrxor_is_the_xor_of_the_two_before():
    texts = texts_of("rrxor", 9, p=0.5, q=0.5)
    assert sum(texts.values()) == pytest.approx(1)
    for text in texts:
        assert any(
            all(int(text[i]) ^ int(text[i + 1]) == int(text[i + 2]) for i in range(phase, 7, 3)) for phase in range(3)
        )


def test_z1r_repeats_zero_one_and_a_coin():
    for text in texts_of("z1r", 6):
        assert any(all(text[i : i + 2] == "01" for i in range(phase, 5, 3)) for phase in range(3))


def test_ones_between_zeros_of_sns_come_in_the_numbers_of_its_formula():
    texts = texts_of("sns", 6)
    assert not any("00" in text for text in texts)
    blocks = [sum(law for text, law in texts.items() if text.startswith(f"0{'1' * n}0")) for n in range(1, 5)]
    assert [block / sum(law for text, law in texts.items() if text[0] == "0") for block in blocks] == pytest.approx(
        [n / 2 ** (n + 1) for n in range(1, 5)]
    )


def test_days_follow_each_other():
    assert texts_of("cyclic", 3, n_states=5, skip=0.0).keys() == {"012", "123", "234", "340", "401"}
    assert texts_of("cyclic", 2, n_states=5, skip=0.25)["02"] == pytest.approx(0.05)


@pytest.mark.parametrize("factors", [["z1r", "golden_mean"], ["even", "golden_mean"], ["z1r", "even"]])
def test_texts_of_a_product_are_pairs_of_independent_texts(factors):
    both = process("product", factors=factors)
    assert isinstance(both, MealyHMM) == ("even" in factors)
    first, second = (hmm_of(process(name)) for name in factors)
    for pair in oracle.all_texts(4, 3):
        found = log_likelihood(hmm_of(both), pair[None]).exp().item()
        parts = log_likelihood(first, pair[None] // 2).exp() * log_likelihood(second, pair[None] % 2).exp()
        assert found == pytest.approx(parts.item(), rel=1e-12, abs=1e-300)


def test_a_product_takes_models_and_names():
    own = HMM([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [[1, 0, 0], [0, 0.5, 0.5]])
    three = process("product", factors=[own, "golden_mean", process("mess3", x=0.1)])
    assert (three.n_states, three.vocabulary_size) == (12, 18)
    assert process("product", factors=[own]).identical(own)


def test_hyphens_are_underscores():
    assert process("golden-mean").identical(process("golden_mean"))


def test_what_is_refused():
    known = ", ".join(sorted(PROCESSES))
    check(lambda: process("nonsense"), "unknown process", known, "'nonsense'")
    check(lambda: process(3), "unknown process", known, "3")
    for name in ("bloch_walk", "bloch-walk", "tom_quantum"):
        check(lambda name=name: process(name), f"process {name!r}", "probabilities", "negative entries")
    check(lambda: process("mess3", p=0.5), "parameters of process 'mess3'", "only x, alpha", "p")
    check(lambda: process("mess3", x=0.6), "parameter x", "0..0.5", "0.6")
    check(lambda: process("even", p=math.nan), "parameter p", "0..1", "nan")
    check(lambda: process("even", p="half"), "parameter p", "0..1", "'half'")
    check(lambda: process("sns", p=0, q=0), "p and q of process 'sns'", "one above 0", "both 0")
    check(lambda: process("cyclic", n_states=2), "n_states of process 'cyclic'", "at least 3", "2")
    check(lambda: process("product"), "parameters of process 'product'", "factors", "none")
    check(lambda: process("product", factors="mess3"), "factors of process 'product'", "a list", "'mess3'")
    check(lambda: process("product", factors=[]), "factors of process 'product'", "a list", "[]")
    check(lambda: process("product", factors=[3]), "factor of process 'product'", "a name", "int")
    stacked = HMM.stack([process("mess3")] * 2)
    check(lambda: process("product", factors=[stacked]), "factor of process 'product'", "single", "(2,)")
