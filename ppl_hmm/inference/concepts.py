"""What text reveals of its concept, and what that is worth in context: exact Bayes, token by token.

Given its concept θ a text is drawn from that concept's own small chain, so C forward passes give every evidence

    P(θ | x_1..x_t) ∝ P(θ) P(x_1..x_t | θ),
    P(X_{t+1} | x_1..x_t) = Σ_θ P(θ | x_1..x_t) P(X_{t+1} | x_1..x_t, θ).

Each chain is normalised by itself and concepts meet as logarithms, so that one that is nearly excluded comes back
exactly if later text speaks for it. Source: Xie, Raghunathan, Liang & Ma (2021), §2–3.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.checks import check_distributions
from ppl_hmm.base.tokens import as_text
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import concepts
from ppl_hmm.exact.algebra import SCALED
from ppl_hmm.exact.concepts import Concepts, combine, mix
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.exact.recursion import Chain
from ppl_hmm.inference.rows import Impossible, masks
from ppl_hmm.inference.suffixes import ReadText, Suffix
from ppl_hmm.models import ConceptHMM
from ppl_hmm.models.kinds import Prompt, Text


@dataclasses.dataclass(frozen=True, eq=False)
class InContextText:
    """Prompts of independent examples of one concept, after Xie et al. (2021), §4.

    Attributes
    ----------
    tokens
        (B,n(k+1)+k−1): n examples of k tokens, each followed by the delimiter, then the first k−1 of one more.
    concept
        (B,): θ, from which all n+1 examples are drawn.
    start
        (B,K): the law of the first state of each example, which emits: uniform over the values of θ in one slot.
    example_length
        k.
    """

    tokens: Tensor
    concept: Tensor
    start: Tensor
    example_length: int


@dataclasses.dataclass(frozen=True, eq=False)
class InContextPrediction:
    """What the mixture of all concepts predicts after prompts of examples, and what their concept itself would.

    Attributes
    ----------
    law
        (B,V): P(X_{T+1} | prompt) under the model, all concepts mixed; zero rows for impossible prompts.
    answer
        (B,): the token that is most probable after the test example alone, given its concept and starting slot.
    concept
        (B,): P(θ | prompt) of the prompt's concept.
    possible
        (B,): whether the model can write the prompt at all.
    """

    law: Tensor
    answer: Tensor
    concept: Tensor
    possible: Tensor

    @property
    def correct(self) -> Tensor:
        """(B,): whether the most probable token, the lowest among equals, is the answer; no prediction is never."""
        return self.possible & (self.law.argmax(-1) == self.answer)


@torch.no_grad()
def concept_posterior(
    model: ConceptHMM,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> Tensor:
    """Return P(θ | x_1..x_t) (P…,B,T+1,C) for every prefix t = 0..T of tokens (B,T), or (P…,B,T), T ≥ 0.

    Parameters
    ----------
    model
        A :class:`~ppl_hmm.models.ConceptHMM` of C concepts, or a batch of them.
    tokens, prompt, lengths
        As in :func:`~ppl_hmm.inference.beliefs.beliefs`: masked positions, and those past an end, tell nothing. t = 0
        is the prior, or what a prompt makes of it.
    impossible
        What to do with prefixes of probability zero: ``'raise'``, or ``'mask'`` for zero rows.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments; impossible text (which sequence, its first impossible position).

    Notes
    -----
    Equals ``concepts`` of the beliefs, in a C-th of the time: O(B·T·K²/C) for concepts of equal size, O(B·T·C·n²) where
    the largest has n states. Concepts that are nearly excluded take no logarithms.
    """
    mask, text = _checked(model, tokens, prompt, lengths, impossible)
    log_joint = torch.stack([concepts.log_joint(each)[0] for each in _each_model(model, text.rows.text)])
    log_joint = log_joint[..., text.rows.n_prompt : text.rows.n_prompt + text.length + 1]
    if not mask:
        text.rows.require_possible((log_joint[..., -1] > -torch.inf).any(1), can_mask=True)
    return text.rows.unflatten(torch.stack([combine(each) for each in log_joint]).to(model.dtype))


@torch.no_grad()
def next_token_law(
    model: ConceptHMM,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    suffix: Suffix | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> Tensor:
    """Return the law (P…,B,V) of the token after text and suffix, all concepts mixed: a perfect autoregressive model's.

    Parameters, errors and cost as in :func:`concept_posterior`; ``suffix`` as in
    :func:`~ppl_hmm.inference.beliefs.beliefs`, which gives the same laws. Where no lengths are known a text ends after
    all T tokens, masked ones among them.
    """
    mask, text = _checked(model, tokens, prompt, lengths, impossible)
    options = {"lengths": lengths, "batch_shape": model.batch_shape, "shortest": 0}
    if as_text(tokens, model.vocabulary_size, **options).lengths is None:
        text = text._replace(ends=torch.full_like(text.ends, text.length))
    continued = text.followed_by(model, suffix)
    laws, possible = [], []
    for each, last in zip(_each_model(model, continued.text), continued.last, strict=True):
        log_joint, filtered = concepts.log_joint(each, last)
        at_last = torch.take_along_dim(log_joint, 1 + last[None, :, None], dim=2)
        laws.append(_mixed_law(each, at_last, filtered, model.vocabulary_size))
        possible.append((at_last[..., 0] > -torch.inf).any(0))
    if not mask:
        continued.require_possible(torch.stack(possible))
    return text.rows.unflatten(torch.stack(laws))


def tokens_to_reveal(posterior: Tensor, concept: Text, level: float = 0.95) -> Tensor:
    """Return the shortest prefix (B,) from which on P(θ | x_1..x_t) ≥ ``level`` up to the end, −1 where there is none.

    Parameters
    ----------
    posterior
        (B,T+1,C), from :func:`concept_posterior`.
    concept
        (B,): the concept θ of each text, which one may know as the text was drawn from it.
    """
    concept = _concepts(posterior, concept)
    if not 0 < level <= 1:
        raise InvalidInput("level", "a probability above 0", repr(level), "pass e.g. 0.95")
    of_concept = posterior.gather(-1, concept[:, None, None].expand(-1, posterior.shape[1], 1))[..., 0]
    n_last = (of_concept >= level).flip(-1).cumprod(-1).sum(-1)  # prefixes in a row, from the longest back
    return torch.where(n_last > 0, posterior.shape[1] - n_last, -1)


def concept_information(posterior: Tensor) -> Tensor:
    """Return H(θ) − H(θ | x_1..x_t) (B,T+1) in nats: what each prefix told about the concept.

    Its mean over texts drawn from the model estimates the mutual information I(θ; X_1..X_t), which no processing of
    the prefix can exceed; for a single text it may be negative.

    Raises
    ------
    InvalidInput
        A row that is not a distribution: one of an impossible prefix, for instance.
    """
    check_distributions("posterior", posterior)
    entropy = -torch.special.xlogy(posterior, posterior).sum(-1)
    return entropy[..., :1] - entropy


@torch.no_grad()
def in_context_prediction(model: ConceptHMM, text: InContextText) -> InContextPrediction:
    """Return the exact next-token laws after prompts of :func:`~ppl_hmm.regimes.ginc.in_context_text`.

    The experiment of Xie et al. (2021), §4, with exact Bayes in place of a trained model: the prompt is no text of the
    model (examples do not follow from each other), yet its concept is inferred and applied to the test example. Prompts
    of probability zero get no prediction. Cost O(B·T·K²/C).
    """
    _, read = _checked(model, text.tokens, None, None, "mask")
    model.require_single("a prediction in context")
    (each,) = _each_model(model, read.rows.text)
    log_joint, filtered = concepts.log_joint(each)
    law = _mixed_law(each, log_joint, filtered, model.vocabulary_size)
    posterior = combine(log_joint[..., -1:])[:, 0].to(model.dtype)
    of_concept = posterior.gather(-1, text.concept[:, None])[:, 0]
    answer = _own_law(model, text).argmax(-1)
    return InContextPrediction(law, answer, of_concept, posterior.sum(-1) > 0)


def _own_law(model: ConceptHMM, text: InContextText) -> Tensor:
    """Return the law (B,V) of the test example's last token given the others, its concept and its starting slot."""
    test, rows = text.tokens[None, :, 1 - text.example_length :], model.emission.T
    law, _ = SCALED.normalise(SCALED.weigh(text.start[None], rows[test[..., 0]]))
    # Concepts do not mix, so that the whole model serves them all.
    chain = Chain(model.initial[None], model.transition[None], rows[None], test[..., 1:])
    _, filtered = concepts.log_totals_and_filtered(chain, law)
    return (filtered @ model.transition @ model.emission)[0]


def _checked(
    model: ConceptHMM, tokens: Text, prompt: Prompt | None, lengths: Text | None, impossible: Impossible
) -> tuple[bool, ReadText]:
    """Return whether impossible text is masked, and the text, after the checks of the boundary."""
    if not isinstance(model, ConceptHMM):
        raise InvalidInput("model of concepts", "a ConceptHMM", type(model).__name__, "say the concept of each state")
    return masks(impossible), ReadText.of(model, tokens, prompt, lengths)


def _each_model(model: ConceptHMM, text: MemoryText) -> list[Concepts]:
    """Return the concepts of each model of a batch; all have as many."""
    concept_of_state = model.concept_of_state.reshape(-1, model.n_states)
    chains = zip(*text.only_chain.parameters, text.ids, strict=True)
    return [
        Concepts.of(Chain(*(array[None] for array in chain)), concept)
        for chain, concept in zip(chains, concept_of_state, strict=True)
    ]


def _mixed_law(each: Concepts, log_joint: Tensor, filtered: Tensor, vocabulary_size: int) -> Tensor:
    """Return the law (B,V) of the next token of log P(θ, x_1..x_t) (C,B,S), the last of them, and P(H_t | x, θ)."""
    return mix(log_joint, filtered @ each.chain.transition @ each.chain.table[:, :vocabulary_size].mT)


def _concepts(posterior: Tensor, concept: Text) -> Tensor:
    """Return checked numbers of concepts (B,) for a posterior (B,T+1,C)."""
    checked = as_tensor(concept, posterior.device, what="concept", kind="integers")
    if checked.is_floating_point() or checked.dtype == torch.bool or checked.shape != posterior.shape[:1]:
        raise InvalidInput(
            "concept",
            f"{len(posterior)} integers, one for each text",
            f"shape {tuple(checked.shape)} of {checked.dtype}",
            "give each text the concept that it was drawn from",
        )
    outside = (checked < 0) | (checked >= posterior.shape[-1])
    if outside.any():
        where = int(outside.nonzero()[0])
        raise InvalidInput(
            f"concept of text {where}",
            f"0..{posterior.shape[-1] - 1}",
            str(int(checked[where])),
            "number concepts from 0",
        )
    return checked.long()
