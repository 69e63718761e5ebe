"""Causal Theorems H and P: when a linear head on the next-token law recovers a task, and the head that does.

After text x and a template a causal reader has the law of the next token

    g = NᵀMᵀα / αᵀM1,    α = P(H_T | x_1..x_T),    N = AW,    M = A diag(u_1) ⋯ A diag(u_L),

with u_l = W[:,z] for its token z, or any likelihoods for a soft one; M = 1 without a template. A head b has
the score bᵀg = αᵀc / αᵀM1 with c = MNb: a form in the filtered law over a divisor that is positive wherever the
template is possible. So it recovers the task on every text where c solves the equations of
:mod:`ppl_hmm.recoverability.filtered_margins`; for a task on the state of the last token these are

    MNb − μ ⟂ R,    R the span of all α that texts lead to,

and MNb = μ is enough. Without a template they are necessary for the score to be the margin: where they have no solution
every head's scores differ from the margins on some text. Its labels may be right all the same; texts that no head
separates refute it. After a template they are sufficient alone: where the margin is a constant k, b = k·1 has the score
k after any. Nothing is asked of π₀, and the chain need not be stationary.

The next-token law as features of a text is an idea of Saunshi, Malladi & Arora (2021); the theorems are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.inference.suffixes import Suffix
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.arguments import require_pair, require_thresholds
from ppl_hmm.recoverability.causal_reading import is_filtered, possible_template, require_causal
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import smallest_row_singular_value
from ppl_hmm.recoverability.filtered_margins import Identity, margin_identities
from ppl_hmm.recoverability.head import SIGMA_ROUNDING, refined_least_squares
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.rounding import SCORE_ROUNDING
from ppl_hmm.recoverability.witness import find_witness
from ppl_hmm.schema import Cause, Reader
from ppl_hmm.tasks import PosteriorTask, latent_posterior, on_possible_values, require_uncertain


def causal_certificate(
    model: HMM,
    task: PosteriorTask,
    template: Suffix | None = None,
    *,
    tokens: Text | None = None,
    lengths: Text | None = None,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> HeadCertificate:
    """Return the certificate of a linear head on the next-token law of a causal reader.

    Parameters
    ----------
    model, task
        One model and one task of the same K, no batch dimensions. ``PosteriorTask(weights, position=-1)`` asks of the
        filtered law of the last state; :meth:`PosteriorTask.of_next_state` of the predicted law of the next one; other
        positions of ``given='prefix'`` of the filtered law there, and the head reads the law of the token after it,
        which depends on the text up to that position alone.
        Of an earlier state given all of the text (``given='text'``, or H₀) the head is asked to answer at the end.
    template
        What follows each text: tokens (S,), or a soft prompt, rows of likelihoods (S,K).
    tokens, lengths
        Texts (B,T) to look for a witness among, where the condition fails.
    tolerance
        Largest relative residual that counts as solved.

    Returns
    -------
    HeadCertificate
        Its head reads :func:`~ppl_hmm.next_token_features` with the same template; for ``given='prefix'`` at another
        position than −1 pass ``lengths``, the number of tokens up to it, as the features are otherwise those of whole
        texts. Where the verdict is ``'recoverable'`` the score is the margin over the probability of the template, or a
        constant margin. ``sigma_min`` is the smallest
        singular value of AW on the laws of the last state: where it is positive, every task on that state is
        recoverable; with a template, of AW on the states that its last token allows.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, a task that is given the context of a token, a state that is certain, a
        template that no text allows, a negative tolerance.

    See Also
    --------
    causal_prompt_certificate : With the best soft prompt found.
    channel_prompts : For tasks on H₀, which heads of causal readers do not recover.
    position_certificate : The masked reader.

    Notes
    -----
    The laws are those after texts of one token or more. Cost O(V·K⁴) at most for their span, O(K·V·min(K,V)) beside
    it.

    Examples
    --------
    >>> from ppl_hmm import PosteriorTask, causal_certificate, random_hmm
    >>> model, weights = random_hmm("dirichlet", 3, 5, seed=0), [[1, 0, 0], [0, 0, 1]]
    >>> print(causal_certificate(model, PosteriorTask(weights, position=-1)).verdict)  # the state at the end
    recoverable
    >>> print(causal_certificate(model, PosteriorTask(weights)).verdict)  # the state before the text
    undecided
    """
    model, task = checked_causal("causal_certificate", model, task, tolerance)
    prompt = None if template is None else possible_template(model, task, template)
    certificate = causal_on(margin_identities(model, task), model, task, prompt, tolerance)
    if tokens is None or certificate.recoverable:
        return certificate
    return _refuted(certificate, as_tokens(tokens, model.vocabulary_size, lengths=lengths, device=model.device))


def checked_causal(function: str, model: HMM, task: PosteriorTask, tolerance: float) -> tuple[HMM, PosteriorTask]:
    """Return the arguments of a public function in float64, the task on possible values."""
    require_pair(function, model, task, HMM, any_position=True)
    require_causal(function, task.place)
    require_uncertain(function, model, task)
    require_thresholds(0.0, tolerance)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    return model, on_possible_values(model, task)


def causal_on(
    identities: list[Identity], model: HMM, task: PosteriorTask, prompt: SoftPrompt | None, tolerance: float
) -> HeadCertificate:
    """Return the certificate of the head after text and prompt, given the equations of its task."""
    scale = float(task.contrasts.abs().max()) or 1.0
    matrix = read_through(model, prompt).cpu()
    weights = torch.cat([_solution(identity, matrix) for identity in identities])
    residual = _residual(identities, weights @ matrix.mT)
    condition = _condition(task, prompt, residual)
    if prompt is not None and residual > tolerance:
        levels = torch.cat([_solution(identity, torch.ones_like(matrix[:, :1])) for identity in identities])
        constant = _residual(identities, levels.expand(-1, len(matrix)))
        if constant <= tolerance:
            weights, residual = levels.expand_as(weights), constant
            condition = f"b = k·1 scores k, as the margin of every text: relative margin error {residual:.3g}"
    solvable = smallest_row_singular_value(identities[0].read @ matrix) > SIGMA_ROUNDING
    why_not = () if residual <= tolerance else _why_not(task, identities, solvable, prompt)
    weights = scale * weights.to(model.device)
    return HeadCertificate(
        theorem="causal Theorem H" if prompt is None else "causal Theorem P",
        weights=weights[0] if task.n_classes == 2 else weights,
        residual=residual,
        margin_error=scale * residual,
        sigma_min=_sigma_min(model, prompt, identities[0]),
        support_threshold=0.0,
        tolerance=tolerance,
        cause=Cause.of_condition(residual <= tolerance),
        reasons=(condition, *why_not),
        score_error=SCORE_ROUNDING * float(weights.abs().sum(-1).max()),
        reader=Reader.CAUSAL,
        prompt=prompt,
        model=model,
        task=task,
    )


def read_through(model: HMM, prompt: SoftPrompt | None) -> Tensor:
    """Return MN (K,V), up to a factor: what the weights of each token add to the form in the filtered law."""
    matrix = model.transition @ model.emission
    for row in () if prompt is None else prompt.rows.to(model.initial).flip(0):
        matrix = model.transition @ (row[:, None] * matrix)
        matrix = matrix / matrix.max().clamp(min=torch.finfo(matrix.dtype).tiny)
    return matrix


def _sigma_min(model: HMM, prompt: SoftPrompt | None, identity: Identity) -> float:
    """Return the smallest singular value of N on the laws of the last state, or on the states that a prompt allows."""
    rows = (model.transition @ model.emission).cpu()
    read = identity.read @ rows if prompt is None else rows[prompt.rows[-1].cpu() > 0]
    sigma = smallest_row_singular_value(read)
    return sigma if sigma > SIGMA_ROUNDING else 0.0


def _solution(identity: Identity, matrix: Tensor) -> Tensor:
    """Return the head (1,V) of least norm that comes nearest to S·(MN)b = t."""
    return refined_least_squares(identity.read @ matrix, identity.wanted[None])


def _residual(identities: list[Identity], forms: Tensor) -> float:
    """Return the most that forms cᵀα (C,K) are off a margin, which is a difference of two for more than two classes."""
    errors = sorted(each.error(form) for each, form in zip(identities, forms, strict=True))
    return sum(errors[-2:])


def _condition(task: PosteriorTask, prompt: SoftPrompt | None, residual: float) -> str:
    """Return the equations in words, and how far they are from solved."""
    read = "AW" if prompt is None else "MAW"
    equation = f"{read}b = μ on R" if is_filtered(task.place) else f"(1, −{read}b) ⟂ the laws of both states"
    return f"{equation}: relative margin error {residual:.3g}"


def _why_not(
    task: PosteriorTask, identities: list[Identity], solvable: bool, prompt: SoftPrompt | None
) -> Iterator[str]:
    """Yield why equations have no solution, as far as float64 can tell."""
    if solvable:
        yield "a head exists on paper, as the rows are independent, but its rounding exceeds the tolerance"
    elif not all(identity.clear for identity in identities):
        yield "float64 does not tell which laws texts lead to: more was asked for than may be needed"
    else:
        if not is_filtered(task.place):
            yield f"{task.latent} is no function of the law of the last state, which a causal reader knows alone"
        if prompt is None:
            yield "to float64 the scores of every head differ from the margin on some text"
        else:
            yield "after a template the equations are sufficient alone: a head without a solution may be right"


def _refuted(certificate: HeadCertificate, text: Tensor) -> HeadCertificate:
    """Return the certificate with a witness among checked texts (B,T), if these hold one."""
    task, features = certificate.task, certificate.features(text)
    answers = task.answers(latent_posterior(certificate.model, task, text))
    told = (answers.decidable & (features.sum(-1) > 0)).nonzero()[:, 0].cpu()
    if not len(told):
        return certificate
    witness = find_witness(features[told].cpu(), answers.labels[told].cpu(), n_classes=task.n_classes)
    if witness is None:
        return certificate
    return certificate.refuted_by(dataclasses.replace(witness, texts=told.numpy()[witness.texts]))
