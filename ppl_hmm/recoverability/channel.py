"""Channel prompts: a question about the state before a text, answered by how likely prompts make the text.

No head of a causal reader recovers most tasks on H₀. Its likelihoods do. One soft prompt for each class c,

    u_c = π₀∘w̃_c / π₀A,    w̃_c = w_c − min_c' w_c' ≥ 0,    P(u_c, x) = (π₀∘w̃_c)ᵀf(x) = P(x) · w̃_cᵀP(H₀|x),

so that the label is the class whose prompt makes prompt and text likeliest. For two classes w̃_1 = μ⁺ and w̃_0 = μ⁻, and
P(u_1, x) − P(u_0, x) = P(x) · μᵀP(H₀|x). The text stands after the prompt, one step later than without it: the token of
the prompt is that of H_1, whose law π₀A the prompt turns into π₀∘w̃_c, on supp(π₀∘μ) ⊆ supp π₀A.

This is Theorem P of Wei, Xie & Ma (2021) for likelihoods in place of heads. Ours; the idea for language models is
that of Min et al. (2022), *Noisy channel language model prompting*.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import cast

import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.inference.queries import log_likelihood
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.arguments import require_pair
from ppl_hmm.recoverability.certificate import Certificate, SignAgreement
from ppl_hmm.schema import Cause
from ppl_hmm.tasks import PosteriorTask, decide, latent_posterior, on_possible_values, require_uncertain


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelPrompts:
    """Prompts whose likelihoods answer a task on H₀.

    Attributes
    ----------
    prompts
        u_c (1,K) of each class; an impossible one (zeros) of a class that no state prefers.
    model
        Whose prompts they are.

    See Also
    --------
    channel_prompts : Constructs them.

    Examples
    --------
    >>> from ppl_hmm import channel_prompts, example
    >>> model, task = example("aliased")
    >>> channel_prompts(model, task).labels([[0, 1], [2, 2]]).tolist()
    [0, 1]
    """

    prompts: tuple[SoftPrompt, ...]
    model: HMM = dataclasses.field(repr=False)

    def log_likelihoods(self, tokens: Text, lengths: Text | None = None) -> Tensor:
        """Return log P(u_c, x) (B,C) in nats of text (B,T)."""
        each = [log_likelihood(self.model, tokens, prompt=prompt, lengths=lengths) for prompt in self.prompts]
        return torch.stack(each, dim=-1)

    def labels(self, tokens: Text, lengths: Text | None = None) -> Tensor:
        """Return the class (B,) whose prompt makes prompt and text likeliest; ties go up.

        Raises
        ------
        ImpossibleText
            A text that the model gives probability zero (which).
        """
        text = as_tokens(tokens, self.model.vocabulary_size, lengths=lengths, device=self.model.device)
        possible = log_likelihood(self.model, text) > -torch.inf
        if not possible.all():
            raise ImpossibleText(
                f"sequence {int((~possible).nonzero()[0])}",
                "text of positive probability",
                "probability 0",
                "drop the sequence, or smooth the emissions",
            )
        return decide(self.log_likelihoods(text))

    def sure(self, tokens: Text, lengths: Text | None = None) -> Tensor:
        """Say of which texts (B,) the two likeliest prompts differ by more than rounding."""
        text = as_tokens(tokens, self.model.vocabulary_size, lengths=lengths, device=self.model.device)
        first, second = self.log_likelihoods(text).topk(2, dim=-1).values.unbind(-1)
        eps = torch.finfo(torch.float64).eps
        rounding = 2 * message_rounding(text.shape[-1] + 1, self.model.n_states) + 4 * eps * first.abs()
        return (first > -torch.inf) & (first - second > rounding)


@typing.final
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ChannelCertificate(Certificate):
    """The certificate of channel prompts: ``weights`` are the rows u_c (C,K) of their tokens."""

    @property
    def prompts(self) -> ChannelPrompts:
        """The prompts."""
        return ChannelPrompts(tuple(SoftPrompt(row[None]) for row in self.weights), cast(HMM, self.model))

    def sign_agreement(self, tokens: Text, lengths: Text | None = None) -> SignAgreement:
        """Return on how many of the decidable texts (B,T) the likeliest prompt has the label. Cost O(C·B·T·K²)."""
        text = as_tokens(tokens, self.model.vocabulary_size, lengths=lengths, device=self.model.device)
        answers = self.task.answers(latent_posterior(self.model, self.task, text))
        decidable = answers.decidable & (answers.margins.abs() > self.margin_error) & self.prompts.sure(text)
        agreeing = (decide(self.prompts.log_likelihoods(text)) == answers.labels) & decidable
        n_decidable = int(decidable.sum())
        return SignAgreement(int(agreeing.sum()), n_decidable, len(text) - n_decidable)

    def to_dataset(self) -> xr.Dataset:
        """Return the rows of the prompts, by class and state."""
        return xr.Dataset({"weights": ((schema.CLASS, schema.STATE), self.weights.cpu().numpy())})


def channel_prompts(model: HMM, task: PosteriorTask) -> ChannelPrompts:
    """Return a soft prompt for each class, whose likelihoods with a text answer a task on H₀.

    Parameters
    ----------
    model, task
        One model and one task on H₀ of the same K.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, a task on another state, an H₀ that is certain; a state that the task
        needs and H_1 cannot be (which).

    See Also
    --------
    causal_certificate : Heads of causal readers.
    prompt_certificate : Prompts for heads of masked ones.

    Notes
    -----
    Cost O(C·K²); the likelihoods of a text O(C·T·K²).

    Examples
    --------
    >>> from ppl_hmm import channel_prompts, example, posterior
    >>> model, task = example("aliased")
    >>> found, texts = channel_prompts(model, task), [[0, 1], [0, 2], [2, 2]]
    >>> lower, upper = found.log_likelihoods(texts).exp().T
    >>> (upper - lower).numpy().round(5)  # P(x) times the margin
    array([-0.025  , -0.00567,  0.0185 ])
    >>> found.labels(texts).tolist() == task.labels(posterior(model, texts)).tolist()
    True
    """
    certificate = channel_certificate(model, task)
    if not certificate.recoverable:
        raise InvalidInput(
            "states that the task needs",
            "states that the first token may come from, π₀A > 0",
            "; ".join(certificate.reasons),
            "give moves to them a small probability, or the task equal weights for all classes there",
        )
    return certificate.prompts


def channel_certificate(model: HMM, task: PosteriorTask) -> ChannelCertificate:
    """Return whether channel prompts answer a task on H₀, with their rows; errors as of :func:`channel_prompts`.

    Where a state that the task needs cannot be that of the first token its row is zero there, and the margin is off by
    up to ‖μ‖_∞.
    """
    require_pair("channel_prompts", model, task, HMM, any_position=True)
    if task.position is not None:
        remedy = "use causal_certificate or causal_prompt_certificate: heads read the state at the end of a text"
        raise InvalidInput("channel_prompts", "a task on the silent H₀", f"one on {task.place}", remedy)
    require_uncertain("channel_prompts", model, task)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    task = on_possible_values(model, task)
    wanted = model.initial * (task.weights - task.weights.amin(0))
    first = model.initial @ model.transition
    rows = torch.where(first > 0, wanted / torch.where(first > 0, first, 1), 0.0)
    missing = ((wanted > 0).any(0) & ~(first > 0)).nonzero()[:, 0].tolist()
    reason = f"π₀A = 0 at {', '.join(map(str, missing))}" if missing else "supp(π₀∘μ) ⊆ supp π₀A"
    return ChannelCertificate(
        theorem="channel prompts",
        weights=rows,
        residual=1.0 if missing else 0.0,
        margin_error=float(task.scale) if missing else 0.0,
        sigma_min=float("nan"),
        support_threshold=0.0,
        tolerance=0.0,
        cause=Cause.of_condition(not missing),
        reasons=(reason,),
        model=model,
        task=task,
    )
