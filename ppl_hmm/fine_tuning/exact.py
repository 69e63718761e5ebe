"""Kernels of an exact model: of its scores (Fisher), and of what a text tells of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.baum_welch import Counts
from ppl_hmm.exact.chain import evidence_of
from ppl_hmm.exact.scores import counts_of_each, logit_scores
from ppl_hmm.inference.queries import posterior
from ppl_hmm.inference.rows import LikelihoodRows, require_kind
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.arguments import require_model
from ppl_hmm.tasks import MemoryTask, PosteriorTask, latent_posterior

Law = Literal["initial", "transition", "emission"]


def fisher_kernel(
    model: HMM,
    tokens: Text,
    other: Text | None = None,
    *,
    parameters: Sequence[Law] = ("initial", "transition", "emission"),
    lengths: Text | None = None,
) -> Tensor:
    """Return inner products of the derivatives of log P(x) by the logits of a model's laws.

    It is the tangent kernel of the exact language model that scores whole texts, by expected counts in closed form.

    Parameters
    ----------
    model
        One :class:`~ppl_hmm.HMM`.
    tokens
        Text (N,T): the rows.
    other
        Text (M,T′): the columns; by default ``tokens``. Its ends are those of its last tokens.
    parameters
        The laws whose logits vary.
    lengths
        (N,): where the texts of the rows end.

    Returns
    -------
    torch.Tensor
        (N,M).

    Raises
    ------
    InvalidInput, ImpossibleText
        No single HMM, no or unknown laws, bad text; a text of probability zero.

    See Also
    --------
    ppl_hmm.posterior_kernel : From what a text tells of its states.
    ppl_hmm.tangent_kernel : Of a network.
    ppl_hmm.kernel_alignment : Compares the two.

    Notes
    -----
    ∂ log P(x)/∂ logit of p(v|h) = E[n(h,v) | x] − p(v|h) E[n(h) | x]. Cost O((N + M)·T·K²) and O(N·M·K·(K + V)).
    Source: Jaakkola & Haussler (1999), Exploiting generative models in discriminative classifiers, without the inverse
    of Fisher's matrix between the two.

    Examples
    --------
    >>> from ppl_hmm import HMM, fisher_kernel
    >>> model = HMM([1.0], [[1.0]], [[0.75, 0.25]])
    >>> fisher_kernel(model, [[0, 0], [1, 1]]).tolist()  # scores (0.5, -0.5) and (-1.5, 1.5)
    [[0.5, -1.5], [-1.5, 4.5]]
    """
    require_model("fisher_kernel", model, HMM)
    model.require_single("fisher_kernel")
    laws = get_args(Law)
    if isinstance(parameters, str) or not parameters or not set(parameters) <= set(laws):
        raise InvalidInput("parameters", f"laws among {', '.join(laws)}", repr(parameters), "pass e.g. ('emission',)")
    rows = _scores(model, tokens, parameters, lengths)
    columns = rows if other is None else _scores(model, other, parameters, None)
    return rows @ columns.mT


def _scores(model: HMM, tokens: Text, parameters: Sequence[Law], lengths: Text | None) -> Tensor:
    """Return the derivatives (B,D) of log P(x) by logits."""
    rows = LikelihoodRows.of(model.detach(), tokens, lengths=lengths)
    chain = rows.text.only_chain
    rows.require_possible(evidence_of(chain) > -torch.inf)
    counts, laws = counts_of_each(chain), Counts(*chain.parameters)
    tokens_alone = (each._replace(emission=each.emission[:, : model.vocabulary_size]) for each in (counts, laws))
    found = logit_scores(*tokens_alone)._asdict()
    return torch.cat([found[name].flatten(1) for name in parameters], dim=1)


def posterior_kernel(
    model: HMM | MemoryHMM,
    tokens: Text,
    other: Text | None = None,
    *,
    task: PosteriorTask | MemoryTask | None = None,
    lengths: Text | None = None,
) -> Tensor:
    """Return Σ_h P(H=h|x) P(H=h|x′), of the silent state or of the latent of a task.

    Labels of a task are signs of functions that are linear in these features: no kernel knows more of them.

    Parameters
    ----------
    model
        One model.
    tokens, other, lengths
        As of :func:`~ppl_hmm.fisher_kernel`.
    task
        Whose latent; by default the silent state H₀.

    Returns
    -------
    torch.Tensor
        (N,M).

    Raises
    ------
    InvalidInput, ImpossibleText
        As :func:`~ppl_hmm.posterior` and :func:`~ppl_hmm.latent_posterior`.

    See Also
    --------
    ppl_hmm.fisher_kernel : Of the model's scores.
    ppl_hmm.kernel_alignment : Compares it with a tangent kernel.

    Notes
    -----
    Cost O((N + M)·T·K² + N·M·K).

    Examples
    --------
    >>> from ppl_hmm import HMM, posterior_kernel
    >>> model = HMM([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], [[0.75, 0.25], [0.25, 0.75]])
    >>> posterior_kernel(model, [[0], [1]]).tolist()
    [[0.625, 0.375], [0.375, 0.625]]
    """
    require_kind("model of posterior_kernel", model)
    model.require_single("posterior_kernel")

    def law(text: Text, ends: Text | None) -> Tensor:
        if task is None:
            return posterior(model, text, lengths=ends).initial
        return latent_posterior(model, task, text, lengths=ends)

    rows = law(tokens, lengths)
    columns = rows if other is None else law(other, None)
    return (rows @ columns.mT).detach()
