"""Relabel the states of posterior draws: hidden states have no order, and each draw of a posterior has its own.

A state is known by the tokens to come: it is the row of W, AW and A²W, the laws of the token that it emits and of the
two after it. States of a draw are matched with those of a pivot so that the squared Hellinger distances of these laws,
Σ (√p − √q)², have the least sum.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM

_DRAWS = (schema.CHAIN, schema.DRAW)
_LAWS = HMM.dimensions
Laws = dict[str, np.ndarray]  # of N draws by name of the model's field; the pivot's have no axis of draws
#: How many steps ahead a state's tokens are compared.
_STEPS = 2


def relabel(tree: xr.DataTree, pivot: HMM | None = None) -> xr.DataTree:
    """Return the tree of a fit with the states of all draws in one order.

    Every variable of ``/posterior`` that has states is put in order, the others are as they were. The order that a draw
    came with changes nothing, to the last bit. Quantities that do not depend on the order need no relabelling.

    Parameters
    ----------
    tree
        Draws of :func:`~ppl_hmm.fit_bayes`, without a memory.
    pivot
        A model, in whose order the states are put. By default the draw of highest posterior density; ``/model`` then is
        in the same order.

    Raises
    ------
    InvalidInput
        No tree of posterior draws; draws with a memory; a pivot of another size.

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
    laws = _laws_of_draws(tree)
    order = _canonical_order(laws)
    laws = _reordered(laws, order)
    if pivot is None:
        best = int(np.argmax(tree[f"{schema.SAMPLE_STATS}/{schema.LP}"].transpose(*_DRAWS).values))
        target = {name: law[best] for name, law in laws.items()}
    else:
        target = _checked_pivot(pivot, laws)
    order = np.take_along_axis(order, _matched(_tokens_to_come(laws), _tokens_to_come(target)), -1)
    groups = {path: node.to_dataset(inherit=False) for path, node in tree.subtree_with_keys}
    groups[schema.POSTERIOR] = _put_in_order(groups[schema.POSTERIOR], order)
    if pivot is None and schema.MODEL in groups:
        groups[schema.MODEL] = groups[schema.MODEL].assign(
            {name: (dimensions, target[name]) for name, dimensions in _LAWS.items()}
        )
    return xr.DataTree.from_dict(groups, name=tree.name)


def _laws_of_draws(tree: xr.DataTree) -> Laws:
    """Return the laws of all draws (N,…) by name of the model's field."""
    expected = "the DataTree of fit_bayes"
    if not isinstance(tree, xr.DataTree):
        raise InvalidInput("tree of relabel", expected, foreign.described(tree), "pass what fit_bayes returns")
    needed = dict.fromkeys(_LAWS, schema.POSTERIOR) | {schema.LP: schema.SAMPLE_STATS}
    for name, group in needed.items():
        if name not in tree.children.get(group, {}):
            got = f"a tree without {group}/{name}"
            raise InvalidInput("tree of relabel", expected, got, "pass what fit_bayes returns")
    posterior = tree[schema.POSTERIOR]
    if schema.CELL in posterior.dims:
        remedy = "compare quantities that do not depend on the order of states"
        raise InvalidInput("draws to relabel", "models without a memory", "draws with a memory", remedy)
    arrays = {name: posterior[name].transpose(*_DRAWS, *each).values for name, each in _LAWS.items()}
    return {name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()}


def _checked_pivot(pivot: HMM, laws: Laws) -> Laws:
    foreign.require(pivot, HMM, "pivot", "an HMM of the draws' size")
    pivot.require_single("pivot")
    given = {name: getattr(pivot, name).detach().cpu().double().numpy() for name in _LAWS}
    for name, law in given.items():
        if law.shape != laws[name].shape[1:]:
            wanted, got = f"shape {laws[name].shape[1:]}, as the draws'", f"shape {law.shape}"
            raise InvalidInput(f"{name} of the pivot", wanted, got, "pass a model with as many states and tokens")
    return given


def _canonical_order(laws: Laws) -> np.ndarray:
    """Return an order of the states (N,K) in which every numbering of the same states gives the same arrays.

    By what does not depend on the numbering: a state's law of tokens, then its probabilities to begin and to stay, then
    those to leave and to be entered, sorted. States that tie in all of these are interchangeable in this respect.
    """
    transition = laws["transition"]
    keys = [
        laws["emission"],
        laws["initial"][..., None],
        np.diagonal(transition, axis1=1, axis2=2)[..., None],
        np.sort(transition, -1),
        np.sort(transition, -2).swapaxes(-1, -2),
    ]
    columns = np.moveaxis(np.concatenate(keys, -1), -1, 0)
    return np.lexsort(columns[::-1], axis=-1)  # (keys,N,K) to (N,K); the last key counts first


def _reordered(laws: Laws, order: np.ndarray) -> Laws:
    """Return laws with their states in an order (N,K)."""
    return {name: _taken(law, _LAWS[name], order) for name, law in laws.items()}


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
    law, parts = laws["emission"], []
    for _ in range(1 + _STEPS):
        parts.append(np.sqrt(law))
        law = laws["transition"] @ law
    return np.concatenate(parts, -1)


def _matched(states: np.ndarray, pivot: np.ndarray) -> np.ndarray:
    """Return for each draw (N) the state that takes the place of each of the pivot's (N,K)."""
    affinity = np.einsum("kf,njf->nkj", pivot, states)  # the distance is 2 less twice this, for each of the laws
    return np.stack([linear_sum_assignment(each, maximize=True)[1] for each in affinity])
