"""Mixed states as points, and the loss of perfect predictions."""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import oracle
import pytest
from matplotlib import pyplot
from matplotlib.collections import LineCollection, PathCollection

from ppl_hmm import HMM, InvalidInput, entropies, mixed_states, process
from ppl_hmm.plots.mixed_states import BeliefMap, draw_mixed_states, draw_myopic_entropies
from ppl_hmm.plots.simplex import simplex_coordinates


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    yield
    pyplot.close("all")


def of_kind(axes, kind):
    return [each for each in axes.collections if isinstance(each, kind)]


@pytest.mark.parametrize(("name", "lines"), [("rrxor", True), ("z1r", True), ("mess3", False), ("even", True)])
def test_a_point_for_each_belief_and_a_line_for_each_step(name, lines):
    found = mixed_states(process(name), 5)
    axes = draw_mixed_states(found)
    (points,) = of_kind(axes, PathCollection)
    assert len(points.get_offsets()) == found.sizes["mixed_state"]
    assert bool(of_kind(axes, LineCollection)) == lines
    if lines:
        assert len(of_kind(axes, LineCollection)[0].get_paths()) == int((found.successor >= 0).sum())


def test_three_states_are_corners_of_a_triangle():
    found = mixed_states(process("z1r"), 5)
    axes = draw_mixed_states(found)
    points = of_kind(axes, PathCollection)[0].get_offsets()
    np.testing.assert_allclose(points, simplex_coordinates(found.belief.values))
    assert [text.get_text() for text in axes.texts] == ["state 0", "state 1", "state 2"]
    named = HMM([1, 0, 0], np.eye(3), np.eye(3), names={"state": ("a", "b", "c")})
    assert [text.get_text() for text in draw_mixed_states(mixed_states(named, 1)).texts] == ["a", "b", "c"]


@pytest.mark.parametrize("n_states", [1, 2, 3, 5])
def test_maps_of_beliefs(n_states):
    beliefs = oracle.random_rows(np.random.default_rng(0), 20, n_states, zeros=0.0)
    where = BeliefMap.of(beliefs)
    points, colours = where.points(beliefs), where.colours(beliefs)
    assert points.shape == (20, 2)
    assert colours.shape == (20, 3)
    assert ((colours >= 0) & (colours <= 1)).all()
    if n_states == 5:  # what is lost is least: the share of the other principal axes
        singular = np.linalg.svd(beliefs - beliefs.mean(0), compute_uv=False)
        assert (points**2).sum() == pytest.approx((singular[:2] ** 2).sum())


def test_a_single_belief():
    found = mixed_states(HMM([1], [[1]], [[1.0]]), 3)
    draw_mixed_states(found)
    with pytest.raises(InvalidInput, match="beliefs to draw"):
        BeliefMap.of([0.5, 0.5])


def test_losses_come_down_to_the_entropy_rate():
    found = entropies(process("rrxor"), 6)
    axes = draw_myopic_entropies(found)
    loss, rate = axes.get_lines()
    np.testing.assert_allclose(loss.get_ydata(), found.myopic_entropy.mean("bound"))
    assert rate.get_ydata()[0] == pytest.approx(found.entropy_rate.mean().item())
