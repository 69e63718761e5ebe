"""Arrays of every kind: dtypes, gaps, masks, ragged lists, gradients, layouts, devices, and objects that are none."""

import ast
import fractions
import itertools
import pathlib

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import ppl_hmm
from ppl_hmm import (
    HMM,
    MASK,
    AttentionHead,
    CategoricalHMM,
    InvalidInput,
    LinearHead,
    MemoryHMM,
    OracleLM,
    PosteriorTask,
    SoftPrompt,
    audit,
    constructed_head,
    example,
    fit_prompt,
    head_certificate,
    hmm_program,
    log_likelihood,
    masked_conditionals,
    masked_features,
    memory_posterior,
    memory_program,
    posterior,
    probe_features,
    random_hmm,
    random_memory_hmm,
    random_task,
    sample,
    sample_posterior,
    smoothed_segments,
    viterbi,
)
from ppl_hmm.audits.texts import texts_to_read
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.programs import enumeration

MODEL = random_hmm("dirichlet", 3, 5, 0)
TEXT = np.array([[0, 1, 2, 4], [3, 3, 1, 0]])
GAPS = np.array([[0, 1, MASK, 4], [3, MASK, MASK, 0]])
RIGHT, WITH_GAPS = log_likelihood(MODEL, TEXT), log_likelihood(MODEL, GAPS)
LONG = np.zeros((2, 300), int)

# Integers.

INTEGERS = [f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (1, 2, 4, 8)]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_integer_dtype_gives_the_numbers_of_int64(dtype):
    assert torch.equal(log_likelihood(MODEL, TEXT.astype(dtype)), RIGHT)
    expected = log_likelihood(MODEL, LONG, lengths=[100, 120])
    assert torch.equal(log_likelihood(MODEL, LONG, lengths=np.array([100, 120], dtype)), expected)
    cells = np.array([0, 1, 0], dtype)
    model = random_memory_hmm("dirichlet", 3, 2, 4, 0, n_cells=2)
    made = MemoryHMM(model.memory_prior, model.initial, model.transition, cells, model.emission)
    assert made.cell_of_state.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "convert",
    [
        lambda values: values.astype(object),
        lambda values: values.tolist(),
        lambda values: [np.int16(0) + row for row in values],
        lambda values: tuple(map(tuple, values)),
        lambda values: pd.DataFrame(values).astype("Int64"),
        lambda values: pd.DataFrame(values).astype("UInt8"),
        lambda values: pd.Series(values.tolist()),
        lambda values: torch.tensor(values, dtype=torch.uint16),
        lambda values: torch.tensor(values, dtype=torch.uint64),
        lambda values: [torch.tensor(row) for row in values],
        lambda values: np.ma.masked_array(values),
        lambda values: xr.DataArray(values).astype("uint8"),
        lambda values: np.asfortranarray(values),
        lambda values: np.repeat(values, 2, axis=1)[:, ::2],
        lambda values: values[:, ::-1].copy()[:, ::-1],
    ],
)
def test_every_container_of_integers_gives_the_same_numbers(convert):
    assert torch.equal(log_likelihood(MODEL, convert(TEXT)), RIGHT)


def test_arrays_that_are_only_read_stay_as_they_are():
    text = TEXT.copy()
    text.flags.writeable = False
    assert torch.equal(log_likelihood(MODEL, text), RIGHT)
    initial = np.array([0.25, 0.75])
    initial.flags.writeable = False
    assert HMM(initial, np.eye(2), np.eye(2)).initial.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "text",
    [
        np.array([[0, 2**64 - 1]], np.uint64),
        torch.tensor([[0, 2**64 - 1]], dtype=torch.uint64),
        [[2**64 - 1, 2**64 - 1]],
        np.array([[0, 2**64 - 1]], object),
        pd.DataFrame(np.array([[0, 2**64 - 1]], np.uint64)),
    ],
)
def test_integers_beyond_64_bits_never_become_a_mask(text):
    with pytest.raises(InvalidInput, match=r"tokens\[0, [01]\] out of range: .* got 18446744073709551615"):
        posterior(MODEL, text)
    lengths = text[0] if isinstance(text, list) else np.array([2**63], np.uint64)
    with pytest.raises(InvalidInput, match=r"lengths\[\d\] out of range"):
        posterior(MODEL, [[0, 1]], lengths=lengths)


def test_large_integers_within_64_bits_are_out_of_the_vocabulary():
    with pytest.raises(InvalidInput, match=r"token out of range at sequence 0.* got 9223372036854775807"):
        posterior(MODEL, np.array([[0, 2**63 - 1]], np.uint64))


@pytest.mark.parametrize(
    "lengths", [[True, False], np.array([True, False]), [1.0, 2.0], [1.0, np.nan], np.array([1, None]), "ab", [1, "a"]]
)
def test_lengths_that_are_no_integers(lengths):
    with pytest.raises(InvalidInput, match="lengths"):
        posterior(MODEL, TEXT, lengths=lengths)


@pytest.mark.parametrize("text", [np.array([[True]]), [[True, False]], np.array([[True, 1]], object)])
def test_booleans_are_no_tokens(text):
    with pytest.raises(InvalidInput, match=r"tokens: .*bool"):
        posterior(MODEL, text)


def test_real_numbers_of_every_kind_are_parameters():
    halves = [
        [fractions.Fraction(1, 4), fractions.Fraction(3, 4)],
        np.array([0.25, 0.75], ">f8"),
        np.array([0.25, 0.75], np.longdouble),
        np.array([0.25, 0.75], np.float16),
        pd.Series([0.25, 0.75], dtype="Float64"),
        torch.tensor([0.25, 0.75], dtype=torch.bfloat16),
    ]
    for initial in halves:
        made = HMM(initial, np.eye(2), np.eye(2))
        assert made.initial.tolist() == [0.25, 0.75]
        assert made.dtype == torch.float64
    single = HMM(*(np.array(each, ">f4") for each in ([0.25, 0.75], np.eye(2), np.eye(2))))
    assert single.dtype == torch.float32


# Gaps.


@pytest.mark.parametrize(
    "text",
    [
        np.ma.masked_array(np.where(GAPS < 0, 7, GAPS), mask=GAPS < 0),
        [np.ma.masked_array(np.where(row < 0, 0, row), mask=row < 0) for row in GAPS],
        pd.DataFrame(GAPS).astype("Int64").mask(GAPS < 0),
        np.where(GAPS < 0, None, GAPS),
        np.where(GAPS < 0, None, GAPS).tolist(),
        np.where(GAPS < 0, np.nan, GAPS.astype(object)),
        [[pd.NA if token < 0 else token for token in row] for row in GAPS.tolist()],
        pd.Series(np.where(GAPS < 0, None, GAPS).tolist()),
        [[np.ma.masked if token < 0 else token for token in row] for row in GAPS.tolist()],
    ],
)
def test_what_is_missing_is_a_mask(text):
    assert torch.equal(log_likelihood(MODEL, text), WITH_GAPS)
    assert torch.equal(log_likelihood(MODEL, [[None, None]]), log_likelihood(MODEL, [[MASK, MASK]]))


def test_floats_are_no_tokens_and_gaps_have_a_remedy():
    with pytest.raises(InvalidInput, match=r"tokens: expected integers, got torch.float64 with NaN; .*'Int64'"):
        posterior(MODEL, pd.DataFrame([[0, 1], [2, None]]))
    with pytest.raises(InvalidInput, match=r"tokens: expected integers, got torch\.float64"):
        posterior(MODEL, np.ma.masked_array([[0.0, 1.0]], mask=[[0, 1]]))


@pytest.mark.parametrize(
    "values",
    [
        np.ma.masked_array([0.5, 0.5], mask=[0, 1]),
        [0.5, None],
        pd.Series([0.5, None], dtype="Float64"),
        [0.5, np.ma.masked],
    ],
)
def test_nothing_is_missing_from_parameters_or_lengths(values):
    with pytest.raises(InvalidInput, match=r"initial.*(a missing entry|finite)"):
        HMM(values, np.eye(2), np.eye(2))
    ends = np.ma.masked_array([1, 2], mask=[0, 1])
    with pytest.raises(InvalidInput, match=r"lengths\[1\]: expected integers without gaps, got a missing entry"):
        posterior(MODEL, TEXT, lengths=ends)
    with pytest.raises(InvalidInput, match=r"rows\[0, 1\]: .* a missing entry"):
        posterior(MODEL, TEXT, prompt=np.ma.masked_array([[1.0, 1.0, 1.0]], mask=[[0, 1, 0]]))


# Rows of different lengths.

RAGGED = [[0, 1, 2, 4], [3], [], [2, 2]]
FILLED, ENDS = [[0, 1, 2, 4], [3, -1, -1, -1], [-1] * 4, [2, 2, -1, -1]], [4, 1, 0, 2]


@pytest.mark.parametrize(
    "text",
    [
        RAGGED,
        tuple(map(tuple, RAGGED)),
        [np.array(row, int) for row in RAGGED],
        [torch.tensor(row, dtype=torch.int64) for row in RAGGED],
        pd.Series(RAGGED),
        pd.Series(RAGGED).to_numpy(),
        [range(3, 4) if row == [3] else row for row in RAGGED],
    ],
)
def test_rows_of_different_lengths_end_where_they_do(text):
    assert torch.equal(log_likelihood(MODEL, text), log_likelihood(MODEL, FILLED))
    features = masked_features(OracleLM(MODEL), text)
    assert features.lengths.tolist() == ENDS
    assert features.tokens.tolist() == FILLED
    read = texts_to_read(MODEL, text, None, n_sequences=1, length=1, seed=0)
    assert read.lengths.tolist() == ENDS
    shortened = log_likelihood(MODEL, text, lengths=[2, 2, 2, 1])
    assert torch.equal(shortened, log_likelihood(MODEL, FILLED, lengths=[2, 2, 2, 1]))


@pytest.mark.parametrize(
    "text",
    [
        [["the", "film"]],
        [["the"], ["good", "film"]],
        np.array([["the", "film"]]),
        pd.DataFrame([["the", "film"]]),
        [["the", 1]],
    ],
)
def test_words_are_numbered_first(text):
    with pytest.raises(InvalidInput, match=r"tokens: .*integers, got str 'the'; .*from_text\(texts, unit='word'\)"):
        posterior(MODEL, text)


@pytest.mark.parametrize("text", [[["0", "1"]], [["1"], ["0", "1"]], np.array([["1", "-1"]])])
def test_digits_as_strings_are_converted_first(text):
    """As Python's csv reads them; a vocabulary would number their letters."""
    with pytest.raises(InvalidInput, match=r"tokens: .*got str '\d'; convert each by int\(x\)"):
        posterior(MODEL, text)


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "none": (None, "tokens: expected an array of integers, got None"),
        "nested unevenly": ([[0, [1]], [2, 1]], "a rectangular array of integers"),
        "three levels": ([[[0], [1]], [[2]]], "a rectangular array of integers"),
        "a dictionary": ({"a": [0]}, "got dict; pass a list of its values"),
        "a set": ({0, 1}, "got set; pass a list"),
        "a generator": ((row for row in [[0]]), "got generator; pass a list of it"),
        "a sentence": ("the film", "got str; pass numbers"),
        "a path": (pathlib.Path("x.nc"), "read the file first"),
        "a dataset": (xr.Dataset({"tokens": ("a", [0])}), r"dataset\['tokens'\]"),
        "a sample": (sample(MODEL, 2, 2, 0), r"sample\(...\).tokens"),
        "a model": (MODEL, "got HMM; pass the model first"),
        "a language model": (OracleLM(MODEL), "got OracleLM; pass the language model first"),
        "dates": (np.array([["2020-01-01"]], "M8[D]"), r"dtype datetime64\[D\]"),
        "sparse": (torch.eye(2, dtype=torch.int64).to_sparse(), "a dense tensor"),
        "without values": (torch.zeros(1, 2, dtype=torch.int64, device="meta"), "device meta"),
        "packed": (
            torch.nn.utils.rnn.pack_sequence([torch.tensor([1, 2]), torch.tensor([0])], enforce_sorted=False),
            "pad_packed_sequence",
        ),
        "other objects": ([[object()]], "got object"),
    }.values(),
)
def test_what_is_no_text_is_named_with_its_remedy(text, message):
    with pytest.raises(InvalidInput, match=message):
        posterior(MODEL, text)


def test_sparse_matrices_are_made_dense_first():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    for made in (scipy_sparse.csr_matrix, scipy_sparse.coo_array):
        with pytest.raises(InvalidInput, match=r"transition: .*toarray"):
            HMM([0.5, 0.5], made(np.eye(2)), np.eye(2))


# Gradients, layouts, transforms.


def test_lists_of_tensors_keep_their_gradient():
    p = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    rows = [[p, 1 - p], [0.2, 0.8]]
    (found,) = torch.autograd.grad(log_likelihood(HMM([p, 1 - p], rows, np.eye(2)), [[0]]).sum(), p)
    assert found.item() == pytest.approx((2 * 0.6 - 0.2) / (0.6**2 + 0.4 * 0.2))  # P(0) = p² + (1−p)/5
    prompt = SoftPrompt([torch.ones(2, requires_grad=True), torch.ones(2)])
    assert prompt.rows.requires_grad
    with pytest.raises(InvalidInput, match="rectangular"):
        SoftPrompt([torch.ones(2), torch.ones(3)])


def turned(array):
    return torch.tensor(np.asfortranarray(torch.as_tensor(array).numpy().T)).mT


def test_memory_layout_changes_no_bit():
    model = random_hmm("dirichlet", 7, 11, 3)
    text, rows = sample(model, 40, 30, 0).tokens, torch.rand(2, 7, dtype=torch.float64)
    layouts = [HMM(model.initial, f(model.transition), f(model.emission)) for f in (lambda each: each, turned)]
    prompts = [rows, turned(rows)]
    assert all(each.transition.is_contiguous() and each.emission.is_contiguous() for each in layouts)
    results = [posterior(each, text, prompt=prompt) for each in layouts for prompt in prompts]
    for result in results[1:]:
        assert torch.equal(result.smoothed, results[0].smoothed)
    tasks = [PosteriorTask(f(np.random.default_rng(0).normal(size=(3, 7)))) for f in (lambda each: each, turned)]
    laws = [results[0].initial, turned(results[0].initial)]
    margins = [task.margins(law) for task, law in itertools.product(tasks, laws)]
    assert all(torch.equal(each, margins[0]) for each in margins)
    heads = [constructed_head(each, PosteriorTask(np.eye(2, 7))).coef_ for each in layouts]
    np.testing.assert_array_equal(*heads)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, at the first transform
def test_transforms_of_functions_give_no_wrong_number():
    """torch.func is not supported; it raises, or gives the derivative."""
    transition = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)

    def evidence(weights):
        return log_likelihood(HMM([0.5, 0.5], weights.softmax(-1), [[0.9, 0.1], [0.3, 0.7]]), [[0, 1, 1]]).sum()

    weights = transition.log().requires_grad_()
    (expected,) = torch.autograd.grad(evidence(weights), weights)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        try:
            found = transform(evidence)(transition.log())
        except (RuntimeError, InvalidInput):
            continue
        torch.testing.assert_close(found, expected)


# Devices.


def everything():
    """Call what makes tensors: each result is on the CPU, whatever the default device."""
    model = random_hmm("dirichlet", 3, 4, 0)
    memory_model, _ = example("memory")
    x, y = sample(model, 40, 4, 0).tokens, sample(memory_model, 40, 4, 0).tokens
    yield x
    yield posterior(model, [[0, 1], [2]], prompt=[[1, 1, 0.5]]).smoothed
    yield posterior(memory_model, y, lengths=[2] * 40).memory
    yield masked_conditionals(memory_model, y)
    yield viterbi(memory_model, [[0, 1]]).states
    yield sample_posterior(model, x, 2, 0).states
    yield memory_posterior(memory_model, y)
    yield next(smoothed_segments(model, x, 2)).smoothed
    yield enumeration.posterior(model, [[0, 1]]).smoothed
    yield memory_model.flatten().emission
    yield random_task(memory_model, 0, y).weights
    for regime in ("wei2021", "degenerate"):
        yield random_hmm(regime, 4, 5, 0).emission
    yield random_hmm("ginc", 12, 6, 0, n_concepts=2, n_slots=2).emission
    for regime in ("dirichlet", "recoverable"):
        yield random_memory_hmm(regime, 4, 2, 10, 0, n_cells=2).emission
    faint = HMM([0.5, 0.5], np.eye(2), [[1e-200, 1 - 1e-200], [1 - 1e-200, 1e-200]])
    yield posterior(faint, [[0, 1] * 4]).smoothed
    with pytest.raises(InvalidInput, match="sequence 0 is impossible from position 1"):
        posterior(HMM([1, 0], np.eye(2), np.eye(2)), [[0, 1]])


def test_the_default_device_changes_nothing():
    expected = list(everything())
    with torch.device("meta"):
        found = list(everything())
    for one, other in zip(found, expected, strict=True):
        assert one.device.type == "cpu"
        assert torch.equal(one, other)


def test_the_default_device_does_not_disturb_training():
    model, text, labels = random_hmm("dirichlet", 2, 2, 0), sample(MODEL, 8, 3, 0).tokens % 2, np.arange(8) % 2
    with torch.device("meta"):
        fitted = fit_prompt(OracleLM(model), text, labels, validation=(text, labels), seed=0, restarts=1)
        head = AttentionHead(positional=True).fit(masked_features(OracleLM(model), text), labels)
    assert fitted.prompt.rows.isfinite().all()
    assert np.isfinite(head.position_bias_).all()


@pytest.mark.parametrize("name", ["aliased", "memory"])
def test_the_default_device_does_not_disturb_audits(name):
    expected = audit(*example(name), length=2, seed=0)
    with torch.device("meta"):
        xr.testing.assert_equal(audit(*example(name), length=2, seed=0), expected)


FACTORIES = {
    *("arange", "empty", "eye", "full", "linspace", "ones"),
    *("rand", "randint", "randn", "randperm", "tensor", "zeros"),
}


def test_every_tensor_is_made_on_a_device_that_is_named():
    for path in pathlib.Path(ppl_hmm.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            function = ast.unparse(call.func)
            if function.startswith("torch.") and function.removeprefix("torch.") in FACTORIES:
                named = {keyword.arg for keyword in call.keywords}
                assert named & {"device", None}, f"{path.name}, line {call.lineno}: {ast.unparse(call)}"


# Models, tasks and language models of another kind.

OTHERS = {
    "hmmlearn": (lambda: MODEL.to_hmmlearn(), r"hmmlearn's CategoricalHMM; convert it: HMM.from_hmmlearn\(model\)"),
    "pyro": (lambda: MODEL.to_discrete_hmm(), r"pyro's DiscreteHMM; convert it: HMM.from_discrete_hmm"),
    "dataset": (lambda: MODEL.to_dataset(), r"xarray's Dataset; convert it: HMM.from_dataset\(dataset\)"),
    "tree": (lambda: xr.DataTree(), r"xarray's DataTree; convert its group"),
    "oracle": (lambda: OracleLM(MODEL), "OracleLM; pass the model of the language model: lm.model"),
    "path": (lambda: "model.nc", r"str; load the file first: load\(path\)"),
    "a path": (lambda: pathlib.Path("model.nc"), r"load the file first"),
    "class": (lambda: HMM, "the class HMM; pass an instance"),
    "pair": (lambda: example("aliased"), "tuple; unpack pairs first"),
    "text": (lambda: TEXT, "numpy's ndarray; pass the model first"),
    "none": (lambda: None, "got None"),
    "distribution": (
        lambda: CategoricalHMM(torch.zeros(2), torch.zeros(2, 2), dist.Categorical(logits=torch.zeros(2, 3))),
        r"CategoricalHMM; .*\.to_hmm\(\)",
    ),
}
TASK = PosteriorTask(np.eye(2, 3))
OF_MODELS = {
    "posterior": lambda model: posterior(model, TEXT),
    "log_likelihood": lambda model: log_likelihood(model, TEXT),
    "viterbi": lambda model: viterbi(model, TEXT),
    "masked_conditionals": lambda model: masked_conditionals(model, TEXT),
    "memory_posterior": lambda model: memory_posterior(model, TEXT),
    "sample_posterior": lambda model: sample_posterior(model, TEXT, 1, 0),
    "smoothed_segments": lambda model: smoothed_segments(model, TEXT),
    "sample": lambda model: sample(model, 1, 1, 0),
    "OracleLM": OracleLM,
    "random_task": lambda model: random_task(model, 0),
    "audit": lambda model: audit(model, TASK, seed=0),
    "head_certificate": lambda model: head_certificate(model, TASK),
    "hmm_program": lambda model: hmm_program(model, TEXT),
    "memory_program": lambda model: memory_program(model, TEXT),
    "enumeration": lambda model: enumeration.posterior(model, TEXT),
}


@pytest.mark.parametrize("function", OF_MODELS)
@pytest.mark.parametrize("other", OTHERS)
def test_models_of_another_kind_have_their_conversion_named(function, other):
    made, message = OTHERS[other]
    with pytest.raises(InvalidInput, match=f"expected an?.* HMM.*{message}|expected an?.* MemoryHMM.*{message}"):
        OF_MODELS[function](made())


@pytest.mark.parametrize(
    ("lm", "message"),
    {
        "model": (MODEL, r"HMM without conditionals.*; wrap the model: OracleLM\(model\)"),
        "hmmlearn": (MODEL.to_hmmlearn(), r"OracleLM\(HMM.from_hmmlearn\(model\)\)"),
        "path": ("lm.nc", r"OracleLM\(load\(path\)\)"),
        "class": (OracleLM, "the class OracleLM without .*; pass an instance"),
        "text": (TEXT, "pass the language model first"),
        "none": (None, r"None without vocabulary_size, batch_shape, conditionals"),
    }.values(),
)
def test_language_models_of_another_kind(lm, message):
    for call in (
        lambda: probe_features(lm, TEXT),
        lambda: masked_features(lm, TEXT),
        lambda: fit_prompt(lm, TEXT, [0, 1], validation=(TEXT, [0, 1]), seed=0),
    ):
        with pytest.raises(InvalidInput, match=message):
            call()


def test_tensors_pass_without_a_copy():
    tensor = torch.arange(6).reshape(2, 3)
    assert as_tensor(tensor) is tensor


# Masked entries of labels, features, weights: what is under a mask is never read.

MASKED_ROWS = np.ma.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
CLASSES = np.ma.array([1, 1, 0, 0])
TEXTS = np.eye(4, dtype=int)
TWO_TOKENS = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.7, 0.3], [0.2, 0.8]])


def with_a_gap(values):
    masked = values.copy()
    masked[-1] = np.ma.masked
    return masked


@pytest.mark.parametrize(
    "use",
    [
        lambda: LinearHead().fit(with_a_gap(MASKED_ROWS), CLASSES),
        lambda: LinearHead().fit(list(with_a_gap(MASKED_ROWS)), CLASSES),
        lambda: LinearHead().fit(MASKED_ROWS, with_a_gap(CLASSES)),
        lambda: LinearHead().fit(MASKED_ROWS, CLASSES, sample_weight=with_a_gap(np.ma.ones(4))),
        lambda: LinearHead().fit(MASKED_ROWS, CLASSES).predict(with_a_gap(MASKED_ROWS)),
        lambda: LinearHead().fit(MASKED_ROWS, CLASSES).score(MASKED_ROWS, with_a_gap(CLASSES)),
        lambda: LinearHead.from_weights(with_a_gap(np.ma.array([1.0, -1.0]))),
        lambda: AttentionHead.from_weights(with_a_gap(np.ma.ones((3, 2))), np.ones((1, 3, 2))),
        lambda: AttentionHead().fit(masked_features(OracleLM(TWO_TOKENS), TEXTS), with_a_gap(CLASSES)),
        lambda: fit_prompt(OracleLM(TWO_TOKENS), TEXTS, with_a_gap(CLASSES), validation=(TEXTS, CLASSES), seed=0),
        lambda: fit_prompt(OracleLM(TWO_TOKENS), TEXTS, CLASSES, validation=(TEXTS, with_a_gap(CLASSES)), seed=0),
    ],
)
def test_masked_entries_are_refused(use):
    with pytest.raises(InvalidInput, match=r"\[.*\]: expected a value, got a masked entry"):
        use()


def test_a_mask_that_hides_nothing_is_none():
    head = LinearHead().fit(np.ma.array(MASKED_ROWS, mask=False), CLASSES)
    np.testing.assert_array_equal(head.coef_, LinearHead().fit(MASKED_ROWS.data, CLASSES.data).coef_)
    assert head.score(MASKED_ROWS, CLASSES) == 1
