"""Deciding whether any prompt will do for given texts: a search, and where it fails a proof that none does."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.arguments import require_numbers, require_pair
from ppl_hmm.recoverability.bilinear import BilinearForm
from ppl_hmm.recoverability.branching import Branching, Node, Solution, preorder
from ppl_hmm.recoverability.claim import Claim, exponents_of
from ppl_hmm.recoverability.refutation import TOLERANCE, Refutation
from ppl_hmm.recoverability.search import FoundPrompt, find_prompt
from ppl_hmm.recoverability.splitting import blind_emissions
from ppl_hmm.schema import Verdict
from ppl_hmm.tasks import PosteriorTask, latent_posterior, require_uncertain

#: Seconds that :func:`refute_prompts` may take, by default.
SECONDS = 10.0
#: ε of proofs that do not close without: margins of heads that no float64 can tell from zero.
FAINT = 1e-9
# Random starts of the search that comes first, and the most of the time that it may take.
_RESTARTS, _SEARCH_SHARE = 4, 0.2


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PromptDecision:
    """Whether some prompt and head have all of some texts right.

    Attributes
    ----------
    tolerance
        τ: texts whose |margin| is at most this were left out.
    refutation
        The proof that none have; None if there is none.
    found
        The best prompt and head that were found; None for more than two classes.
    n_cones
        How many cones of heads were looked at.

    See Also
    --------
    refute_prompts : Decides.

    Examples
    --------
    >>> from ppl_hmm import PosteriorTask, random_hmm, refute_prompts
    >>> model, task = random_hmm("dirichlet", 4, 2, seed=0), PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]])
    >>> decision = refute_prompts(model, task, [[0, 0, 1], [1, 0, 0], [0, 1, 1]])
    >>> print(decision.verdict, decision.open_between)
    separates these texts (0.0, 0.0)
    """

    tolerance: float
    refutation: Refutation | None
    found: FoundPrompt | None
    n_cones: int

    @property
    def verdict(self) -> Verdict:
        """``'not recoverable'``, ``'separates these texts'`` or ``'undecided'``; of the texts that were asked about."""
        if self.refutation is not None:
            return Verdict.NOT_RECOVERABLE
        return Verdict.SEPARATES if self.found is not None and self.found.separates else Verdict.UNDECIDED

    @property
    def open_between(self) -> tuple[float, float]:
        """The two τ between which it is open whether a prompt has all texts of larger margins right.

        Below the first there is none, by the refutation; from the second on there is one: the prompt found.
        """
        refuted = 0.0 if self.refutation is None else self.refutation.tolerance
        return refuted, np.inf if self.found is None else self.found.resolution


def refute_prompts(
    model: HMM,
    task: PosteriorTask,
    tokens: Text,
    *,
    lengths: Text | None = None,
    tolerance: float | None = None,
    margin: float | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
) -> PromptDecision:
    """Decide whether some prompt and linear head have all of these texts right: find one, or prove that none have.

    Parameters
    ----------
    model, task
        One model and one task of the same K. Of more than two classes each pair is tried: where a pair of classes
        cannot be told apart, all cannot.
    tokens, lengths
        Texts (B,T).
    tolerance
        τ ≥ 0: texts whose |margin| is at most this are left out; by default 1e-9·‖μ‖_∞. Undecidable ones always are.
    margin
        ε ≥ 0: refute heads with y_i bᵀG_i > ε Σ_w (b_w − min b) on all texts. 0 refutes all heads; a tiny positive ε
        closes proofs where heads exist that have some texts on the boundary and none wrong. By default 0, and
        :data:`FAINT` where that takes more than half of the time, or where some head reads nothing in all states that
        some state moves to: proofs of 0 do not close there. ``refutation.margin`` says which.
    seconds
        After which the answer is ``'undecided'``; how far it comes depends on the machine.
    seed
        Of the search that comes first.

    Returns
    -------
    PromptDecision
        The refutation or the prompt.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, no text with a larger margin, a negative number.
    ImpossibleText
        A text of probability zero.

    See Also
    --------
    prompt_certificate : For all texts, where the theorem applies.
    find_witness : Of one given prompt.

    Notes
    -----
    A few starts of :func:`~ppl_hmm.recoverability.search.find_prompt` come first, then branch and bound
    (:mod:`~ppl_hmm.recoverability.branching`): about a millisecond for each cone of heads, of which dense models of
    K ≤ 8, V ≤ 4 take some tens to hundreds, and more dimensions far more.

    Examples
    --------
    >>> from itertools import product
    >>> from ppl_hmm import PosteriorTask, random_hmm, refute_prompts
    >>> model, task = random_hmm("dirichlet", 4, 2, seed=19), PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]])
    >>> decision = refute_prompts(model, task, list(product(range(2), repeat=3)))
    >>> print(decision.verdict)
    not recoverable
    >>> bool(decision.refutation.holds()), bool(decision.refutation.holds_exactly())
    (True, True)
    """
    deadline = time.monotonic() + seconds
    require_pair("refute_prompts", model, task, HMM)
    require_uncertain("refute_prompts", model, task)
    require_numbers(tolerance=tolerance or 0.0, margin=margin or 0.0, seconds=seconds)
    model, task = model.detach().to(torch.float64, "cpu"), task.detach().to(torch.float64, "cpu")
    tolerance = TOLERANCE * float(task.scale) if tolerance is None else float(tolerance)
    texts = as_tokens(tokens, model.vocabulary_size, lengths=lengths)
    claims = list(_claims(model, task, texts, tolerance))
    if not claims:
        remedy = "draw other texts, or lower the tolerance"
        raise InvalidInput("texts", f"one with a |margin| above {tolerance:g}", "none", remedy)
    n_cones = 0
    for n_left, (form, claim) in zip(range(len(claims), 0, -1), claims, strict=True):
        now = time.monotonic()
        margins = _margins(form) if margin is None else (float(margin),)
        decision = _decided(form, claim, margins, now + (deadline - now) / n_left, seed)
        n_cones += decision.n_cones
        if decision.refutation is not None or task.n_classes == 2:
            return decision
    return PromptDecision(tolerance=tolerance, refutation=None, found=None, n_cones=n_cones)


def _claims(
    model: HMM, task: PosteriorTask, texts: torch.Tensor, tolerance: float
) -> Iterator[tuple[BilinearForm, Claim]]:
    """Yield the texts of each pair of classes, as scores and as a refutation has them; none of pairs without texts."""
    law = latent_posterior(model, task, texts)
    labels, margins = task.labels(law), task.margins(law).abs()
    for pair in itertools.combinations(range(task.n_classes), 2):
        chosen = np.flatnonzero(torch.isin(labels, torch.tensor(pair, device=labels.device)) & (margins > tolerance))
        if not len(chosen) or (task.n_classes > 2 and len(labels[chosen].unique()) < 2):
            continue
        form = BilinearForm.of(model, PosteriorTask(task.weights[list(pair)]), texts[chosen])
        form = dataclasses.replace(form, texts=chosen[form.texts])
        form = form.select(form.margins > tolerance)
        if not len(form):
            continue
        tokens = texts[form.texts].numpy()
        yield (
            form,
            Claim(
                model=model,
                task=task,
                classes=pair,
                texts=tokens,
                labels=labels[form.texts].numpy(),
                exponents=exponents_of(model, tokens),
                tolerance=tolerance,
                margin=0.0,
            ),
        )


def _margins(form: BilinearForm) -> tuple[float, ...]:
    """Return the ε to be tried: not 0 where heads are blind, which no weights refute."""
    blind = any(blind_emissions(form.transition, form.emission, support.states) for support in form.supports)
    return (FAINT,) if blind else (0.0, FAINT)


def branched(
    model: HMM, task: PosteriorTask, texts: torch.Tensor, tolerance: float, deadline: float
) -> tuple[FoundPrompt | None, Refutation | None]:
    """Return a prompt or a refutation for a task with two classes, by branch and bound alone; neither without time."""
    for form, claim in _claims(model, task, texts, tolerance):
        return _branched(form, claim, _margins(form), deadline)[:2]
    return None, None


def _decided(
    form: BilinearForm, claim: Claim, margins: Sequence[float], deadline: float, seed: int
) -> PromptDecision:
    """Return what a search, and then branch and bound, say of texts of two classes."""
    seconds = _SEARCH_SHARE * (deadline - time.monotonic())
    found, refutation, n_cones = find_prompt(form, restarts=_RESTARTS, seconds=seconds, seed=seed), None, 0
    if not found.separates:
        better, refutation, n_cones = _branched(form, claim, margins, deadline)
        found = better or found
    return PromptDecision(
        tolerance=claim.tolerance,
        refutation=refutation,
        found=found if len(claim.task.weights) == 2 else None,
        n_cones=n_cones,
    )


def _branched(
    form: BilinearForm, claim: Claim, margins: Sequence[float], deadline: float
) -> tuple[FoundPrompt | None, Refutation | None, int]:
    """Return a prompt or a refutation, with one margin after another, and the number of cones."""
    n_cones = 0
    for n_left, margin in zip(range(len(margins), 0, -1), margins, strict=True):
        now = time.monotonic()
        of_margin = dataclasses.replace(claim, margin=margin)
        outcome, more = _covered(form, of_margin, now + (deadline - now) / n_left)
        n_cones += more
        if isinstance(outcome, FoundPrompt):
            return outcome, None, n_cones
        if outcome is not None:
            return None, _refutation(of_margin, outcome).sharpened(), n_cones
    return None, None, n_cones


def _covered(form: BilinearForm, claim: Claim, deadline: float) -> tuple[list[Node] | FoundPrompt | None, int]:
    """Return complete trees of refuted cones, a prompt, or None when the time is over; and the number of cones."""
    tops: list[Node] = []
    n_cones = 0
    for support in form.supports:
        branching = Branching(form, claim, support, deadline)
        result = branching.run()
        n_cones += branching.n_cones
        if result is None:
            return None, n_cones
        if isinstance(result, Solution):
            return FoundPrompt.of(form, *result, support.prompt_length), n_cones
        tops += result
    return tops, n_cones


def _refutation(claim: Claim, tops: list[Node]) -> Refutation:
    """Return the proof that complete trees are, with the texts that it needs."""
    nodes = list(preorder(tops))
    leaves = [node.weights for node in nodes if node.weights is not None]
    needed = sorted(set().union(*leaves))
    column = {text: number for number, text in enumerate(needed)}
    weights = np.zeros((len(leaves), len(needed)))
    for row, leaf in zip(weights, leaves, strict=True):
        row[[column[text] for text in leaf]] = list(leaf.values())
    cover = np.array([tuple(node.split) for node in nodes], object)
    return Refutation(**vars(claim.select(np.array(needed))), cover=cover, weights=weights)
