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

LEARNED = ["head", "head-log", "prompt"]
CONSTRUCTED = ["prompt-theorem", "prompt-theorem-threshold"]
METHODS = [*LEARNED, *CONSTRUCTED]
# Whom the two questions are asked.
SEPARABLE, CONDITION = ["head", "prompt"], ["head", *CONSTRUCTED]
STATES = [4, 8, 12]


def make_tree(n_seeds=5, states=STATES, seed=0):
    """An experiment's tree of made-up numbers; at K = 12 no model meets the exact condition of Theorem P."""
    rng = np.random.default_rng(seed)
    shape = (len(METHODS), len(states), n_seeds)
    dims = ("method", "n_states", "seed")
    results = xr.Dataset(
        {
            "accuracy": (dims, rng.uniform(0.5, 1, size=shape)),
            "separable": (dims, rng.integers(0, 2, size=shape).astype(np.int8)),
            "condition": (dims, rng.integers(0, 2, size=shape).astype(np.int8)),
            "undecidable": (dims[1:], rng.uniform(0, 0.2, size=shape[1:])),
        },
        coords={"method": METHODS, "n_states": states, "seed": range(n_seeds)},
    )
    for name, asked in (("separable", SEPARABLE), ("condition", CONDITION)):
        results[name] = results[name].where(results["method"].isin(asked), schema.NOT_ASKED).astype(np.int8)
    if 12 in states:
        results["condition"].loc[{"method": "prompt-theorem", "n_states": 12}] = schema.NO
    refused = results["method"].isin(CONSTRUCTED) & (results["condition"] != schema.YES)
    results["accuracy"] = results["accuracy"].where(~refused)
    settings = xr.Dataset(attrs={"vocabulary_size": 10, "n_seeds": n_seeds, "support_threshold": 0.005})
    return xr.DataTree.from_dict({"/results": results, "/published": published("left"), "/settings": settings})


def at(dataset, method, n_states):
    return dataset.sel({"method": method, "n_states": n_states})


# Data.


def test_means_and_intervals():
    tree = make_tree()
    accuracy, curves = tree["results/accuracy"].sel({"method": LEARNED}), data.head_vs_prompt(tree)
    names = {"mean", "low", "high", "separable", "condition", "published", "published_half_width"}
    assert set(curves) == names
    assert curves["method"].values.tolist() == METHODS
    for name in curves:
        assert curves[name].dims == ("method", "n_states")
    assert curves.attrs == {"vocabulary_size": 10, "n_seeds": 5, "support_threshold": 0.005}
    curves = curves.sel({"method": LEARNED})
    np.testing.assert_allclose(curves["mean"], accuracy.values.mean(-1), rtol=1e-14)
    assert (curves["low"] < curves["mean"]).all()
    assert (curves["mean"] < curves["high"]).all()
    assert (curves["low"] >= accuracy.min("seed")).all()
    assert (curves["high"] <= accuracy.max("seed")).all()


def test_constructed_prompts_count_where_their_condition_holds():
    tree = make_tree()
    curves, results = data.head_vs_prompt(tree), tree["results"].to_dataset()
    for method in CONSTRUCTED:
        for n_states in STATES:
            own, curve = at(results, method, n_states), at(curves, method, n_states)
            kept = own["accuracy"].values[own["condition"].values == schema.YES]
            assert np.isnan(curve["mean"]) == (len(kept) == 0)
            assert np.isnan(curve["low"]) == np.isnan(curve["high"]) == (len(kept) < 2)
            if len(kept):
                assert float(curve["mean"]) == pytest.approx(kept.mean(), rel=1e-14)
            if len(kept) > 1:
                assert curve["low"] < curve["mean"] < curve["high"]
                assert curve["low"] >= kept.min() - 1e-12  # a mean of equal numbers rounds
                assert curve["high"] <= kept.max() + 1e-12
    assert np.isnan(at(curves, "prompt-theorem", 12)["mean"])
    assert at(curves, "prompt-theorem", 12)["condition"] == 0


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


@pytest.mark.parametrize(("name", "asked"), [("separable", SEPARABLE), ("condition", CONDITION)])
def test_shares_of_the_experiment(name, asked):
    tree = make_tree()
    shares, answers = data.head_vs_prompt(tree)[name], tree["results"][name]
    np.testing.assert_allclose(shares.sel({"method": asked}), (answers.sel({"method": asked}) == 1).mean("seed"))
    others = [method for method in METHODS if method not in asked]
    assert shares.sel({"method": others}).isnull().all()


def test_published_numbers_stand_where_the_paper_has_them():
    curves = data.head_vs_prompt(make_tree())
    assert float(at(curves, "head", 4)["published"]) == 0.94
    assert float(at(curves, "head", 4)["published_half_width"]) == 5.58 / 100
    assert float(at(curves, "prompt", 8)["published"]) == 96.98 / 100
    assert np.isnan(at(curves, "head", 12)["published"])
    assert curves["published"].sel({"method": ["head-log", *CONSTRUCTED]}).isnull().all()


# Figures.


def test_unknown_figures_and_tables_list_what_there_is():
    for function, what in ((figures.draw, "figure"), (tables.table, "table")):
        with pytest.raises(InvalidInput, match=f"unknown {what}: expected one of head-vs-prompt, got 'nope'"):
            function("nope", make_tree())


LABELS = {
    "head": "head on probabilities, exact G",
    "head-log": "head on log-probabilities, exact G",
    "prompt": "learned prompt + head, exact G",
    "prompt-theorem": "constructed prompt + head, where certified",
    "prompt-theorem-threshold": "constructed with δ = 0.005, where its condition holds",
}
PUBLISHED = {
    "head": "head on probabilities, published (trained transformer)",
    "prompt": "learned prompt + head, published (trained transformer)",
}


def data_lines(axes):
    """Every line in data coordinates, error bars with their caps; not the vertical mark of V."""
    return [line for line in axes.get_lines() if line.get_transform() == axes.transData]


def look(line):
    """What tells a method apart."""
    return line.get_color(), line.get_marker()


def lines_of(axes):
    """Labelled lines and error bars: label -> (x, y)."""
    lines = {line.get_label(): line.get_xydata().T for line in data_lines(axes) if line.get_label()[0] != "_"}
    bars = {bar.get_label(): bar.lines[0].get_xydata().T for bar in axes.containers}
    return lines, bars


def test_the_lines_carry_exactly_the_data():
    tree = make_tree()
    curves = data.head_vs_prompt(tree)
    accuracy = figures.draw("head-vs-prompt", tree).axes[0]
    lines, bars = lines_of(accuracy)
    assert [label.replace("DELTA", "0.005") for label in lines] == list(LABELS.values())
    for method, (x, y) in zip(METHODS, lines.values(), strict=True):
        curve = curves.sel({"method": method})
        np.testing.assert_array_equal(x, STATES)
        np.testing.assert_array_equal(y, 100 * curve["mean"])
    assert list(bars) == list(PUBLISHED.values())
    for method, (x, y) in zip(PUBLISHED, bars.values(), strict=True):
        np.testing.assert_array_equal(x, STATES)
        np.testing.assert_array_equal(y, 100 * curves["published"].sel({"method": method}))


@pytest.mark.parametrize(("panel", "name", "asked"), [(1, "separable", SEPARABLE), (2, "condition", CONDITION)])
def test_the_lines_of_shares_carry_exactly_the_data(panel, name, asked):
    tree = make_tree()
    shares = data.head_vs_prompt(tree)[name]
    all_axes = figures.draw("head-vs-prompt", tree).axes
    assert len(all_axes) == 3
    labelled = [line for line in data_lines(all_axes[0]) if line.get_label()[0] != "_"]
    looks = {method: look(line) for method, line in zip(METHODS, labelled, strict=True)}
    assert len(set(looks.values())) == len(METHODS)
    axes = all_axes[panel]
    assert not axes.containers
    lines = data_lines(axes)
    assert [look(line) for line in lines] == [looks[method] for method in asked]  # one legend serves every panel
    for method, line in zip(asked, lines, strict=True):
        x, y = line.get_xydata().T
        np.testing.assert_array_equal(x, STATES)
        np.testing.assert_array_equal(y, 100 * shares.sel({"method": method}))


def bands_of(axes):
    return [band for band in axes.collections if len(band.get_paths()) == 1 and len(band.get_paths()[0].vertices) > 2]


def test_the_bands_are_the_intervals():
    tree = make_tree()
    curves = data.head_vs_prompt(tree)
    accuracy, *shares = figures.draw("head-vs-prompt", tree).axes
    bands = bands_of(accuracy)
    assert len(bands) == 3
    for method, band in zip(LEARNED, bands, strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        curve = curves.sel({"method": method})
        for height in 100 * np.r_[curve["low"], curve["high"]]:
            assert np.abs(heights - height).min() < 1e-12
        assert heights.min() == 100 * curve["low"].min()
        assert heights.max() == 100 * curve["high"].max()
    assert not any(bands_of(axes) for axes in shares)


def test_means_over_different_models_are_not_joined():
    accuracy = figures.draw("head-vs-prompt", make_tree()).axes[0]
    labelled = [line for line in data_lines(accuracy) if line.get_label()[0] != "_"]
    styles = {method: line.get_linestyle() for method, line in zip(METHODS, labelled, strict=True)}
    assert {method for method, style in styles.items() if style == "None"} == set(CONSTRUCTED)


def extreme_tree(answer):
    """Every share 0 or 1, every accuracy 1."""
    tree = make_tree()
    for name in ("separable", "condition"):
        asked = tree["results"][name] != schema.NOT_ASKED
        tree["results"][name] = tree["results"][name].where(~asked, answer)
    tree["results"]["accuracy"] = xr.ones_like(tree["results"]["accuracy"])
    return tree


@pytest.mark.parametrize("tree", [make_tree(), extreme_tree(schema.NO), extreme_tree(schema.YES)])
def test_everything_drawn_lies_within_the_axes(tree):
    for axes in figures.draw("head-vs-prompt", tree).axes:
        drawn = [line.get_xydata() for line in data_lines(axes)]
        drawn += [band.get_paths()[0].vertices for band in bands_of(axes)]
        assert drawn
        points = np.concatenate(drawn)
        points = points[~np.isnan(points).any(axis=1)]
        for (low, high), values in zip((axes.get_xlim(), axes.get_ylim()), points.T, strict=True):
            assert low <= values.min()
            assert values.max() <= high


def test_axes_say_what_they_show():
    figure = figures.draw("head-vs-prompt", make_tree())
    accuracy, separable, condition = figure.axes
    assert accuracy.get_ylabel() == "test accuracy (%)"
    for axes in (separable, condition):
        assert axes.get_ylabel() == "models (%)"
    for axes in figure.axes:
        assert axes.get_xlabel() == "number of hidden states K"
        assert "K = V = 10" in [text.get_text() for text in axes.texts]
        assert axes.get_xticks().tolist() == STATES
    assert "Mean accuracy of 5 models" in accuracy.get_title()
    assert "separable" in separable.get_title()
    assert "condition holds" in condition.get_title()


def test_one_legend_names_every_method_and_covers_nothing():
    figure = figures.draw("head-vs-prompt", make_tree())
    (legend,) = figure.legends
    assert all(axes.get_legend() is None for axes in figure.axes)
    assert {text.get_text() for text in legend.get_texts()} == {*LABELS.values(), *PUBLISHED.values()}
    assert len(legend.get_texts()) == 7
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    for axes in figure.axes:
        assert not box.overlaps(axes.get_tightbbox())


@pytest.mark.parametrize("options", [{"n_seeds": 1}, {"states": [5]}, {"n_seeds": 1, "states": [30]}])
def test_small_experiments_are_drawn_too(options, tmp_path):
    tree = make_tree(**options)
    figure = figures.draw("head-vs-prompt", tree)
    assert [path.suffix for path in figures.save(figure, tmp_path / "small")] == [".png", ".svg"]
    for table in tables.table("head-vs-prompt", tree).renderables:
        assert table.row_count == len(options.get("states", STATES))


def test_a_running_experiment_is_drawn_too(tmp_path):
    tree = make_tree()
    tree["results/accuracy"].loc[{"n_states": 12}] = np.nan
    for name in ("separable", "condition"):
        tree["results"][name].loc[{"n_states": 12}] = schema.NOT_ASKED
    tree["results/undecidable"].loc[{"n_states": 12}] = np.nan
    figures.save(figures.draw("head-vs-prompt", tree), tmp_path / "running")
    accuracy, shares = render(tree)
    assert accuracy[-1] == ["12", *7 * ["–"]]
    assert shares[-1] == ["12", *6 * ["–"]]


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


def printed(tree, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(tables.table("head-vs-prompt", tree))
    return console.file.getvalue()


def render(tree, width=100):
    """The cells of each row of both tables, as printed in their first line."""
    lines = [line.split() for line in printed(tree, width).splitlines()]
    rows = [line for line in lines if line and line[0].isdigit()]
    n_states = tree["results"].sizes["n_states"]
    assert len(rows) == 2 * n_states
    return rows[:n_states], rows[n_states:]


def percent(value, digits=1):
    return "–" if np.isnan(value) else f"{100 * float(value):.{digits}f}"


def test_the_table_of_accuracies_shows_the_data():
    tree = make_tree()
    curves, rows = data.head_vs_prompt(tree), render(tree)[0]
    assert [int(row[0]) for row in rows] == STATES
    for n_states, row in zip(STATES, rows, strict=True):
        head, head_log, prompt, theorem, relaxed = (at(curves, method, n_states) for method in METHODS)
        assert row[1:] == [
            percent(head["mean"]),
            percent(head["published"]),
            percent(head_log["mean"]),
            percent(prompt["mean"]),
            percent(prompt["published"]),
            percent(theorem["mean"]),
            percent(relaxed["mean"]),
        ]
    assert rows[-1][-2] == "–"  # K = 12: no model meets the exact condition


def test_the_table_of_shares_shows_the_data():
    tree = make_tree()
    curves, undecidable = data.head_vs_prompt(tree), tree["results/undecidable"].mean("seed")
    rows = render(tree)[1]
    assert [int(row[0]) for row in rows] == STATES
    for n_states, row in zip(STATES, rows, strict=True):
        separable = [percent(at(curves, method, n_states)["separable"], 0) for method in SEPARABLE]
        condition = [percent(at(curves, method, n_states)["condition"], 0) for method in CONDITION]
        assert row[1:] == [*separable, *condition, percent(undecidable.sel(n_states=n_states))]


def test_the_tables_name_the_threshold():
    assert "δ = 0.005" in printed(make_tree(), width=200)


@pytest.mark.parametrize("tree", [make_tree(), extreme_tree(schema.YES)])
def test_the_tables_fit_a_narrow_terminal(tree):
    """80 columns, and no number or word is cut; 100.0–100.0 is the widest cell."""
    assert render(tree, width=80) == render(tree, width=200)
    assert printed(tree, width=80).split() == printed(tree, width=200).split()


def test_the_table_shows_intervals():
    tree = make_tree()
    text, curves = printed(tree), data.head_vs_prompt(tree)
    for method in LEARNED:
        for n_states in STATES:
            curve = at(curves, method, n_states)
            assert f"{percent(curve['low'])}–{percent(curve['high'])}" in text
    assert "±5.6" in text
