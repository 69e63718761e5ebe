"""Fit models of several sizes to a corpus, and compare them on held-out text with n-gram models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.corpus.units import Unit, as_texts, check_unit
from ppl_hmm.corpus.vocabulary import Vocabulary
from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.estimation.checks import check_fit
from ppl_hmm.estimation.em import fit_em
from ppl_hmm.estimation.ngrams import NGramModel
from ppl_hmm.experiments.engine.runner import Progress
from ppl_hmm.experiments.fits import posterior
from ppl_hmm.experiments.fits.blocks import cut, hold_out
from ppl_hmm.experiments.fits.jobs import finished
from ppl_hmm.experiments.fits.store import Size, SizeStore
from ppl_hmm.inference.queries import log_likelihood

Method = Literal["em", "hmc", "nuts", "gibbs", "svi"]

#: Concentration of the Dirichlet prior on all laws: without it a state may forbid what held-out text does.
CONCENTRATION = 1.01
#: A token of the training text that occurs less often is unknown: so that what is unknown is learned, too.
_MIN_COUNT = 2
#: Iterations of expectation-maximisation, at most, and the gain of the last one in nats a token.
_MAX_ITERATIONS, _GAIN = 300, 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A corpus as tokens: what is learned from, and what is held out."""

    vocabulary: Vocabulary
    training: torch.Tensor  # (B,T), MASK past each end
    held_out: torch.Tensor  # (B′,T′)

    @classmethod
    def of(
        cls, texts: Iterable[str], unit: Unit, share: float, seed: int, max_size: int | None, lowercase: bool
    ) -> Split:
        """Cut texts into blocks, hold some out, and number the tokens of the others."""
        check_unit(unit)
        blocks = cut([text.lower() if lowercase else text for text in texts], unit)
        training, held_out = hold_out(blocks, share, seed)
        vocabulary = Vocabulary.from_text(training, unit, max_size, _MIN_COUNT, lowercase)
        return cls(vocabulary, vocabulary.encode(training)[0], vocabulary.encode(held_out)[0])


def fit_corpus(
    texts: str | Iterable[str],
    unit: Unit = "char",
    n_states: Sequence[int] = (2, 5, 10),
    *,
    method: Method = "em",
    held_out: float = 0.1,
    restarts: int = 4,
    chains: int = 4,
    draws: int = 500,
    max_size: int | None = None,
    lowercase: bool = False,
    seed: int,
    store: str | Path | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Fit a model of each size to text, and hold them to text that they have not seen.

    Texts are cut into blocks of 400 characters or 100 words. A share of them, drawn at random, is held out.

    Parameters
    ----------
    texts
        One text or several, as :func:`~ppl_hmm.read_text` returns them.
    unit
        ``'char'`` or ``'word'``: what a token is.
    n_states
        Numbers of hidden states K, in the order of the results.
    method
        ``'em'``: :func:`~ppl_hmm.fit_em`, with a Dirichlet prior of concentration :data:`CONCENTRATION`. A method of
        :func:`~ppl_hmm.fit_bayes`: draws of the posterior, with the prior
        :data:`~ppl_hmm.experiments.fits.posterior.PRIOR`; held-out text is predicted by their average.
    held_out
        Share of the blocks.
    restarts
        Of each size, by expectation-maximisation.
    chains, draws
        Of each size, by the other methods; as many draws again come before them, and are not kept.
    max_size, lowercase
        Of the :class:`~ppl_hmm.Vocabulary`, which is that of the training text; what occurs there once is unknown.
    store
        Directory in which each finished size, or draws as they come, are kept, so that the same call, also with further
        sizes, goes on where it was stopped. None keeps nothing.
    executor
        Any ``concurrent.futures.Executor``, a job for each size; in this process by default.
    progress
        Called with (sizes done, sizes in all); of draws, with (draws of each chain done, draws in all).

    Returns
    -------
    xarray.DataTree
        ``/model``, that of the lowest held-out perplexity, and ``/models/<K>``, all of them, their tokens labelled;
        ``/vocabulary``; ``/held_out``: ``perplexity`` per token, by ``n_states``, and by ``baseline`` of interpolated
        unigrams, bigrams and trigrams, with the standard error of its logarithm; ``/restarts`` by ``n_states``;
        ``/predictive_checks``: :func:`~ppl_hmm.check_fit` of ``/model`` on the held-out text. Of draws, ``/model`` is
        the one of highest posterior density, ``/restarts`` are chains, and ``/draws/<K>`` is the tree of ``fit_bayes``.

    Raises
    ------
    InvalidInput
        Bad text or sizes; too little text to hold some out.
    ForeignFile
        A ``store`` that cannot be written, or holds something else, or fits of other text or settings.

    See Also
    --------
    read_text : Texts of files.
    fit_em : One model, with all options.
    check_fit : What the checks measure.

    Notes
    -----
    Perplexity is exp(−Σ log P / n) over the n held-out tokens, of which unknown ones are ``'<unknown>'``. Each block
    starts anew, for all models alike. Cost that of ``fit_em`` for each size.

    Examples
    --------
    >>> from ppl_hmm import fit_corpus
    >>> tree = fit_corpus("banana bandana " * 100, n_states=(1, 4), restarts=1, seed=0)
    >>> tree["held_out/perplexity"].sel(n_states=1).round(1).item()
    4.2
    >>> tree["held_out/baseline_perplexity"].sel(baseline="unigram").round(1).item()
    4.2
    """
    one_of("method", method, get_args(Method))
    if not isinstance(n_states, Iterable):
        raise InvalidInput("n_states", "a list of numbers of states", repr(n_states), "pass e.g. (2, 5, 10)")
    at_least("seed", seed, 0)  # several sizes are drawn from it: no generator
    sizes = [at_least("number of states", each, 1) for each in n_states]
    if not sizes or len(set(sizes)) < len(sizes):
        raise InvalidInput("n_states", "different numbers of states, at least one", str(sizes), "pass e.g. (2, 5, 10)")
    texts = as_texts(texts)
    corpus = Split.of(texts, unit, held_out, seed, max_size, lowercase)
    restarts, chains = at_least("restarts", restarts, 1), at_least("chains", chains, 1)
    draws = at_least("draws", draws, 1)
    attributes = {"unit": unit, "method": method, "held_out": held_out, "seed": seed}
    kept = None
    if store is not None:
        others = {"restarts": restarts} if method == "em" else {"chains": chains, "draws": draws}
        kept = SizeStore(store, texts, attributes | others | {"max_size": max_size, "lowercase": lowercase})
    if method == "em":
        fits = _fit_all(corpus, sizes, restarts, seed, kept, executor, progress)
    else:
        settings = posterior.Settings(method, chains, draws, seed, None if kept is None else kept.path)
        training = corpus.training.numpy()
        fits = posterior.draw_all(training, len(corpus.vocabulary), sizes, settings, executor, progress)
    return _as_tree(corpus, fits, attributes)


def _fit_all(
    corpus: Split,
    sizes: list[int],
    restarts: int,
    seed: int,
    store: SizeStore | None,
    executor: Executor | None,
    progress: Progress | None,
) -> dict[int, Size]:
    """Return the fit of each size: found in the store, or computed here or by an executor, and kept there."""
    found = {} if store is None else store.finished(sizes)
    report = progress or (lambda _done, _total: None)
    report(len(found), len(sizes))
    missing = [n_states for n_states in sizes if n_states not in found]
    for n_states, size in _fitted(corpus, missing, restarts, seed, executor):
        if store is not None:
            store.write(n_states, size)
        found[n_states] = size
        report(len(found), len(sizes))
    return {n_states: found[n_states] for n_states in sizes}


def _fitted(
    corpus: Split, sizes: list[int], restarts: int, seed: int, executor: Executor | None
) -> Iterator[tuple[int, Size]]:
    """Yield the fit of each size as it is finished."""
    arguments = (corpus.training.numpy(), len(corpus.vocabulary), restarts, seed)
    if executor is not None:
        yield from finished(executor, _fit_size, sizes, *arguments)
        return
    for n_states in sizes:
        yield n_states, _fit_size(n_states, *arguments)


def _fit_size(n_states: int, training: np.ndarray, vocabulary_size: int, restarts: int, seed: int) -> Size:
    fit = fit_em(
        training,
        n_states,
        vocabulary_size=vocabulary_size,
        restarts=restarts,
        prior=CONCENTRATION,
        max_iterations=_MAX_ITERATIONS,
        tolerance=_GAIN * int((training >= 0).sum()),
        seed=seed,
    )
    each = fit.restarts
    return Size(fit.model, each.log_likelihood.numpy(), each.converged.numpy(), each.n_reached_best)


def _as_tree(corpus: Split, fits: dict[int, Size], attributes: dict[str, object]) -> xr.DataTree:
    """Return models, perplexities, restarts and checks, under one label for each token."""
    named = {k: size.model.assign_names(token=corpus.vocabulary.tokens) for k, size in fits.items()}
    models = {k: model.to_dataset().assign_attrs(fits[k].drawn_by) for k, model in named.items()}
    perplexity = _perplexities(corpus, fits)
    best = int(perplexity[schema.PERPLEXITY].idxmin())
    checks = check_fit(named[best], corpus.held_out, seed=int(attributes["seed"]))  # type: ignore[call-overload]
    groups = {
        f"/{schema.MODEL}": models[best],
        **{f"/{schema.MODELS}/{k}": model for k, model in models.items()},
        f"/{schema.VOCABULARY}": corpus.vocabulary.to_dataset(),
        f"/{schema.HELD_OUT}": perplexity,
        f"/{schema.RESTARTS}": _restarts(fits),
        **{f"/{schema.PREDICTIVE_CHECKS}{node.path}": node.to_dataset() for node in checks.descendants},
    }
    for k, size in fits.items():
        if size.draws is not None:
            groups |= posterior.groups(size.draws, f"/{schema.DRAWS}/{k}", corpus.vocabulary)
    tree = xr.DataTree.from_dict(groups)
    unknown = float((corpus.held_out == corpus.vocabulary.unknown).sum() / (corpus.held_out >= 0).sum())
    tree.attrs = {
        "kind": "fit",
        "package": "ppl_hmm",
        "version": __version__,
        **attributes,
        "best": best,
        "n_training_tokens": int((corpus.training >= 0).sum()),
        "n_held_out_tokens": int((corpus.held_out >= 0).sum()),
        "unknown_share": unknown,
    }
    return tree


def _perplexities(corpus: Split, fits: dict[int, Size]) -> xr.Dataset:
    """Return perplexities per token of models and baselines, and standard errors of their logarithms."""
    size, held_out, training = len(corpus.vocabulary), corpus.held_out, corpus.training
    baselines = [NGramModel.fit(training, n, vocabulary_size=size) for n in range(1, len(schema.BASELINES) + 1)]
    of_models = [_per_token(posterior.log_predictive(size, held_out), held_out) for size in fits.values()]
    of_baselines = [_per_token(baseline.log_likelihood(held_out), held_out) for baseline in baselines]
    trained = [_per_token(log_likelihood(size.model, training).numpy(), training)[0] for size in fits.values()]

    def columns(name: str, dimension: str, found: list[tuple[float, float]]) -> dict[str, tuple]:
        values = np.array(found)
        return {name: (dimension, np.exp(values[:, 0])), f"log_{name}_se": (dimension, values[:, 1])}

    return xr.Dataset(
        {
            **columns(schema.PERPLEXITY, schema.N_STATES, of_models),
            **columns(f"baseline_{schema.PERPLEXITY}", schema.BASELINE, of_baselines),
            f"training_{schema.PERPLEXITY}": (schema.N_STATES, np.exp(trained)),
        },
        coords={schema.N_STATES: list(fits), schema.BASELINE: list(schema.BASELINES)},
    )


def _per_token(log_probability: np.ndarray, tokens: torch.Tensor) -> tuple[float, float]:
    """Return −Σ log P / n, and its standard error for independent blocks."""
    lengths = (tokens >= 0).sum(1).numpy()
    mean = -log_probability.sum() / lengths.sum()
    residuals, n_blocks = -log_probability - mean * lengths, len(lengths)
    spread = np.sqrt((residuals**2).sum() * n_blocks / max(n_blocks - 1, 1)) / lengths.sum()
    return float(mean), float(spread) if n_blocks > 1 else float("nan")


def _restarts(fits: dict[int, Size]) -> xr.Dataset:
    """Return where the restarts of each size came to."""
    dims = (schema.N_STATES, schema.RESTART)
    return xr.Dataset(
        {
            "log_likelihood": (dims, np.stack([size.log_likelihood for size in fits.values()]), {"units": "nats"}),
            "converged": (dims, np.stack([size.converged for size in fits.values()]).astype(np.int8), schema.FLAGS),
            "n_reached_best": (schema.N_STATES, [size.n_reached_best for size in fits.values()]),
        },
        coords={schema.N_STATES: list(fits)},
    )
