"""The figures of an audit: their data against other routes to the same numbers, and what is drawn against the data."""

import functools

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.figure import Figure
from sweeps import sweep

import ppl_hmm
from ppl_hmm.audits.figures import answers_data, model_data
from ppl_hmm.audits.figures.catalogue import AUDIT_FIGURES, available, draw_audit, draw_certificates
from ppl_hmm.errors import InvalidInput
from ppl_hmm.plots.simplex import decision_boundaries, simplex_coordinates
from ppl_hmm.plots.style import save

OF_HMM = ["singular-values", "margins", "simplex", "linear-map", "prompt", "lengths", "transfer"]


def three_classes():
    model = ppl_hmm.random_hmm("dirichlet", 3, 4, 2)
    return model, ppl_hmm.PosteriorTask([[1.0, 0, 0.2], [0, 1.2, 0], [0.1, 0.2, 0.7]])


def nearly_deterministic():
    model = ppl_hmm.random_hmm("wei2021", 6, 4, 0)  # more states than tokens
    return model, ppl_hmm.random_task(model, 0, ppl_hmm.sample(model, 200, 12, 0).tokens)


def one_label():
    model = ppl_hmm.random_hmm("dirichlet", 3, 4, 0)
    return model, ppl_hmm.PosteriorTask([[0.0, 0, 0], [1, 2, 3]])


def one_token():
    return ppl_hmm.HMM([0.5, 0.5], [[0.5, 0.5], [0.1, 0.9]], [[1.0], [1.0]]), ppl_hmm.PosteriorTask([[0.0, 1], [1, 0]])


def unread_cell():
    """No state reads the cell that the task asks of."""
    half = [[0.5, 0.5], [0.5, 0.5]]
    model = ppl_hmm.MemoryHMM(half, [0.5, 0.5], half, cell_of_state=[0, 0], emission=[half, half])
    return model, ppl_hmm.MemoryTask([[0, 1], [1, 0]], 1)


PAIRS = {
    "aliased": (lambda: ppl_hmm.example("aliased"), {"length": 5}),
    "memory": (lambda: ppl_hmm.example("memory"), {"length": 8, "n_sequences": 80}),
    "classes": (three_classes, {"length": 4}),
    "wei2021": (nearly_deterministic, {"length": 12, "n_sequences": 150}),
    "one-label": (one_label, {"length": 3}),
    "position": (
        lambda: (ppl_hmm.random_hmm("dirichlet", 3, 4, 0), ppl_hmm.PosteriorTask(np.eye(3)[:2], position=-1)),
        {"length": 3},
    ),
    "one-token": (one_token, {"length": 2}),
    "unread-cell": (unread_cell, {"length": 3}),
}


@functools.cache
def audited(name):
    build, options = PAIRS[name]
    return ppl_hmm.audit(*build(), seed=0, **options)


@pytest.fixture(params=PAIRS)
def tree(request):
    return audited(request.param)


def law_of(tree):
    return tree["observed_data"].get("probability", xr.full_like(tree["exact_posterior"]["margin"], 1.0)).values


def mean(tree, values, among):
    law = law_of(tree) * among
    return (law * values).sum() / law.sum()


def labels_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# Data.


@pytest.mark.parametrize("name", PAIRS)
def test_spectra_are_those_of_the_matrices(name):
    model, _ = PAIRS[name][0]()
    data = model_data.singular_values(audited(name))
    rows = model.emission.numpy().reshape(-1, model.vocabulary_size)
    matrices = {"emission": rows, "transition": model.transition.numpy()}
    if "emission_next" in data["matrix"]:
        matrices["emission_next"] = matrices["transition"] @ rows
    for matrix, values in matrices.items():
        # Eigenvalues of the Gram matrix of the rows: as many as there are rows, zero where these are dependent.
        gram = np.sqrt(np.linalg.eigvalsh(values @ values.T)[::-1].clip(min=0))
        shown = data["share"].sel(matrix=matrix).values
        np.testing.assert_allclose(shown[: len(values)], gram / gram[0], atol=1e-7)
        assert np.isnan(shown[len(values) :]).all()
    assert data["same_as"].sel(matrix="emission") == "emission"


def test_more_rows_than_tokens_have_singular_values_of_zero():
    shown = model_data.singular_values(audited("wei2021"))["share"].sel(matrix="emission").values
    assert (shown[4:] == 0).all()
    assert (shown[:4] > 0).all()


def test_margins_by_class_are_shares_of_all_texts(tree):
    data, found = model_data.margins(tree), tree["exact_posterior"].to_dataset()
    weights = tree["task"]["weights"].values
    scale = (weights.max(0) - weights.min(0)).max() or 1.0  # without a contrast nothing is decidable
    sizes, everywhere = found["margin"].values / scale, np.ones(found.sizes["sequence"])
    for c in range(len(weights)):
        for share, left, right in zip(
            data["share"].sel({"class": c}).values, data["left"].values, data["right"].values, strict=True
        ):
            below = sizes < right if right < data["right"].max() else sizes <= right
            chosen = (found["label"] == c) & (found["decidable"] == 1) & (sizes >= left) & below
            np.testing.assert_allclose(share, mean(tree, chosen.values, everywhere), atol=1e-12)
    np.testing.assert_allclose(data["share"].sum() + data["undecidable"], 1)
    np.testing.assert_allclose(data["undecidable"], tree["diagnostics/margins"]["undecidable"], atol=1e-15)
    np.testing.assert_allclose(data["tolerance"], tree["diagnostics/margins"].attrs["tolerance"] / scale)


def test_two_classes_have_signed_margins():
    data = model_data.margins(audited("aliased"))
    assert (data["share"].sel({"class": 0}).where(data["left"] > 0, drop=True) == 0).all()
    assert (data["share"].sel({"class": 1}).where(data["right"] < 0, drop=True) == 0).all()
    assert (model_data.margins(audited("classes"))["left"] > 0).all()


def test_triangle_has_the_witness_of_the_audit():
    tree = audited("aliased")
    data = model_data.simplex(tree)
    model, task = PAIRS["aliased"][0]()
    tokens = tree["recoverability/head/witness"]["tokens"].values
    exact = ppl_hmm.posterior(model, tokens).initial.numpy()
    np.testing.assert_allclose(data["posterior"].values[data["witness"].values], exact)
    np.testing.assert_allclose(data["boundary"].values @ task.contrast.numpy(), 0, atol=1e-15)
    assert model_data.simplex(audited("classes")).sizes["witness_text"] == 0


@pytest.mark.parametrize("seed", sweep(30, quick=10))
def test_boundaries_are_where_two_classes_are_best(seed):
    """Pieces of a random task: two scores tie and no other is larger. No change of class on a grid is missed."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(rng.integers(2, 5), 3)) * rng.integers(0, 2, size=(1, 3)).clip(min=seed % 2)
    pieces = decision_boundaries(weights)
    for start, stop in pieces:
        for t in (0.01, 0.5, 0.99):
            scores = np.sort((start + t * (stop - start)) @ weights.T)
            np.testing.assert_allclose(scores[-1], scores[-2], atol=1e-12)
    line = rng.dirichlet(np.ones(3), size=2)
    steps = line[0] + np.linspace(0, 1, 2001)[:, None] * (line[1] - line[0])
    n_changes = (np.diff((steps @ weights.T).argmax(1)) != 0).sum()
    assert n_changes == sum(crosses(piece, line) for piece in pieces)


def crosses(piece, line):
    """Whether two segments of the triangle's plane meet."""
    (a, b), (c, d) = simplex_coordinates(piece), simplex_coordinates(line)

    def side(p, q, r):
        return np.sign(np.linalg.det(np.stack([q - p, r - p])))

    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)


@pytest.mark.parametrize("name", ["aliased", "wei2021", "classes", "memory"])
def test_linear_map_is_the_best_for_the_margin(name):
    """For two classes what is kept of the margin is the R² of its own regression on G."""
    tree = audited(name)
    data, found = model_data.linear_map(tree), tree["exact_posterior"].to_dataset()
    features, everywhere = tree["features"]["conditionals"].values, np.ones(found.sizes["sequence"])
    assert (features.sum(1) > 0).all()
    np.testing.assert_allclose(data["margin"], found["margin"], atol=1e-14)
    np.testing.assert_array_equal(data["kept"], tree["diagnostics/linear_map"]["kept"])
    if name != "classes":
        root = np.sqrt(law_of(tree))
        best = features @ np.linalg.lstsq(root[:, None] * features, root * found["margin"].values, rcond=None)[0]
        np.testing.assert_allclose(data["reconstruction"], best, atol=1e-7)
        spread = mean(tree, found["margin"] ** 2, everywhere) - mean(tree, found["margin"], everywhere) ** 2
        kept = 1 - mean(tree, (found["margin"] - best) ** 2, everywhere) / spread
        np.testing.assert_allclose(data["margin_kept"], kept, atol=1e-7)
        wrong = (data["reconstruction"] >= 0).values != (found["label"] == 1).values
        np.testing.assert_allclose(data["wrong"], mean(tree, wrong, found["decidable"].values), atol=1e-12)


def test_prompt_changes_the_law_that_enters():
    tree = audited("aliased")
    data, (model, _) = answers_data.prompt(tree), PAIRS["aliased"][0]()
    first = model.initial.numpy() @ model.transition.numpy()
    after = (first * tree["prompt/prompt"]["rows"].values[0]) @ model.transition.numpy()
    np.testing.assert_allclose(data["law"], [first, after / after.sum()], atol=1e-15)
    assert data["needed"].values.tolist() == [1, 0, 1]
    assert data["head"].values.tolist() == ["learned", "constructed"]
    assert data["verdict"].values.tolist() == ["not recoverable", "recoverable"]
    assert data["wrong"].sel(question="head") > 0.1
    assert data["wrong"].sel(question="prompt") == 0
    np.testing.assert_allclose(np.abs(data["score"]).max("sequence"), 1)


@pytest.mark.parametrize("question", ["head", "prompt"])
@pytest.mark.parametrize("name", ["aliased", "wei2021", "classes"])
def test_scores_are_wrong_where_their_sign_is(name, question):
    tree = audited(name)
    data, found = answers_data.prompt(tree).sel(question=question), tree["exact_posterior"].to_dataset()
    possible = data["score"].notnull().values
    positive = found["label"].values == 1 if name != "classes" else np.ones(len(possible), dtype=bool)
    wrong = (data["score"].values >= 0) != positive
    np.testing.assert_allclose(
        data["wrong"], mean(tree, wrong, possible & (found["decidable"].values == 1)), atol=1e-12
    )


def test_one_label_needs_no_learned_head():
    tree = audited("one-label")
    heads = tree["head"].children
    assert "head-learned" not in heads
    data = answers_data.prompt(tree)
    assert (data["wrong"].isnull() == [kind == "" for kind in data["head"].values]).all()


def test_score_of_attention_is_the_exact_probability():
    tree = audited("memory")
    (model, _), tokens = PAIRS["memory"][0](), tree["observed_data"]["tokens"].values
    for sequence in (0, 7):
        data = answers_data.attention(tree, sequence)
        exact = ppl_hmm.posterior(model, tokens[[sequence]]).smoothed[0, :, 1].numpy()
        np.testing.assert_array_equal(data["tokens"], tokens[sequence])
        np.testing.assert_allclose(data["probability"], exact)
        np.testing.assert_allclose(data["score"], exact, atol=1e-12)
        best = np.isclose(exact, exact.max(), atol=1e-9)
        np.testing.assert_allclose(data["attention"], best / best.sum())
    sizes = np.abs(tree["exact_posterior"]["margin"].values)
    assert sizes[answers_data.attention(tree).attrs["sequence"]] == np.sort(sizes)[40]


def test_lengths_and_transfer_are_the_diagnostics(tree):
    data = model_data.lengths(tree)
    for group in ("information", "forgetting"):
        for name, values in tree[f"diagnostics/{group}"].to_dataset().items():
            xr.testing.assert_equal(data[name], values)
    if "transfer" in tree["diagnostics"].children:
        shown = answers_data.transfer(tree)
        bounds = shown["sharp_bound"].to_series()
        harmless = bounds[bounds <= 0.01]
        np.testing.assert_equal(shown["harmless"].item(), harmless.index.max() if len(harmless) else np.nan)


def table(**changes):
    values = {
        "verdict": ["recoverable", "undecided", "recoverable", "not recoverable"],
        "sigma_min": [0.1, 0.0, 1e-9, 1e-3],
        "residual": [0.0, 0.3, 1e-12, 0.5],
        "learned_accuracy": [1.0, 0.7, np.nan, 0.8],
    }
    return xr.Dataset({name: ("model", column) for name, column in (values | changes).items()})


def test_certificates_leave_out_models_without_a_head():
    data = answers_data.certificates(table())
    assert data["verdict"].values.tolist() == ["recoverable", "undecided", "not recoverable"]
    assert data.attrs["left_out"] == 1


@pytest.mark.parametrize("name", ["verdict", "sigma_min", "residual", "learned_accuracy"])
def test_certificates_name_what_is_missing(name):
    with pytest.raises(InvalidInput, match=f"without {name}"):
        answers_data.certificates(table().drop_vars(name))


# What is available.


def test_which_figures_a_tree_has():
    assert available(audited("aliased")) == OF_HMM
    assert available(audited("wei2021")) == [name for name in OF_HMM if name != "simplex"]
    assert available(audited("memory")) == [
        "singular-values",
        "margins",
        "linear-map",
        "attention",
        "lengths",
        "transfer",
    ]
    assert "attention" not in available(audited("unread-cell"))
    assert available(xr.DataTree()) == []


@pytest.mark.parametrize(
    ("name", "figure", "message"),
    [
        ("memory", "prompt", "group /recoverability/prompt.*draw 'attention'"),
        ("unread-cell", "attention", "a state that reads the cell, got none"),
        ("aliased", "attention", "group /recoverability/attention.*draw 'prompt'"),
        ("wei2021", "simplex", "three states.*got one on 6; draw 'linear-map'"),
        ("memory", "simplex", "three states.*got one on 2"),
        ("aliased", "nonsense", "unknown figure: expected one of .*prompt.*, got 'nonsense'"),
    ],
)
def test_what_cannot_be_drawn_says_why(name, figure, message):
    with pytest.raises(InvalidInput, match=message):
        draw_audit(figure, audited(name))


def test_tree_of_something_else():
    with pytest.raises(InvalidInput, match="audit returned"):
        draw_audit("lengths", xr.DataTree.from_dict({"/results": xr.Dataset()}))


def test_more_classes_than_colours():
    model = ppl_hmm.random_hmm("dirichlet", 3, 3, 0)
    tree = ppl_hmm.audit(model, ppl_hmm.PosteriorTask(np.eye(4, 3)), length=3, seed=0)
    with pytest.raises(InvalidInput, match="at most 3 classes, got 4; draw 'margins'"):
        draw_audit("simplex", tree)
    assert len(draw_audit("margins", tree).axes) == 4


# What is drawn.


def test_every_figure_has_titles_and_labels_and_leaves_pyplot_alone(tree):
    before = pyplot.get_fignums()
    for name in available(tree):
        figure = draw_audit(name, tree)
        assert isinstance(figure, Figure)
        assert figure.get_suptitle() or figure.axes[0].get_title()
        assert len(labels_of(figure)) == len(set(labels_of(figure)))
        if name != "simplex":
            assert figure.axes[-1].get_xlabel()
            assert figure.axes[0].get_ylabel() or figure.get_supylabel()
        figure.draw_without_rendering()
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("name", ["aliased", "memory"])
def test_every_figure_is_written(name, tmp_path):
    for figure in available(audited(name)):
        paths = save(draw_audit(figure, audited(name)), tmp_path / figure)
        assert [path.suffix for path in paths] == [".png", ".svg"]
        assert all(path.stat().st_size > 1000 for path in paths)


def test_every_figure_is_among_those_written():
    of_labels = {"learned", "learning-curve"}  # of audits without a model: test_labelled_audits
    assert {*available(audited("aliased")), *available(audited("memory"))} == set(AUDIT_FIGURES) - of_labels


def test_lines_are_the_spectra():
    tree = audited("wei2021")
    data, axes = model_data.singular_values(tree), draw_audit("singular-values", tree).axes[0]
    names = list(dict.fromkeys(data["same_as"].values))
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    assert len(lines) == len(names)
    for line, name in zip(lines, names, strict=True):
        shown = data["share"].sel(matrix=name).dropna("singular_value").values
        np.testing.assert_array_equal(line.get_xdata(), 1 + np.arange(len(shown)))
        np.testing.assert_allclose(line.get_ydata(), shown.clip(min=1e-16))
    heights = {line.get_ydata()[0] for line in axes.lines} & {1e-12, 1e-9, 1e-6, 1e-3}
    assert len(heights) == 4


@pytest.mark.parametrize("name", ["aliased", "wei2021", "classes"])
def test_histograms_have_the_height_of_the_shares(name):
    tree = audited(name)
    data, figure = model_data.margins(tree), draw_audit("margins", tree)
    drawn = [fill for axes in figure.axes for fill in axes.collections]
    assert len(drawn) == data.sizes["class"]
    for fill, share in zip(drawn, data["share"].values, strict=True):
        np.testing.assert_allclose(fill.get_paths()[0].vertices[:, 1].max(), 100 * share.max())
    (bar,) = figure.axes[0].containers[0]
    np.testing.assert_allclose(bar.get_height(), 100 * data["undecidable"])
    assert labels_of(figure)[:2] == ["class 0", "class 1"]
    assert "undecidable" in labels_of(figure)[-1]


def test_triangle_rings_the_witness():
    tree = audited("aliased")
    data, figure = model_data.simplex(tree), draw_audit("simplex", tree)
    axes = figure.axes[0]
    shown = np.concatenate([group.get_offsets() for group in axes.collections])
    assert len(shown) == data.sizes["sequence"]
    ringed = next(line for line in axes.lines if line.get_label() == "texts of the witness")
    np.testing.assert_allclose(
        ringed.get_xydata(), simplex_coordinates(data["posterior"].values[data["witness"].values])
    )
    assert f"{len(data['witness'])} ringed texts" in figure.get_suptitle()


def test_margins_against_reconstructions():
    tree = audited("memory")
    data, (texts, bars) = model_data.linear_map(tree), draw_audit("linear-map", tree).axes
    for group, c in zip(texts.collections, np.unique(data["label"]), strict=True):
        chosen = data.isel(sequence=(data["label"] == c).values)
        np.testing.assert_allclose(group.get_offsets(), np.c_[chosen["margin"], chosen["reconstruction"]])
    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], 100 * data["kept"])


def test_bars_are_the_laws_that_enter():
    tree = audited("aliased")
    data, (laws, before, after) = answers_data.prompt(tree), draw_audit("prompt", tree).axes
    heights = [[bar.get_height() for bar in bars] for bars in laws.containers]
    np.testing.assert_array_equal(heights, data["law"])
    assert laws.lines[0].get_xdata().tolist() == [0, 2]
    assert "not recoverable" in before.get_title()
    assert "0 % wrong" in after.get_title()
    assert sum(len(group.get_offsets()) for group in after.collections) == data.sizes["sequence"]
    low, high = after.get_ylim()
    assert low < data["score"].min() < data["score"].max() < high


def test_attention_is_drawn_in_lines_of_words():
    model, task = ppl_hmm.example("memory")
    tree = ppl_hmm.audit(model, task, n_sequences=30, length=45, seed=1)
    data, figure = answers_data.attention(tree), draw_audit("attention", tree)
    assert len(figure.axes) == 3
    heights = np.concatenate(
        [[[bar.get_height() for bar in bars] for bars in axes.containers] for axes in figure.axes], axis=1
    )
    np.testing.assert_allclose(heights, [data["score"], data["attention"]])
    exact = np.concatenate([axes.lines[0].get_ydata() for axes in figure.axes])
    np.testing.assert_allclose(exact, data["probability"])
    assert figure.axes[2].get_xticklabels()[0].get_text() == f"{int(data['tokens'][40])}\n40"


def test_series_by_length_and_bounds():
    tree = audited("memory")
    data, (information, accuracy, distance) = model_data.lengths(tree), draw_audit("lengths", tree).axes
    np.testing.assert_array_equal(information.lines[0].get_ydata(), data["information"])
    np.testing.assert_array_equal(information.lines[1].get_ydata(), [data["prior_entropy"].item()] * 2)
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), 100 * data["bayes_accuracy"])
    np.testing.assert_array_equal(distance.lines[0].get_ydata(), data["truncation_distance"][:-1])
    shown = answers_data.transfer(tree)
    bound, sharp = draw_audit("transfer", tree).axes[0].lines[:2]
    for line, name in ((bound, "bound"), (sharp, "sharp_bound")):
        np.testing.assert_array_equal(line.get_ydata(), shown[name].values[shown[name] >= 1e-4])


def test_certificates_by_verdict():
    left, right = draw_certificates(table()).axes
    assert [len(group.get_offsets()) for group in left.collections] == [1, 1, 1]
    np.testing.assert_allclose(left.collections[1].get_offsets(), [[1e-17, 70]])
    np.testing.assert_allclose(right.collections[0].get_offsets(), [[1e-16, 100]])
    labels = labels_of(left.figure)
    assert labels[0] == "recoverable: 1 of 1 models reach 99.5 %"


def test_figures_of_a_tree_read_back(tmp_path):
    tree = audited("aliased")
    tree.to_netcdf(tmp_path / "audit.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "audit.nc", engine="h5netcdf") as again:
        assert available(again) == OF_HMM
        for name in OF_HMM:
            xr.testing.assert_equal(AUDIT_FIGURES[name].data(again).load(), AUDIT_FIGURES[name].data(tree))


def test_an_audit_may_be_a_branch():
    larger = xr.DataTree.from_dict({"/": xr.Dataset(), "/first": audited("aliased")})
    assert available(larger["first"]) == OF_HMM
