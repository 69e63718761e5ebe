"""Prompts with a head, as one bilinear form: what a search for prompts, and a proof that there are none, work with.

The mask behind a prompt is entered by q = vᵀA, where v ≥ 0 is the law of the last prompt token's state up to a factor.
With F_i = A diag(f_i) W, f_i(h) = P(x_i | H=h), text i has the score

    bᵀG(u, ∅, x_i) = vᵀF_i b / vᵀF_i 1.

Prompts of L tokens reach all v ≥ 0 on S_L = supp π₀Aᴸ, by the row u_L = v/π₀Aᴸ behind rows of ones, and no others. So
the form holds all prompts of all lengths, and only the largest of the sets S_L matter. The form is ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import torch

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import chain
from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.exact.support import largest_supports, possible_states
from ppl_hmm.exact.wide import Wide
from ppl_hmm.inference.rows import LikelihoodRows, model_prompt
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Prompt, Text
from ppl_hmm.recoverability.arguments import require_pair
from ppl_hmm.recoverability.entering import prompt_to, wide_law
from ppl_hmm.tasks import PosteriorTask, latent_posterior


class Support(NamedTuple):
    """What prompts of one length reach: v ≥ 0 that is positive on these states only."""

    prompt_length: int
    states: np.ndarray  # S_L (K,), booleans


@dataclasses.dataclass(frozen=True, eq=False)
class BilinearForm:
    """The scores y_i·vᵀF_i b / vᵀF_i 1 of texts, as a function of prompts v (K,) and heads b (V,).

    F itself is never stored: with q = vᵀA the scores are y∘(f(q∘Wb))/(fq), in O(n·K).

    Attributes
    ----------
    texts
        (n,): indices of the decidable texts in the batch that was read.
    messages
        f (n,K), each text's divided by max_k (Af)_k over the states that prompts reach.
    labels
        y (n,): +1 for the class of positive margins, −1 for the other.
    margins
        |μᵀP(H₀|x)| (n,).
    transition, emission
        A (K,K) and W (K,V).
    supports
        The inclusion-maximal S_L, each with the smallest L that has it.
    scale
        ‖μ‖_∞: no margin is larger.
    rounding
        Bound on the relative error of every entry of f.
    model
        The model that the prompts are of.
    """

    texts: np.ndarray
    messages: np.ndarray
    labels: np.ndarray
    margins: np.ndarray
    transition: np.ndarray
    emission: np.ndarray
    supports: tuple[Support, ...]
    scale: float
    rounding: float
    model: HMM = dataclasses.field(repr=False)

    @classmethod
    def of(
        cls,
        model: HMM,
        task: PosteriorTask,
        tokens: Text,
        lengths: Text | None = None,
        *,
        prompt_length: int | None = None,
    ) -> Self:
        """Return the form of the decidable texts (B,T) of a task with two classes. Cost O(B·T·K²).

        For prompts of any length, or of one.

        Raises
        ------
        InvalidInput
            Batches, different numbers of states, more than two classes, no decidable text; text that does not fit.
        ImpossibleText
            A text of probability zero.
        """
        require_pair("BilinearForm", model, task, HMM)
        model, task = model.detach().to(torch.float64, "cpu"), task.detach().to(torch.float64, "cpu")
        contrast = task.contrast  # refuses more than two classes
        law = latent_posterior(model, task, tokens, lengths=lengths)
        rows = LikelihoodRows.of(model, tokens, None, lengths)
        messages = chain.messages_at(rows.text.only_chain, [-1])[0][0, :, 0].numpy()
        n_tokens = rows.text.ids.shape[-1]
        answers = task.answers(law, task.tolerance_after(n_tokens, model.n_states))
        kept = np.flatnonzero(answers.decidable.numpy())
        if not len(kept):
            raise InvalidInput("texts", "a decidable one", "none", "draw other texts, or another task")
        supports = tuple(_supports(model, prompt_length))
        margins = answers.margins.numpy()[kept]
        form = cls(
            texts=kept,
            messages=messages[kept],
            labels=np.where(margins > 0, 1.0, -1.0),
            margins=np.abs(margins),
            transition=model.transition.numpy(),
            emission=model.emission.numpy(),
            supports=supports,
            scale=float(contrast.abs().max()),
            rounding=message_rounding(n_tokens, model.n_states),
            model=model,
        )
        largest = form.likelihoods[:, np.any([support.states for support in supports], axis=0)].max(1, keepdims=True)
        return dataclasses.replace(form, messages=form.messages / np.where(largest > 0, largest, 1))

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, chosen: np.ndarray) -> Self:
        """Return the form of some of the texts, by their numbers in this one, or by a mask."""
        each = {name: getattr(self, name)[chosen] for name in ("texts", "messages", "labels", "margins")}
        return dataclasses.replace(self, **each)

    @property
    def likelihoods(self) -> np.ndarray:
        """F_i 1 = Af_i (n,K): P(x_i | the state before the mask)."""
        return self.messages @ self.transition.T

    def scores(self, weights: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Return y_i·vᵀF_i b / vᵀF_i 1 (n,), of weights v (K,) and a head b (V,): positive where a text is right.

        Zero for texts that the prompt makes impossible, as from :func:`~ppl_hmm.probe_features`.
        """
        entering = weights @ self.transition
        total = self.messages @ entering
        read = self.messages @ (entering * (self.emission @ head))
        return self.labels * read / np.where(total > 0, total, 1)

    def score_errors(self, weights: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Bound what rounding does to each of the :meth:`scores` (n,): one that is larger has a sure sign.

        The messages' relative error counts on what is summed, |q∘Wb|ᵀf; that of Wb itself on (q∘W|b|)ᵀf.
        """
        entering = weights @ self.transition
        total = self.messages @ entering
        read = self.messages @ (entering * np.abs(self.emission @ head))
        summed = self.messages @ (entering * (self.emission @ np.abs(head)))
        share = (2 * len(entering) + 24) * np.finfo(float).eps / 2
        return (self.rounding * read + share * summed) / np.where(total > 0, total, 1)

    def signed_features(self, weights: np.ndarray) -> np.ndarray:
        """Return y_i·G_i (n,V), the gradients of the :meth:`scores` in b. Cost O(n·K·V)."""
        entering = weights @ self.transition
        total = self.messages @ entering
        return (self.messages @ (entering[:, None] * self.emission)) * self._signs(total)

    def gradients(self, weights: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Return ∂s_i/∂log v (n,K) of the :meth:`scores`. Cost O(n·K²)."""
        entering, read = weights @ self.transition, self.emission @ head
        total = self.messages @ entering
        score = (self.messages @ (entering * read))[:, None] / np.where(total > 0, total, 1)[:, None]
        return weights * self._signs(total) * ((self.messages * (read - score)) @ self.transition.T)

    def _signs(self, total: np.ndarray) -> np.ndarray:
        """Return y_i / vᵀF_i 1 (n,1) of the likelihoods (n,); y_i where the prompt makes a text impossible."""
        return (self.labels / np.where(total > 0, total, 1))[:, None]

    def reads(self, heads: np.ndarray) -> np.ndarray:
        """Return F_i b for heads b (V,) or (V,J): (n,K) or (n,K,J). Cost O(n·K²·J)."""
        read = self.emission @ heads
        if heads.ndim == 1:
            return (self.messages * read) @ self.transition.T
        return self.transition @ (self.messages[:, :, None] * read)

    def combined(self, weights: np.ndarray) -> np.ndarray:
        """Return D_α = Σ_i α_i y_i F_i (K,V), of weights α (n,): A diag(Σ_i α_i y_i f_i) W."""
        return (self.transition * ((weights * self.labels) @ self.messages)) @ self.emission

    def right(self, weights: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Say which texts (n,) have a positive score, whatever rounding did to it."""
        return self.scores(weights, head) > self.score_errors(weights, head)

    def prompt(self, weights: np.ndarray, prompt_length: int) -> SoftPrompt:
        """Return the prompt of L tokens that turns the law of its last state into v (K,), up to a factor."""
        return prompt_to(torch.from_numpy(weights), self.model, prompt_length)

    def weights(self, prompt: Prompt) -> np.ndarray:
        """Return v (K,), its largest entry one: the law of a prompt's last state, up to a factor."""
        *before, last = model_prompt(self.model, prompt)
        law = wide_law(self.model, torch.stack(before) if before else None) * Wide.of(last)
        total = law.sum(0)
        shares = (law / total.where(total.positive, 1.0)).floats().numpy()
        return shares / (shares.max() or 1.0)


def _supports(model: HMM, prompt_length: int | None) -> Iterator[Support]:
    if prompt_length is not None:
        yield Support(prompt_length, possible_states(model.initial, model.transition, prompt_length).numpy())
        return
    for length, states in largest_supports(model.initial, model.transition).items():
        yield Support(length, states.numpy())
