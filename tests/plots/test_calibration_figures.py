"""Figures of calibration: what is drawn, without pixels."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from ppl_hmm.plots.calibration import draw_by_corpus_size, ranks_on, reliability_on


def test_ranks_are_counted():
    axes = Figure().subplots()
    ranks_on(axes, np.array([0.05, 0.15, 0.12, 0.95]), "σ", n_bins=10)
    heights = [bar.get_height() for bar in axes.containers[0]]
    assert heights == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]


def test_groups_of_the_least_and_the_most_probable():
    axes = Figure().subplots()
    reliability_on(axes, np.array([0.9, 0.1, 0.8, 0.3]), np.array([1.0, 0.0, 0.0, 1.0]), n_bins=2)
    said, share = axes.lines[-1].get_data()
    assert said.tolist() == pytest.approx([0.2, 0.85])
    assert share.tolist() == [0.5, 0.5]


def test_a_line_for_each_budget():
    data = xr.Dataset(
        {
            "probability": (("n_sequences", "budget"), [[0.1, 0.5], [0.4, 0.9]]),
            "probability_error": (("n_sequences", "budget"), np.full((2, 2), 0.05)),
            "cross_draw_accuracy": ("n_sequences", [0.5, 0.8]),
            "accuracy": ("n_sequences", [0.55, 0.75]),
        },
        {"n_sequences": [10, 100], "budget": [1.0, 10.0]},
    )
    chances, accuracy = draw_by_corpus_size(data).axes
    assert len(chances.containers) == 2
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[0.5, 0.8], [0.55, 0.75]]
