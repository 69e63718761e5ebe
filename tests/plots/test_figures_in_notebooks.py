"""Figures outside pyplot's state: a notebook shows them by what they say of themselves."""

from ppl_hmm import example
from ppl_hmm.plots.fits import draw_transition


def test_figure_is_a_picture_to_a_notebook():
    drawn = draw_transition(example("aliased")[0].to_dataset())
    assert drawn._repr_png_().startswith(b"\x89PNG")
