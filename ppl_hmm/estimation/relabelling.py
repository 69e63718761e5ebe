"""Relabel the states of posterior draws: hidden states have no order, and each draw of a posterior has its own.

A state is known by the tokens to come: it is the row of W, AW and A²W, the laws of the token that it emits and of the
two after it. States of a draw are matched with those of a pivot so that the squared Hellinger distances of these laws,
Σ (√p − √q)², have the least sum. With a memory the laws are those under each value, all cells holding it, and states
trade places with states that read the same cell.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM, MemoryHMM

_DRAWS = (schema.CHAIN, schema.DRAW)
Laws = dict[str, np.ndarray]  # of N draws by name of the model's field; the pivot's have no axis of draws
#: How many steps ahead a state's tokens are compared.
_STEPS = 2


def relabel(tree: xr.DataTree, pivot: HMM | MemoryHMM | None = None) -> xr.DataTree:
    """Return the tree of a fit with the states of all draws in one order.

    Every variable of ``/posterior`` that has states is put in order, the others are as they were. The order that a draw
    came with changes nothing, to the last bit. Quantities that do not depend on the order need no relabelling. With a
    memory, states that read different cells keep apart, and the values of cells keep their numbers.

    Parameters
    ----------
    tree
        Draws of :func:`~ppl_hmm.fit_bayes`.
    pivot
        A model, in whose order the states are put. By default the draw of highest posterior density; ``/model`` then is
        in the same order.

    Raises
    ------
    InvalidInput
        No tree of posterior draws; a pivot of another kind or size, or whose states read other cells.

    See Also
    --------
    fit_bayes : Draws models from their posterior.

    Notes
    -----
    Where the posterior is broad, or has several modes, no order of states makes draws comparable: relabelled means are
    then means of different things. Cost O(C·D·K²·(K+V)).
    Source: Stephens (2000), with the pivot of Marin, Mengersen & Robert (2005).

    Examples
    --------
    >>> from ppl_hmm import HMM, fit_bayes, relabel, sample
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    >>> texts = sample(model, 50, length=20, seed=0).tokens
    >>> tree = fit_bayes(texts, 2, method="gibbs", chains=2, draws=50, tune=50, seed=0)
    >>> relabel(tree, model)["posterior/emission"].mean(("chain", "draw")).values.round(1)[:, 0].tolist()
    [0.8, 0.1]
    """
    kind = _kind_of(tree)
    laws, cells = _laws_of_draws(tree, kind), _cells_of(tree, kind)
    order = _canonical_order(laws, cells)
    laws = _reordered(laws, kind, order)
    if pivot is None:
        best = int(np.argmax(tree[f"{schema.SAMPLE_STATS}/{schema.LP}"].transpose(*_DRAWS).values))
        target = {name: law[best] for name, law in laws.items()}
    else:
        target = _checked_pivot(pivot, kind, laws, cells)
    order = np.take_along_axis(order, _matched(_tokens_to_come(laws), _tokens_to_come(target), cells), -1)
    groups = {path: node.to_dataset(inherit=False) for path, node in tree.subtree_with_keys}
    groups[schema.POSTERIOR] = _put_in_order(groups[schema.POSTERIOR], order)
    if pivot is None and schema.MODEL in groups:
        groups[schema.MODEL] = groups[schema.MODEL].assign(
            {name: (kind.dimensions[name], law) for name, law in target.items()}
        )
    return xr.DataTree.from_dict(groups, name=tree.name)


def _kind_of(tree: xr.DataTree) -> type[HMM] | type[MemoryHMM]:
    """Return the kind of the models drawn; raise :class:`InvalidInput` where a part of the tree is missing."""
    expected = "the DataTree of fit_bayes"
    if not isinstance(tree, xr.DataTree):
        raise InvalidInput("tree of relabel", expected, foreign.described(tree), "pass what fit_bayes returns")
    with_memory = schema.POSTERIOR in tree.children and schema.CELL in tree[schema.POSTERIOR].dims
    kind = MemoryHMM if with_memory else HMM
    needed = dict.fromkeys(_laws_of(kind), schema.POSTERIOR) | {schema.LP: schema.SAMPLE_STATS}
    needed |= dict.fromkeys(kind.integers, schema.MODEL)
    for name, group in needed.items():
        if name not in tree.children.get(group, {}):
            got = f"a tree without {group}/{name}"
            raise InvalidInput("tree of relabel", expected, got, "pass what fit_bayes returns")
    return kind


def _laws_of(kind: type[HMM] | type[MemoryHMM]) -> list[str]:
    """Return the names of a model's laws."""
    return [name for name in kind.dimensions if name not in kind.integers]


def _laws_of_draws(tree: xr.DataTree, kind: type[HMM] | type[MemoryHMM]) -> Laws:
    """Return the laws of all draws (N,…) by name of the model's field."""
    posterior = tree[schema.POSTERIOR]
    arrays = {name: posterior[name].transpose(*_DRAWS, *kind.dimensions[name]).values for name in _laws_of(kind)}
    return {name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()}


def _cells_of(tree: xr.DataTree, kind: type[HMM] | type[MemoryHMM]) -> np.ndarray:
    """Return the cell (K,) that each state reads: without a memory the same one."""
    if kind is MemoryHMM:
        return tree[schema.MODEL].to_dataset()["cell_of_state"].values
    return np.zeros(tree[schema.POSTERIOR].sizes[schema.STATE], int)


def _checked_pivot(
    pivot: HMM | MemoryHMM, kind: type[HMM] | type[MemoryHMM], laws: Laws, cells: np.ndarray
) -> Laws:
    foreign.require(pivot, kind, "pivot", f"{'an' if kind is HMM else 'a'} {kind.__name__} of the draws' size")
    pivot.require_single("pivot")
    given = {name: getattr(pivot, name).detach().cpu().double().numpy() for name in laws}
    for name, law in given.items():
        if law.shape != laws[name].shape[1:]:
            wanted, got = f"shape {laws[name].shape[1:]}, as the draws'", f"shape {law.shape}"
            raise InvalidInput(f"{name} of the pivot", wanted, got, "pass a model with as many states and tokens")
    if isinstance(pivot, MemoryHMM) and not np.array_equal(pivot.cell_of_state.cpu().numpy(), cells):
        wanted, got = (f"cells {list(map(int, each))}" for each in (cells, pivot.cell_of_state))
        raise InvalidInput("cell_of_state of the pivot", wanted, got, "pass a model whose states read the draws' cells")
    return given


def _canonical_order(laws: Laws, cells: np.ndarray) -> np.ndarray:
    """Return an order of the states (N,K) in which every numbering of the same states gives the same arrays.

    By what does not depend on the numbering: a state's law of tokens, then its probabilities to begin and to stay, then
    those to leave and to be entered, sorted. States that tie in all of these are interchangeable in this respect. Each
    place keeps the cell that its state reads.
    """
    transition = laws["transition"]
    keys = [
        np.broadcast_to(cells[:, None], (len(transition), len(cells), 1)),
        _by_state(laws),
        laws["initial"][..., None],
        np.diagonal(transition, axis1=1, axis2=2)[..., None],
        np.sort(transition, -1),
        np.sort(transition, -2).swapaxes(-1, -2),
    ]
    columns = np.moveaxis(np.concatenate(keys, -1), -1, 0)
    order = np.empty(transition.shape[:2], int)
    order[:, np.argsort(cells, kind="stable")] = np.lexsort(columns[::-1], axis=-1)  # the last key counts first
    return order


def _by_state(laws: Laws) -> np.ndarray:
    """Return the laws of tokens of each state (…,K,V); with a memory those under its m values (…,K,m·V)."""
    emission = laws["emission"]
    if emission.ndim == laws["transition"].ndim:
        return emission
    by_state = np.moveaxis(emission, -3, -2)
    return by_state.reshape(*by_state.shape[:-2], -1)


def _reordered(laws: Laws, kind: type[HMM] | type[MemoryHMM], order: np.ndarray) -> Laws:
    """Return laws with their states in an order (N,K)."""
    return {name: _taken(law, kind.dimensions[name], order) for name, law in laws.items()}


def _taken(values: np.ndarray, dimensions: tuple[str, ...], order: np.ndarray) -> np.ndarray:
    """Return values (N,…) with all their axes of states in an order (N,K)."""
    for axis, dimension in enumerate(dimensions, start=1):
        if dimension in (schema.STATE, schema.STATE_NEXT):
            shape = [len(order), *([1] * len(dimensions))]
            shape[axis] = order.shape[1]
            values = np.take_along_axis(values, order.reshape(shape), axis)
    return values


def _put_in_order(posterior: xr.Dataset, order: np.ndarray) -> xr.Dataset:
    """Return the draws with their states in an order (N,K), N draws of all chains."""

    def ordered(variable: xr.DataArray) -> xr.DataArray:
        if not {schema.STATE, schema.STATE_NEXT} & set(variable.dims) or not set(_DRAWS) <= set(variable.dims):
            return variable
        first = variable.transpose(*_DRAWS, ...)
        dimensions = tuple(map(str, first.dims[2:]))
        values = _taken(first.values.reshape(-1, *first.shape[2:]), dimensions, order)
        return first.copy(data=values.reshape(first.shape)).transpose(*variable.dims)

    return posterior.map(ordered, keep_attrs=True)


def _tokens_to_come(laws: Laws) -> np.ndarray:
    """Return √ of the laws of tokens (…,K,3V) that a state and the two after it emit."""
    law, parts = _by_state(laws), []
    for _ in range(1 + _STEPS):
        parts.append(np.sqrt(law))
        law = laws["transition"] @ law
    return np.concatenate(parts, -1)


def _matched(states: np.ndarray, pivot: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return for each draw (N) the state that takes the place of each of the pivot's (N,K), of those of its cell."""
    affinity = np.einsum("kf,njf->nkj", pivot, states)  # the distance is 2 less twice this, for each of the laws
    affinity = np.where(cells[:, None] == cells, affinity, -np.inf)
    return np.stack([linear_sum_assignment(each, maximize=True)[1] for each in affinity])
