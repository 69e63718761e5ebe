"""Theorem P: a soft prompt that makes a task recoverable, built from the model.

L prompt tokens, then the mask, then text. The prompt decides the law q that enters the mask, and nothing else: it
reaches exactly q = vᵀA with v ≥ 0 and supp v ⊆ supp π₀Aᴸ. With S = supp q, a head recovers the task if

    supp(π₀∘μ) ⊆ S   and   c = π₀∘μ/q on S lies in the column space of W[S],

so a good prompt enters the states that the task needs and few others. Two searches propose v:

- *covers*: v uniform on a set B whose transitions cover supp(π₀∘μ), W[S] having independent rows; of all covers the
  one whose W[S] has the largest smallest singular value, by branch and bound;
- *aliases*: states with equal rows of W cannot be told apart by a head, but a task that treats them alike up to scale
  needs only q ∝ |π₀∘μ| among them: a mixed-integer programme for v with the fewest distinct rows in S.

Single states are tried as well: a transition of low rank may ask for less than the condition does.

Source: Wei, Xie & Ma (2021), Assumption 3.5 and Theorem 3.6 (u = 1_B); residual form, weights and L > 1 are ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import at_least
from ppl_hmm.exact.support import possible_states
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.aliases import alias_weights
from ppl_hmm.recoverability.arguments import require_numbers, require_pair
from ppl_hmm.recoverability.bilinear import BilinearForm
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.covers import best_cover
from ppl_hmm.recoverability.decision import SECONDS, branched
from ppl_hmm.recoverability.entering import (
    prompt_to,
    task_targets,
    transparent_prompt,
)
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.refutation import TOLERANCE
from ppl_hmm.recoverability.search import Start, find_prompt
from ppl_hmm.tasks import PosteriorTask, require_uncertain

_SEARCH_SHARE = 0.5  # of the search
# Moves below these probabilities are left out when covers are sought; the certificate then counts them again. A state
# entered with probability 1e-12 costs the margin about as much, where refusing it may cost the cover.
_NEGLIGIBLE = (1e-15, 1e-12, 1e-9, 1e-6)


def prompt_certificate(
    model: HMM,
    task: PosteriorTask,
    tokens: Text | None = None,
    *,
    lengths: Text | None = None,
    prompt_length: int = 1,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
    exact: bool = False,
    resolution: float = 0.0,
    seconds: float = SECONDS,
    seed: int = 0,
) -> HeadCertificate:
    """Return the certificate of Theorem P with the best prompt found, in its ``prompt`` and ``weights``.

    Parameters
    ----------
    model, task
        One model and one task of the same K.
    tokens, lengths
        Texts (B,T) to separate where the theorem says nothing: a prompt with a head is searched for them.
    prompt_length
        L ≥ 1. All tokens but the last are transparent (rows of ones); longer prompts only matter where π₀A has zeros.
    support_threshold
        δ ≥ 0: moves of probability at most δ, and states entered with probability at most δ, count as none.
    tolerance
        Largest relative residual that counts as solved.
    exact
        Whether to prove the condition of the prompt in rational arithmetic: as in :func:`~ppl_hmm.head_certificate`,
        of every prompt that is proposed until one is proved.
    resolution
        Margins of texts that matter: the search ends once all texts with larger ones are right.
    seconds, seed
        Of the search, half of the time, and if it fails of branch and bound.

    Returns
    -------
    HeadCertificate
        ``'recoverable'`` is said of every text. With texts, ``'separates these texts'`` is said of them alone, by the
        prompt and the head in ``found``. ``'not recoverable'`` comes with a proof, ``refutation``: no prompt of any
        length will do, and ``refutation.tolerance`` is the margin that its texts exceed. Where the verdict is
        ``'undecided'``, ``found.resolution`` says down to which margin the best prompt is right.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, a length below one, a negative number; with texts, more than two
        classes or no decidable text.
    ImpossibleText
        A text of probability zero.

    See Also
    --------
    constructed_prompt : The prompt of a certificate whose condition holds.
    head_certificate : Of a given prompt, or none.
    refute_prompts : For texts alone.
    fit_prompt : A learned prompt, which may start from the one found.

    Notes
    -----
    Verdict ``'undecided'`` means that neither a prompt nor a proof was found. The search for covers is exact up to
    :data:`~ppl_hmm.recoverability.covers.COVER_LIMIT` sets; each costs a singular value decomposition of at most V
    rows. The search for texts is sequential linear programming (:mod:`ppl_hmm.recoverability.search`); what it does not
    find, branch and bound finds or refutes as in :func:`~ppl_hmm.refute_prompts`.

    Examples
    --------
    >>> from ppl_hmm import PosteriorTask, example, head_certificate, prompt_certificate, random_hmm
    >>> model, task = example("aliased")
    >>> print(head_certificate(model, task).verdict, prompt_certificate(model, task).verdict)
    undecided recoverable
    >>> model, task = random_hmm("dirichlet", 4, 2, seed=0), PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]])
    >>> texts = [[0, 0, 1], [1, 0, 0], [0, 1, 1]]
    >>> certificate = prompt_certificate(model, task, texts)
    >>> print(certificate.verdict, certificate.found.wrong)
    separates these texts []
    """
    at_least("prompt_length", prompt_length, 1)
    require_pair("prompt_certificate", model, task, HMM)
    require_uncertain("prompt_certificate", model, task)
    require_numbers(resolution=resolution, seconds=seconds)
    model, task = model.detach().to(torch.float64, "cpu"), task.detach().to(torch.float64, "cpu")
    best = _constructed(model, task, prompt_length, support_threshold, tolerance, exact)
    if tokens is None or best.recoverable:
        return best
    form = BilinearForm.of(model, task, tokens, lengths, prompt_length=prompt_length)
    starts = [] if best.prompt is None else [Start(best.prompt, best.weights.numpy())]
    began = time.monotonic()
    found = find_prompt(form, starts=starts, resolution=resolution, seconds=_SEARCH_SHARE * seconds, seed=seed)
    refutation = None
    if found.resolution > resolution:
        texts = as_tokens(tokens, model.vocabulary_size, lengths=lengths)
        least = max(resolution, TOLERANCE * float(task.scale))
        better, refutation = branched(model, task, texts, least, began + seconds)
        if better is not None:
            again = find_prompt(form, starts=[Start(better.prompt, better.head)], seconds=0.0, seed=seed)
            found = min(found, again, key=lambda each: each.resolution)
    best = best.with_found(found)
    return best if refutation is None else best.with_refutation(refutation)


def _constructed(
    model: HMM, task: PosteriorTask, prompt_length: int, support_threshold: float, tolerance: float, exact: bool
) -> HeadCertificate:
    """Return the certificate of the best prompt that is built from the model."""
    options: dict[str, Any] = {"support_threshold": support_threshold, "tolerance": tolerance, "exact": exact}
    best = head_certificate(model, task, transparent_prompt(model, prompt_length), **options)
    needed = (task_targets(model, task) != 0).any(0)
    reachable = possible_states(model.initial, model.transition, prompt_length)
    for weights in _proposals(model, task, needed, reachable, support_threshold):
        certificate = head_certificate(model, task, prompt_to(weights, model, prompt_length), **options)
        if _worth(certificate) > _worth(best):
            best = certificate
    return best


def _worth(certificate: HeadCertificate) -> tuple[bool, bool, float]:
    """Return what certificates are compared by: proved before certified before nearly solved."""
    solved = certificate.proof is not None and certificate.proof.solved
    return solved, certificate.recoverable, -certificate.residual


def _proposals(
    model: HMM, task: PosteriorTask, needed: Tensor, reachable: Tensor, threshold: float
) -> Iterator[Tensor]:
    """Yield different weights v (K,) ≥ 0 on the reachable states."""
    seen = []
    for negligible in sorted({threshold, *(level for level in _NEGLIGIBLE if level > threshold)}):
        moves = (model.transition > negligible) & reachable[:, None]
        cover = best_cover(moves, needed, model.emission)
        if cover is not None and cover not in seen:
            seen.append(cover)
            weights = torch.zeros_like(model.initial)
            weights[cover] = 1.0
            yield weights
    weights = alias_weights(model, task_targets(model, task), reachable)
    if weights is not None:
        yield weights
    for state in reachable.nonzero()[:, 0].tolist():
        if [state] not in seen:
            yield torch.eye(model.n_states, dtype=model.dtype, device=model.device)[state]
