"""Is text like what a fitted model would write? Statistics of text against those of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.base.tokens import MASK, as_tokens
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.exact import token_statistics as statistics
from ppl_hmm.inference.rows import require_kind
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models.kinds import Model, Text

#: Tokens whose pairs are counted, the most frequent; all others count as one.
N_FREQUENT = 30
#: What the others are called where tokens have names.
OTHERS = "<others>"
#: Runs as long as this, or longer, count as one length.
LONGEST_RUN = 10
_DIMENSIONS = {
    schema.TOKEN_FREQUENCY: (schema.TOKEN,),
    schema.BIGRAM_FREQUENCY: (schema.FREQUENT_TOKEN, schema.FREQUENT_TOKEN_NEXT),
    schema.RUN_LENGTH_FREQUENCY: (schema.RUN_LENGTH,),
    schema.MUTUAL_INFORMATION: (schema.LAG,),
}


def check_fit(
    model: Model,
    tokens: Text,
    *,
    lengths: Text | None = None,
    n_replicates: int = 50,
    lags: Sequence[int] = (1, 2, 3, 5, 8, 13),
    seed: Seed,
) -> xr.DataTree:
    """Compare statistics of text with those of samples from a fitted model.

    Parameters
    ----------
    model
        A model; each replicate is a sample of as many texts, as long, with the same masks. Or draws of a posterior as a
        batch (P,) of models: then one replicate from each.
    tokens, lengths
        Text (B,T), best such as the model was not fitted to.
    lags
        Distances of the tokens whose mutual information is measured; those of T or more are left out.

    Returns
    -------
    xarray.DataTree
        ``/observed_data`` and ``/posterior_predictive``, whose variables have (chain, draw) in front:
        ``token_frequency`` (token); ``bigram_frequency`` (frequent_token, frequent_token_next) of the
        :data:`N_FREQUENT` most frequent tokens and the others as one; ``run_length_frequency`` (run_length);
        ``mutual_information`` (lag), in nats. ``/checks``: by ``check``, ``distance`` of the text from the mean over
        text and replicates, half the sum of absolute differences; ``replicated_distance`` of each replicate;
        ``p_value``, the share of all of them that are as far away.

    Raises
    ------
    InvalidInput
        Bad text; text of fewer than two positions; sizes below one.

    See Also
    --------
    fit_em : Fits models.
    log_likelihood : How probable text is.

    Notes
    -----
    Mutual information of few pairs is above that of their law; replicates are as many, so that the two compare. If text
    comes from the model, a p-value is at most u with probability at most u. Cost that of sampling R·B·T tokens, and
    O(R·B·T·lags·log(B·T)).

    Examples
    --------
    >>> from ppl_hmm import HMM, check_fit, sample
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> uniform = HMM([1.0], [[1.0]], [[0.5, 0.5]])
    >>> tree = check_fit(uniform, sample(model, 50, 40, seed=0).tokens, seed=0)
    >>> tree["checks/p_value"].sel(check="bigram_frequency").round(2).item()
    0.02
    """
    require_kind("model to check", model)
    if len(model.batch_shape) > 1:
        remedy = "take the draws of one chain, or flatten the batch"
        raise InvalidInput("models to check", "a model, or draws (P,)", f"a batch {model.batch_shape}", remedy)
    checked = as_tokens(tokens, model.vocabulary_size, lengths=lengths, device=model.device)
    wanted = [at_least("lag", lag, 1) for lag in lags]
    if checked.shape[1] < 2:
        raise InvalidInput("text to check", "two positions or more", "one", "pass longer texts")
    within = [lag for lag in wanted if lag < checked.shape[1]] or [1]
    replicates = _replicates(model, checked, at_least("n_replicates", n_replicates, 1), seed)
    frequent = _frequent(checked, model.vocabulary_size)
    observed, replicated = (
        _statistics(each, model.vocabulary_size, frequent, within) for each in (checked[None], replicates)
    )
    coordinates = _coordinates(model, frequent, within)
    texts = {name: (_DIMENSIONS[name], values[0]) for name, values in observed.items()}
    drawn = {
        name: ((schema.CHAIN, schema.DRAW, *_DIMENSIONS[name]), values[None]) for name, values in replicated.items()
    }
    tree = xr.DataTree.from_dict(
        {
            f"/{schema.OBSERVED_DATA}": xr.Dataset(texts, coordinates),
            f"/{schema.POSTERIOR_PREDICTIVE}": xr.Dataset(drawn, coordinates),
            f"/{schema.CHECKS}": _checks(observed, replicated),
        }
    )
    for group in (schema.OBSERVED_DATA, schema.POSTERIOR_PREDICTIVE):
        tree[group][schema.MUTUAL_INFORMATION].attrs["units"] = "nats"
    tree.attrs = {"package": "ppl_hmm", "version": __version__}
    return tree


def _replicates(model: Model, tokens: Tensor, n_replicates: int, seed: Seed) -> Tensor:
    """Return samples (R,B,T) with the masks of the text."""
    n_texts, length = tokens.shape
    stream = generator(seed, "replicates")
    n_draws = 1 if model.batch_shape else n_replicates
    drawn = sample(model, n_draws * n_texts, length, stream).tokens.reshape(-1, n_texts, length)
    return torch.where(tokens == MASK, MASK, drawn)


def _frequent(tokens: Tensor, vocabulary_size: int) -> Tensor:
    """Return the most frequent tokens of a text, the first the most frequent."""
    counts = torch.bincount(tokens[tokens != MASK], minlength=vocabulary_size)
    return counts.argsort(descending=True, stable=True)[:N_FREQUENT]


def _statistics(texts: Tensor, vocabulary_size: int, frequent: Tensor, lags: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the statistics of replicates (R,B,T), each (R,…)."""
    n_shown = len(frequent)
    place = torch.full((vocabulary_size + 1,), n_shown, device=texts.device)  # of each token among those shown
    place[frequent] = torch.arange(n_shown, device=texts.device)
    place[MASK] = MASK
    found = {
        schema.TOKEN_FREQUENCY: statistics.token_frequencies(texts, vocabulary_size),
        schema.BIGRAM_FREQUENCY: statistics.pair_frequencies(place[texts], n_shown + (n_shown < vocabulary_size)),
        schema.RUN_LENGTH_FREQUENCY: statistics.run_length_frequencies(texts, LONGEST_RUN),
        schema.MUTUAL_INFORMATION: torch.stack(
            [statistics.mutual_information(texts, vocabulary_size, lag) for lag in lags], 1
        ),
    }
    return {name: values.cpu().numpy() for name, values in found.items()}


def _checks(observed: dict[str, np.ndarray], replicated: dict[str, np.ndarray]) -> xr.Dataset:
    """Return how far text and replicates are from the mean over both."""
    distances = np.array([_distances(np.concatenate([observed[name], replicated[name]])) for name in observed])
    own, others = distances[:, 0], distances[:, 1:]
    n_as_far = (others >= own[:, None] * (1 - 1e-12)).sum(1)
    return xr.Dataset(
        {
            "distance": (schema.CHECK, own),
            "replicated_distance": ((schema.CHECK, schema.CHAIN, schema.DRAW), others[:, None]),
            "p_value": (schema.CHECK, (1 + n_as_far) / (1 + others.shape[1])),
        },
        coords={schema.CHECK: list(observed)},
    )


def _distances(values: np.ndarray) -> np.ndarray:
    """Return ½ Σ |v_r − mean v| (R,) of values (R,…)."""
    flat = values.reshape(len(values), -1)
    return np.abs(flat - flat.mean(0)).sum(1) / 2


def _coordinates(model: Model, frequent: Tensor, lags: Sequence[int]) -> dict[str, list]:
    """Return labels: those of the model's tokens where it has some, else numbers."""
    names = model.names.get(schema.TOKEN)
    shown = [int(token) if names is None else names[token] for token in frequent.tolist()]
    if len(frequent) < model.vocabulary_size:
        shown.append(-1 if names is None else OTHERS)
    coordinates = {
        schema.FREQUENT_TOKEN: shown,
        schema.FREQUENT_TOKEN_NEXT: shown,
        schema.RUN_LENGTH: list(range(1, LONGEST_RUN + 1)),
        schema.LAG: list(lags),
    }
    return coordinates if names is None else {schema.TOKEN: list(names), **coordinates}
