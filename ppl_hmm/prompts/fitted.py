"""Soft prompts, learned together with their heads.

For any prompt the best head on G is a convex problem of V weights. So the head is not trained beside the prompt but
solved for: one damped Newton step of logistic regression for each gradient step on the prompt (variable projection).
By the envelope theorem the gradient of the loss in the prompt is then the partial one, the head held fixed.
docs/decisions/0004-prompts-by-variable-projection.md says why.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput, at_least, within
from ppl_hmm.heads.labelled import LabelledText
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.language_models.protocol import MaskedLM, require_members
from ppl_hmm.models import MemoryPrompt, SoftPrompt, prompt_rows
from ppl_hmm.models.kinds import Prompt, Text
from ppl_hmm.prompts.candidates import Candidate, best_of
from ppl_hmm.prompts.training import to_rows, train_prompts
from ppl_hmm.recoverability.search import FoundPrompt

_FINAL_STEPS = 10
# Restarts begin between nearly uniform and nearly one-hot prompts.
_NARROWEST, _WIDEST = 0.5, 3.0
_FAINTEST_START = 1e-4  # what a zero of a given start becomes, beside 1: training can still raise it


@dataclasses.dataclass(frozen=True, eq=False)
class PromptFit:
    """A learned prompt with its head.

    Attributes
    ----------
    prompt
        Rows (P…,L,*prompt_shape): the best restart on validation text, or the given start that is no worse.
    head
        :class:`LinearHead` refitted on all training text after this prompt, or the one that came with the start; a
        list of P for a batch of P models.
    history
        (steps, restarts, P…): logistic loss in nats of each restart along training; from the step on at which a
        restart has settled, its last one.
    validation_score
        (P…): accuracy of the head on validation text.

    See Also
    --------
    ppl_hmm.fit_prompt : Learns one, with an example.

    Examples
    --------
    >>> from ppl_hmm import OracleLM, example, fit_prompt, posterior, sample
    >>> model, task = example("aliased")
    >>> text = sample(model, 100, length=10, seed=0).tokens
    >>> labels = task.labels(posterior(model, text))
    >>> fit = fit_prompt(OracleLM(model), text, labels, validation=(text, labels), restarts=2, seed=0)
    >>> fit.history.shape  # 150 steps, two restarts
    torch.Size([150, 2])
    """

    prompt: SoftPrompt
    head: LinearHead | list[LinearHead]
    history: Tensor
    validation_score: np.ndarray


def fit_prompt(
    lm: MaskedLM,
    tokens: Text,
    labels: ArrayLike | Tensor,
    *,
    validation: tuple[Any, ...],
    lengths: Text | None = None,
    prompt_length: int = 1,
    restarts: int = 8,
    seed: Seed | Sequence[Seed],
    start: Prompt | Sequence[SoftPrompt | FoundPrompt] | None = None,
    steps: int = 150,
    training_texts: int = 1000,
    learning_rate: float = 0.3,
) -> PromptFit:
    """Learn a soft prompt and a linear head for labels of raw text.

    Parameters
    ----------
    lm
        A masked language model, or a batch of P of them, trained together.
    tokens, labels
        Raw text (B,T) and its labels (B,), of two classes or more with any names; (P,B,T) and (P,B) for a batch.
    validation
        Text and labels, or text, labels and lengths, for choosing the restart and the head's penalty.
    lengths
        (B,) or (P,B): text from position ``lengths[b]`` on is not read.
    prompt_length
        L, number of prompt tokens.
    restarts
        Prompts trained side by side from random starts.
    seed
        One seed, or P seeds; each model draws from its own stream, so a batch changes the training by rounding only.
    start
        Prompt (P…,L,*prompt_shape) that takes the place of the first random start, e.g. a constructed one; or what
        :func:`ppl_hmm.prompt_certificate` found, a prompt with its head; or a list of these, for as many random starts.
        Training raises zeros of likelihood rows a little. Each start also stays as it is: one without an error on
        training text is kept, and any other unless training leads to fewer errors on all text.
    steps, learning_rate
        Of gradient descent (Adam) on the prompt. A restart that does not lead stops once its loss has moved by less
        than 0.1 % and 1e-4 nats in 20 steps.
    training_texts
        The prompt is trained on the first of them, the head on all. Fewer save time where encoding saves none.

    Raises
    ------
    InvalidInput
        Shapes that do not match, labels of one class or of real numbers, a size below one, too few seeds; a start of
        two classes for text of more.

    See Also
    --------
    ppl_hmm.constructed_prompt : A prompt by a theorem, without training.
    ppl_hmm.separability : Whether any head separates the text after a prompt.
    ppl_hmm.LinearHead : The head without a prompt.

    Notes
    -----
    Text is encoded once. For an exact model each step costs O(restarts·P·training_texts·V·(K+V)), whatever T is;
    V·C² in place of V with C > 2 classes.
    Source: Wei, Xie & Ma (2021), §3.2: prompt tuning.

    Examples
    --------
    >>> from ppl_hmm import OracleLM, example, fit_prompt, posterior, sample
    >>> model, task = example("aliased")
    >>> text = sample(model, 100, length=10, seed=0).tokens
    >>> labels = task.labels(posterior(model, text))
    >>> held_out = (text[80:], labels[80:])
    >>> fit = fit_prompt(OracleLM(model), text[:80], labels[:80], validation=held_out, restarts=2, seed=0)
    >>> fit.validation_score.item()
    1.0
    """
    at_least("prompt_length", prompt_length, 1)
    at_least("restarts", restarts, 1)
    at_least("steps", steps, 1)
    rate = within("learning_rate", learning_rate, 0.0, math.inf)
    at_least("training_texts", training_texts, 1)
    require_members("fit_prompt", lm, "encode", "prompt_shape", "prompt_constraint")
    batch_shape = lm.batch_shape
    if len(batch_shape) > 1:
        raise InvalidInput("batch of language models", "one batch dimension", str(batch_shape), "flatten the batch")
    train, held_out = LabelledText.of(lm, tokens, labels, lengths), LabelledText.of(lm, *_checked(validation))
    if (train.labels == train.labels[:, :1]).all(-1).any():
        raise InvalidInput(
            "training labels", "at least two classes, for every model", "one class", "relabel, or redraw the task"
        )
    classes = np.unique(train.labels)
    free_rows = _random_starts(lm, prompt_length, restarts, seed)
    given = [_Given.of(lm, each, free_rows[0], classes) for each in _each(start)]
    if len(given) > restarts:
        raise InvalidInput("start", f"at most {restarts} prompts", str(len(given)), "allow as many restarts")
    for restart, each in enumerate(given):
        free_rows[restart] = _unconstrained(each.rows, lm)
    free_rows, history = train_prompts(lm, train.first(lm, training_texts), classes, free_rows, steps, rate)
    with torch.no_grad():
        rows = to_rows(free_rows, lm)
        models = torch.arange(rows.shape[1], device=rows.device)
        learned = rows[_best_restart(rows, train, held_out, classes), models]
        candidates = [Candidate.of(lm, each.rows, train, held_out, each.heads) for each in given]
        candidates += [Candidate.of(lm, each.rows, train, held_out) for each in given if each.heads is not None]
        candidates.append(Candidate.of(lm, learned, train, held_out))
    best = [(candidates[chosen], p) for p, chosen in enumerate(best_of(candidates))]
    kind = MemoryPrompt if len(lm.prompt_shape) == 2 else SoftPrompt
    heads = [candidate.heads[p] for candidate, p in best]
    return PromptFit(
        kind(torch.stack([candidate.rows[p] for candidate, p in best]).reshape(*batch_shape, *learned.shape[1:])),
        heads if batch_shape else heads[0],
        history.reshape(*history.shape[:2], *batch_shape),
        np.array([candidate.accuracy[p] for candidate, p in best]).reshape(batch_shape),
    )


def _random_starts(lm: MaskedLM, prompt_length: int, restarts: int, seed: Seed | Sequence[Seed]) -> Tensor:
    """Return unconstrained rows (R,P,L,*prompt_shape)."""
    n_models = lm.batch_shape[0] if lm.batch_shape else 1
    seeds = list(seed) if isinstance(seed, Sequence) else [seed] * n_models
    if len(seeds) != n_models:
        raise InvalidInput(
            "seed",
            f"one seed, or {n_models}, one for each model",
            f"{len(seeds)} seeds",
            "give as many seeds as models",
        )
    shape = (restarts, prompt_length, *lm.prompt_shape)
    drawn = {"dtype": torch.float64, "device": CPU}
    spread = torch.linspace(_NARROWEST, _WIDEST, restarts, **drawn).reshape(-1, *[1] * (len(shape) - 1))
    starts = [spread * torch.randn(shape, generator=generator(one, "prompt"), **drawn) for one in seeds]
    return torch.stack(starts, dim=1)


def _each(start: Prompt | Sequence[SoftPrompt | FoundPrompt] | None) -> Sequence[Prompt]:
    """Return the prompts that training starts from: none, one, or those of a list."""
    if start is None:
        return []
    each = isinstance(start, list | tuple) and all(isinstance(one, SoftPrompt | FoundPrompt) for one in start)
    return cast(Sequence[Prompt], start) if each else [cast(Prompt, start)]


class _Given(NamedTuple):
    """A given start: a prompt for each model, with heads if it came with one."""

    rows: Tensor  # (P,L,*prompt_shape)
    heads: list[LinearHead] | None

    @classmethod
    def of(cls, lm: MaskedLM, start: Prompt, like: Tensor, classes: np.ndarray) -> _Given:
        if not isinstance(start, FoundPrompt):
            return cls(_rows(lm, start, like), None)
        if len(classes) != 2:
            raise InvalidInput("start", f"a prompt for {len(classes)} classes", "one found for two", "pass its prompt")
        head = LinearHead.from_weights(start.head)
        head.classes_ = classes
        return cls(_rows(lm, start.prompt, like), [head] * len(like))


def _rows(lm: MaskedLM, start: Prompt, like: Tensor) -> Tensor:
    """Return the rows (P,L,*prompt_shape) of a given prompt."""
    nonnegative = lm.prompt_constraint == "nonnegative"
    names = getattr(lm, "names", {})  # not asked of every language model: only exact ones name their states
    rows = prompt_rows(start, lm.prompt_shape, lm.batch_shape, nonnegative=nonnegative, like=like, names=names)
    rows = rows.expand(*lm.batch_shape, *rows.shape[-1 - len(lm.prompt_shape) :]).reshape(
        len(like), -1, *lm.prompt_shape
    )
    if rows.shape != like.shape:
        raise InvalidInput("start", f"{like.shape[1]} prompt tokens", f"{rows.shape[1]}", "set prompt_length to match")
    return rows


def _unconstrained(rows: Tensor, lm: MaskedLM) -> Tensor:
    """Return what training moves: the rows (P,L,*prompt_shape), or their logarithms, zeros raised."""
    if lm.prompt_constraint == "real":
        return rows
    largest = rows.flatten(2).amax(-1).clamp(min=torch.finfo(rows.dtype).tiny)
    relative = rows / largest.reshape(*largest.shape, *[1] * len(lm.prompt_shape))  # the scale of a row means nothing
    return relative.where(relative > 0, _FAINTEST_START).log()


def _checked(validation: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return text and labels, with lengths or without."""
    if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
        got = f"{len(validation)} values" if isinstance(validation, tuple | list) else type(validation).__name__
        raise InvalidInput("validation", "(tokens, labels) or (tokens, labels, lengths)", got, "pass such a tuple")
    return tuple(validation)


def _best_restart(rows: Tensor, train: LabelledText, held_out: LabelledText, classes: np.ndarray) -> Tensor:
    """Return the restart (P,) whose head, fitted on all training text, is most accurate on validation text."""
    features, problem = train.features(rows), train.problem(classes, rows)
    weights = problem.improve(features, problem.start(features), steps=_FINAL_STEPS)
    right = problem.predict(held_out.features(rows), weights) == held_out.numbers(classes, rows)
    return right.double().mean(-1).argmax(0)
