"""The certificate of attention: what it reads off masked conditionals, and on which texts it claims to be right."""

from __future__ import annotations

import dataclasses
import typing

import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.tokens import as_text
from ppl_hmm.inference.queries import Posterior, masked_conditionals, posterior
from ppl_hmm.models import MemoryHMM, MemoryPrompt
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.attention import hard_attention, observed, of_token, read
from ppl_hmm.recoverability.certificate import Certificate, SignAgreement
from ppl_hmm.recoverability.mixtures import form_rounding
from ppl_hmm.tasks import MemoryTask, decide

# Rounding takes more from the score of a sure position the rarer its token is: up to 100 times are allowed for.
_SURE = 100


@typing.final
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MemoryCertificate(Certificate):
    """The certificate of Theorem M, also after a prompt that restricts the memory.

    Attributes
    ----------
    weights
        Θ (m,|H*|,V): reads P(M_{j*}=a, H_i=h | x_{-i}) off G_i; zero for values that the prompt or the prior excludes.
    recoverable_states
        H*, in increasing order; empty where there is none.
    memory_values
        𝓜*, the values of the cell that the prompt allows; all without a prompt.
    residual
        max_r ‖ΘR_r − e_r‖₁ over the rows that text can meet.
    margin_error
        ‖μ‖_∞ (residual + rounding of ΘG_i): over G_i[x_i] it bounds the error of a value beside ‖μ‖_∞ P(H_i∉H*|x).
    sigma_min
        Smallest singular value of the rows of H* projected off the span of the others, 1/‖Θ‖₂ where the condition
        holds.
    support_threshold
        δ: positions whose score is within δ of the best are attended to as well.

    See Also
    --------
    memory_certificate : The certificate of a model and a task.
    constructed_attention : The attention head that it certifies.
    Certificate : What all certificates have in common.

    Examples
    --------
    >>> from ppl_hmm import example, memory_certificate
    >>> certificate = memory_certificate(*example("memory"))
    >>> certificate.recoverable_states
    (1,)
    >>> certificate.sign_agreement([[0, 0, 3], [4, 1, 0], [0, 1, 0]])
    SignAgreement(agreeing=2, decidable=2, undecidable=1)
    >>> certificate.coverage([[0, 0, 3], [0, 1, 0]]).numpy().round(3).tolist()
    [1.0, 0.0]
    """

    recoverable_states: tuple[int, ...]
    memory_values: tuple[int, ...]
    model: MemoryHMM = dataclasses.field(repr=False)
    task: MemoryTask = dataclasses.field(repr=False)
    prompt: MemoryPrompt | None = dataclasses.field(default=None, repr=False)

    @property
    def context_score_weights(self) -> Tensor:
        """Q (V+1,V), the same row for all tokens: qᵀG_i = P(H_i∈H* | x_{-i})."""
        return self.weights.sum((0, 1)).expand(1 + self.weights.shape[-1], -1)

    @property
    def score_weights(self) -> Tensor:
        """Q (V+1,V): Q[x_i]ᵀG_i / G_i[x_i] = P(H_i∈H* | x), less what residual and rounding may add to it.

        So a score never promises too much: where G_i[x_i] is tiny, the form says little and its score is low.
        """
        exact = torch.einsum("ahx,ahv->xv", self._likelihoods, self.weights)
        largest = self._likelihoods.flatten(0, 1).amax(0) if self.recoverable_states else exact.new_zeros(len(exact))
        return exact - (self._reading_error * largest)[:, None]  # ΣG = 1

    @property
    def value_weights(self) -> Tensor:
        """B (1 or C,V+1,V): B_c[x_i]ᵀG_i = G_i[x_i] · Σ_a μ_{c,a} P(M_{j*}=a, H_i∈H* | x)."""
        return torch.einsum("ca,ahx,ahv->cxv", self.task.contrasts.to(self.weights), self._likelihoods, self.weights)

    @property
    def attention_tolerance(self) -> float:
        """Positions whose score is within it of the best are attended to: δ, and what rounding may cost a sure one."""
        return self.support_threshold + _SURE * form_rounding(self.weights)

    @property
    def _reading_error(self) -> float:
        return self.residual + form_rounding(self.weights)

    @property
    def _likelihoods(self) -> Tensor:
        """P(x | M_{j*}=a, H=h) (m,|H*|,V+1), the last for ``MASK``."""
        rows = self.model.emission[:, list(self.recoverable_states)]
        return torch.nn.functional.pad(rows, (0, 1), value=1.0)

    def coverage(self, tokens: Text, lengths: Text | None = None) -> Tensor:
        """Return max_i P(H_i∈H* | x) (B,) by exact inference; a text where it is at least 1−δ is covered.

        At its best position the value of a covered text is right up to ‖μ‖_∞ δ. Zero for text that is impossible after
        the prompt, or has no position. Cost as :func:`ppl_hmm.posterior`.
        """
        text, present = self._text(tokens, lengths)
        exact = posterior(self.model, text, prompt=self.prompt, impossible="mask")
        return (self._recoverable(exact) * present).amax(-1)

    def sign_agreement(self, tokens: Text, lengths: Text | None = None) -> SignAgreement:
        """Return on how many of the decidable texts (B,T) the constructed attention agrees with the task.

        Agreement is claimed where the margin, after the prompt, is larger than the bound at all positions attended to.
        Cost as :func:`ppl_hmm.masked_conditionals`.
        """
        text, present = self._text(tokens, lengths)
        exact = posterior(self.model, text)
        prompted = posterior(self.model, text, prompt=self.prompt, impossible="mask")
        conditionals = masked_conditionals(self.model, text, prompt=self.prompt, impossible="mask")
        rows = observed(text, self.model.vocabulary_size)
        likelihood = of_token(conditionals, rows).clamp(min=torch.finfo(conditionals.dtype).tiny)
        scores = read(self.score_weights, conditionals, rows) / likelihood
        attention = hard_attention(scores, present, self.attention_tolerance)
        values = (attention * read(self.value_weights, conditionals, rows)).sum(-1)
        bound = self.task.scale * (1 - self._recoverable(prompted)) + self.margin_error / likelihood
        bound = bound.masked_fill(attention == 0, 0).amax(-1).masked_fill((attention == 0).all(-1), torch.inf)
        claimed = self.task.decidable(exact) & (self.task.margins(prompted).abs() > bound)
        agreeing = (decide(values.mT) == self.task.labels(exact)) & claimed
        n_claimed = int(claimed.sum())
        return SignAgreement(int(agreeing.sum()), n_claimed, len(text) - n_claimed)

    def to_dataset(self) -> xr.Dataset:
        """Return Θ as a labelled dataset, by the states of H*."""
        dimensions = (schema.MEMORY_VALUE, schema.STATE, schema.TOKEN)
        names = self.model.names.get(schema.STATE, range(self.model.n_states))
        states = {schema.STATE: [names[state] for state in self.recoverable_states]}
        return xr.Dataset({"weights": (dimensions, self.weights.cpu().numpy())}, coords=states)

    def _text(self, tokens: Text, lengths: Text | None) -> tuple[Tensor, Tensor]:
        """Return checked text (B,T), and which positions are present: those before each length."""
        text, ends = as_text(tokens, self.model.vocabulary_size, lengths=lengths, device=self.model.device)
        if ends is None:
            return text, torch.ones_like(text, dtype=torch.bool)
        return text, torch.arange(text.shape[-1], device=text.device) < ends[:, None]

    def _recoverable(self, exact: Posterior) -> Tensor:
        """P(H_i∈H* | x) (B,T)."""
        return exact.smoothed[..., list(self.recoverable_states)].sum(-1)
