"""The bounds on the error of a head on a trained model, beside what they bound, all on the same test texts.

There they hold with certainty, for any head: the law of texts is that of the test texts.
"""

from __future__ import annotations

import numpy as np

from ppl_hmm import schema
from ppl_hmm.experiments.trained.loss_vs_error.last_layer import Measured
from ppl_hmm.experiments.trained.loss_vs_error.questions import Parts, Question
from ppl_hmm.language_models.trained import Link
from ppl_hmm.recoverability.natural import NaturalHead, distance, error, hinge_loss, natural_head
from ppl_hmm.recoverability.natural_quadratic import quadratic_head
from ppl_hmm.recoverability.transfer import transfer_bounds


def natural(question: Question, measured: Measured, parts: Parts) -> list[float]:
    """Return :data:`ppl_hmm.schema.NATURAL` of the head on laws ĝ with the least bound."""
    price = distance(measured.excess[parts.test].mean())
    head = natural_head(question.exact[parts.test], question.labels[parts.test], price=price)
    return _columns(head, price, measured.laws[parts.test], question.labels[parts.test])


def natural_of_layer(question: Question, measured: Measured, parts: Parts) -> list[float]:
    """Return :data:`ppl_hmm.schema.NATURAL` of the head in the row space of Φ with the least bound.

    It reads conditional means Φĝ of a network on cross-entropy, and the features f of one on the quadratic loss, where
    B is ‖v‖₂.
    """
    find = natural_head if measured.link is Link.SOFTMAX else quadratic_head
    price = distance(measured.excess_for_layer)
    head = find(question.exact[parts.test], question.labels[parts.test], price=price, layer=measured.layer)
    return _columns(head, price, measured.estimates[parts.test], question.labels[parts.test])


def _columns(head: NaturalHead, price: float, estimates: np.ndarray, labels: np.ndarray) -> list[float]:
    on_trained = hinge_loss(estimates, labels, head.weights), error(estimates, labels, head.weights)
    return [head.size, head.loss, head.bound(price), *on_trained]


def transferred(question: Question, measured: Measured, parts: Parts) -> dict[str, float]:
    """Return the error of a head on exact laws when it reads the trained ones, and its bound.

    An error of the head on ĝ is one on g, or a text that it classifies otherwise on ĝ than on g; the share of the
    latter has the sharp bound of :mod:`ppl_hmm.recoverability.transfer`. Of the question's heads it is the one for
    which the sum is least on the validation texts: ``transfer_chosen``. ``transfer_bound`` is the sum on the test
    texts, for their own ε, and ``transfer_error`` the error there.
    """
    chosen = [_sum(question, head, measured.excess, parts.validation) for head in question.heads]
    best = int(np.argmin(chosen))
    head, test = question.heads[best], parts.test
    return {
        schema.TRANSFER_ERROR: error(measured.laws[test], question.labels[test], head),
        schema.TRANSFER_BOUND: _sum(question, head, measured.excess, test),
        schema.TRANSFER_CHOSEN: chosen[best],
    }


def _sum(question: Question, head: np.ndarray, excess: np.ndarray, part: slice) -> float:
    """Return the error of a head on exact laws and the most that the excess (B,) can add to it, at most 1."""
    exact = question.exact[part]
    added = transfer_bounds(exact, head, excess[part].mean()).sharp_bound.item()
    return min(error(exact, question.labels[part], head) + added, 1.0)
