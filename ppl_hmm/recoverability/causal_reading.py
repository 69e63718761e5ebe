"""What a causal reader knows of a text when it answers a task: where it stops, and its law of the next token."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.base.positions import Place
from ppl_hmm.base.tokens import ends
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.support import possible_states
from ppl_hmm.inference.beliefs import law_after
from ppl_hmm.inference.rows import model_prompt
from ppl_hmm.inference.suffixes import Suffix, template_tokens
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Model
from ppl_hmm.tasks import PosteriorTask, Task


def require_causal(function: str, place: Place) -> None:
    """Raise :class:`InvalidInput` for a task whose label leaves out a token that a causal reader has read."""
    if place.given == "context":
        raise InvalidInput(
            f"{function}: given='context'",
            "given='prefix' or 'text'",
            f"{place}, which needs a mask",
            "pass given='prefix': a causal reader hides no token that it has read",
        )


def is_filtered(place: Place) -> bool:
    """Say whether a task asks of the last state that a causal reader has come to: its law is the filtered one."""
    return place.given == "prefix" or (place.position == -1 and place.given == "text")


def ends_of_reading(place: Place, tokens: Tensor) -> Tensor:
    """Return how many tokens (…,B) of checked ones (…,B,T) a causal reader knows: all, or those up to a position.

    Trailing ``MASK`` are no tokens, unless the task's position is among them.

    Raises
    ------
    InvalidInput
        A text without a token, or without such a position.
    """
    if is_filtered(place):
        return place.columns(tokens) + 1
    found = ends(tokens)
    if (found == 0).any():
        where = (found == 0).nonzero()[0].tolist()
        raise InvalidInput(
            f"sequence {where[-1]}",
            "a text of at least one token, for a causal reader",
            "none, or MASK alone",
            "leave the sequence out",
        )
    return found if place.position is None else torch.maximum(found, 1 + place.columns(tokens))


def template_rows(model: HMM, template: Suffix) -> SoftPrompt:
    """Return a template as likelihood rows (S,K): columns of W for tokens, ones for ``MASK``, soft rows as they are.

    Raises
    ------
    InvalidInput
        Tokens outside the vocabulary, rows that are no prompt of the model.
    """
    tokens = template_tokens("template", template, model.vocabulary_size)
    if tokens is None:
        return SoftPrompt(model_prompt(model, template, "template"))
    table = torch.cat([model.emission.mT, torch.ones_like(model.emission[:, :1].mT)])
    return SoftPrompt(table[tokens.to(table.device)])  # MASK = −1 is the last row


def possible_template(model: HMM, task: PosteriorTask, template: Suffix) -> SoftPrompt:
    """Return :func:`template_rows` of a template that some text allows, and raise for others.

    Raises
    ------
    InvalidInput
        As :func:`template_rows`; a template of probability zero after every text (from which token on).
    """
    found = template_rows(model, template)
    states = _last_states(model, task)
    for number, row in enumerate(found.rows.to(states.device)):
        states = possible_states(states.to(row), model.transition, 1) & (row > 0)
        if not states.any():
            raise InvalidInput(
                f"token {number} of the template",
                "one that some state allows, of those that texts lead to",
                "probability 0",
                "change the template",
            )
    return found


def _last_states(model: HMM, task: PosteriorTask) -> Tensor:
    """Return which states (K,) can be those of the last token that a causal reader knows."""
    if is_filtered(task.place):
        return task.possible(model)
    position = task.position
    n_before = 0 if position is None else position if position >= 0 else -1 - position
    earlier = possible_states(model.initial, model.transition, n_before)
    return possible_states(earlier.to(model.initial), model.transition)


def next_token_law(model: Model, task: Task, text: Tensor, template: SoftPrompt | None = None) -> Tensor:
    """Return the law g (B,V) of the token after checked text (B,T) and a template; zeros for an impossible one."""
    return law_after(model, text, suffix=template, lengths=ends_of_reading(task.place, text), impossible="mask")
