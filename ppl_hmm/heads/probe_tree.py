"""The tree and the table of a probe: layers and controls, fitted alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.base.randomness import CPU, generator
from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.belief_controls import ControlFeatures
from ppl_hmm.heads.prefix_rows import PrefixRows
from ppl_hmm.heads.ridge import held_out_ridge
from ppl_hmm.schema import Control

#: What a probe's tree says it is.
KIND = "probe"
# How often beliefs are dealt out to other prefixes; their R² are averaged.
_SHUFFLES = 5
_LABELS = {Control.RAW_TOKENS: "last {} tokens", Control.MARKOV: "Markov-{}", Control.FUTURE: "{}-token law"}


class ProbeProblem(NamedTuple):
    """What features are to predict, and from which prefixes."""

    rows: PrefixRows
    targets: np.ndarray  # (1+S,N,K): beliefs, then S times those of other prefixes
    weights: np.ndarray  # (N,), of mean one
    folds: np.ndarray  # (N,)

    @classmethod
    def of(
        cls, rows: PrefixRows, weights: np.ndarray, folds: np.ndarray, prefixes: np.ndarray, seed: int
    ) -> ProbeProblem:
        """Return the problem; rows whose ``prefixes`` (N,) are equal get the belief of one other prefix."""
        _, first, number = np.unique(prefixes, return_index=True, return_inverse=True)
        dealt = [first[permutation(len(first), seed, f"shuffle {s}")][number] for s in range(_SHUFFLES)]
        return cls(rows, np.stack([rows.beliefs, *rows.beliefs[dealt]]), weights, folds)

    def probed(self, features: np.ndarray) -> xr.Dataset:
        """Return what ridge regression on features (N,D) reaches."""
        found = held_out_ridge(features, self.targets, self.weights, self.folds)
        variance = self._squares(np.average(self.targets, axis=1, weights=self.weights)[:, None]).mean(-1)
        held_out, in_sample = self._squares(found.predictions), self._squares(found.in_sample)
        r2, in_sample_r2 = (1 - squares.mean(-1) / variance for squares in (held_out, in_sample))
        share = np.bincount(self.folds, self.weights)
        of_fold, n_states = np.bincount(self.folds, held_out[0]) / share, self.targets.shape[-1]
        return xr.Dataset(
            {
                schema.R2: r2[0],
                schema.MSE: held_out[0].mean() / n_states,
                schema.SHUFFLED_R2: r2[1:].mean(),
                schema.IN_SAMPLE_R2: in_sample_r2[0],
                schema.IN_SAMPLE_SHUFFLED_R2: in_sample_r2[1:].mean(),
                schema.FOLD_R2: (schema.FOLD, 1 - of_fold / variance[0]),
                schema.FOLD_MSE: (schema.FOLD, of_fold / n_states),
                schema.PENALTY: (schema.FOLD, found.penalties[0]),
                schema.PREDICTIONS: ((schema.PREFIX, schema.STATE), found.predictions[0]),
                schema.N_FEATURES: features.shape[1],
            }
        )

    def _squares(self, predictions: np.ndarray) -> np.ndarray:
        """Return weighted squared distances (1+S,N) to the targets."""
        return self.weights * ((self.targets - predictions) ** 2).sum(-1)

    def prefixes(self) -> xr.Dataset:
        """Return the prefixes: which tokens of which text, what is believed there, weight and fold."""
        return xr.Dataset(
            {
                schema.SEQUENCE: (schema.PREFIX, self.rows.sequence),
                schema.LENGTH: (schema.PREFIX, self.rows.position),
                schema.BELIEFS: ((schema.PREFIX, schema.STATE), self.rows.beliefs),
                schema.WEIGHT: (schema.PREFIX, self.weights),
                schema.FOLD: (schema.PREFIX, self.folds),
            }
        )


def probe_tree(
    problem: ProbeProblem,
    layers: Mapping[str, np.ndarray],
    controls: Mapping[Control, ControlFeatures],
    others: Mapping[str, np.ndarray],
) -> xr.DataTree:
    """Return the tree of a probe; ``others`` are the caller's own controls.

    Raises
    ------
    InvalidInput
        A control of the caller is called as one of ours.
    """
    taken = sorted(controls.keys() & others.keys())
    if taken:
        raise InvalidInput("controls", "names of one's own", repr(str(taken[0])), "rename it")
    of_controls = {str(name): control.features for name, control in controls.items()} | dict(others)
    probed = {
        group: xr.concat([problem.probed(features) for features in arrays.values()], dimension).assign_coords(
            {dimension: list(arrays)}
        )
        for group, dimension, arrays in (
            (schema.LAYERS, schema.LAYER, layers),
            (schema.CONTROLS, schema.CONTROL, of_controls),
        )
    }
    reach = [control.reach for control in controls.values()] + [0] * len(others)
    probed[schema.CONTROLS] = probed[schema.CONTROLS].assign({schema.REACH: (schema.CONTROL, reach)})
    tree = xr.DataTree.from_dict({f"/{group}": found for group, found in probed.items()})
    tree[schema.PREFIXES] = xr.DataTree(problem.prefixes())
    tree.attrs = {"kind": KIND, "package": "ppl_hmm", "version": __version__}
    return tree


def probe_table(tree: xr.DataTree) -> pd.DataFrame:
    """Return a table of a probe: a row for each layer and control.

    Parameters
    ----------
    tree
        What :func:`~ppl_hmm.belief_probe` returns, also after a round trip to disk.

    Returns
    -------
    DataFrame
        Held out: R², of the worst fold, mean squared error, R² of shuffled beliefs. In sample: R² of the beliefs and of
        shuffled ones, which show what such numbers are worth.

    Raises
    ------
    InvalidInput
        The tree of something else.

    See Also
    --------
    ppl_hmm.belief_probe : Makes the tree.

    Examples
    --------
    >>> from ppl_hmm import HMM, belief_probe, beliefs, probe_table, sample
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> text = sample(model, 50, 8, seed=0).tokens
    >>> found = beliefs(model, text)
    >>> probe_table(belief_probe(found.filtered**2, found, model, text)).index.tolist()
    ['activations', 'last 10 tokens', 'Markov-4', 'next-token law', 'log next-token law', '3-token law']
    """
    require_probe(tree)
    layers, controls = tree[schema.LAYERS].dataset, tree[schema.CONTROLS].dataset
    parts = [
        pd.DataFrame(
            {
                "features": group[schema.N_FEATURES],
                "R²": group[schema.R2],
                "worst fold": group[schema.FOLD_R2].min(schema.FOLD),
                "MSE": group[schema.MSE],
                "shuffled": group[schema.SHUFFLED_R2],
                "in sample": group[schema.IN_SAMPLE_R2],
                "in sample, shuffled": group[schema.IN_SAMPLE_SHUFFLED_R2],
            },
            index=names,
        )
        for group, names in ((layers, layers[schema.LAYER].values.tolist()), (controls, control_labels(controls)))
    ]
    return pd.concat(parts)


def control_labels(controls: xr.Dataset) -> list[str]:
    """Return what the controls are called, with the number of tokens that they tell of."""
    names, reach = (controls[name].values.tolist() for name in (schema.CONTROL, schema.REACH))
    return [_LABELS[name].format(n) if name in _LABELS else name for name, n in zip(names, reach, strict=True)]


def require_probe(tree: xr.DataTree) -> None:
    """Raise :class:`InvalidInput` unless the tree is that of a probe."""
    groups = tree.children.keys() if isinstance(tree, xr.DataTree) else ()
    if not {schema.LAYERS, schema.CONTROLS, schema.PREFIXES} <= set(groups):
        got = f"groups {', '.join(groups) or 'none'}" if isinstance(tree, xr.DataTree) else type(tree).__name__
        raise InvalidInput("tree of a probe", "what belief_probe returns", got, "pass that tree")


def permutation(n: int, seed: int, purpose: str) -> np.ndarray:
    """Return a random order of 0..n−1."""
    return torch.randperm(n, generator=generator(seed, f"belief probe: {purpose}"), device=CPU).numpy()
