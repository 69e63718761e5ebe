"""How sure a fit is that heads and prompts recover a task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.audits.arrays import quantiles
from ppl_hmm.audits.groups import QUANTILES
from ppl_hmm.audits.over_posterior import crossing
from ppl_hmm.audits.over_posterior.certified import (
    Certified,
    certified,
    masks_needed,
    questions_of,
    smallest_singular_value,
)
from ppl_hmm.audits.over_posterior.chances import probability
from ppl_hmm.audits.over_posterior.crossing import TextOfDraws
from ppl_hmm.audits.over_posterior.draws import Asked, asked, text_length, thinned
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.randomness import Seed
from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.schema import Verdict
from ppl_hmm.tasks import TaskOfModel

#: Losses of a language model over the exact one, in nats, at which the transfer bound is reported by default.
EPSILONS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
#: Budgets of half-range over ‖μ‖_∞ at which probabilities are reported by default.
BUDGETS = tuple(float(f"{budget:.3g}") for budget in np.logspace(-1, 6, 71))

_VERDICTS = tuple(Verdict)
_NAMES = {schema.POSTERIOR: schema.RECOVERABILITY_POSTERIOR, schema.PRIOR: schema.RECOVERABILITY_PRIOR}
_BY_DRAW = (schema.CHAIN, schema.DRAW)
_BY_QUESTION = (*_BY_DRAW, schema.QUESTION)


def recoverability_posterior(
    fit: xr.DataTree,
    task: TaskOfModel,
    *,
    questions: Sequence[str] | None = None,
    n_masks: int = 2,
    epsilons: ArrayLike = EPSILONS,
    budgets: ArrayLike = BUDGETS,
    n_draws: int = 200,
    n_texts: int = 200,
    length: int | None = None,
    group: str = schema.POSTERIOR,
    seed: Seed,
) -> xr.DataTree:
    r"""Ask each draw of a fit how well a head or a prompt recovers a task.

    The exact verdict says little of a fit: where there are no more states than tokens almost every draw has
    independent rows and is recoverable, whatever the truth. What draws differ in is the noise that a head bears.

    Parameters
    ----------
    fit
        The tree of :func:`fit_bayes`.
    task
        The question, as a function from a model to its task: draws do not share their states. E.g.
        :func:`next_token_class`, :func:`state_of_word`, :func:`document_class`, or one's own. It is given each draw
        with its states in a canonical order.
    questions
        Of ``'head'`` on one mask, ``'masks'``, a head on several, and ``'prompt'`` with a head, which takes most time.
        By default the first two; of a task on a position only the first is asked.
    n_masks
        J of the question ``'masks'``.
    epsilons
        Losses (E,) in nats of a language model over the exact one, at which the transfer bound is reported.
    budgets
        Half-ranges over ‖μ‖_∞ that can be afforded.
    n_draws
        Draws to ask, evenly spaced in the chains.
    n_texts, length
        Text that each draw writes: to measure margins and heads on. By default of the length of the observed text.
    group
        ``'posterior'``, or ``'prior'`` to compare with.
    seed
        Of the text.

    Returns
    -------
    xarray.DataTree
        Group ``/recoverability_posterior`` (or ``_prior``), by (chain, draw): ``answered``, whether the draw has the
        task (the other variables are NaN where it has not); ``sigma_min`` of W; ``masks_needed``, infinite where
        none of twelve is enough; ``margin`` (quantile) over ‖μ‖_∞ and ``undecidable``, the share of texts whose margin
        is rounding; ``majority``, the share of the more frequent label. Also by question: ``half_range`` over ‖μ‖_∞ of
        the head of least, infinite where none is constructed; ``verdict``, a number with its meaning in the
        attributes; ``constructed``, whether the head is, or else is learned; ``own_accuracy`` on text of the draw,
        ``cross_draw_accuracy`` on text of the other draws, and its ``cross_draw_spread``, NaN for a prompt, which is
        of the states of one draw; ``transfer_bound`` (excess) on the error of the constructed head, 1 without one, NaN
        where it does not read one mask. By question and budget: ``probability`` that the half-range is within the
        budget, ``probability_error``, its Monte Carlo standard error.

    Raises
    ------
    InvalidInput
        No tree of a fit, a task in place of a function, one that no draw has, questions that are unknown, numbers that
        are negative.

    See Also
    --------
    audit : The same with a report, chains that did not converge being named first.
    fit_bayes : Draws models from their posterior.

    Notes
    -----
    Permuting the states of draws changes no bit of the result. Some 30 ms a draw for K = 4 and V = 8, and as much
    again for prompts; O(P²·B·V) for heads across P draws and B texts.

    Examples
    --------
    >>> from ppl_hmm import HMM, fit_bayes, next_token_class, recoverability_posterior, sample
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    >>> texts = sample(model, 50, length=20, seed=0).tokens
    >>> fit = fit_bayes(texts, 2, method="gibbs", chains=2, draws=50, tune=50, seed=0)
    >>> found = recoverability_posterior(fit, next_token_class([2]), budgets=[10], n_draws=20, seed=0)
    >>> found["recoverability_posterior/probability"].sel(question="head").item()
    1.0
    """
    if group not in _NAMES:
        one_of("group", group, _NAMES)
    n_draws, n_texts = at_least("n_draws", n_draws, 1), at_least("n_texts", n_texts, 2)
    n_masks = at_least("n_masks", n_masks, 2)
    excess, afforded = _numbers("epsilons", epsilons), _numbers("budgets", budgets)
    draws = thinned(fit, group, n_draws)
    length = text_length(fit) if length is None else at_least("length", length, 1)
    found = asked(draws, task)
    chosen = questions_of(found.tasks[0], questions)
    texts = TextOfDraws.of(found.models, found.tasks, n_texts, length, seed)
    variables = _variables(found, texts, chosen, n_masks, excess)
    dataset = xr.Dataset(
        {
            name: (dimensions, _at_draws(values, found.answered), attributes)
            for name, (dimensions, values, attributes) in variables.items()
        },
        {
            schema.CHAIN: draws.chains,
            schema.DRAW: draws.draws,
            schema.QUESTION: list(chosen),
            schema.EXCESS: (schema.EXCESS, excess, {"units": "nats"}),
            schema.QUANTILE: list(QUANTILES),
        },
    )
    dataset[schema.ANSWERED] = (_BY_DRAW, found.answered.astype(np.int8), dict(schema.FLAGS))
    dataset.update(probability(dataset[schema.HALF_RANGE], afforded))
    dataset.attrs = {
        "n_masks": n_masks,
        "n_texts": n_texts,
        "length": length,
        "unanswered": int((~found.answered).sum()),
        **({} if found.refusal is None else {"refusal": str(found.refusal)}),
    }
    tree = xr.DataTree.from_dict({f"/{_NAMES[group]}": dataset})
    tree.attrs = {"package": "ppl_hmm", "version": __version__, "kind": "audit of a fit"}
    return tree


def _variables(
    found: Asked, texts: TextOfDraws, questions: tuple[str, ...], n_masks: int, excess: np.ndarray
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict]]:
    """Return what the draws with a task (P,…) say, by name, with its dimensions and attributes."""
    pairs = [(found.models[number], task) for number, task in enumerate(found.tasks)]
    answers = {question: [certified(question, *pair, n_masks) for pair in pairs] for question in questions}
    said = [_of_question(question, answers[question], found, texts, n_masks, excess) for question in questions]
    variables = {
        name: ((*_BY_QUESTION, schema.EXCESS)[: 2 + values.ndim], np.stack([own[name] for own in said], 1), {})
        for name, values in said[0].items()
    }
    variables[schema.VERDICT][-1].update(
        flag_values=list(range(len(_VERDICTS))), flag_meanings=" ".join(each.replace(" ", "_") for each in _VERDICTS)
    )
    of_draws = {
        schema.SIGMA_MIN: np.array([smallest_singular_value(model) for model, _ in pairs]),
        schema.UNDECIDABLE: 1 - texts.decidable.double().mean(-1).numpy(),
        schema.MAJORITY: texts.majority,
    }
    if {schema.HEAD, schema.MASKS} <= answers.keys():
        each = zip(pairs, answers[schema.HEAD], answers[schema.MASKS], strict=True)
        needed = [masks_needed(*pair, one, several, n_masks) for pair, one, several in each]
        of_draws[schema.MASKS_NEEDED] = np.array(needed, float)
    margins = np.array([quantiles(row, np.array(QUANTILES)) for row in texts.margins.numpy()])
    variables[schema.MARGIN] = ((*_BY_DRAW, schema.QUANTILE), margins, {})
    return variables | {name: (_BY_DRAW, values, {}) for name, values in of_draws.items()}


def _of_question(
    question: str, answers: list[Certified], found: Asked, texts: TextOfDraws, n_masks: int, excess: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what the draws (P,…) say of one question, and what their heads do on text."""
    constructed = np.array([answer.weights is not None for answer in answers])
    measured = (schema.OWN_ACCURACY, schema.CROSS_DRAW_ACCURACY, schema.CROSS_DRAW_SPREAD)
    said = {
        schema.HALF_RANGE: np.array([answer.half_range for answer in answers]),
        schema.VERDICT: np.array([_VERDICTS.index(answer.verdict) for answer in answers], float),
        schema.CONSTRUCTED: constructed.astype(float),
        **dict.fromkeys(measured, np.full(len(answers), np.nan)),
        schema.TRANSFER_BOUND: np.full((len(answers), len(excess)), np.nan),
    }
    if question == schema.PROMPT:
        return said
    task = found.tasks[0]
    features = texts.features(found.models, task, n_masks if question == schema.MASKS else 1)
    heads = crossing.heads_of([answer.weights for answer in answers], features, texts, task.n_classes)
    if question == schema.HEAD and not task.place.sees_token:
        said[schema.TRANSFER_BOUND] = crossing.bounds(heads, features, constructed, excess)
    return said | dict(zip(measured, crossing.crossed(heads, features, texts), strict=True))


def _at_draws(values: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Return values (P,…) of the draws that answered at their places (C,D,…), NaN at others."""
    placed = np.full((*answered.shape, *values.shape[1:]), np.nan)
    placed[answered] = values
    return placed


def _numbers(what: str, values: ArrayLike) -> np.ndarray:
    """Return positive numbers (n,) in increasing order."""
    array = torch.atleast_1d(as_tensor(values, what=what)).double().numpy()
    if array.ndim != 1 or not len(array) or not (array > 0).all():
        raise InvalidInput(what, "positive numbers (n,)", str(array.tolist()), "pass e.g. [1.0, 10.0]")
    return np.unique(array)
