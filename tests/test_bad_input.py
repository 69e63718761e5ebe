"""Bad input: the message says what, what was expected, what was got, and the remedy."""

import re

import numpy as np
import pytest
import torch
from comparisons import case, check

from ppl_hmm.base.randomness import generator
from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.inference.queries import log_likelihood, masked_conditionals, posterior, sample_posterior, viterbi
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.models import HMM, MemoryHMM, SoftPrompt
from ppl_hmm.regimes import random_hmm, random_task
from ppl_hmm.tasks import PosteriorTask

HALVES = [[0.5, 0.5], [0.5, 0.5]]
MODEL = HMM([0.5, 0.5], HALVES, [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
COLUMNS = [[0.7, 0.2], [0.3, 0.8]]  # each is a law
# Token 2 is never emitted; state 0 emits token 0 only and state 1 token 1 only; state 1 is never left.
STRICT = HMM([1, 0], [[0.5, 0.5], [0, 1]], [[1, 0, 0], [0, 1, 0]])
TEXT = [[0, 1, 2], [2, 1, 0]]
DATASET = MODEL.to_dataset()


PARAMETERS = [
    case(
        "initial sums to 0.9",
        lambda: HMM([0.5, 0.4], HALVES, HALVES),
        "initial is not a distribution",
        "sum to 1",
        "0.9",
    ),
    case(
        "transition row sums to 0.75",
        lambda: HMM([0.5, 0.5], [[0.5, 0.5], [0.5, 0.25]], HALVES),
        "transition row 1 is not a distribution",
        "sum to 1",
        "0.75",
    ),
    case(
        "emission row sums to 2",
        lambda: HMM([0.5, 0.5], HALVES, [[1, 1], [0.5, 0.5]]),
        "emission row 0 is not a distribution",
        "sum to 1",
        "2",
    ),
    case(
        "row of a batch",
        lambda: HMM([[0.5, 0.5]] * 2, [HALVES] * 2, [HALVES, [[0.5, 0.5], [0.5, 0.6]]]),
        "emission row [1, 1] is not a distribution",
        "sum to 1",
        "1.1",
    ),
    case(
        "row just off one",
        lambda: HMM([0.5, 0.5 + 2e-6], HALVES, HALVES),
        "initial is not a distribution",
        "sum to 1",
        "1.000002",
    ),
    case(
        "negative",
        lambda: HMM([0.5, 0.5], [[1.5, -0.5], [0.5, 0.5]], HALVES),
        "transition[0, 1]",
        "non-negative",
        "-0.5",
    ),
    case("NaN", lambda: HMM([0.5, 0.5], HALVES, [[0.5, 0.5], [np.nan, 0.5]]), "emission[1, 0]", "finite", "nan"),
    case("infinite", lambda: HMM([np.inf, 0.5], HALVES, HALVES), "initial[0]", "finite", "inf"),
    case(
        "transition of rank 1",
        lambda: HMM([0.5, 0.5], [0.5, 0.5], HALVES),
        "transition",
        "at least 2 dimensions",
        "shape (2,)",
    ),
    case("initial of rank 0", lambda: HMM(1.0, [[1]], [[1]]), "initial", "at least 1 dimension", "shape ()"),
    case(
        "batched only in part",
        lambda: HMM([[0.5, 0.5]], HALVES, HALVES),
        "dimensions of HMM",
        "initial (…, state)",
        "initial (1, 2)",
    ),
    case(
        "three states against two",
        lambda: HMM([0.5, 0.5, 0], HALVES, HALVES),
        "sizes of HMM",
        "transition (K, K)",
        "initial (3,)",
    ),
    case(
        "emission of another K",
        lambda: HMM([0.5, 0.5], HALVES, [[1.0]]),
        "sizes of HMM",
        "emission (K, V)",
        "emission (1, 1)",
    ),
    case(
        "transition not square",
        lambda: HMM([0.5, 0.5], [[0.5, 0.5, 0]] * 2, HALVES),
        "sizes of HMM",
        "(K, K)",
        "transition (2, 3)",
    ),
    case("no states", lambda: HMM(np.ones(0), np.ones((0, 0)), np.ones((0, 3))), "initial", "non-empty", "shape (0,)"),
    case("ragged parameters", lambda: HMM([0.5, 0.5], [[0.5, 0.5], [1]], HALVES), "transition", "", ""),
    case("parameters of text", lambda: HMM(["a", "b"], HALVES, HALVES), "initial", "", ""),
    case("complex parameters", lambda: HMM([0.5, 0.5 + 0j], HALVES, HALVES), "initial", "", ""),
    case("stack of none", lambda: HMM.stack([]), "HMM.stack", "at least one", "none"),
    case(
        "stack of unequal sizes",
        lambda: HMM.stack([MODEL, random_hmm("dirichlet", 3, 3, 0)]),
        "HMM.stack",
        "initial of one shape",
        "(3,)",
    ),
    case("index of a single model", lambda: MODEL[0], "indexing a single HMM", "batch dimensions", "none"),
    case(
        "missing variable",
        lambda: HMM.from_dataset(DATASET.drop_vars("emission")),
        "variable 'emission'",
        "initial, transition, emission",
        "variables initial, transition",
    ),
    case(
        "missing dimension",
        lambda: HMM.from_dataset(DATASET.rename(token="word")),
        "dimension 'token' of variable 'emission'",
        "('state', 'token')",
        "('state', 'word')",
    ),
    case("hmmlearn of a batch", lambda: HMM.stack([MODEL, MODEL]).to_hmmlearn(), "to_hmmlearn", "single HMM", "(2,)"),
    case("empty prompt", lambda: SoftPrompt(np.ones((0, 2))), "prompt", "at least one prompt token", "(0, 2)"),
    case("NaN in a prompt", lambda: SoftPrompt([[np.nan, 1.0]]), "rows[0, 0]", "finite", "nan"),
]


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: HMM([0.5, 0.5], COLUMNS, HALVES), "transition row 0"),
        (lambda: HMM([[0.5, 0.5]] * 2, [HALVES, COLUMNS], [HALVES] * 2), "transition row [1, 0]"),
        (lambda: HMM([0.5, 0.5], HALVES, COLUMNS), "emission row 0"),
        (lambda: HMM([0.5, 0.5], HALVES, MODEL.emission.T), "sizes of HMM"),
        (lambda: MemoryHMM([HALVES[0]], HALVES[0], COLUMNS, [0, 0], [HALVES] * 2), "transition row 0"),
        (lambda: MemoryHMM([HALVES[0]], HALVES[0], HALVES, [0, 0], [MODEL.emission.T] * 2), "sizes of MemoryHMM"),
        (lambda: HMM.from_mealy(np.array([COLUMNS, COLUMNS]) / 2), "matrices of state 0"),
    ],
)
def test_laws_in_columns_are_to_be_transposed(call, what):
    with pytest.raises(InvalidInput) as refused:
        call()
    assert what in refused.value.args[0]
    assert "transpose" in refused.value.args[3]


def test_rows_are_divided_where_transposing_would_not_help():
    with pytest.raises(InvalidInput, match="divide the row by its sum"):
        HMM([0.5, 0.5], [[0.7, 0.2], [0.3, 0.9]], HALVES)


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), PARAMETERS)
def test_bad_parameters(call, what, expected, got, error):
    check(call, what, expected, got, error)


FUNCTIONS = [
    pytest.param(posterior, id="posterior"),
    pytest.param(masked_conditionals, id="masked_conditionals"),
    pytest.param(log_likelihood, id="log_likelihood"),
    pytest.param(viterbi, id="viterbi"),
    pytest.param(
        lambda model, tokens, **options: sample_posterior(model, tokens, 5, 0, **options), id="sample_posterior"
    ),
    pytest.param(lambda model, tokens, **options: OracleLM(model).conditionals(tokens, **options), id="OracleLM"),
    pytest.param(
        lambda model, tokens, **options: probe_features(OracleLM(model), tokens, **options), id="probe_features"
    ),
]

# Every function that takes text gives the same messages about it.
TEXTS = [
    case("token too large", ([[0, 1], [2, 3]], {}), "sequence 1, position 1", "0..2", "3"),
    case("token below MASK", ([[0, -2], [2, 1]], {}), "sequence 0, position 1", "-1 (MASK)", "-2"),
    case("float tokens", ([[0.0, 1.0]], {}), "tokens", "integers", "float64"),
    case("boolean tokens", ([[True, False]], {}), "tokens", "integers", "bool"),
    case("tokens of rank 1", ([0, 1, 2], {}), "tokens", "shape (B, T)", "shape (3,)"),
    case("tokens of rank 3", (np.zeros((2, 2, 2), int), {}), "tokens", "shape (B, T)", "shape (2, 2, 2)"),
    case("no sequences", (np.zeros((0, 3), int), {}), "tokens", "at least one sequence", "shape (0, 3)"),
    case("no positions", (np.zeros((3, 0), int), {}), "tokens", "at least one position", "shape (3, 0)"),
    case("unevenly nested tokens", ([[0, [1, 2]], [2, 1]], {}), "tokens", "rectangular", "inhomogeneous"),
    case("words for tokens", ([["a", "b"]], {}), "tokens", "integers", "str"),
    case("length beyond T", (TEXT, {"lengths": [3, 4]}), "length of sequence 1", "0..3", "4"),
    case("negative length", (TEXT, {"lengths": [-1, 2]}), "length of sequence 0", "0..3", "-1"),
    case("float lengths", (TEXT, {"lengths": [1.0, 2.0]}), "lengths", "integers", "float64"),
    case("wrong number of lengths", (TEXT, {"lengths": [1, 2, 3]}), "lengths", "(2,)", "(3,)"),
    case("text that is one array, with lengths", ([0, 1, 2], {"lengths": [1, 2]}), "tokens", "shape (B, T)", "(3,)"),
    case("one length for all", (TEXT, {"lengths": 2}), "lengths", "(2,)", "()"),
    case("prompt of another K", (TEXT, {"prompt": [[1.0, 1.0, 1.0]]}), "prompt", "('L', 2)", "(1, 3)"),
    case("prompt of rank 1", (TEXT, {"prompt": [1.0, 1.0]}), "rows", "at least 2 dimensions", "(2,)"),
    case("prompt of rank 3", (TEXT, {"prompt": np.ones((2, 1, 2))}), "prompt", "('L', 2)", "(2, 1, 2)"),
    case(
        "negative prompt",
        (TEXT, {"prompt": [[1.0, 1.0], [1.0, -0.5]]}),
        "prompt row entry [1, 1]",
        "non-negative",
        "-0.5",
    ),
    case("NaN prompt", (TEXT, {"prompt": [[1.0, np.nan]]}), "[0, 1]", "finite", "nan"),
    case("empty prompt", (TEXT, {"prompt": np.ones((0, 2))}), "prompt", "at least one", "(0, 2)"),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("arguments", "what", "expected", "got", "error"), TEXTS)
def test_bad_text(function, arguments, what, expected, got, error):
    tokens, options = arguments
    check(lambda: function(MODEL, tokens, **options), what, expected, got, error)


def test_text_of_another_batch_of_models():
    batch = HMM.stack([MODEL, MODEL])
    check(lambda: posterior(batch, np.zeros((3, 4, 5), int)), "tokens", "(2, 'B', 'T')", "shape (3, 4, 5)")
    check(lambda: posterior(batch, [[0, 1, 3]]), "sequence 0, position 2", "0..2", "3")


IMPOSSIBLE = [
    case(
        "by an emission",
        ([[0, 0, 0], [0, 2, 0]], {}),
        "sequence 1 is impossible from position 1",
        "positive",
        "probability 0",
    ),
    case(
        "by a transition", ([[0, 1, 1, 0]], {}), "sequence 0 is impossible from position 3", "positive", "probability 0"
    ),
    case("at once", ([[2, 0]], {}), "sequence 0 is impossible from position 0", "positive", "probability 0"),
    case("with masks", ([[1, -1, -1, 0]], {}), "sequence 0 is impossible from position 3", "positive", "probability 0"),
    case(
        "after a prompt",
        ([[1, 1], [1, 0]], {"prompt": [[1.0, 1.0], [2.0, 1.0]]}),
        "sequence 1 is impossible from position 1",
        "positive",
        "probability 0",
    ),
    case(
        "by a prompt",
        ([[1, 1], [0, 0]], {"prompt": [[0.0, 1.0]]}),
        "sequence 1 is impossible from position 0",
        "positive",
        "probability 0",
    ),
    case(
        "inside a prompt",
        ([[1, 1]], {"prompt": [[0.0, 1.0], [1.0, 0.0]]}),
        "sequence 0 is impossible from prompt token 1",
        "positive",
        "probability 0",
    ),
    case(
        "within its length",
        ([[0, 2, 2], [0, 2, 2]], {"lengths": [1, 2]}),
        "sequence 1 is impossible from position 1",
        "positive",
        "probability 0",
    ),
]


@pytest.mark.parametrize("function", [posterior, viterbi, FUNCTIONS[4].values[0]])
@pytest.mark.parametrize(("arguments", "what", "expected", "got", "error"), IMPOSSIBLE)
def test_impossible_text(function, arguments, what, expected, got, error):
    tokens, options = arguments
    check(lambda: function(STRICT, tokens, **options), what, expected, got, ImpossibleText)


def test_impossible_text_under_one_model_of_a_batch():
    batch = HMM.stack([HMM([1, 0], HALVES, [[0.5, 0.25, 0.25]] * 2), STRICT])
    check(
        lambda: posterior(batch, [[0, 0], [0, 2]]),
        "sequence 1 under model 1 is impossible from position 1",
        "positive",
        "probability 0",
        ImpossibleText,
    )


def test_impossible_text_is_invalid_input_and_a_value_error():
    assert issubclass(ImpossibleText, InvalidInput)
    assert issubclass(InvalidInput, ValueError)


def test_impossible_contexts_of_masked_conditionals():
    # The context of position 1 is 1, ∅, 0: state 1 is never left. That of position 0 is possible.
    text = [[0, 0, 0], [1, 0, 0]]
    for positions in (None, [0, 1], [-2]):
        check(
            lambda positions=positions: masked_conditionals(STRICT, text, positions=positions),
            "context of position 1 in sequence 1",
            "positive",
            "probability 0",
            ImpossibleText,
        )
    check(
        lambda: masked_conditionals(STRICT, [[1, 0]], positions=[1], prompt=[[1.0, 0.0], [0.0, 0.0]]),
        "context of position 1 in sequence 0",
        "positive",
        "probability 0",
        ImpossibleText,
    )
    assert masked_conditionals(STRICT, text, positions=[0]).isfinite().all()


def test_an_own_token_that_is_impossible_does_no_harm():
    assert masked_conditionals(STRICT, [[0, 2]], positions=[1])[0, 0].tolist() == [0.5, 0.5, 0.0]
    assert not posterior(STRICT, [[0, 2]], impossible="mask").possible[0]


def test_impossible_contexts_of_probe_features():
    lm = OracleLM(STRICT)
    check(
        lambda: probe_features(lm, [[0, 1], [1, 0]]),
        "context of sequence 1",
        "positive probability",
        "probability 0",
        ImpossibleText,
    )
    check(
        lambda: probe_features(lm, [[1, 1], [0, 0]], prompt=[[0.0, 1.0]]),
        "context of sequence 1",
        "positive probability",
        "probability 0",
        ImpossibleText,
    )
    features = probe_features(lm, [[0, 1], [1, 0]], impossible="mask")
    assert features.sum(-1).tolist() == [1, 0]


@pytest.mark.parametrize("value", ["ignore", "Raise", "", None, True])
def test_unknown_choice_of_impossible(value):
    for call in (
        lambda: posterior(MODEL, TEXT, impossible=value),
        lambda: masked_conditionals(MODEL, TEXT, impossible=value),
        lambda: viterbi(MODEL, TEXT, impossible=value),
        lambda: probe_features(OracleLM(MODEL), TEXT, impossible=value),
    ):
        check(call, "'impossible'", "one of mask, raise", repr(value))


@pytest.mark.parametrize("function", [FUNCTIONS[1], FUNCTIONS[5]])
@pytest.mark.parametrize(
    ("positions", "expected", "got"),
    [
        ([3], "-3..2", "3"),
        ([0, -4], "-3..2", "-4"),
        ([], "at least one position", "none"),
        ([1.5], "", "1.5"),
    ],
)
def test_bad_positions(function, positions, expected, got):
    check(lambda: function(MODEL, TEXT, positions=positions), "positions", expected, got)


@pytest.mark.parametrize("seed", [-1, 1.0, "0", None, True])
def test_bad_seed(seed):
    for call in (
        lambda: generator(seed, "test"),
        lambda: sample(MODEL, 1, 1, seed),
        lambda: sample_posterior(MODEL, TEXT, 1, seed),
        lambda: random_hmm("dirichlet", 2, 2, seed),
        lambda: random_task(MODEL, seed),
    ):
        check(call, "seed", "non-negative integer", repr(seed))


SIZES = [
    ("n_states", lambda value: random_hmm("dirichlet", value, 3, 0)),
    ("vocabulary_size", lambda value: random_hmm("wei2021", 3, value, 0)),
    ("n_sequences", lambda value: sample(MODEL, value, 3, 0)),
    ("length", lambda value: sample(MODEL, 3, value, 0)),
    ("n_draws", lambda value: sample_posterior(MODEL, TEXT, value, 0)),
]


@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, True, None, np.nan, "3"])
@pytest.mark.parametrize(("name", "call"), [pytest.param(*size, id=size[0]) for size in SIZES])
def test_bad_sizes(name, call, value):
    check(lambda: call(value), name, "integer of at least 1", repr(value))


@pytest.mark.parametrize(("name", "call"), [pytest.param(*size, id=size[0]) for size in SIZES])
def test_numpy_integers_are_sizes(name, call):
    call(np.int64(2))


@pytest.mark.parametrize("regime", ["wei", "WEI2021", "", None])
def test_unknown_regime_is_answered_with_the_list(regime):
    check(lambda: random_hmm(regime, 2, 2, 0), "unknown regime", "degenerate, dirichlet, ginc, wei2021", repr(regime))


@pytest.mark.parametrize(
    ("regime", "options", "what", "expected", "got"),
    [
        ("wei2021", {"concentration": 1.0}, "options of regime 'wei2021'", "temperature", "concentration"),
        ("dirichlet", {"rank": 2, "alpha": 1.0}, "options of regime 'dirichlet'", "concentration", "alpha, rank"),
        ("dirichlet", {"concentration": 0.0}, "concentration", "positive", "0.0"),
        ("dirichlet", {"concentration": float("nan")}, "concentration", "positive", "nan"),
        ("dirichlet", {"concentration": float("inf")}, "concentration", "positive", "inf"),
        ("degenerate", {"rank": 0}, "rank", "1..", "0"),
        ("degenerate", {"rank": 4}, "rank", "1..2", "4"),
        ("degenerate", {"rank": 3}, "rank", "1..2", "3"),
        ("degenerate", {"rank": 1.5}, "rank", "", "1.5"),
    ],
)
def test_bad_options_of_a_regime(regime, options, what, expected, got):
    check(lambda: random_hmm(regime, 3, 3, 0, **options), what, expected, got)


def test_bad_lengths_of_a_sample():
    check(lambda: sample(MODEL, 2, 3, 0, lengths=[1, 4]), "length of sequence 1", "0..3", "4")


def test_bad_tasks():
    check(lambda: PosteriorTask([[1.0, 2.0]]), "weights of a task", "at least two classes", "(1, 2)")
    check(lambda: PosteriorTask([1.0, 2.0]), "weights", "at least 2 dimensions", "(2,)")
    check(lambda: PosteriorTask([[np.nan, 0.0], [0.0, 1.0]]), "weights[0, 0]", "finite", "nan")
    check(lambda: PosteriorTask(np.ones((2, 0))), "weights of a task", "(C, K)", "(2, 0)")
    check(lambda: random_task(HMM.stack([MODEL, MODEL]), 0), "random_task", "single HMM", "(2,)")


def test_posteriors_of_another_shape():
    task = PosteriorTask([[1.0, 0.0], [0.0, 1.0]])
    for call in (task.labels, task.margins, task.decidable):
        check(lambda call=call: call([0.5, 0.5]), "posterior of a task", "(…, B, 2)", "shape (2,)")
        check(lambda call=call: call(np.ones((3, 4))), "posterior of a task", "(…, B, 2)", "shape (3, 4)")
    result = posterior(random_hmm("dirichlet", 3, 3, 0), TEXT)
    check(lambda: task.labels(result), "posterior of a task", "(…, B, 2)", "shape (2, 3)")


def test_messages_of_float32_models_name_the_row_too():
    rows = torch.tensor([[0.5, 0.5], [0.5, 0.501]], dtype=torch.float32)
    initial = torch.tensor([0.5, 0.5], dtype=torch.float32)
    check(lambda: HMM(initial, rows, rows), "transition row 1", "sum to 1", "1.001")


def test_the_first_of_several_mistakes_is_named():
    with pytest.raises(InvalidInput, match=re.escape("sequence 0, position 1")):
        posterior(MODEL, [[0, 7], [8, 9]])
