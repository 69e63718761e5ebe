"""Posteriors in a triangle, and margins against predictions."""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
from comparisons import case, check
from matplotlib import pyplot

from ppl_hmm import posterior, random_hmm
from ppl_hmm.errors import InvalidInput
from ppl_hmm.plots.simplex import (
    decision_boundary,
    draw_margins,
    draw_posterior_simplex,
    simplex_coordinates,
)

NAMES = ("a", "b", "c")
TEXT = random_hmm("dirichlet", 3, 4, seed=0), [[0, 1, 2]]


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    yield
    pyplot.close("all")


def laws(n=20, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(3), size=n)


def labels_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_corners_and_centre():
    corners = simplex_coordinates(np.eye(3))
    np.testing.assert_allclose(corners, [[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])
    np.testing.assert_allclose(simplex_coordinates([1 / 3, 1 / 3, 1 / 3]), corners.mean(0))


def test_equilateral():
    """All laws are treated alike: distances in the triangle are those of laws, up to one factor."""
    p, q = laws(seed=1), laws(seed=2)
    distance = np.linalg.norm(simplex_coordinates(p) - simplex_coordinates(q), axis=-1)
    np.testing.assert_allclose(distance * np.sqrt(2), np.linalg.norm(p - q, axis=-1))


@pytest.mark.parametrize("shape", [(4, 2), (4,), ()])
def test_only_three_states(shape):
    with pytest.raises(InvalidInput, match="three states"):
        simplex_coordinates(np.ones(shape))


@pytest.mark.parametrize("contrast", [[1, 0, -1], [1, 1, -2], [-1, 3, 0.5], [0, 0, 1], [2, 0, 0], [1, -1, -1]])
def test_boundary_is_where_the_margin_is_zero(contrast):
    ends = decision_boundary(contrast)
    assert ends.shape == (2, 3)
    np.testing.assert_allclose(ends.sum(-1), 1)
    np.testing.assert_allclose(ends @ contrast, 0, atol=1e-15)
    assert (ends >= 0).all()
    assert (ends.min(-1) == 0).all()
    assert not np.allclose(*ends)


@pytest.mark.parametrize("contrast", [[1, 2, 3], [-1, -2, -3], [0, 0, 0], [0, 1, 2]])
def test_no_boundary_inside(contrast):
    assert decision_boundary(contrast).shape == (0, 3)


def test_simplex_shows_every_law_in_its_group():
    posteriors = laws()
    groups = np.arange(20) % 3
    axes = draw_posterior_simplex(
        posteriors, groups, state_names=NAMES, group_names=("x", "y", "z"), contrast=[1, 0, -1], joined=(3, 5)
    )
    for group, drawn in enumerate(axes.collections):
        np.testing.assert_allclose(drawn.get_offsets(), simplex_coordinates(posteriors[groups == group]))
    boundary, joined = axes.lines
    np.testing.assert_allclose(boundary.get_xydata(), simplex_coordinates(decision_boundary([1, 0, -1])))
    np.testing.assert_allclose(joined.get_xydata(), simplex_coordinates(posteriors[[3, 5]]))
    assert [text.get_text() for text in axes.texts] == list(NAMES)
    assert labels_of(axes) == ["x", "y", "z", "decision boundary", "equal $G$"]


def test_simplex_alone():
    axes = draw_posterior_simplex(laws(), state_names=NAMES)
    assert axes.get_legend() is None
    assert len(axes.collections) == 1


def test_more_groups_than_styles():
    with pytest.raises(InvalidInput, match="groups"):
        draw_posterior_simplex(laws(4), [0, 1, 2, 3], state_names=NAMES)


BAD = [
    case("two states", lambda: simplex(laws()[:, :2]), "posteriors", "shape (B, 3)", "shape (20, 2)"),
    case("one law", lambda: simplex(laws()[0]), "posteriors", "shape (B, 3)", "shape (3,)"),
    case("a posterior", lambda: simplex(posterior(*TEXT)), "posteriors", "an array of numbers", "Posterior"),
    case("two names", lambda: simplex(laws(), state_names=NAMES[:2]), "state_names", "three names", "['a', 'b']"),
    case("short contrast", lambda: simplex(laws(), contrast=[1, -1]), "contrast", "shape (3,)", "shape (2,)"),
    case("short weights", lambda: simplex(laws(), weights=[[1, -1]]), "weights", "shape (C, 3)", "shape (1, 2)"),
    case("short boundary", lambda: decision_boundary([1, -1]), "contrast", "shape (3,)", "shape (2,)"),
    case("no such text", lambda: simplex(laws(), joined=(3, 20)), "joined", "0..19", "[3, 20]"),
    case("no such witness", lambda: simplex(laws(), marked=[-21]), "marked", "0..19", "[-21]"),
    case("few groups", lambda: simplex(laws(), [0, 1]), "groups", "shape (20,)", "shape (2,)"),
    case("one name", lambda: simplex(laws(2), [0, 1], group_names=["x"]), "group_names", "each of [0, 1]", "['x']"),
    case("all of G", lambda: draw_margins(laws(), np.ones(20)), "predictions", "shape (B,)", "shape (20, 3)"),
    case("few margins", lambda: draw_margins(np.ones(20), [1, 2]), "margins", "shape (20,)", "shape (2,)"),
    case("no such pair", lambda: draw_margins([1, 2], [1, -1], joined=(0, 2)), "joined", "0..1", "[0, 2]"),
    case("one label", lambda: draw_margins([1, 2], [1, -1], group_names=["x"]), "group_names", "[0, 1]", "['x']"),
]


def simplex(*arguments, **options):
    return draw_posterior_simplex(*arguments, **{"state_names": NAMES, **options})


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_what_cannot_be_drawn_is_named_before_a_figure_is_made(call, what, expected, got, error):
    check(call, what, expected, got, error)
    assert not pyplot.get_fignums()


def test_margins_show_every_text_by_its_label():
    margins, predictions = np.linspace(-1, 1, 9), np.linspace(0, 1, 9) ** 2
    axes = draw_margins(predictions, margins, threshold=0.4, joined=(1, 8))
    below, above = (np.asarray(drawn.get_offsets()) for drawn in axes.collections)
    np.testing.assert_allclose(below, np.c_[predictions, margins][:4])
    np.testing.assert_allclose(above, np.c_[predictions, margins][4:])  # a margin of zero has label 1
    assert labels_of(axes) == ["label 0", "label 1", "the head's threshold", "the two texts"]
    assert "margin" in axes.get_ylabel()
