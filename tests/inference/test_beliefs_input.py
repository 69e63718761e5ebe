"""Bad input to beliefs is an error that says what, where and how to mend it."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from comparisons import assert_equal

from ppl_hmm import HMM, CausalOracleLM, beliefs
from ppl_hmm.errors import ImpossibleText, InvalidInput

MODEL = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3, 0], [0.1, 0.4, 0.5]])
# State 1 is never reached, and with it token 2.
STRICT = HMM([1, 0], [[1, 0], [0.5, 0.5]], [[0.5, 0.5, 0], [0.25, 0.25, 0.5]])
TEXT = [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((TEXT, MODEL), {}, "model: expected an HMM or MemoryHMM, got list; pass the model first"),
        ((CausalOracleLM(MODEL), TEXT), {}, "pass the model of the language model: lm.model"),
        ((MODEL, [[0.5]]), {}, "tokens: expected integers"),
        ((MODEL, [[3]]), {}, "token out of range at sequence 0, position 0"),
        ((MODEL, []), {}, r"tokens: expected shape \(B, T\)"),
        ((MODEL, np.zeros((0, 2), int)), {}, "tokens: expected at least one sequence"),
        ((MODEL, TEXT), {"lengths": [3, 0]}, "length of sequence 0"),
        ((MODEL, [[], []]), {"lengths": [1, 0]}, r"length of sequence 0: expected 0\.\.0"),
        ((MODEL, TEXT), {"prompt": [[1, 2, 3]]}, r"prompt: expected shape \('L', 2\)"),
        ((MODEL, TEXT), {"suffix": 0}, r"suffix: .* got a single number; pass e.g. suffix=\[0\]"),
        ((MODEL, TEXT), {"suffix": []}, "suffix: expected at least one token"),
        ((MODEL, TEXT), {"suffix": np.ones((0, 2))}, "suffix: expected at least one token"),
        ((MODEL, TEXT), {"suffix": [0, -2]}, "token 1 of suffix"),
        ((MODEL, TEXT), {"suffix": [True]}, "suffix: expected integers"),
        ((MODEL, TEXT), {"suffix": [1j]}, "suffix: expected integers"),
        ((MODEL, TEXT), {"suffix": [[0, 1]]}, r"suffix: expected integers \(S,\), one template for all texts"),
        ((MODEL, TEXT), {"suffix": [[1.0, -1.0]]}, "suffix row entry .* non-negative"),
        ((MODEL, TEXT), {"suffix": [[1.0, np.nan]]}, "finite"),
        ((MODEL, TEXT), {"suffix": np.ones((1, 2, 2))}, r"suffix: expected shape \('L', 2\)"),
        ((MODEL, TEXT), {"suffix": {0: 1}}, "suffix: expected an array of numbers, got dict"),
        ((MODEL, TEXT), {"impossible": "drop"}, "unknown value of 'impossible'"),
    ],
)
def test_bad_input_is_explained(arguments, options, message):
    with pytest.raises(InvalidInput, match=message):
        beliefs(*arguments, **options)


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([[0], [2]], {}, "sequence 1 is impossible from position 0 on"),
        ([[0, 2, 0]], {"suffix": [0]}, "sequence 0 is impossible from position 1 on"),
        ([[0]], {"prompt": [[0.0, 1.0]]}, "sequence 0 is impossible from prompt token 0 on"),
        ([[0, 1], [0]], {"suffix": [0, 2]}, "sequence 0 is impossible from token 1 of the suffix on"),
        ([[]], {"suffix": [[0.0, 1.0]]}, "sequence 0 is impossible from token 0 of the suffix on"),
    ],
)
def test_impossible_text_is_named(tokens, options, message):
    with pytest.raises(ImpossibleText, match=message):
        beliefs(STRICT, tokens, **options)
    found = beliefs(STRICT, tokens, **options, impossible="mask")
    for name in ("filtered", "predicted", "next_token"):
        sums = getattr(found, name).sum(-1)
        assert ((sums == 0) | ((sums - 1).abs() < 1e-12)).all()
    assert not found.log_prefix.isnan().any()


def test_a_text_whose_token_past_its_end_is_impossible_is_possible():
    assert_equal(beliefs(STRICT, [[0, 2]], lengths=[1], suffix=[1]).after_suffix, [[1, 0]])


@pytest.mark.parametrize(
    "kind",
    [np.array, torch.tensor, pd.DataFrame, lambda rows: xr.DataArray(rows, dims=("sequence", "position")), tuple],
)
def test_arrays_of_any_kind_are_taken(kind):
    expected = beliefs(MODEL, TEXT, suffix=[0, 1], lengths=[2, 1])
    found = beliefs(MODEL, kind(TEXT), suffix=np.array([0, 1], np.uint8), lengths=pd.Series([2, 1]))
    assert_equal(found.filtered, expected.filtered)
    assert_equal(found.after_suffix, expected.after_suffix)


def test_labelled_lengths_go_with_their_sequences():
    tokens = pd.DataFrame(TEXT, index=pd.Index(["a", "b"], name="sequence"), columns=pd.Index([0, 1], name="position"))
    found = beliefs(MODEL, tokens, lengths=pd.Series([1, 2], index=pd.Index(["b", "a"], name="sequence")), suffix=[0])
    assert_equal(found.after_suffix, beliefs(MODEL, TEXT, lengths=[2, 1], suffix=[0]).after_suffix)


def test_single_precision_stays_single_and_parameters_say_the_device():
    found = beliefs(MODEL.to(dtype=torch.float32), TEXT, prompt=[[1, 0.5]], suffix=[[1.0, 0.5]])
    kinds = {getattr(found, name).dtype for name in ("filtered", "next_token", "log_prefix", "after_suffix")}
    assert kinds == {torch.float32}
    assert found.names == MODEL.names
