"""Witnesses in rational arithmetic: texts that no linear head classifies, whatever rounding does to their features.

A witness in float64 is equal sides up to 1e-14, and its labels are those of margins beyond rounding. Here labels are
signs of integers. With z_i = Rᵀf_i the features of text i up to a factor, the weights solve Σ λ_ic (…) z_i = 0 exactly
on the texts that float64 has chosen: Farkas' certificate, with nothing left to trust but integer products.
"""

from __future__ import annotations

import dataclasses
import logging
from fractions import Fraction

import numpy as np
import torch

from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import at_least
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Prompt, Text
from ppl_hmm.recoverability.arguments import require_pair
from ppl_hmm.recoverability.integer_chain import IntegerChain
from ppl_hmm.recoverability.linear import features_read
from ppl_hmm.recoverability.rationals import floats, integers, over_common, solve
from ppl_hmm.recoverability.witness import Witness, find_witness
from ppl_hmm.tasks import PosteriorTask, latent_posterior, on_possible_values

_log = logging.getLogger("ppl_hmm")


@dataclasses.dataclass(frozen=True, eq=False)
class ExactWitness:
    """Some texts that no linear head classifies, and the rational weights that prove it.

    Attributes
    ----------
    texts
        (n,): their indices in the batch that was searched.
    tokens
        (n,T).
    labels
        (n,): classes y_i, from the signs of integers.
    weights
        λ (n,C) in :class:`~fractions.Fraction`, ≥ 0 with Σλ = 1; λ_ic weighs text i against class c.
    model, task, prompt, n_masks
        What heads read: J masks, after a prompt if there is one.

    See Also
    --------
    exact_witness : Finds one.
    Witness : The same in float64.

    Examples
    --------
    >>> import itertools
    >>> from ppl_hmm import example, exact_witness
    >>> witness = exact_witness(*example("aliased"), [*itertools.product(range(3), repeat=2)])
    >>> witness.holds_exactly(), sum(witness.weights.ravel())
    (True, Fraction(1, 1))
    """

    texts: np.ndarray
    tokens: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray
    weights: np.ndarray = dataclasses.field(repr=False)
    model: HMM = dataclasses.field(repr=False)
    task: PosteriorTask = dataclasses.field(repr=False)
    prompt: SoftPrompt | None = dataclasses.field(default=None, repr=False)
    n_masks: int = 1

    def holds_exactly(self) -> bool:
        """Say whether the labels are right and both sides of every class are equal, in rational arithmetic.

        Cost O(n·T·K²) products of integers.
        """
        features, labels = _features_and_labels(self.model, self.task, self.prompt, self.n_masks, self.tokens)
        if labels.tolist() != self.labels.tolist() or (self.weights < 0).any() or not (self.weights > 0).any():
            return False
        above, _ = over_common((self.weights / features.sum(1, keepdims=True)).ravel())
        shares = above.reshape(self.weights.shape)
        is_class = self.labels[:, None] == np.arange(self.task.n_classes)
        own = (is_class * shares.sum(1, keepdims=True)).T @ features
        return not shares[is_class].any() and not (own - shares.T @ features).any()

    @property
    def rounded(self) -> Witness:
        """The same in float64, as :meth:`ppl_hmm.Certificate.refuted_by` takes it."""
        features, _ = _features_and_labels(self.model, self.task, self.prompt, self.n_masks, self.tokens)
        totals = [Fraction(int(total)) for total in features.sum(1)]
        shares = np.array([[n / total for n in row] for row, total in zip(features, totals, strict=True)], object)
        return Witness(self.texts, self.n_masks * floats(shares), self.labels, floats(self.weights))


def exact_witness(
    model: HMM, task: PosteriorTask, tokens: Text, prompt: Prompt | None = None, *, n_masks: int = 1
) -> ExactWitness | None:
    """Return texts that no linear head classifies, proved in rational arithmetic, or None where none are found.

    Parameters
    ----------
    model, task
        One model and one task of the same K. The model's parameters are taken as exact numbers, the largest of each row
        as one minus the others.
    tokens
        (B,T), the texts to choose from; ``MASK`` where nothing is observed.
    prompt
        :class:`SoftPrompt` or rows (L,K) in front of the masks.
    n_masks
        J ≥ 1: heads read J masks in front of the text.

    Returns
    -------
    ExactWitness or None
        None where float64 finds no witness, and where what it finds is one up to rounding only: then some head may
        tell these texts apart, and a warning is logged.

    Raises
    ------
    InvalidInput, ImpossibleText
        As :func:`~ppl_hmm.posterior`; batches, no masks.

    See Also
    --------
    find_witness : In float64, from features and labels.
    head_certificate : With ``exact=True``, whether the theorem's condition holds exactly.

    Notes
    -----
    Cost of :func:`find_witness` on all texts, and O(n·T·K²) products of integers for its n ≤ J·V+1 texts.

    Examples
    --------
    >>> import itertools
    >>> from ppl_hmm import example, exact_witness
    >>> texts = [*itertools.product(range(3), repeat=2)]
    >>> exact_witness(*example("aliased"), texts).labels.tolist()
    [0, 1, 1]
    """
    require_pair("exact_witness", model, task, HMM)
    at_least("n_masks", n_masks, 1)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    task = on_possible_values(model, task)
    if prompt is not None and not isinstance(prompt, SoftPrompt):
        prompt = SoftPrompt(prompt)  # type: ignore[arg-type]
    text = as_tokens(tokens, model.vocabulary_size, device=model.device)
    features = features_read(model, task, text, prompt, n_masks)
    answers = task.answers(latent_posterior(model, task, text))
    told = (answers.decidable & (features.sum(-1) > 0)).nonzero()[:, 0]
    if not len(told):
        return None
    found = find_witness(features[told].cpu(), answers.labels[told].cpu(), n_classes=task.n_classes)
    if found is None:
        return None
    chosen = told.cpu().numpy()[found.texts]
    tokens = text.cpu().numpy()[chosen]
    witness = _exact(ExactWitness(chosen, tokens, found.labels, found.weights, model, task, prompt, n_masks))
    if witness is None:
        _log.warning(
            "exact_witness: in float64 no head tells %d texts apart, but that is rounding: one may exist",
            len(chosen),
        )
    return witness


def _exact(witness: ExactWitness) -> ExactWitness | None:
    """Return the witness with rational weights in place of its floats, or None where no such weights are positive."""
    features, labels = _features_and_labels(
        witness.model, witness.task, witness.prompt, witness.n_masks, witness.tokens
    )
    if labels.tolist() != witness.labels.tolist():
        return None
    pairs = np.argwhere(witness.weights)
    pairs = pairs[np.argsort(witness.weights[tuple(pairs.T)], kind="stable")]
    forms = np.zeros((len(pairs), witness.weights.shape[1], features.shape[1]), object)
    for form, (text, other) in zip(forms, pairs, strict=True):
        form[labels[text]] += features[text]
        form[other] -= features[text]
    forms = forms.reshape(len(pairs), -1)
    found = solve(forms[:-1].T, -forms[-1]).solution
    if found is None or (found < 0).any():
        return None
    weights = np.full(witness.weights.shape, Fraction(0), object)
    weights[tuple(pairs.T)] = [*found, Fraction(1)]
    weights = weights * features.sum(1, keepdims=True)
    return dataclasses.replace(witness, weights=weights / weights.sum())


def _features_and_labels(
    model: HMM, task: PosteriorTask, prompt: SoftPrompt | None, n_masks: int, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return z_i = Rᵀf_i (n,J·V), G up to a factor for each text, and the exact labels (n,); −1 for ties."""
    chain = IntegerChain.of(model, prompt)
    messages = np.array([chain.message(text) for text in tokens.tolist()], object)
    weights, _ = integers(task.weights.cpu().numpy())
    scores = (messages * chain.initial) @ weights.T
    labels = [-1 if (row == row.max()).sum() > 1 else int(row.argmax()) for row in scores]
    return messages @ chain.observability(n_masks), np.array(labels)
