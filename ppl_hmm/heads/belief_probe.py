"""Linear probes for beliefs: how much of P(H_t | x_1..x_t) activations hold, and how much needs no network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.heads.belief_checks import require_beliefs
from ppl_hmm.heads.belief_controls import belief_controls, prefix_numbers
from ppl_hmm.heads.prefix_rows import Activations, PrefixRows, by_name, called, controls_by_name, prefix_rows
from ppl_hmm.heads.probe_tree import ProbeProblem, permutation, probe_tree
from ppl_hmm.inference.beliefs import Beliefs, beliefs as exact_beliefs
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.arguments import require_model


def belief_probe(
    activations: Activations,
    beliefs: Beliefs | ArrayLike | Tensor,
    model: HMM,
    tokens: Text,
    *,
    lengths: Text | None = None,
    weights: ArrayLike | Tensor | None = None,
    groups: ArrayLike | Tensor | None = None,
    controls: Mapping[str, ArrayLike | Tensor] | None = None,
    n_raw: int = 10,
    order: int = 4,
    n_future: int = 3,
    n_folds: int = 5,
    seed: int = 0,
) -> xr.DataTree:
    """Probe activations for beliefs by ridge regression, held out and beside controls.

    Parameters
    ----------
    activations
        (B,T+1,D) after each prefix of the texts, t = 0..T; or (B,T,D) for t = 1..T; or (B,D) where the texts end. An
        array of any library, or one for each name of a layer.
    beliefs
        What :func:`~ppl_hmm.beliefs` returns, or laws (B,T+1,K), (B,T,K) or (B,K), one for each row of activations:
        those of a :class:`~ppl_hmm.MealyHMM` over its own states, for example. They must be a linear function of the
        model's beliefs after the same prefix, as the law of everything is that depends on the text through H_t alone.
    model
        HMM that the texts are from; the controls follow from it.
    tokens
        (B,T) in 0..V−1, or ``MASK``.
    lengths
        (B,): prefixes that are longer than their text are left out. By default a text ends after its last token that is
        not ``MASK``.
    weights
        (B,T+1), (B,T) or (B,), as beliefs begin: what each prefix counts. Its probability, where prefixes are listed;
        texts that were drawn count by their number.
    groups
        As weights, or one for each text (B,): no prefix is tested by what others of its group have taught. By default a
        group is one prefix, wherever it occurs; pass numbers 0..B−1 to hold out whole texts.
    controls
        More features to compare with, by name, as activations: those of an untrained network, for example.
    n_raw, order, n_future
        Tokens that the controls 'raw tokens', 'Markov' and 'k-token law' tell of. The last two are lowered until there
        are at most 1000 contexts or continuations.
    n_folds
        At least three.
    seed
        Of the folds and of the shuffled beliefs.

    Returns
    -------
    DataTree
        ``/layers`` and ``/controls``: R² and mean squared error (over prefixes and states) held out, in all and of each
        fold; predictions; R² for shuffled beliefs, each that of another prefix; what a fit to all prefixes would have
        claimed (``in_sample_r2``). ``/prefixes``: beliefs, weights, folds. :func:`~ppl_hmm.probe_table` prints it.

    Raises
    ------
    InvalidInput
        Arrays of different length or order (beliefs have T+1 entries), NaN (where), beliefs that are no laws, always
        the same, a token late or early, or another model's; weights that are not positive, fewer groups than folds, no
        layer, a name that is taken, empty texts alone.
    ImpossibleText
        Text of probability zero.

    See Also
    --------
    ppl_hmm.beliefs : Computes what is probed for.
    ppl_hmm.probe_table : The table of layers and controls.

    Notes
    -----
    R² = 1 − Σ w‖α − α̂‖² / Σ w‖α − ᾱ‖², summed over all states; α̂ has coefficients and a penalty from other folds. R²
    of a fold divides by the same variance. Cost O(N·D² + F²·D³) for N prefixes, D features and F folds, each layer.
    Source: the probes of Shai et al. (2024), here beside controls, as of Hewitt & Liang (2019).

    Examples
    --------
    >>> from ppl_hmm import HMM, belief_probe, beliefs, sample
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> text = sample(model, 50, 8, seed=0).tokens
    >>> found = beliefs(model, text)
    >>> tree = belief_probe(found.filtered**2, found, model, text)
    >>> tree["controls/r2"].sel(control="next-token law").values.round(6).tolist()
    1.0
    """
    require_model("belief_probe", model, HMM)
    layers, others = by_name(activations), controls_by_name(controls)
    rows = prefix_rows(layers, beliefs, model.vocabulary_size, tokens, lengths)
    layers = {name: rows.read(values, called(name)) for name, values in layers.items()}
    others = {name: rows.read(values, f"control {name!r}") for name, values in others.items()}
    reach = {"n_raw": n_raw, "order": order, "n_future": n_future}
    exact = exact_beliefs(model, rows.tokens).filtered.detach()
    built = belief_controls(rows, model, exact, **{name: at_least(name, value, 1) for name, value in reach.items()})
    prefixes = prefix_numbers(rows.tokens)[rows.sequence, rows.position]
    require_beliefs(rows, exact.cpu().double().numpy(), prefixes)
    folds = _folds(prefixes if groups is None else rows.read_groups(groups), n_folds, seed)
    problem = ProbeProblem.of(rows, _weights(rows, weights), folds, prefixes, seed)
    return probe_tree(problem, layers, built, others)


def _weights(rows: PrefixRows, weights: ArrayLike | Tensor | None) -> np.ndarray:
    """Return the weights of the prefixes, positive numbers of mean one."""
    if weights is None:
        return np.ones(len(rows.beliefs))
    found = rows.read(weights, "weights", ())
    if (found <= 0).any():
        raise InvalidInput("weights", "positive numbers", str(found.min()), "leave such prefixes out")
    return found / found.mean()


def _folds(groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Deal groups to folds, as equal in number as can be."""
    n_folds = at_least("n_folds", n_folds, 3)
    number = np.unique(groups, return_inverse=True)[1]
    n_groups = number.max() + 1
    if n_groups < n_folds:
        remedy = "pass more texts, or longer ones"
        raise InvalidInput("prefixes", f"a group for each of {n_folds} folds", f"{n_groups} groups", remedy)
    return (permutation(int(n_groups), seed, "folds") % n_folds)[number]
