"""Figures and tables show the data they should: looked at without pixels."""

import io

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from ppl_hmm import schema
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.plots import data, figures, tables
from ppl_hmm.plots.summary import mean_and_interval
from ppl_hmm.reference import published

METHODS = ["head", "head-log", "prompt"]
STATES = [4, 8, 12]


def make_tree(n_seeds=5, states=STATES, seed=0):
    """An experiment's tree of made-up numbers."""
    rng = np.random.default_rng(seed)
    shape = (3, len(states), n_seeds)
    dims = ("method", "n_states", "seed")
    separable = rng.integers(0, 2, size=shape).astype(np.int8)
    separable[1] = schema.NOT_ASKED
    results = xr.Dataset(
        {
            "accuracy": (dims, rng.uniform(0.5, 1, size=shape)),
            "separable": (dims, separable),
            "condition": (dims, separable),
            "undecidable": (dims[1:], rng.uniform(0, 0.2, size=shape[1:])),
        },
        coords={"method": METHODS, "n_states": states, "seed": range(n_seeds)},
    )
    settings = xr.Dataset(attrs={"vocabulary_size": 10, "n_seeds": n_seeds})
    return xr.DataTree.from_dict({"/results": results, "/published": published("left"), "/settings": settings})


def at(dataset, method, n_states):
    return dataset.sel({"method": method, "n_states": n_states})


# Data.


def test_means_and_intervals():
    tree = make_tree()
    accuracy, curves = tree["results/accuracy"], data.head_vs_prompt(tree)
    assert set(curves) == {"mean", "low", "high", "separable", "published", "published_half_width"}
    for name in curves:
        assert curves[name].dims == ("method", "n_states")
    np.testing.assert_allclose(curves["mean"], accuracy.values.mean(-1), rtol=1e-14)
    assert (curves["low"] < curves["mean"]).all()
    assert (curves["mean"] < curves["high"]).all()
    assert (curves["low"] >= accuracy.min("seed")).all()
    assert (curves["high"] <= accuracy.max("seed")).all()
    assert curves.attrs == {"vocabulary_size": 10, "n_seeds": 5}


def test_the_interval_is_about_four_standard_errors_wide():
    """Many seeds: the bootstrap agrees with the normal interval, mean ± 1.96 s/√n."""
    values = xr.DataArray(np.random.default_rng(0).uniform(size=400), dims="seed")
    summary = mean_and_interval(values)
    half = 1.96 * float(values.std(ddof=1)) / np.sqrt(400)
    # The 2.5 % quantile of 9999 resamples has itself a relative error of about 2 %.
    assert float(summary["high"] - summary["mean"]) == pytest.approx(half, rel=0.08)
    assert float(summary["mean"] - summary["low"]) == pytest.approx(half, rel=0.08)


def test_the_interval_repeats():
    accuracy = make_tree()["results/accuracy"]
    xr.testing.assert_identical(mean_and_interval(accuracy), mean_and_interval(accuracy))


def test_one_seed_has_no_interval():
    summary = mean_and_interval(xr.DataArray([[0.7], [0.9]], dims=("n_states", "seed")))
    assert summary["mean"].values.tolist() == [0.7, 0.9]
    assert summary["low"].isnull().all()
    assert summary["high"].isnull().all()


def test_seeds_not_yet_computed_are_left_out():
    nan = np.nan
    values = xr.DataArray([[0.5, 0.7, nan], [0.4, nan, nan], [nan, nan, nan]], dims=("n_states", "seed"))
    summary = mean_and_interval(values)
    np.testing.assert_allclose(summary["mean"], [0.6, 0.4, nan])
    np.testing.assert_array_equal(summary["low"].isnull(), [False, True, True])
    complete = mean_and_interval(values[:1, :2])
    assert float(summary["low"][0]) == float(complete["low"][0])
    assert float(summary["high"][0]) == float(complete["high"][0])


def test_equal_seeds_have_an_interval_of_one_point():
    summary = mean_and_interval(xr.DataArray([1.0, 1.0, 1.0], dims="seed"))
    assert [float(summary[name]) for name in ("low", "mean", "high")] == [1.0, 1.0, 1.0]


def test_share_of_yes():
    answers = xr.DataArray(
        np.array([[1, 0, 1, 1], [1, -1, 0, -1], [0, 0, 0, 0], [-1, -1, -1, -1]], np.int8), dims=("n_states", "seed")
    )
    np.testing.assert_array_equal(data.share_of_yes(answers), [0.75, 0.5, 0.0, np.nan])


def test_shares_of_the_experiment():
    tree = make_tree()
    curves = data.head_vs_prompt(tree)
    asked = {"method": ["head", "prompt"]}
    np.testing.assert_allclose(curves["separable"].sel(asked), (tree["results/separable"].sel(asked) == 1).mean("seed"))
    assert curves["separable"].sel({"method": "head-log"}).isnull().all()


def test_published_numbers_stand_where_the_paper_has_them():
    curves = data.head_vs_prompt(make_tree())
    assert float(at(curves, "head", 4)["published"]) == 0.94
    assert float(at(curves, "head", 4)["published_half_width"]) == 5.58 / 100
    assert float(at(curves, "prompt", 8)["published"]) == 96.98 / 100
    assert np.isnan(at(curves, "head", 12)["published"])
    assert curves["published"].sel({"method": "head-log"}).isnull().all()


# Figures.


def test_unknown_figures_and_tables_list_what_there_is():
    for function, what in ((figures.draw, "figure"), (tables.table, "table")):
        with pytest.raises(InvalidInput, match=f"unknown {what}: expected one of head-vs-prompt, got 'nope'"):
            function("nope", make_tree())


def lines_of(axes):
    """Labelled lines and error bars: label -> (x, y)."""
    lines = {line.get_label(): line.get_xydata().T for line in axes.get_lines() if line.get_label()[0] != "_"}
    bars = {bar.get_label(): bar.lines[0].get_xydata().T for bar in axes.containers}
    return lines, bars


def test_the_lines_carry_exactly_the_data():
    tree = make_tree()
    curves = data.head_vs_prompt(tree)
    figure = figures.draw("head-vs-prompt", tree)
    accuracy, share = figure.axes
    lines, bars = lines_of(accuracy)
    assert list(lines) == [
        "head on probabilities, exact G",
        "head on log-probabilities, exact G",
        "learned prompt + head, exact G",
    ]
    for method, (x, y) in zip(METHODS, lines.values(), strict=True):
        curve = curves.sel({"method": method})
        np.testing.assert_array_equal(x, STATES)
        np.testing.assert_array_equal(y, 100 * curve["mean"])
    assert list(bars) == ["head, published (trained transformer)", "prompt + head, published (trained transformer)"]
    for method, (x, y) in zip(("head", "prompt"), bars.values(), strict=True):
        np.testing.assert_array_equal(x, STATES)
        np.testing.assert_array_equal(y, 100 * curves["published"].sel({"method": method}))
    lines, bars = lines_of(share)
    assert not bars
    assert list(lines) == ["without a prompt", "after the learned prompt"]
    for method, (x, y) in zip(("head", "prompt"), lines.values(), strict=True):
        np.testing.assert_array_equal(x, STATES)
        np.testing.assert_array_equal(y, 100 * curves["separable"].sel({"method": method}))


def test_the_bands_are_the_intervals():
    tree = make_tree()
    curves = data.head_vs_prompt(tree)
    bands = [
        band
        for band in figures.draw("head-vs-prompt", tree).axes[0].collections
        if len(band.get_paths()) == 1 and len(band.get_paths()[0].vertices) > 2
    ]
    assert len(bands) == 3
    for method, band in zip(METHODS, bands, strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        curve = curves.sel({"method": method})
        for height in 100 * np.r_[curve["low"], curve["high"]]:
            assert np.abs(heights - height).min() < 1e-12
        assert heights.min() == 100 * curve["low"].min()
        assert heights.max() == 100 * curve["high"].max()


def test_everything_drawn_lies_within_the_axes():
    tree = make_tree()
    for axes in figures.draw("head-vs-prompt", tree).axes:
        low, high = axes.get_ylim()
        for lines in lines_of(axes):
            for _, y in lines.values():
                assert low <= np.nanmin(y)
                assert np.nanmax(y) <= high


def test_axes_say_what_they_show():
    accuracy, share = figures.draw("head-vs-prompt", make_tree()).axes
    assert accuracy.get_ylabel() == "test accuracy (%)"
    assert share.get_ylabel() == "models (%)"
    for axes in (accuracy, share):
        assert axes.get_xlabel() == "number of hidden states K"
        assert "K = V = 10" in [text.get_text() for text in axes.texts]
        assert axes.get_legend() is not None
        assert axes.get_title()
    assert "Mean of 5 models" in accuracy.get_title()


@pytest.mark.parametrize("options", [{"n_seeds": 1}, {"states": [5]}, {"n_seeds": 1, "states": [30]}])
def test_small_experiments_are_drawn_too(options, tmp_path):
    tree = make_tree(**options)
    figure = figures.draw("head-vs-prompt", tree)
    assert [path.suffix for path in figures.save(figure, tmp_path / "small")] == [".png", ".svg"]
    assert tables.table("head-vs-prompt", tree).row_count == len(options.get("states", STATES))


def test_a_running_experiment_is_drawn_too(tmp_path):
    tree = make_tree()
    tree["results/accuracy"].loc[{"n_states": 12}] = np.nan
    tree["results/separable"].loc[{"n_states": 12}] = schema.NOT_ASKED
    tree["results/undecidable"].loc[{"n_states": 12}] = np.nan
    figures.save(figures.draw("head-vs-prompt", tree), tmp_path / "running")
    assert render(tree)[-1][1:] == ["–", "–", "–", "–", "–", "–→–", "–"]


def test_save(tmp_path):
    figure = figures.draw("head-vs-prompt", make_tree())
    paths = figures.save(figure, tmp_path / "head-vs-prompt")
    assert [path.name for path in paths] == ["head-vs-prompt.png", "head-vs-prompt.svg"]
    svg = paths[1].read_bytes()
    figures.save(figures.draw("head-vs-prompt", make_tree()), tmp_path / "head-vs-prompt")
    assert paths[1].read_bytes() == svg  # no dates, no random names
    with pytest.raises(ForeignFile, match="expected a place that can be written"):
        figures.save(figure, tmp_path / "no" / "such" / "place")


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.draw("head-vs-prompt", make_tree())
    assert dict(mpl.rcParams) == before


# Tables.


def render(tree, width=100):
    """The cells of each row of the table, as printed in their first line."""
    console = Console(file=io.StringIO(), width=width)
    console.print(tables.table("head-vs-prompt", tree))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    return [line for line in lines if line and line[0].isdigit()]


def test_the_table_shows_the_data():
    tree = make_tree()
    curves, undecidable = data.head_vs_prompt(tree), tree["results/undecidable"].mean("seed")
    rows = render(tree)
    assert [int(row[0]) for row in rows] == STATES
    for n_states, row in zip(STATES, rows, strict=True):
        head, head_log, prompt = (at(curves, method, n_states) for method in METHODS)

        def percent(value, digits=1):
            return "–" if np.isnan(value) else f"{100 * float(value):.{digits}f}"

        assert row[1:] == [
            percent(head["mean"]),
            percent(head["published"]),
            percent(head_log["mean"]),
            percent(prompt["mean"]),
            percent(prompt["published"]),
            f"{percent(head['separable'], 0)}→{percent(prompt['separable'], 0)}",
            percent(undecidable.sel(n_states=n_states)),
        ]


def test_the_table_fits_a_narrow_terminal():
    """80 columns, and no number is cut."""
    assert render(make_tree(), width=80) == render(make_tree(), width=200)


def test_the_table_shows_intervals():
    tree = make_tree()
    console = Console(file=io.StringIO(), width=100)
    console.print(tables.table("head-vs-prompt", tree))
    text = console.file.getvalue()
    curves = data.head_vs_prompt(tree)
    for method in METHODS:
        for n_states in STATES:
            curve = at(curves, method, n_states)
            assert f"{100 * float(curve['low']):.1f}–{100 * float(curve['high']):.1f}" in text
    assert "±5.6" in text
