"""Checks of a fitted model: right models pass as often as they should, wrong ones fail where they are wrong."""

import numpy as np
import pytest
import torch
from comparisons import case, check

from ppl_hmm import HMM, Vocabulary, check_fit, example, random_hmm, sample
from ppl_hmm.exact import token_statistics

MODEL = random_hmm("dirichlet", 3, 5, seed=0, concentration=0.3)
TEXTS = sample(MODEL, 40, 50, seed=1).tokens
NAMES = ("token_frequency", "bigram_frequency", "run_length_frequency", "mutual_information")


def test_statistics_are_those_of_the_text():
    tree = check_fit(MODEL, TEXTS, seed=0, n_replicates=3, lags=(1, 4, 50))
    found = tree["observed_data"]
    assert dict(found.sizes) == {"token": 5, "frequent_token": 5, "frequent_token_next": 5, "run_length": 10, "lag": 2}
    counts = np.bincount(TEXTS.flatten(), minlength=5)
    assert found["token_frequency"].values == pytest.approx(counts / counts.sum())
    assert found["frequent_token"].values.tolist() == np.argsort(-counts, kind="stable").tolist()
    pairs = token_statistics.pair_frequencies(TEXTS[None], 5)[0].numpy()
    order = found["frequent_token"].values
    assert found["bigram_frequency"].values == pytest.approx(pairs[np.ix_(order, order)])
    assert found["mutual_information"].attrs["units"] == "nats"
    assert tree["posterior_predictive/mutual_information"].dims == ("chain", "draw", "lag")
    assert tree["checks/p_value"].coords["check"].values.tolist() == list(NAMES)


def test_p_values_of_the_true_model_are_uniform():
    values = [
        check_fit(MODEL, sample(MODEL, 10, 20, seed).tokens, seed=99 + seed, n_replicates=9, lags=(1,))[
            "checks/p_value"
        ]
        for seed in range(30)
    ]
    shares = (np.array(values) <= 0.5).mean(0)
    assert shares == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(30))


def test_each_check_finds_what_it_looks_for():
    n_tokens = 4
    uniform = HMM([1.0], [[1.0]], [[1 / n_tokens] * n_tokens])
    skewed = HMM([1.0], [[1.0]], [[0.4, 0.3, 0.2, 0.1]])
    cyclic = HMM(np.eye(4)[0], np.roll(np.eye(4), 1, axis=1) * 0.8 + 0.05, np.eye(4))  # uniform, never in runs
    wrong = check_fit(skewed, sample(uniform, 40, 40, seed=0).tokens, seed=0)["checks/p_value"]
    assert wrong.sel(check="token_frequency") == pytest.approx(1 / 51)
    wrong = check_fit(uniform, sample(cyclic, 40, 40, seed=0).tokens, seed=0)["checks/p_value"]
    for name in NAMES[1:]:
        assert wrong.sel(check=name) == pytest.approx(1 / 51)


def test_masks_names_memories_and_draws():
    tokens = TEXTS.clone()
    tokens[3, 10:] = -1
    tokens[5, 4] = -1
    named = MODEL.assign_names(token=Vocabulary(("a", "b", "c", "d")).tokens)
    tree = check_fit(named, tokens, seed=0, n_replicates=4)
    assert tree["observed_data/token_frequency"].coords["token"].values.tolist() == list(named.names["token"])
    ragged = check_fit(named, [row[row != -1].tolist() if b != 5 else row for b, row in enumerate(tokens)], seed=0)
    assert torch.equal(
        torch.tensor(ragged["observed_data/mutual_information"].values),
        torch.tensor(tree["observed_data/mutual_information"].values),
    )
    draws = HMM.stack([MODEL, MODEL, MODEL])
    assert check_fit(draws, TEXTS, seed=0)["posterior_predictive"].sizes["draw"] == 3
    remembering, _ = example("memory")
    assert check_fit(remembering, [[0, 1, 2, 0]], seed=0, n_replicates=2)["checks"].sizes["check"] == 4


def test_many_tokens_are_shown_as_others():
    wide = random_hmm("dirichlet", 2, 50, seed=0).assign_names(token=[f"w{number}" for number in range(50)])
    tree = check_fit(wide, sample(wide, 20, 30, seed=0).tokens, seed=0, n_replicates=2)
    assert tree["observed_data"].sizes["frequent_token"] == 31
    assert tree["observed_data/frequent_token"].values[-1] == "<others>"
    assert tree["observed_data/bigram_frequency"].sum() == pytest.approx(1)


BAD = [
    case("one position", lambda: check_fit(MODEL, [[0], [1]], seed=0), "text to check", "two positions", "one"),
    case("token", lambda: check_fit(MODEL, [[0, 9]], seed=0), "position 1", "0..4", "9"),
    case("lag", lambda: check_fit(MODEL, TEXTS, lags=[0], seed=0), "lag", "at least 1", "0"),
    case("replicates", lambda: check_fit(MODEL, TEXTS, n_replicates=0, seed=0), "n_replicates", "at least 1", "0"),
    case("model", lambda: check_fit(TEXTS, MODEL, seed=0), "model to check", "an HMM", "Tensor"),
    case(
        "batch", lambda: check_fit(HMM.stack([HMM.stack([MODEL])]), TEXTS, seed=0), "models to check", "(P,)", "(1, 1)"
    ),
]


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_bad_input(call, what, expected, got, error):
    check(call, what, expected, got, error)
