"""An order of states that does not depend on how they are numbered.

The likelihood of text is the same whatever the states are called, so that a posterior over models has each of them K!
times over. States are put in the lexicographic order of what is known of each one alone: its row of features. Where
two have equal features, the chain tells them apart: by the probabilities of their moves to and from states that are
told apart already, again and again (colour refinement). States that this leaves tied are tried one by one, and the
least of the matrices that result is taken; mostly the tied are symmetric, and all lead to the same one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def canonical_order(features: Float[ndarray, "K n"], transition: Float[ndarray, "K K"]) -> Int[ndarray, " K"]:
    """Return the canonical order of K states by rows of features and their moves.

    Permuting the states of both arrays permutes what is returned, so that features[order] and
    transition[order][:, order] stay the same, bit for bit.

    Cost O(K log K) comparisons of rows where no two are equal; else O(K²) for each pass of the refinement, of which
    ties take O(K³) where the tied states are symmetric.
    """
    return _least(_refined(_ranks(features), transition), transition)


def _ranks(rows: ndarray) -> ndarray:
    """Return the number (K,) of each row among the different ones, in lexicographic order."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _refined(colours: ndarray, transition: ndarray) -> ndarray:
    """Return colours (K,) split by moves to and from each colour, until no move tells more states apart."""
    n_colours = colours.max() + 1
    while n_colours < len(colours):
        out, into = (
            np.take_along_axis(moves, np.lexsort((moves, np.broadcast_to(colours, moves.shape))), axis=1)
            for moves in (transition, transition.T)
        )
        colours = _ranks(np.column_stack([colours, transition.diagonal(), out, into]))
        if colours.max() + 1 == n_colours:
            break
        n_colours = colours.max() + 1
    return colours


def _least(colours: ndarray, transition: ndarray) -> ndarray:
    """Return the order that refines the colours and whose transition matrix is the least in lexicographic order."""
    different = {_moved(_first(branch, transition), transition): branch for branch in _branches(colours, transition)}
    orders = [_least(branch, transition) for branch in different.values()]
    return min(orders, key=lambda order: _moved(order, transition)) if orders else np.argsort(colours)


def _first(colours: ndarray, transition: ndarray) -> ndarray:
    """Return some order that refines the colours: where tied states are symmetric, any does."""
    while (branch := next(_branches(colours, transition), None)) is not None:
        colours = branch
    return np.argsort(colours)


def _branches(colours: ndarray, transition: ndarray) -> Iterator[ndarray]:
    """Yield the colours with one of the first tied states put before the others, and refined; none without ties."""
    tied = np.flatnonzero(np.bincount(colours) > 1)
    for state in np.flatnonzero(colours == tied[0]) if len(tied) else ():
        chosen = np.arange(len(colours)) != state
        yield _refined(_ranks(np.column_stack([colours, chosen])), transition)


def _moved(order: ndarray, transition: ndarray) -> tuple[float, ...]:
    return tuple(transition[np.ix_(order, order)].ravel().tolist())
