"""Relabelling finds the order of the pivot, and the order that a draw came with changes no bit."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings, strategies as st

from ppl_hmm import HMM, InvalidInput, fit_bayes, random_hmm, relabel, sample
from ppl_hmm.models import MemoryHMM

DRAWS = ("chain", "draw")


def tree_of(models, lp, **more):
    """Return a fit's tree of a batch (C,D) of models."""
    by_draw = {name: ((*DRAWS, *dims), getattr(models, name).numpy()) for name, dims in HMM.dimensions.items()}
    posterior = xr.Dataset(by_draw | more)
    groups = {"posterior": posterior, "sample_stats": xr.Dataset({"lp": (DRAWS, lp)})}
    best = np.unravel_index(lp.argmax(), lp.shape)
    groups["model"] = models[int(best[0]), int(best[1])].to_dataset()
    return xr.DataTree.from_dict(groups)


def permuted(models, orders):
    """Return models (C,D) with their states in orders (C,D,K)."""
    rows = torch.as_tensor(orders)
    transition = models.transition.gather(2, rows[..., None].expand(models.transition.shape))
    return HMM(
        models.initial.gather(2, rows),
        transition.gather(3, rows[..., None, :].expand(transition.shape)),
        models.emission.gather(2, rows[..., None].expand(models.emission.shape)),
    )


def orders_of(rng, n_chains, n_draws, n_states):
    return np.array([[rng.permutation(n_states) for _ in range(n_draws)] for _ in range(n_chains)])


def assert_bitwise_equal(one, other):
    for name in one:
        assert np.array_equal(one[name].values, other[name].values), name


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n_states=st.integers(1, 5), kind=st.sampled_from(["generic", "zeros", "repeated"]))
def test_permuting_the_states_of_any_draw_changes_no_bit(seed, n_states, kind):
    rng = np.random.default_rng(seed)
    batch = (2, 3)
    initial, transition, emission = (
        rng.dirichlet([0.4] * shape[-1], (*batch, *shape[:-1]))
        for shape in ((n_states,), (n_states, n_states), (n_states, 3))
    )
    if kind == "zeros":
        emission = np.eye(3)[emission.argmax(-1)]
    if kind == "repeated" and n_states > 1:
        emission[..., 1, :] = emission[..., 0, :]
    models = HMM(initial, transition, emission)
    lp = rng.normal(size=batch)
    others = permuted(models, orders_of(rng, *batch, n_states))
    one, other = relabel(tree_of(models, lp)), relabel(tree_of(others, lp))
    assert_bitwise_equal(one["posterior"], other["posterior"])
    assert_bitwise_equal(one["model"], other["model"])


def test_draws_near_a_pivot_are_put_in_its_order():
    rng = np.random.default_rng(0)
    pivot = random_hmm("dirichlet", 4, 6, seed=3)
    fields = (rng.dirichlet(5000 * row.numpy() + 1e-3, (2, 20)) for row in pivot.emission)
    emission = np.stack(list(fields), 2)
    models = HMM(pivot.initial.expand(2, 20, 4), pivot.transition.expand(2, 20, 4, 4), emission)
    mixed = permuted(models, orders_of(rng, 2, 20, 4))
    extra = {"states_seen": ((*DRAWS, "state"), mixed.initial.numpy()), "bound": (DRAWS, rng.normal(size=(2, 20)))}
    found = relabel(tree_of(mixed, rng.normal(size=(2, 20)), **extra), pivot)["posterior"]
    for name in HMM.dimensions:
        np.testing.assert_array_equal(found[name].values, getattr(models, name).numpy())
    np.testing.assert_array_equal(found["states_seen"].values, models.initial.numpy())
    np.testing.assert_array_equal(found["bound"].values, extra["bound"][1])


def test_states_that_emit_alike_are_told_apart_by_what_follows():
    follows = HMM([1.0, 0, 0], [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[0.5, 0.5], [0.5, 0.5], [0, 1]])
    batch = HMM.stack([HMM.stack([follows] * 5)])
    mixed = permuted(batch, orders_of(np.random.default_rng(1), 1, 5, 3))
    found = relabel(tree_of(mixed, np.zeros((1, 5))), follows)["posterior"]
    np.testing.assert_array_equal(found["transition"].values, batch.transition.numpy())


def test_a_fit_is_relabelled_and_the_rest_is_untouched():
    texts = sample(random_hmm("dirichlet", 2, 3, seed=0), 20, length=10, seed=0).tokens
    tree = fit_bayes(texts, 2, method="gibbs", chains=2, draws=10, tune=5, seed=0)
    before = tree.copy(deep=True)
    found = relabel(tree)
    xr.testing.assert_identical(tree, before)
    for group in set(tree.children) - {"posterior", "model"}:
        xr.testing.assert_identical(found[group].to_dataset(), tree[group].to_dataset())
    for name in ("sigma_min", "log_evidence", "transition_trace_squared"):
        xr.testing.assert_identical(found["posterior"][name], tree["posterior"][name])
    assert found.attrs == tree.attrs
    best = tree["sample_stats/lp"].argmax(DRAWS)
    np.testing.assert_array_equal(found["posterior/emission"].isel(best).values, found["model/emission"].values)


TREE = tree_of(HMM.stack([HMM.stack([random_hmm("dirichlet", 2, 3, seed=0)])]), np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("tree", "pivot", "message"),
    [
        (None, None, "tree of relabel: expected the DataTree of fit_bayes, got None"),
        (xr.DataTree(), None, "got a tree without posterior/initial"),
        (TREE.filter(lambda node: node.name != "sample_stats"), None, "got a tree without sample_stats/lp"),
        (TREE, random_hmm("dirichlet", 3, 3, seed=0), r"initial of the pivot: expected shape \(2,\), as the draws'"),
        (TREE, HMM.stack([random_hmm("dirichlet", 2, 3, seed=0)] * 2), "pivot: expected a single HMM"),
        (TREE, 3, "pivot: expected an HMM"),
    ],
)
def test_what_cannot_be_relabelled_is_named(tree, pivot, message):
    with pytest.raises(InvalidInput, match=message):
        relabel(tree, pivot)


CELLS = [0, 1, 0, 1, 1]


def memory_draws(rng, batch, cells=CELLS):
    """Return random models (C,D) with a memory of two values."""
    n_states = len(cells)
    shapes = (2, 2), (n_states,), (n_states, n_states), (2, n_states, 3)
    memory_prior, initial, transition, emission = (
        rng.dirichlet([0.5] * shape[-1], (*batch, *shape[:-1])) for shape in shapes
    )
    return MemoryHMM(memory_prior, initial, transition, np.broadcast_to(cells, initial.shape), emission)


def tree_of_memory(models, lp):
    """Return a fit's tree of a batch (C,D) of models with a memory."""
    laws = {name: each for name, each in MemoryHMM.dimensions.items() if name != "cell_of_state"}
    posterior = xr.Dataset({name: ((*DRAWS, *dims), getattr(models, name).numpy()) for name, dims in laws.items()})
    best = np.unravel_index(lp.argmax(), lp.shape)
    groups = {"posterior": posterior, "sample_stats": xr.Dataset({"lp": (DRAWS, lp)})}
    return xr.DataTree.from_dict({**groups, "model": models[int(best[0]), int(best[1])].to_dataset()})


@pytest.mark.parametrize("seed", range(5))
def test_states_that_read_the_same_cell_trade_places(seed):
    """Permuting them changes no bit, and near a pivot they come in its order."""
    rng = np.random.default_rng(seed)
    models, lp = memory_draws(rng, (2, 3)), rng.normal(size=(2, 3))
    orders = np.empty((2, 3, 5), int)
    for order in orders.reshape(-1, 5):
        for cell in (0, 1):
            places = np.flatnonzero(np.array(CELLS) == cell)
            order[places] = rng.permutation(places)
    rows = torch.as_tensor(orders)
    transition = models.transition.gather(2, rows[..., None].expand(models.transition.shape))
    mixed = MemoryHMM(
        models.memory_prior,
        models.initial.gather(2, rows),
        transition.gather(3, rows[..., None, :].expand(transition.shape)),
        models.cell_of_state,
        models.emission.gather(3, rows[:, :, None, :, None].expand(models.emission.shape)),
    )
    one, other = relabel(tree_of_memory(models, lp)), relabel(tree_of_memory(mixed, lp))
    assert_bitwise_equal(one["posterior"], other["posterior"])
    assert_bitwise_equal(one["model"], other["model"])
    pivot = models[0, 0]
    found = relabel(tree_of_memory(mixed, lp), pivot)["posterior"].isel(chain=0, draw=0)
    for name in ("initial", "transition", "emission", "memory_prior"):
        np.testing.assert_array_equal(found[name].values, getattr(pivot, name).numpy())


def test_a_pivot_of_other_cells_is_named():
    rng = np.random.default_rng(0)
    tree = tree_of_memory(memory_draws(rng, (1, 1)), np.zeros((1, 1)))
    with pytest.raises(InvalidInput, match="cell_of_state of the pivot: expected cells"):
        relabel(tree, memory_draws(rng, (1, 1), [0, 0, 1, 1, 1])[0, 0])
    with pytest.raises(InvalidInput, match="pivot: expected a MemoryHMM"):
        relabel(tree, random_hmm("dirichlet", 5, 3, seed=0))


def test_a_fit_with_a_memory_is_relabelled():
    model = MemoryHMM([[0.5, 0.5]], [1.0], [[1.0]], [0], [[[0.9, 0.1]], [[0.1, 0.9]]])
    texts = sample(model, 10, length=5, seed=0).tokens
    tree = fit_bayes(texts, 1, method="gibbs", chains=1, draws=3, tune=1, seed=0, memory=(2, [0]))
    assert_bitwise_equal(relabel(tree)["posterior"], tree["posterior"])
