"""Result trees: what is wrong is named, what is right comes back identical from disk and tells the same."""

import functools
import subprocess
import sys

import arviz_stats
import numpy as np
import pytest
import xarray as xr

import ppl_hmm
from ppl_hmm import InvalidInput, MemoryTask, PosteriorTask, audit, example, random_hmm, random_memory_hmm, validate
from ppl_hmm.inference.sampling import as_tree, sample
from ppl_hmm.storage.layout import LAYOUTS, kind_of

RNG = np.random.default_rng(0)
AUDITS = {
    "exhaustive": lambda: audit(*example("aliased"), length=3, seed=0),
    "sampled": lambda: audit(*example("aliased"), n_sequences=200, length=5, seed=0),
    "memory": lambda: audit(*example("memory"), n_sequences=200, length=4, seed=0),
    "two-cells": lambda: audit(
        random_memory_hmm("recoverable", 3, 2, 8, 0, n_cells=2),
        MemoryTask(np.eye(2), 1),
        n_sequences=50,
        length=3,
        seed=0,
    ),
    "not-flattened": lambda: audit(
        random_memory_hmm("dirichlet", 2, 2, 4, 0, n_cells=8),
        MemoryTask(np.eye(2), 0),
        n_sequences=20,
        length=2,
        seed=0,
    ),
    "three-classes": lambda: audit(
        random_hmm("dirichlet", 3, 4, 0), PosteriorTask(np.eye(3)), n_sequences=80, length=6, seed=0
    ),
    "refuted-three-classes": lambda: audit(
        random_hmm("degenerate", 4, 3, 1, rank=2), PosteriorTask(np.diag([1.0, 2, 3, 4])), length=5, seed=0
    ),
    "ragged": lambda: audit(
        *example("degenerate"), RNG.integers(3, size=(30, 5)), lengths=RNG.integers(0, 6, size=30), seed=0
    ),
    "one-token": lambda: audit(
        ppl_hmm.HMM([0.3, 0.7], np.full((2, 2), 0.5), [[1], [1]]), PosteriorTask(np.eye(2)), length=2, seed=0
    ),
    "one-text": lambda: audit(*example("aliased"), n_sequences=1, length=3, seed=0),
    "no-contexts": lambda: audit(
        ppl_hmm.HMM(
            [0.3, 0.7, 0, 0],
            [[0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0]],
            [[0.5, 0.5], [0.5, 0.5], [1, 0], [0, 1]],
        ),
        PosteriorTask(np.eye(4)[:2]),
        length=3,
        seed=0,
    ),
}


@functools.cache
def made(name):
    return AUDITS[name]()


@functools.cache
def experiment():
    dims = {"approach": 2, "n_states": 1, "seed": 3}
    results = {name: (tuple(dims), np.zeros(tuple(dims.values()))) for name in ("accuracy", "separable", "condition")}
    results["undecidable"] = (("n_states", "seed"), np.zeros((1, 3)))
    return xr.DataTree.from_dict({"/results": xr.Dataset(results)})


@functools.cache
def drawn():
    model = random_hmm("dirichlet", 3, 4, 0)
    return as_tree(model, sample(model, 5, 6, 0), 0)


@functools.cache
def probe():
    model = random_hmm("dirichlet", 2, 2, 0)
    text = sample(model, 5, 4, 0).tokens
    found = ppl_hmm.beliefs(model, text)
    return ppl_hmm.belief_probe(found.filtered, found, model, text)


@functools.cache
def fitted():
    return ppl_hmm.fit_corpus("banana bandana " * 100, n_states=(1, 2), restarts=1, seed=0)


@functools.cache
def checked():
    return ppl_hmm.check_fit(random_hmm("dirichlet", 3, 4, 0), [[0, 1, 2, 3]], n_replicates=2, seed=0)


@functools.cache
def of_a_fit():
    model = random_hmm("dirichlet", 2, 3, 0)
    fit = ppl_hmm.fit_bayes(sample(model, 10, 6, 0).tokens, 2, method="gibbs", chains=2, draws=8, tune=2, seed=0)
    return audit(fit, ppl_hmm.next_token_class([0]), seed=0)


@functools.cache
def of_labels():
    features = np.random.default_rng(0).normal(size=(60, 2))
    return ppl_hmm.audit_features(features, features[:, 0] > 0, seed=0)


TREES = {
    "audit": lambda: made("sampled"),
    "audit of a fit": of_a_fit,
    "audit of labels": of_labels,
    "experiment": experiment,
    "sample": drawn,
    "probe": probe,
    "fit": fitted,
    "checks": checked,
}


# Round trips.


def via_netcdf(tree, path):
    tree.to_netcdf(path / "tree.nc", engine="h5netcdf")
    with xr.open_datatree(path / "tree.nc", engine="h5netcdf") as file:
        return file.load()


def via_zarr(tree, path):
    tree.to_zarr(path / "tree.zarr", zarr_format=2)
    with xr.open_datatree(path / "tree.zarr", engine="zarr") as store:
        return store.load()


@pytest.mark.parametrize(
    ("name", "round_trip"),
    [
        *((name, via_netcdf) for name in AUDITS),
        *((name, via_zarr) for name in ("memory", "refuted-three-classes", "no-contexts")),
    ],
)
def test_audits_come_back_identical_and_tell_the_same(name, round_trip, tmp_path):
    tree = made(name)
    again = round_trip(tree, tmp_path)
    xr.testing.assert_identical(again, tree)
    validate(again)
    assert again.ppl_hmm.verdict == tree.ppl_hmm.verdict
    assert again.ppl_hmm.report() == tree.ppl_hmm.report()
    assert again.ppl_hmm.summary().equals(tree.ppl_hmm.summary())


def test_a_sample_comes_back_identical(tmp_path):
    xr.testing.assert_identical(via_netcdf(drawn(), tmp_path), drawn())
    validate(via_zarr(drawn(), tmp_path))


def test_hard_values_are_among_them():
    """NaN, infinity, empty groups and strings of several lines do occur in these trees."""
    assert np.isnan(made("memory")["recoverability/learned_accuracy"]).any()
    assert np.isinf(made("refuted-three-classes")["diagnostics/conditioning/condition_number"]).any()
    assert np.isinf(made("not-flattened")["recoverability/residual"]).any()
    assert any("\n" in text for text in made("refuted-three-classes")["recoverability/reasons"].values.tolist())
    assert "linear_map" not in made("no-contexts")["diagnostics"].children


def test_what_an_audit_holds_makes_it_again():
    """The model and the task that are in the tree are those that were audited, and are load()ed from its file."""
    model, task = example("memory")
    tree = made("memory")
    assert ppl_hmm.MemoryHMM.from_dataset(tree["model"].to_dataset()).identical(model)
    assert MemoryTask.from_dataset(tree["task"].to_dataset()).identical(task)


# The accessor.


@pytest.mark.parametrize("name", AUDITS)
def test_the_summary_has_a_row_for_each_question(name):
    tree = made(name)
    summary = tree.ppl_hmm.summary()
    with_memory = name in ("memory", "two-cells", "not-flattened")
    of_model = ["attention", "attention-prompt"] if with_memory else ["prompt"]
    assert list(summary.index) == ["head", "masks", *of_model]
    assert summary["verdict"].to_dict() == tree.ppl_hmm.verdict
    assert set(summary["verdict"]) <= {"recoverable", "not recoverable", "undecided"}
    assert ((summary["agreeing"] <= summary["decidable"]) & (summary["agreeing"] >= 0)).all()
    n_texts = tree["observed_data"].sizes["sequence"]
    assert (summary["decidable"] + summary["undecidable"] == n_texts).all()
    assert (summary["agreeing"] == summary["decidable"])[summary["verdict"] == "recoverable"].all()
    for column in summary:
        np.testing.assert_array_equal(summary[column], tree["recoverability"][column])


def test_a_branch_of_a_larger_tree_is_a_tree():
    tree = xr.DataTree.from_dict({"/first": made("sampled"), "/second": drawn()})
    validate(tree["first"])
    validate(tree["second"])
    assert tree["first"].ppl_hmm.report() == made("sampled").ppl_hmm.report()
    with pytest.raises(InvalidInput, match=r"tree.ppl_hmm: expected the tree of an audit, got that of: sample"):
        tree["second"].ppl_hmm  # noqa: B018


def no_audit(kind):
    return {
        "experiment": experiment(),
        "sample": drawn(),
        "nothing": xr.DataTree(),
        "other": xr.DataTree.from_dict({"/posterior": xr.Dataset({"mu": ("chain", [0.0])})}),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    {
        "experiment": "tree.ppl_hmm: expected the tree of an audit, got that of: experiment; pass what audit returns",
        "sample": "tree.ppl_hmm: expected the tree of an audit, got that of: sample; pass what audit returns",
        "nothing": "result tree: expected a group /recoverability, /results, /latent or /prefixes, got none; pass what "
        "audit, an experiment, a probe or a sample wrote",
        "other": "result tree: expected a group /recoverability, /results, /latent or /prefixes, got /posterior; pass "
        "what audit, an experiment, a probe or a sample wrote",
    }.items(),
)
def test_other_trees_have_one_line_to_say(kind, message):
    """The error that a user sees is ours: xarray turns only AttributeErrors into its own."""
    with pytest.raises(InvalidInput) as caught:
        no_audit(kind).ppl_hmm  # noqa: B018
    assert str(caught.value) == message


def test_the_accessor_is_there_once_there_is_an_audit(tmp_path):
    """In a new interpreter, after an audit and on a file, with no other import."""
    via_netcdf(made("exhaustive"), tmp_path)
    code = f"""
import ppl_hmm, xarray
for _ in range(2):
    tree = ppl_hmm.audit(*ppl_hmm.example("aliased"), length=2, seed=0)
    print(tree.ppl_hmm.verdict)
print(xarray.open_datatree({str(tmp_path / "tree.nc")!r}, engine="h5netcdf").ppl_hmm.verdict)
"""
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    verdicts = {"head": "not recoverable", "masks": "recoverable", "prompt": "recoverable"}
    assert process.stdout.splitlines() == 3 * [str(verdicts)]


# Validation.


@pytest.mark.parametrize("kind", TREES)
def test_trees_are_recognised(kind):
    tree = TREES[kind]()
    assert kind_of(tree) == kind
    validate(tree)
    # Groups and variables beyond the layout are allowed, and attributes may be lost.
    more = xr.DataTree.from_dict({name: node.to_dataset() for name, node in tree.subtree_with_keys})
    more["extra"] = xr.DataTree(xr.Dataset({"anything": 1}))
    more.attrs.clear()
    validate(more)
    assert kind_of(more) == kind


PARTS = [(kind, group, name) for kind, groups in LAYOUTS.items() for group, names in groups.items() for name in names]


@pytest.mark.parametrize(("kind", "group"), dict.fromkeys(part[:2] for part in PARTS))
def test_a_missing_group_is_named(kind, group):
    tree = TREES[kind]().copy()
    parent, _, name = group.rpartition("/")
    tree.attrs["kind"] = kind
    children = tree[parent] if parent else tree
    del children[name]
    with pytest.raises(InvalidInput, match=f"^group '/{group}': expected a group of that name, got "):
        validate(tree)


@pytest.mark.parametrize(("kind", "group", "name"), PARTS)
def test_a_missing_variable_and_a_wrong_dimension_are_named(kind, group, name):
    tree = TREES[kind]().copy()
    dataset = tree[group].to_dataset()
    tree[group] = xr.DataTree(dataset.drop_vars(name))
    with pytest.raises(InvalidInput, match=rf"^group '/{group}': expected a variable '{name}', got "):
        validate(tree)
    dims = dataset[name].dims
    renamed = dataset[name].rename({dims[-1]: "wrong"}) if dims else dataset[name].expand_dims("wrong")
    tree[group] = xr.DataTree(dataset.drop_vars(name).assign({name: renamed.variable}))
    with pytest.raises(InvalidInput, match=rf"^variable '{name}' of group '/{group}': expected dimensions .*'wrong'"):
        validate(tree)
    if len(dims) > 1:
        tree[group] = xr.DataTree(dataset.assign({name: dataset[name].transpose(*dims[::-1])}))
        with pytest.raises(InvalidInput, match=rf"^variable '{name}' of group '/{group}'.*rename or transpose"):
            validate(tree)


# ArviZ.


@pytest.mark.parametrize("name", ["sampled", "memory", "three-classes"])
def test_arviz_summarises_the_draws(name):
    tree = made(name)
    draws, n_draws = tree["draws"].to_dataset(), tree["draws"].sizes["draw"]
    assert dict(draws.sizes) == {"chain": 4, "draw": n_draws}
    summary = arviz_stats.summary(tree, group="draws", round_to="none")
    assert list(summary.index) == ["margin", "best_guess", "posterior_entropy"]
    margins, law = (
        tree["exact_posterior"][each].values
        for each in ("margin", "memory" if "memory" in tree["exact_posterior"] else "initial")
    )
    entropy = -np.sum(law * np.log(np.where(law > 0, law, 1)), axis=1)
    for variable, values in {"margin": margins, "best_guess": law.max(1), "posterior_entropy": entropy}.items():
        np.testing.assert_allclose(draws[variable].values.ravel(), values[: 4 * n_draws], atol=1e-13)
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert summary.loc[variable, "mean"] == pytest.approx(values.mean())  # a multiple of four: none is left over
        # Independent draws: ArviZ's estimate of the same error, by autocorrelations, is that up to noise.
        assert summary.loc[variable, "mcse_mean"] == pytest.approx(error, rel=0.5)
    information = tree["diagnostics/information"].to_dataset().isel(length=-1)
    entropies = summary.loc["posterior_entropy"]
    assert (information["prior_entropy"] - information["information"]).item() == pytest.approx(entropies["mean"])
    assert information["information_se"].item() == pytest.approx(entropies["mcse_mean"], rel=0.5)
    assert information["bayes_accuracy"].item() == pytest.approx(summary.loc["best_guess", "mean"])


def test_no_draws_without_a_sample_to_speak_of():
    for name in ("exhaustive", "one-text"):
        assert "draws" not in made(name).children
        validate(made(name))
    few = audit(*example("aliased"), n_sequences=7, length=3, seed=0)["draws"]
    assert few.sizes == {"chain": 4, "draw": 1}  # three left over
