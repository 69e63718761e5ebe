"""Figures and tables show the data they should: looked at without pixels."""

import io

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from ppl_hmm import schema
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.experiments.figure3.configurations import CONFIGURATIONS
from ppl_hmm.experiments.look import data, drawing, tables
from ppl_hmm.experiments.look.summary import mean_and_interval
from ppl_hmm.experiments.trained.configurations import TRAINED
from ppl_hmm.reference import published

HEAD, MEMORY = "head-vs-prompt", "memory-vs-vanilla"
ON_MASKS = ["head-2-masks", "head-3-masks", "head-4-masks"]
LEARNED = {HEAD: ["head", "head-log", "prompt"], MEMORY: ["attention-softmax", "attention-hard", "vanilla-linear"]}
CONSTRUCTED = {HEAD: ["prompt-theorem", "prompt-theorem-threshold"], MEMORY: ["attention-theorem"]}
METHODS = {
    HEAD: [*LEARNED[HEAD], *CONSTRUCTED[HEAD], *ON_MASKS],
    MEMORY: ["attention-softmax", "attention-hard", "attention-theorem", "vanilla-linear"],
}
# Whom the two questions are asked.
SEPARABLE = {HEAD: ["head", "prompt"], MEMORY: ["vanilla-linear"]}
CONDITION = {HEAD: ["head", *CONSTRUCTED[HEAD], *ON_MASKS], MEMORY: ["attention-theorem", "vanilla-linear"]}
# Whom the published numbers are about.
PUBLISHED = {HEAD: ["head", "prompt"], MEMORY: ["attention-softmax", "vanilla-linear"]}
PANELS = {HEAD: ["separable", "condition"], MEMORY: ["condition"]}
STATES = [4, 8, 12]


@pytest.fixture(params=[HEAD, MEMORY])
def name(request):
    return request.param


def make_tree(name, n_seeds=5, states=STATES, seed=0):
    """An experiment's tree of made-up numbers; at K = 12 no model meets the exact condition of Theorems P and M."""
    rng = np.random.default_rng(seed)
    methods = METHODS[name]
    shape = (len(methods), len(states), n_seeds)
    dims = ("approach", "n_states", "seed")
    results = xr.Dataset(
        {
            "accuracy": (dims, rng.uniform(0.5, 1, size=shape)),
            "separable": (dims, rng.integers(0, 2, size=shape).astype(np.int8)),
            "condition": (dims, rng.integers(0, 2, size=shape).astype(np.int8)),
            "undecidable": (dims[1:], rng.uniform(0, 0.2, size=shape[1:])),
        },
        coords={"approach": methods, "n_states": states, "seed": range(n_seeds)},
    )
    for question, asked in (("separable", SEPARABLE[name]), ("condition", CONDITION[name])):
        results[question] = results[question].where(results["approach"].isin(asked), schema.NOT_ASKED).astype(np.int8)
    if 12 in states:
        results["condition"].loc[{"approach": CONSTRUCTED[name][0], "n_states": 12}] = schema.NO
    refused = results["approach"].isin(CONSTRUCTED[name]) & (results["condition"] != schema.YES)
    results["accuracy"] = results["accuracy"].where(~refused)
    settings = xr.Dataset(attrs={"vocabulary_size": 10, "n_seeds": n_seeds})
    if name == HEAD:
        settings.attrs["support_threshold"] = 0.005
    panel = published("left" if name == HEAD else "right")
    return xr.DataTree.from_dict({"/results": results, "/published": panel, "/settings": settings})


def at(dataset, method, n_states):
    return dataset.sel({"approach": method, "n_states": n_states})


# Data.


def test_means_and_intervals(name):
    tree = make_tree(name)
    accuracy, curves = tree["results/accuracy"].sel({"approach": LEARNED[name]}), data.curves(tree)
    names = {"mean", "low", "high", "separable", "condition", "published", "published_half_width"}
    assert set(curves) == {*names, "undecidable"}
    assert curves["approach"].values.tolist() == METHODS[name]
    for variable in names:
        assert curves[variable].dims == ("approach", "n_states")
    np.testing.assert_allclose(curves["undecidable"], tree["results/undecidable"].values.mean(-1), rtol=1e-14)
    assert curves.attrs == tree["settings"].attrs
    curves = curves.sel({"approach": LEARNED[name]})
    np.testing.assert_allclose(curves["mean"], accuracy.values.mean(-1), rtol=1e-14)
    assert (curves["low"] < curves["mean"]).all()
    assert (curves["mean"] < curves["high"]).all()
    assert (curves["low"] >= accuracy.min("seed")).all()
    assert (curves["high"] <= accuracy.max("seed")).all()


def test_constructed_methods_count_where_their_condition_holds(name):
    tree = make_tree(name)
    curves, results = data.curves(tree), tree["results"].to_dataset()
    for method in CONSTRUCTED[name]:
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
    assert np.isnan(at(curves, CONSTRUCTED[name][0], 12)["mean"])
    assert at(curves, CONSTRUCTED[name][0], 12)["condition"] == 0


def test_the_interval_is_about_four_standard_errors_wide():
    """Many seeds: the bootstrap agrees with the normal interval, mean ± 1.96 s/√n."""
    values = xr.DataArray(np.random.default_rng(0).uniform(size=400), dims="seed")
    summary = mean_and_interval(values)
    half = 1.96 * float(values.std(ddof=1)) / np.sqrt(400)
    # The 2.5 % quantile of 9999 resamples has itself a relative error of about 2 %.
    assert float(summary["high"] - summary["mean"]) == pytest.approx(half, rel=0.08)
    assert float(summary["mean"] - summary["low"]) == pytest.approx(half, rel=0.08)


def test_the_interval_repeats():
    accuracy = make_tree(HEAD)["results/accuracy"]
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


@pytest.mark.parametrize(("question", "asked"), [("separable", SEPARABLE), ("condition", CONDITION)])
def test_shares_of_the_experiment(question, asked, name):
    tree = make_tree(name)
    shares, answers = data.curves(tree)[question], tree["results"][question]
    own = {"approach": asked[name]}
    np.testing.assert_allclose(shares.sel(own), (answers.sel(own) == 1).mean("seed"))
    others = [method for method in METHODS[name] if method not in asked[name]]
    assert shares.sel({"approach": others}).isnull().all()


@pytest.mark.parametrize(
    ("name", "method", "n_states", "accuracy", "half_width"),
    [
        (HEAD, "head", 4, 0.94, 5.58),
        (HEAD, "prompt", 8, 96.98 / 100, 3.22),
        (MEMORY, "attention-softmax", 8, 99.8 / 100, 0.39),
        (MEMORY, "vanilla-linear", 12, 80.65 / 100, 2.5),
    ],
)
def test_published_numbers_stand_where_the_paper_has_them(name, method, n_states, accuracy, half_width):
    curves = data.curves(make_tree(name))
    assert float(at(curves, method, n_states)["published"]) == accuracy
    assert float(at(curves, method, n_states)["published_half_width"]) == half_width / 100
    elsewhere = 12 if name == HEAD else 4
    assert curves["published"].sel(n_states=elsewhere).isnull().all()
    others = [method for method in METHODS[name] if method not in PUBLISHED[name]]
    assert curves["published"].sel({"approach": others}).isnull().all()


# Figures.


def test_unknown_figures_and_tables_list_what_there_is():
    for function, what in ((drawing.draw, "figure"), (tables.table, "table")):
        names = "head-vs-prompt, head-vs-prompt-trained, memory-vs-vanilla, memory-vs-vanilla-trained"
        message = f"unknown {what}: expected one of {names}, got 'nope'"
        with pytest.raises(InvalidInput, match=message):
            function("nope", make_tree(HEAD))


def test_every_experiment_has_a_figure_and_a_table():
    assert set(drawing.FIGURES) == set(tables.TABLES) == {*CONFIGURATIONS, *(of.experiment for of in TRAINED.values())}


LABELS = {
    HEAD: {
        "head": "head on probabilities, exact G",
        "head-log": "head on log-probabilities, exact G",
        "prompt": "learned prompt + head, exact G",
        "prompt-theorem": "constructed prompt + head, where certified",
        "prompt-theorem-threshold": "constructed with δ = 0.005, where its condition holds",
        **{f"head-{n}-masks": f"head on {n} masks, exact G" for n in (2, 3, 4)},
    },
    MEMORY: {
        "attention-softmax": "memory: softmax attention, exact G",
        "attention-hard": "memory: hard attention, exact G",
        "attention-theorem": "memory: constructed attention, where Theorem M's condition holds",
        "vanilla-linear": "vanilla: linear head, exact G",
    },
}
PUBLISHED_LABELS = {
    HEAD: [
        "head on probabilities, published (trained transformer)",
        "learned prompt + head, published (trained transformer)",
    ],
    MEMORY: [
        "memory: softmax attention, published (trained transformer)",
        "vanilla: linear head, published (trained transformer)",
    ],
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


def labelled_lines(name, axes):
    """The line of each method in the panel of accuracies."""
    lines = [line for line in data_lines(axes) if line.get_label()[0] != "_"]
    return dict(zip(METHODS[name], lines, strict=True))


def test_the_lines_carry_exactly_the_data(name):
    tree = make_tree(name)
    curves = data.curves(tree)
    lines, bars = lines_of(drawing.draw(name, tree).axes[0])
    assert list(lines) == list(LABELS[name].values())
    for method, (x, y) in zip(METHODS[name], lines.values(), strict=True):
        curve = curves.sel({"approach": method})
        np.testing.assert_array_equal(x, STATES)
        np.testing.assert_array_equal(y, 100 * curve["mean"])
    assert list(bars) == PUBLISHED_LABELS[name]
    for method, (x, y) in zip(PUBLISHED[name], bars.values(), strict=True):
        np.testing.assert_array_equal(x, STATES)
        np.testing.assert_array_equal(y, 100 * curves["published"].sel({"approach": method}))


def test_the_lines_of_shares_carry_exactly_the_data(name):
    tree = make_tree(name)
    accuracy, *panels = drawing.draw(name, tree).axes
    looks = {method: look(line) for method, line in labelled_lines(name, accuracy).items()}
    assert len(set(looks.values())) == len(METHODS[name])
    asked_of = {"separable": SEPARABLE[name], "condition": CONDITION[name]}
    for axes, question in zip(panels, PANELS[name], strict=True):
        shares, asked = data.curves(tree)[question], asked_of[question]
        assert not axes.containers
        lines = data_lines(axes)
        assert [look(line) for line in lines] == [looks[method] for method in asked]  # one legend serves every panel
        for method, line in zip(asked, lines, strict=True):
            x, y = line.get_xydata().T
            np.testing.assert_array_equal(x, STATES)
            np.testing.assert_array_equal(y, 100 * shares.sel({"approach": method}))


def bands_of(axes):
    return [band for band in axes.collections if len(band.get_paths()) == 1 and len(band.get_paths()[0].vertices) > 2]


def test_the_bands_are_the_intervals(name):
    tree = make_tree(name)
    curves = data.curves(tree)
    accuracy, *shares = drawing.draw(name, tree).axes
    bands = bands_of(accuracy)
    assert len(bands) == 3
    for method, band in zip(LEARNED[name], bands, strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        curve = curves.sel({"approach": method})
        for height in 100 * np.r_[curve["low"], curve["high"]]:
            assert np.abs(heights - height).min() < 1e-12
        assert heights.min() == 100 * curve["low"].min()
        assert heights.max() == 100 * curve["high"].max()
    assert not any(bands_of(axes) for axes in shares)


def test_means_over_different_models_are_not_joined(name):
    lines = labelled_lines(name, drawing.draw(name, make_tree(name)).axes[0])
    points = {method for method, line in lines.items() if line.get_linestyle() == "None"}
    assert points == set(CONSTRUCTED[name])


def extreme_tree(name, answer):
    """Every share 0 or 1, every accuracy 1."""
    tree = make_tree(name)
    for question in ("separable", "condition"):
        asked = tree["results"][question] != schema.NOT_ASKED
        tree["results"][question] = tree["results"][question].where(~asked, answer)
    tree["results"]["accuracy"] = xr.ones_like(tree["results"]["accuracy"])
    return tree


@pytest.mark.parametrize(
    "make", [make_tree, lambda name: extreme_tree(name, schema.NO), lambda name: extreme_tree(name, schema.YES)]
)
def test_everything_drawn_lies_within_the_axes(make, name):
    for axes in drawing.draw(name, make(name)).axes:
        drawn = [line.get_xydata() for line in data_lines(axes)]
        drawn += [band.get_paths()[0].vertices for band in bands_of(axes)]
        assert drawn
        points = np.concatenate(drawn)
        points = points[~np.isnan(points).any(axis=1)]
        for (low, high), values in zip((axes.get_xlim(), axes.get_ylim()), points.T, strict=True):
            assert low <= values.min()
            assert values.max() <= high


@pytest.mark.parametrize(
    ("name", "sizes", "titles"),
    [
        (HEAD, "number of hidden states K", ["Training text linearly separable", "Theorem's condition holds"]),
        (MEMORY, "total states: 4·m with a memory, K without", ["Condition holds: Theorem M, or H (vanilla)"]),
    ],
)
def test_axes_say_what_they_show(name, sizes, titles):
    figure = drawing.draw(name, make_tree(name))
    accuracy, *shares = figure.axes
    assert accuracy.get_ylabel() == "test accuracy (%)"
    for axes in shares:
        assert axes.get_ylabel() == "models (%)"
    for axes in figure.axes:
        assert axes.get_xlabel() == sizes
        assert "K = V = 10" in [text.get_text() for text in axes.texts]
        assert axes.get_xticks().tolist() == STATES
    assert "Mean accuracy of 5 models" in accuracy.get_title()
    assert [axes.get_title() for axes in shares] == titles


def test_no_words_are_cut_off(name):
    """Titles and labels of a panel stay within the figure, and off the next panel."""
    figure = drawing.draw(name, make_tree(name))
    figure.draw_without_rendering()
    words = [(axes.title.get_window_extent(), axes.xaxis.label.get_window_extent()) for axes in figure.axes]
    for boxes in zip(*words, strict=True):
        edges = [edge for box in boxes for edge in (box.x0, box.x1)]
        assert edges == sorted(edges)
        assert figure.bbox.x0 <= edges[0]
        assert edges[-1] <= figure.bbox.x1


def test_one_legend_names_every_method_and_covers_nothing(name):
    figure = drawing.draw(name, make_tree(name))
    (legend,) = figure.legends
    assert all(axes.get_legend() is None for axes in figure.axes)
    names = [*LABELS[name].values(), *PUBLISHED_LABELS[name]]
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(names)
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    for axes in figure.axes:
        assert not box.overlaps(axes.get_tightbbox())


@pytest.mark.parametrize("options", [{"states": [5]}, {"n_seeds": 1, "states": [30]}])
def test_small_experiments_are_drawn_too(options, name, tmp_path):
    tree = make_tree(name, **options)
    figure = drawing.draw(name, tree)
    assert [path.suffix for path in drawing.save(figure, tmp_path / "small")] == [".png", ".svg"]
    for table in tables.table(name, tree).renderables:
        assert table.row_count == len(options.get("states", STATES))


def test_a_running_experiment_is_drawn_too(name, tmp_path):
    tree = make_tree(name)
    tree["results/accuracy"].loc[{"n_states": 12}] = np.nan
    for question in ("separable", "condition"):
        tree["results"][question].loc[{"n_states": 12}] = schema.NOT_ASKED
    tree["results/undecidable"].loc[{"n_states": 12}] = np.nan
    drawing.save(drawing.draw(name, tree), tmp_path / "running")
    accuracy, shares = render(name, tree)
    paper = {HEAD: {}, MEMORY: {2: "99.9", 6: "80.7"}}[name]
    assert accuracy[-1] == ["12", *(paper.get(column, "–") for column in range(1, 8 if name == HEAD else 7))]
    assert shares[-1] == ["12", *(6 if name == HEAD else 4) * ["–"]]


def test_save(tmp_path):
    figure = drawing.draw(HEAD, make_tree(HEAD))
    paths = drawing.save(figure, tmp_path / "head-vs-prompt")
    assert [path.name for path in paths] == ["head-vs-prompt.png", "head-vs-prompt.svg"]
    svg = paths[1].read_bytes()
    drawing.save(drawing.draw(HEAD, make_tree(HEAD)), tmp_path / "head-vs-prompt")
    assert paths[1].read_bytes() == svg  # no dates, no random names
    with pytest.raises(ForeignFile, match="expected a place that can be written"):
        drawing.save(figure, tmp_path / "no" / "such" / "place")


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    drawing.draw(HEAD, make_tree(HEAD))
    assert dict(mpl.rcParams) == before


# Tables.


def printed(name, tree, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(tables.table(name, tree))
    return console.file.getvalue()


def render(name, tree, width=100):
    """The cells of each row of both tables, as printed in their first line."""
    lines = [line.split() for line in printed(name, tree, width).splitlines()]
    rows = [line for line in lines if line and line[0].isdigit()]
    n_states = tree["results"].sizes["n_states"]
    assert len(rows) == (3 if name == HEAD else 2) * n_states
    return rows[:n_states], rows[n_states : 2 * n_states]


def percent(value, digits=1):
    return "–" if np.isnan(value) else f"{100 * float(value):.{digits}f}"


# What each column of the table of accuracies shows, after the size.
ACCURACIES = {
    HEAD: [
        ("head", "mean"),
        ("head", "published"),
        ("head-log", "mean"),
        ("prompt", "mean"),
        ("prompt", "published"),
        ("prompt-theorem", "mean"),
        ("prompt-theorem-threshold", "mean"),
    ],
    MEMORY: [
        ("attention-softmax", "mean"),
        ("attention-softmax", "published"),
        ("attention-hard", "mean"),
        ("attention-theorem", "mean"),
        ("vanilla-linear", "mean"),
        ("vanilla-linear", "published"),
    ],
}
SHARES = {
    HEAD: [(method, "separable") for method in SEPARABLE[HEAD]]
    + [(method, "condition") for method in CONDITION[HEAD] if method not in ON_MASKS],
    MEMORY: [(method, "condition") for method in CONDITION[MEMORY]] + [("vanilla-linear", "separable")],
}


def test_the_table_of_accuracies_shows_the_data(name):
    tree = make_tree(name)
    curves, rows = data.curves(tree), render(name, tree)[0]
    assert [int(row[0]) for row in rows] == STATES
    for n_states, row in zip(STATES, rows, strict=True):
        assert row[1:] == [percent(at(curves, method, n_states)[value]) for method, value in ACCURACIES[name]]
    # K = 12: no model meets the exact condition.
    assert rows[-1][1 + ACCURACIES[name].index((CONSTRUCTED[name][0], "mean"))] == "–"


def test_the_table_of_masks_shows_the_data():
    tree = make_tree(HEAD)
    curves = data.curves(tree)
    rows = [line.split() for line in printed(HEAD, tree).splitlines() if line.strip()[:1].isdigit()]
    methods = ["head", *ON_MASKS]
    for n_states, row in zip(STATES, [row for row in rows if len(row) == 9][-len(STATES) :], strict=True):
        found = [percent(at(curves, method, n_states)["mean"]) for method in methods]
        assert row == [str(n_states), *found, *(percent(at(curves, m, n_states)["condition"], 0) for m in methods)]


def test_stores_without_heads_on_masks_are_shown():
    tree = make_tree(HEAD)
    old = tree.copy()
    old["results"].dataset = tree["results"].to_dataset().drop_sel(approach=ON_MASKS)
    assert len(tables.table(HEAD, old).renderables) == 2
    assert len(tables.table(HEAD, tree).renderables) == 3
    lines, _ = lines_of(drawing.draw(HEAD, old).axes[0])
    assert not any("masks" in label for label in lines)


def test_the_table_of_shares_shows_the_data(name):
    tree = make_tree(name)
    curves, undecidable = data.curves(tree), tree["results/undecidable"].mean("seed")
    rows = render(name, tree)[1]
    assert [int(row[0]) for row in rows] == STATES
    for n_states, row in zip(STATES, rows, strict=True):
        shares = [percent(at(curves, method, n_states)[question], 0) for method, question in SHARES[name]]
        assert row[1:] == [*shares, percent(undecidable.sel(n_states=n_states))]


def test_the_tables_name_the_threshold():
    assert "δ = 0.005" in printed(HEAD, make_tree(HEAD), width=200)


@pytest.mark.parametrize("make", [make_tree, lambda name: extreme_tree(name, schema.YES)])
def test_the_tables_fit_a_narrow_terminal(make, name):
    """80 columns, and no number or word is cut; 100.0–100.0 is the widest cell."""
    tree = make(name)
    assert render(name, tree, width=80) == render(name, tree, width=200)
    assert printed(name, tree, width=80).split() == printed(name, tree, width=200).split()


def test_the_table_shows_intervals(name):
    tree = make_tree(name)
    text, curves = printed(name, tree), data.curves(tree)
    for method in LEARNED[name]:
        for n_states in STATES:
            curve = at(curves, method, n_states)
            assert f"{percent(curve['low'])}–{percent(curve['high'])}" in text
    assert {HEAD: "±5.6", MEMORY: "±17.5"}[name] in text
