"""What a probe says of weights, groups and controls, and of texts without a token."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from ppl_hmm import InvalidInput, belief_probe, beliefs, process, sample

MODEL = process("mess3")
TEXT = sample(MODEL, 40, 6, seed=0).tokens
LAWS = beliefs(MODEL, TEXT).filtered
NOISE = torch.randn(*LAWS.shape[:2], 2, generator=torch.Generator().manual_seed(0))
BEFORE = r"\(these have T\+1 entries, the first of them before any text\), got shape \(40, 6\); put what is before"
NAN = torch.full((40, 7, 1), torch.nan)

REFUSED = {
    "short weights": ({"weights": torch.ones(40, 6)}, rf"^weights: expected shape \(40, 7\), as beliefs {BEFORE}"),
    "short groups": ({"groups": torch.ones(40, 6)}, rf"^groups: expected shape \(40, 7\), as beliefs {BEFORE}"),
    "groups of other texts": ({"groups": torch.ones(39)}, r"^groups: expected shape \(40, 7\).*got.*39,"),
    "NaN in groups": ({"groups": [*range(39), torch.nan]}, r"^groups\[39\]: expected a finite number"),
    "shape of a control": ({"controls": {"mine": NOISE[:3]}}, "^control 'mine': expected shape"),
    "NaN in a control": ({"controls": {"activations": NAN}}, r"^control 'activations'\[0, 0, 0\]: expected a finite"),
    "a bare control": ({"controls": NOISE}, "^controls: expected a mapping with a name for each control, got Tensor"),
    "numbered controls": ({"controls": {0: NOISE}}, "^controls: expected a mapping .*, got names 0"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_arguments_are_called_by_their_names(options, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        belief_probe(NOISE, LAWS, MODEL, TEXT, **options)
    assert "filtered[:, 1:]" not in str(caught.value)


@pytest.mark.parametrize("convert", [torch.arange, np.arange, lambda n: list(range(n)), lambda n: pd.Series(range(n))])
def test_a_group_for_each_text_holds_out_whole_texts(convert):
    expected = belief_probe(NOISE, LAWS, MODEL, TEXT, groups=torch.arange(40)[:, None].expand(40, 7))
    xr.testing.assert_identical(belief_probe(NOISE, LAWS, MODEL, TEXT, groups=convert(40)), expected)
    assert (expected["prefixes/fold"].groupby(expected["prefixes/sequence"]).std() == 0).all()


def test_a_group_for_each_text_where_beliefs_lack_the_first_entry_or_all_but_the_last():
    for those in (slice(1, None), -1):
        tree = belief_probe(NOISE[:, those], LAWS[:, those], MODEL, TEXT, groups=torch.arange(40) // 4)
        assert len(set(tree["prefixes/fold"].values)) == 5


@pytest.mark.parametrize("shape", [(40, 1, 3), (40, 0, 3), (40, 3)])
def test_empty_texts_alone_are_named(shape):
    laws = torch.full(shape, 1 / 3)
    for tokens, lengths in ((TEXT[:, :0], None), ([[]] * 40, None), (TEXT, [0] * 40)):
        with pytest.raises(InvalidInput, match=r"^tokens: expected a text of at least one token, got empty texts"):
            belief_probe(laws, laws, MODEL, tokens, lengths=lengths)


def test_some_texts_may_be_empty():
    lengths = torch.arange(40) % 7
    tree = belief_probe(NOISE, LAWS, MODEL, TEXT, lengths=lengths, groups=torch.arange(40))
    assert len(tree["prefixes/beliefs"]) == int((lengths + 1).sum())
