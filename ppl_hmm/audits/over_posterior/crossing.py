"""Heads of draws on the text of other draws: what is known of accuracy on the truth.

If the truth is a draw of the posterior, as in the Bayesian sense it is, then a head that draw j answers with has on the
truth the accuracy that it has on another draw k, on average: accuracy across draws is what is known of accuracy on the
truth. On its own draw a head is right by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.heads.logistic import newton
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.transfer import transfer_bounds
from ppl_hmm.tasks import PosteriorTask, decide

_NEWTON_STEPS = 25


class TextOfDraws(NamedTuple):
    """Text that each draw writes, and what the draw makes of it."""

    tokens: Tensor  # (P,B,T)
    labels: Tensor  # (P,B)
    margins: Tensor  # (P,B), over ‖μ‖_∞
    decidable: Tensor  # (P,B)

    @classmethod
    def of(cls, models: HMM, tasks: Sequence[PosteriorTask], n_texts: int, length: int, seed: Seed) -> TextOfDraws:
        """Draw text of each model and label it."""
        tokens = sample(models, n_texts, length, generator(seed, "recoverability posterior: texts")).tokens
        task = PosteriorTask.stack(tasks)
        law = task.posterior(models, tokens)
        answers = task.answers(law, task.tolerance_after(length, models.n_states))
        return cls(tokens, answers.labels, answers.margins.abs() / task.scale[:, None], answers.decidable)

    def features(self, models: HMM, task: PosteriorTask, n_masks: int = 1) -> Tensor:
        """Return what a head reads of the text (P,B,J·V); zeros for impossible contexts."""
        at = {"position": task.position, "given": task.given, "impossible": "mask"}
        masks = {} if n_masks == 1 else {"n_masks": n_masks}
        found = probe_features(OracleLM(models), self.tokens, **at, **masks)  # type: ignore[arg-type]
        return found if n_masks == 1 else found.flatten(-2)

    @property
    def majority(self) -> np.ndarray:
        """The share of the more frequent label (P,)."""
        n_classes = int(self.labels.max()) + 1
        shares = torch.nn.functional.one_hot(self.labels, n_classes).double().mean(1)
        return shares.amax(-1).numpy()


class Crossed(NamedTuple):
    """Accuracy of each draw's head on text whose label is decidable."""

    own: np.ndarray  # (P,): on text of the draw itself
    across: np.ndarray  # (P,): on that of the others, on average; that of the draw itself where there is no other
    spread: np.ndarray  # (P,): standard deviation over the others


def heads_of(constructed: Sequence[Tensor | None], features: Tensor, text: TextOfDraws, n_classes: int) -> Tensor:
    """Return the head (P,1 or C,n) of each draw: constructed, or else learned from its own text."""
    missing = [number for number, weights in enumerate(constructed) if weights is None]
    heads = features.new_zeros(len(constructed), 1 if n_classes == 2 else n_classes, features.shape[-1])
    for number, weights in enumerate(constructed):
        if weights is not None:
            heads[number] = weights
    if missing:
        heads[missing] = _learned(features[missing], text.labels[missing], n_classes)
    return heads


def _learned(features: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Return logistic regressions (P,1 or C,n) of labels (P,B), one class against the others where C > 2."""
    classes = torch.ones(1, device=CPU) if n_classes == 2 else torch.arange(n_classes, device=CPU)
    sign = torch.where(labels[:, None] == classes[:, None].to(labels), 1.0, -1.0).to(features)
    read = features[:, None].expand(-1, len(classes), -1, -1)
    return newton(read, sign, features.new_zeros(*read.shape[:2], read.shape[-1]), _NEWTON_STEPS)


def crossed(heads: Tensor, features: Tensor, text: TextOfDraws) -> Crossed:
    """Return the accuracies of heads (P,C,n) on features (P,B,n). Cost O(P²·B·C·n), O(P·B·C) memory."""
    accuracy = np.empty((len(heads), len(heads)))  # of the head of j on k
    for k, (read, labels, decidable) in enumerate(zip(features, text.labels, text.decidable, strict=True)):
        kept = decidable if bool(decidable.any()) else ~decidable
        answers = decide(torch.einsum("jcn,bn->jbc", heads, read[kept]))
        accuracy[:, k] = (answers == labels[kept]).double().mean(-1).numpy()
    own = accuracy.diagonal()
    if len(heads) == 1:
        return Crossed(own, own, np.zeros(1))
    others = accuracy[~np.eye(len(heads), dtype=bool)].reshape(len(heads), -1)
    return Crossed(own, others.mean(-1), others.std(-1))


def bounds(heads: Tensor, features: Tensor, constructed: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Return the sharp transfer bound (P,E) of constructed heads at losses in nats; 1, no bound, of others."""
    found = np.ones((len(heads), len(excess)))
    for number in np.flatnonzero(constructed):
        read = features[number][features[number].sum(-1) > 0]
        head = heads[number][0] if len(heads[number]) == 1 else heads[number]
        found[number] = transfer_bounds(read, head, excess).sharp_bound.numpy()
    return found


