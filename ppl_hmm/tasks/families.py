"""Tasks as functions of a model: one question that is put to many models, whose states mean nothing by their numbers.

A task has a weight for each state. Draws from a posterior over models do not share their states, so that a question is
put to all of them in terms of what they share: tokens and texts. Each function returns the question; calling that with
a model returns its task on the silent state H₀. All are centred: a text is of the class if it makes it likelier than it
was before any text, π₀ᵀμ = 0. Without this most labels would be the same for every text. Permuting the states of a
model permutes the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import initial_posterior
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Text
from ppl_hmm.tasks.state import PosteriorTask

#: The task of a model.
TaskOfModel = Callable[[HMM], PosteriorTask]

# Weights of one size within this share of the largest ask nothing: rounding decides the label of every text.
_NOTHING = 1e-12


def next_token_class(tokens: Sequence[int] | ArrayLike | Tensor) -> TaskOfModel:
    """Return the question whether a token of a class is likely to follow H₀.

    The label is whether the text makes H₀ a state that tokens of the class follow with a larger probability than they
    do before any text: μ = A W 1_class, centred.

    Parameters
    ----------
    tokens
        The tokens of the class: different integers, not all of the vocabulary.

    Raises
    ------
    InvalidInput
        No token, tokens that are no integers or negative. Of the question: a token that the model lacks; a class that
        is as likely after all states that H₀ can be.

    See Also
    --------
    state_of_word, document_class : Other questions.
    recoverability_posterior : Puts a question to the draws of a fit.

    Examples
    --------
    >>> from ppl_hmm import HMM, next_token_class
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    >>> next_token_class([1, 2])(model).contrast.numpy().round(3).tolist()
    [-0.245, 0.245]
    """
    chosen = _tokens("tokens of next_token_class", tokens)

    def task(model: HMM) -> PosteriorTask:
        _require_model("next_token_class", model, chosen)
        emitted = model.emission.detach().double()[:, chosen].sum(-1)
        return _centred("next_token_class", model, (model.transition.detach().double() @ emitted)[None])

    return task


def state_of_word(token: int) -> TaskOfModel:
    """Return the question whether H₀ is the state that is likeliest to emit a token.

    The label is whether the text makes that state likelier than it is before any text: μ is 1 on it, centred.

    Raises
    ------
    InvalidInput
        No integer. Of the question: a token that the model lacks, or that all states emit with the same probability;
        a model whose H₀ surely is, or is not, that state.

    See Also
    --------
    next_token_class, document_class : Other questions.
    recoverability_posterior : Puts a question to the draws of a fit.

    Notes
    -----
    Of several states that are likeliest, all count.

    Examples
    --------
    >>> from ppl_hmm import HMM, state_of_word
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    >>> state_of_word(0)(model).contrast.numpy().tolist()
    [0.5, -0.5]
    """
    chosen = _tokens("token of state_of_word", [token])

    def task(model: HMM) -> PosteriorTask:
        _require_model("state_of_word", model, chosen)
        emitted = model.emission.detach().double()[:, chosen[0]]
        return _centred("state_of_word", model, (emitted == emitted.max()).double()[None])

    return task


def document_class(texts: Text, labels: ArrayLike | Tensor, *, lengths: Text | None = None) -> TaskOfModel:
    """Return the question which class of labelled texts a text is like.

    The label is the class whose texts have the nearest mean posterior of H₀: w_c = m_c − ½‖m_c‖², m_c the mean of
    P(H₀|x) over its texts.

    Parameters
    ----------
    texts, lengths
        Labelled texts (B,T).
    labels
        Their classes (B,): integers 0..C−1, each of which has a text.

    Raises
    ------
    InvalidInput, ImpossibleText
        Labels that are no such integers, or not one for each text. Of the question: a token that the model lacks, a
        text that it calls impossible; classes of the same mean.

    See Also
    --------
    next_token_class, state_of_word : Other questions.
    recoverability_posterior : Puts a question to the draws of a fit.

    Examples
    --------
    >>> from ppl_hmm import HMM, document_class
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    >>> task = document_class([[0, 0, 0], [2, 2, 2], [0, 1, 0]], [0, 1, 0])(model)
    >>> bool(task.contrast[1] > task.contrast[0])  # texts of class 1 start in state 1
    True
    """
    classes = as_tensor(labels, what="labels of document_class", kind="integers")
    wanted = sorted(set(classes.reshape(-1).tolist()))
    if classes.is_floating_point() or classes.ndim != 1 or len(wanted) < 2 or wanted != list(range(len(wanted))):
        got = f"{wanted[:5]} of shape {tuple(classes.shape)}"
        raise InvalidInput("labels of document_class", "integers 0..C−1 (B,), C ≥ 2", got, "number the classes from 0")

    def task(model: HMM) -> PosteriorTask:
        _require_model("document_class", model)
        law = initial_posterior(model, as_tokens(texts, model.vocabulary_size, lengths=lengths)).double()
        if len(law) != len(classes):
            raise InvalidInput("labels of document_class", f"{len(law)} labels", str(len(classes)), "label each text")
        means = torch.stack([law[classes == c].mean(0) for c in range(len(wanted))])
        weights = means - means.square().sum(-1, keepdim=True) / 2
        return _telling("document_class", model, PosteriorTask(weights))

    return task


def _tokens(what: str, tokens: Sequence[int] | ArrayLike | Tensor) -> list[int]:
    checked = as_tensor(tokens, what=what, kind="integers")
    integers = not checked.is_floating_point() and checked.dtype != torch.bool and checked.ndim == 1
    found = checked.tolist()
    if not integers or not found or min(found) < 0 or len(set(found)) < len(found):
        raise InvalidInput(what, "different integers, 0 or more", repr(found), "encode words with a Vocabulary")
    return found


def _require_model(function: str, model: object, tokens: Sequence[int] = ()) -> None:
    foreign.require(model, HMM, f"model of {function}", "an HMM")
    assert isinstance(model, HMM)
    model.require_single(function)
    if tokens and max(tokens) >= model.vocabulary_size:
        expected, got = f"tokens in 0..{model.vocabulary_size - 1}, those of the model", str(max(tokens))
        raise InvalidInput(function, expected, got, "use the vocabulary that the model was fitted with")


def _centred(function: str, model: HMM, contrast: Tensor) -> PosteriorTask:
    """Return the task whose margin is that of a contrast μ (1,K) over what it is before any text."""
    centred = contrast - contrast @ model.initial.detach().double()[:, None]
    return _telling(function, model, PosteriorTask(torch.cat([torch.zeros_like(centred), centred])))


def _telling(function: str, model: HMM, task: PosteriorTask) -> PosteriorTask:
    """Return the task, unless its weights are equal on all states that H₀ can be: no text tells classes apart."""
    possible = task.contrasts[:, model.initial > 0]
    if float((possible.amax(-1) - possible.amin(-1)).max()) > _NOTHING:
        return task
    raise InvalidInput(
        function, "states of H₀ that differ in what is asked", "the same for all", "ask another question of this model"
    )
