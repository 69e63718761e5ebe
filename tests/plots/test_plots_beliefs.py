"""Figures of probes: their data, and that they draw them."""

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib import pyplot

from ppl_hmm import InvalidInput, belief_probe, beliefs, random_hmm, sample
from ppl_hmm.plots.beliefs import (
    _apart,
    draw_belief_triptych,
    draw_excess_loss,
    draw_probe_layers,
    excess_loss,
    triptych,
)
from ppl_hmm.plots.simplex import simplex_coordinates


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


def probe(n_states):
    model = random_hmm("dirichlet", n_states, 3, seed=0)
    text = sample(model, 30, 5, seed=0).tokens
    found = beliefs(model, text)
    return belief_probe({"first": torch.zeros(30, 6, 2), "last": found.filtered}, found, model, text)


@pytest.fixture(scope="module")
def trees():
    return {n_states: probe(n_states) for n_states in (2, 3, 4)}


def test_beliefs_of_three_states_are_points_of_a_triangle(trees):
    drawn = triptych(trees[3])
    exact, probed, raw = drawn.points.values()
    np.testing.assert_array_equal(exact, simplex_coordinates(trees[3]["prefixes/beliefs"]))
    np.testing.assert_allclose(probed, exact, atol=1e-5)
    assert [title.split(",")[0] for title in drawn.points] == ["exact beliefs", "last", "last 10 tokens"]
    assert not np.allclose(raw, exact)


def test_beliefs_of_other_numbers_of_states_are_drawn_by_components(trees):
    for n_states in (2, 4):
        drawn = triptych(trees[n_states])
        exact, probed, _ = drawn.points.values()
        np.testing.assert_allclose(probed, exact, atol=1e-5)
        assert np.ptp(exact[:, 0]) > 0
    # Two components of laws of two states hold all of their distances.
    laws, points = trees[2]["prefixes/beliefs"].values, triptych(trees[2]).points["exact beliefs"]
    np.testing.assert_allclose(np.linalg.norm(points[0] - points[1]), np.linalg.norm(laws[0] - laws[1]), atol=1e-12)


@pytest.mark.parametrize("n_states", [2, 3, 4])
def test_the_triptych_draws_every_prefix_in_its_colour(trees, n_states):
    figure = draw_belief_triptych(trees[n_states], "last")
    colours = [axes.collections[0].get_facecolors()[:, :3] for axes in figure.axes]
    assert len(colours) == 3
    for each in colours:
        np.testing.assert_allclose(each, triptych(trees[n_states]).colours)
    figure.canvas.draw()


def test_layers_are_drawn_beside_controls(trees):
    axes = draw_probe_layers(trees[3])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), trees[3]["layers/r2"])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), trees[3]["layers/shuffled_r2"])
    assert [line.get_ydata()[0] for line in axes.lines[2:]] == trees[3]["controls/r2"].values.tolist()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["first", "last"]
    assert any("Markov-4" in text.get_text() for text in axes.texts)
    axes.figure.canvas.draw()


def test_labels_keep_their_order_and_distance():
    heights = np.array([0.5, 0.51, 0.9, 0.5, 0.1])
    places = _apart(heights, 0.05)
    assert (np.diff(np.sort(places)) > 0.05 - 1e-12).all()
    np.testing.assert_array_equal(np.argsort(places), np.argsort(heights))
    np.testing.assert_allclose(places[[2, 4]], heights[[2, 4]])
    assert places[[0, 1, 3]].mean() == pytest.approx(heights[[0, 1, 3]].mean())


def test_excess_loss_is_the_divergence_of_the_exact_law():
    laws = torch.tensor([[[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [0.0, 1.0]]], dtype=torch.float64)
    found = excess_loss(torch.zeros(2, 2, 2), laws)
    uneven = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    np.testing.assert_allclose(found["excess"], [uneven / 2, np.log(2)])
    np.testing.assert_allclose(found["standard_error"], [uneven / 2, 0], atol=1e-15)
    np.testing.assert_allclose(excess_loss(laws.log(), laws)["excess"], 0, atol=1e-15)
    axes = draw_excess_loss({"uniform": found})
    np.testing.assert_allclose(axes.lines[0].get_ydata(), found["excess"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tree: triptych(tree, "middle"), "unknown layer: expected one of first, last"),
        (lambda _: triptych(xr.DataTree()), "what belief_probe returns"),
        (lambda _: draw_probe_layers(xr.DataTree()), "what belief_probe returns"),
        (lambda _: excess_loss(torch.zeros(2, 2, 3), torch.zeros(2, 3, 3)), r"laws have T\+1 entries"),
        (lambda _: excess_loss([[[0, -np.inf]]], [[[0.5, 0.5]]]), r"no finite number after prefix \[0, 0\]"),
        (lambda _: draw_excess_loss({}), "one to 4 models"),
    ],
)
def test_what_cannot_be_drawn_is_named(trees, call, message):
    with pytest.raises(InvalidInput, match=message):
        call(trees[3])
