"""Bad input of fit_em: what, expected, got."""

import numpy as np
import pytest
from comparisons import case, check

from ppl_hmm import HMM, MASK, InvalidInput, fit_bayes, fit_em, random_hmm, random_memory_hmm

TEXT = [[0, 1, 2, 1], [2, 1, 0, 0]]
HALVES = np.full((2, 2), 0.5)
START = HMM([0.5, 0.5], HALVES, HALVES)
SILENT = HMM([0, 0, 1], [[0.9, 0.1, 0], [0.2, 0.8, 0], [1, 0, 0]], np.full((3, 3), 1 / 3))  # as from_hmmlearn has it
LARGE = random_memory_hmm("dirichlet", 2, 2, 4, 0, n_cells=40)


def fit(tokens=TEXT, n_states=2, **options):
    return fit_em(tokens, n_states, **{"seed": 0, "restarts": 2, "max_iterations": 2, **options})


BAD = [
    case("no states", lambda: fit(n_states=0), "n_states", "at least 1", "0"),
    case("no restarts", lambda: fit(restarts=0), "restarts", "at least 1", "0"),
    case("no iterations", lambda: fit(max_iterations=0), "max_iterations", "at least 1", "0"),
    case("no batch", lambda: fit(batch_size=0), "batch_size", "at least 1", "0"),
    case("NaN weight", lambda: fit(sample_weight=[1, np.nan]), "sample_weight[1]", "finite", "nan"),
    case("negative weight", lambda: fit(sample_weight=[-1, 1]), "sample_weight[0]", "zero or more", "-1"),
    case("no weight", lambda: fit(sample_weight=[0, 0]), "sample_weight", "above zero", "zeros"),
    case("three weights", lambda: fit(sample_weight=[1, 1, 1]), "sample_weight", "(2,)", "(3,)"),
    case("one token type", lambda: fit([[1, 1, 1]]), "tokens", "two different tokens", "only token 1"),
    case("masks only", lambda: fit([[MASK, MASK]]), "tokens", "two different tokens", "masks only"),
    case("one token weighs", lambda: fit([[0, 0], [1, 1]], sample_weight=[1, 0]), "tokens", "two", "only token 0"),
    case("floats", lambda: fit([[0.5, 1.0]]), "tokens", "integers", "float"),
    case("words", lambda: fit([["a", "b"]]), "tokens", "integers", "a"),
    case("token beyond V", lambda: fit(vocabulary_size=2), "token out of range", "0..1", "2"),
    case("unknown start", lambda: fit(start="best"), "unknown start", "mixed", "best"),
    case("more states than tokens", lambda: fit(n_states=4, start="spectral"), "'spectral'", "at most 3", "4"),
    case("start of another kind", lambda: fit(start=HALVES), "start", "an HMM", "ndarray"),
    case("start of another V", lambda: fit(start=START, vocabulary_size=3), "start", "V = 3", "V = 2"),
    case("unknown fixed", lambda: fit(fixed=["start"]), "fixed", "emission", "start"),
    case("faint prior", lambda: fit(prior=0.5), "concentration of initial", "at least 1", "0.5"),
    case("NaN prior", lambda: fit(prior=np.nan), "concentration of initial", "at least 1", "nan"),
    case("unknown prior", lambda: fit(prior={"start": 2}), "names in prior", "emission", "start"),
    case("prior of another shape", lambda: fit(prior={"transition": [2, 2, 2]}), "transition", "(2, 2)", "(3,)"),
    case("unknown allowed", lambda: fit(allowed={"start": [1, 1]}), "names in allowed", "emission", "start"),
    case("allowed of another shape", lambda: fit(allowed={"initial": [1]}), "allowed initial", "(2,)", "(1,)"),
    case("NaN allowed", lambda: fit(allowed={"initial": [1, np.nan]}), "allowed initial", "zeros, and ones", "nan"),
    case("negative allowed", lambda: fit(allowed={"initial": [1, -1]}), "allowed initial", "zeros, and ones", "-1"),
    case("NaN tolerance", lambda: fit(tolerance=np.nan), "tolerance", "a number in -inf..inf", "nan"),
    case("no tolerance", lambda: fit(tolerance=None), "tolerance", "a number in -inf..inf", "None"),
    case("fixed by one name", lambda: fit(fixed="initial"), "fixed", "a list of names", "'initial'"),
    case("fixed by a number", lambda: fit(fixed=3), "fixed", "a list of names", "3"),
    case("large memory", lambda: fit(start=LARGE, vocabulary_size=4), "memory of start", "at most 16384", "2.2e+12"),
    case("none allowed", lambda: fit(allowed={"transition": [[1, 1], [0, 0]]}), "allowed transition[1]", "an", "none"),
]


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_bad_input_is_named(call, what, expected, got, error):
    check(call, what, expected, got, error)


STARTS = {
    "of hmmlearn": (random_hmm("dirichlet", 2, 3, 0).to_hmmlearn(), "convert it: HMM.from_hmmlearn(model)"),
    "in a list": ([START, START], "many models are one batch: HMM.stack(models)"),
    "with a state that was added": (SILENT, "pass start.n_states (a start state was added)"),
}


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("fitted", [fit, lambda start: fit_bayes(TEXT, 2, start=start, method="gibbs", seed=0)])
def test_starts_that_need_a_conversion(fitted, name):
    start, remedy = STARTS[name]
    with pytest.raises(InvalidInput) as refused:
        fitted(start=start)
    assert refused.value.args[3] == remedy


@pytest.mark.parametrize(("tokens", "remedy"), [([], "pass at least one text"), ([0, 1], "put a single text in a")])
def test_no_text_is_not_taken_for_a_single_one(tokens, remedy):
    with pytest.raises(InvalidInput, match=f"expected shape .B, T.*; {remedy}"):
        fit(tokens)
