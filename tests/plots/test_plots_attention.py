"""The figure of attention along a text."""

import numpy as np
import pytest
from matplotlib import pyplot

from ppl_hmm.errors import InvalidInput
from ppl_hmm.plots.attention import draw_attention


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


def test_a_bar_for_each_head_and_position():
    weights = np.array([[0.2, 0.8, 0.0], [0.5, 0.25, 0.25]])
    axes = draw_attention(weights, ["a", "b", "a"], names=["one", "two"])
    heights = np.array([[bar.get_height() for bar in bars] for bars in axes.containers])
    np.testing.assert_array_equal(heights, weights)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a\n0", "b\n1", "a\n2"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]
    lefts = np.array([[bar.get_x() for bar in bars] for bars in axes.containers])
    assert (lefts[1] > lefts[0]).all()


@pytest.mark.parametrize(
    ("weights", "tokens", "names"),
    [
        ([[0.5, 0.5]], ["a"], ["one"]),
        ([[0.5, 0.5]], ["a", "b"], []),
        (np.ones((5, 2)), ["a", "b"], list("vwxyz")),
        (np.ones((1, 1, 2)), ["a", "b"], ["one"]),
    ],
)
def test_what_does_not_match_is_named(weights, tokens, names):
    with pytest.raises(InvalidInput, match="attention to draw: expected weights"):
        draw_attention(weights, tokens, names=names)
