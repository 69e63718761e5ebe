"""The certificate of a linear head: what it scores, and how far float64 can tell."""

from __future__ import annotations

import dataclasses
import typing
from typing import Self

import numpy as np
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.inference.queries import masked_conditionals
from ppl_hmm.models import SoftPrompt
from ppl_hmm.models.kinds import Model, Text
from ppl_hmm.recoverability.causal_reading import next_token_law
from ppl_hmm.recoverability.certificate import Certificate, SignAgreement
from ppl_hmm.recoverability.half_range import half_range
from ppl_hmm.recoverability.proof import Proof
from ppl_hmm.recoverability.refutation import Refutation
from ppl_hmm.recoverability.rounding import surely_scored
from ppl_hmm.recoverability.search import FoundPrompt
from ppl_hmm.recoverability.witness import Witness
from ppl_hmm.schema import Cause, Reader
from ppl_hmm.tasks import Answers, Task, decide, latent_posterior


def features_read(
    model: Model, task: Task, text: Tensor, prompt: SoftPrompt | None = None, n_masks: int = 1
) -> Tensor:
    """Return what heads read of checked tokens (B,T): G at their masks (B,J·V); zeros for impossible contexts."""
    probe = task.place.probe(text, n_masks)

    def conditionals(positions: list[int]) -> Tensor:
        return masked_conditionals(model, probe.inputs, prompt=prompt, positions=positions, impossible="mask")

    return probe.features(conditionals)


@typing.final
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class HeadCertificate(Certificate):
    """The certificate of a linear head on masked conditionals, also after a prompt.

    Attributes
    ----------
    weights
        b (V,) for two classes, (C,V) for more: the head 1(bᵀG ≥ 0), or argmax_c. Longer where the head reads more than
        G: V+1 blocks of V for a task on a position that is given all of the text, J blocks of V for J masks.
    residual
        Most that the head moves the margin of any text through the states that count, relative to ‖μ‖_∞; 0 = solved.
    margin_error
        The same over all states, in units of the margin: every text with |margin| above it is classified right, unless
        its score is itself rounding (:meth:`sure`).
    sigma_min
        The K_S-th singular value of W on the K_S states that matter; 0 when K_S > V. Rows are independent iff positive.
    support_threshold
        δ: states entered with probability at most δ count as not entered. For δ > 0 sign agreement is measured, not
        proved.
    witness
        Texts that no linear head classifies, after this prompt.
    score_error
        Scores within it have no sign, besides those that are rounding.
    n_masks
        J: how many masks stand in front of the text.
    reader
        Whether the head reads a masked language model, or the next-token law of a causal one, whose ``prompt`` follows
        the text.
    proof
        What rational arithmetic says of the equations; None where it was not asked.
    found
        The prompt with a head that was searched for given texts; None where none was. It is not that of the theorem,
        whose ``prompt`` and ``weights`` these are.
    refutation
        The proof that no prompt of any length does for given texts; None where none is known.
    """

    score_error: float = 0.0
    n_masks: int = 1
    reader: Reader = Reader.MASKED
    proof: Proof | None = dataclasses.field(default=None, repr=False)
    found: FoundPrompt | None = dataclasses.field(default=None, repr=False)
    refutation: Refutation | None = dataclasses.field(default=None, repr=False)

    @property
    def sees_token(self) -> bool:
        """Whether the head also sees the token that its mask hides; a causal reader hides none."""
        return self.task.place.sees_token and self.reader is Reader.MASKED

    @property
    def half_range(self) -> float:
        """Half the range of b in its worst block of V: what noise in G is multiplied by; of b_c − b_c' for classes."""
        blocks = self.weights.shape[-1] // self.model.vocabulary_size
        return half_range(np.atleast_2d(self.weights.cpu().numpy()), blocks)

    def sign_agreement(self, tokens: Text, lengths: Text | None = None) -> SignAgreement:
        """Return on how many of the decidable texts (B,T) the constructed head agrees with the task.

        Cost O(B·T·K²).
        """
        text = as_tokens(tokens, self.model.vocabulary_size, lengths=lengths, device=self.model.device)
        law, n_tokens = latent_posterior(self.model, self.task, text), text.shape[1]
        answers = self.task.answers(law, self.task.tolerance_after(n_tokens, self.model.n_states))
        return self.agreement_on(self.features(text), answers, n_tokens)

    def agreement_on(self, features: Tensor, answers: Answers, n_tokens: int) -> SignAgreement:
        """Return the same for texts of T tokens whose features G (B,V), after this prompt, and answers are known."""
        scores = features @ self.weights.reshape(-1, self.weights.shape[-1]).mT
        decidable = self.claimed(features, answers, n_tokens)
        agreeing = (decide(scores) == answers.labels) & decidable
        n_decidable = int(decidable.sum())
        return SignAgreement(int(agreeing.sum()), n_decidable, len(features) - n_decidable)

    def features(self, text: Tensor) -> Tensor:
        """Return what the head reads of checked tokens (B,T): G at its masks (B,J·V); zeros for impossible contexts.

        Of a causal reader the law of the token after text and prompt (B,V).
        """
        if self.reader is Reader.CAUSAL:
            return next_token_law(self.model, self.task, text, self.prompt)
        return features_read(self.model, self.task, text, self.prompt, self.n_masks)

    def claimed(self, features: Tensor, answers: Answers, n_tokens: int) -> Tensor:
        """Say on which texts (B,) of T tokens the head is claimed to be right: beyond rounding and its error."""
        decidable = answers.decidable & self.sure(features, n_tokens)
        if self.support_threshold == 0:
            decidable &= answers.margins.abs() > self.margin_error
        return decidable

    def sure(self, features: Tensor, n_tokens: int) -> Tensor:
        """Say which texts (B,) of T tokens the constructed head scores beyond rounding."""
        n_before = self.n_masks - 1 + (0 if self.prompt is None else len(self.prompt.rows))
        return surely_scored(features, self.weights, self.model, n_before + n_tokens, self.score_error)

    def holds_exactly(self) -> bool:
        """Say whether the proof, if there is one, holds in rational arithmetic: a check that solves nothing.

        A certificate without a proof is exact about nothing.
        """
        return self.proof is not None and self.proof.holds(self)

    def to_dataset(self) -> xr.Dataset:
        """Return the weights as a labelled dataset: a row for two classes, by class for more."""
        weights = np.atleast_2d(self.weights.cpu().numpy())
        dimensions = [schema.SCORE, schema.TOKEN]
        if self.sees_token:
            weights = weights.reshape(len(weights), -1, self.model.vocabulary_size)
            dimensions.insert(1, schema.OBSERVED_TOKEN)
        elif self.n_masks > 1:
            weights = weights.reshape(len(weights), self.n_masks, -1)
            dimensions.insert(1, schema.MASK)
        return xr.Dataset({"weights": (dimensions, weights)})

    def refuted_by(self, witness: Witness) -> Self:
        """Return the certificate with verdict ``'not recoverable'`` and its witness."""
        reason = f"{len(witness.texts)} texts that no linear head classifies, residual {witness.residual:.1e}"
        return dataclasses.replace(self, cause=Cause.WITNESS, reasons=(reason, *self.reasons), witness=witness)

    def with_found(self, found: FoundPrompt) -> Self:
        """Return the certificate, which proves nothing, with what a search found for given texts."""
        n_wrong = len(found.wrong)
        if n_wrong:
            reason = f"the best prompt found leaves {n_wrong} of {found.n_texts} texts, all of |margin| at most "
            reason += f"{found.resolution:.2g}"
        else:
            reason = f"a prompt was found that is right, with its head, on all {found.n_texts} decidable texts"
        cause = self.cause if n_wrong else Cause.SEARCH
        return dataclasses.replace(self, cause=cause, reasons=(reason, *self.reasons), found=found)

    def with_refutation(self, refutation: Refutation) -> Self:
        """Return the certificate with verdict ``'not recoverable'`` and the proof that no prompt does."""
        n_leaves, n_texts = refutation.weights.shape
        reason = f"{n_texts} texts that no prompt with any linear head classifies, by {n_leaves} cones of heads; each "
        reason += f"has a |margin| above {refutation.tolerance:.2g}"
        return dataclasses.replace(
            self, cause=Cause.REFUTATION, reasons=(reason, *self.reasons), refutation=refutation
        )

    def beyond_float64(self) -> Self:
        """Return the undecided certificate of a head that exists on paper, where rounding hides it from every text."""
        sigma = f"σ_min({'W' if self.n_masks == 1 else 'R'}) = {self.sigma_min:.1e}"
        reason = f"a head exists on paper, {sigma}, but rounding hides what it reads in G"
        return dataclasses.replace(self, cause=Cause.ROUNDING, reasons=(*self.reasons, reason))
