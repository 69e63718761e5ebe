"""Heads that a certificate constructs: no training."""

from __future__ import annotations

from typing import Literal

from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.heads.attention import AttentionHead
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.causal import causal_certificate
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE, ConditionNotMet
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.masks import chain_certificate
from ppl_hmm.recoverability.memory import memory_certificate
from ppl_hmm.recoverability.position import position_certificate
from ppl_hmm.schema import Reader
from ppl_hmm.tasks import MemoryTask, PosteriorTask, require_task

# What else a reader may do, in words.
_OTHERWISE = {
    Reader.MASKED: "a prompt or more masks",
    Reader.CAUSAL: "another template, which causal_prompt_certificate(model, task) may find",
}


def constructed_head(
    model: HMM,
    task: PosteriorTask,
    prompt: Prompt | None = None,
    *,
    n_masks: int | None = None,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
    reader: Literal["masked", "causal"] = "masked",
) -> LinearHead:
    """Return the head of Theorem H, or of Theorem P for a given prompt: 1(bᵀG ≥ 0) = F*(x).

    So for every text whose |margin| exceeds the certificate's ``margin_error`` and whose score exceeds float64's
    rounding, 4e-16·‖b‖₁. The head of a task on a position is that of :func:`~ppl_hmm.position_certificate`; it reads
    :func:`~ppl_hmm.probe_features` with the task's ``position`` and ``given``, and takes no prompt.

    Parameters as in :func:`ppl_hmm.recoverability.head.head_certificate`; with ``n_masks`` the head is that of
    :func:`~ppl_hmm.chain_certificate`, or of :func:`~ppl_hmm.position_certificate`, and reads
    ``probe_features(…, n_masks=…)``, flattened to (B,J·V). With ``reader='causal'`` the head is that of
    :func:`~ppl_hmm.causal_certificate`, ``prompt`` its template; it reads :func:`~ppl_hmm.next_token_features` with
    ``template=prompt``, of texts up to the task's position: for ``given='prefix'`` at another than −1 pass ``lengths``.

    Raises
    ------
    ConditionNotMet
        The theorem's condition fails; ``.certificate`` says which part, by how much.
    InvalidInput
        As the certificates; masks or a threshold for a causal reader.

    See Also
    --------
    ppl_hmm.head_certificate : The condition, and what the head promises.
    ppl_hmm.chain_certificate : The condition for several masks.
    ppl_hmm.constructed_prompt : A prompt after which there is such a head.
    ppl_hmm.LinearHead : The same head, learned.

    Notes
    -----
    Source: Wei, Xie & Ma (2021), Theorem 3.3. Cost O(K·V·min(K,V)).

    Examples
    --------
    >>> from ppl_hmm import OracleLM, constructed_head, posterior, probe_features, random_hmm, random_task, sample
    >>> model = random_hmm("dirichlet", n_states=4, vocabulary_size=10, seed=0)
    >>> task, text = random_task(model, seed=0), sample(model, 1000, length=20, seed=0).tokens
    >>> head = constructed_head(model, task)
    >>> head.score(probe_features(OracleLM(model), text), task.labels(posterior(model, text)))
    1.0
    """
    require_task(task)
    one_of("reader", reader, list(Reader))
    if reader == Reader.CAUSAL:
        _require_no_masks(n_masks, support_threshold)
        certificate = causal_certificate(model, task, prompt, tolerance=tolerance)
    elif n_masks is not None and task.place.position is None:
        if support_threshold != 0:
            raise InvalidInput("support_threshold for several masks", "0", str(support_threshold), "leave it out")
        certificate = chain_certificate(model, task, n_masks, prompt, tolerance=tolerance)
    elif task.place.position is not None and prompt is None and support_threshold == 0:
        certificate = position_certificate(model, task, n_masks=n_masks or 1, tolerance=tolerance)
    else:
        certificate = head_certificate(model, task, prompt, support_threshold=support_threshold, tolerance=tolerance)
    if not certificate.recoverable:
        raise ConditionNotMet(certificate, f"learn a head instead, or try {_OTHERWISE[Reader(reader)]}")
    return LinearHead.from_weights(certificate.weights.detach().cpu().numpy())


def _require_no_masks(n_masks: int | None, support_threshold: float) -> None:
    """Raise :class:`InvalidInput` for what heads of a causal reader do not have."""
    if n_masks is not None:
        remedy = "leave them out: what stands in front of a text only replaces π₀, and is forgotten"
        raise InvalidInput("n_masks before a causal reader", "None", str(n_masks), remedy)
    if support_threshold != 0:
        raise InvalidInput("support_threshold for a causal reader", "0", str(support_threshold), "leave it out")


def constructed_attention(
    model: MemoryHMM,
    task: MemoryTask,
    prompt: Prompt | None = None,
    *,
    scores: Literal["posterior", "conditional"] = "posterior",
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> AttentionHead:
    """Return the head of Theorem M, on features after ``prompt`` if there is one: it recovers the task.

    A text is classified right if its |margin| exceeds ‖μ‖_∞ P(H_i∉H* | x) at the positions attended to; so for every
    text in which some position surely is in a state of H*.

    Parameters
    ----------
    model, task, prompt, support_threshold, tolerance
        As in :func:`ppl_hmm.recoverability.memory.memory_certificate`.
    scores
        ``'posterior'``: P(H_i∈H* | x). ``'conditional'``: P(H_i∈H* | x_{-i}), from G alone as in the paper; fewer
        positions reach 1, and a score below it promises nothing: ``support_threshold`` must then be zero.

    Raises
    ------
    ConditionNotMet
        The theorem's condition fails; ``.certificate`` says which part, by how much.
    InvalidInput
        As the certificate; a support threshold with conditional scores.

    See Also
    --------
    ppl_hmm.memory_certificate : The condition, and what the head promises.
    ppl_hmm.chain_certificate : The condition for several masks.
    ppl_hmm.constructed_prompt : A prompt after which there is such a head.
    ppl_hmm.AttentionHead : The same head, learned.

    Notes
    -----
    Source: Wei, Xie & Ma (2021), Theorems 4.3 and 4.6; posterior scores are ours. Cost O((mK)²·V).

    Examples
    --------
    >>> from ppl_hmm import OracleLM, constructed_attention, example, masked_features
    >>> model, task = example("memory")
    >>> features = masked_features(OracleLM(model), [[0, 3, 1], [0, 1, 4]])  # a good word, a bad one
    >>> head = constructed_attention(model, task)
    >>> head.attend(features)
    array([[0., 1., 0.],
           [0., 0., 1.]])
    >>> head.predict(features)
    array([1, 0])
    """
    one_of("value of 'scores'", scores, ("posterior", "conditional"))
    if scores == "conditional" and support_threshold != 0:
        raise InvalidInput(
            "support_threshold with conditional scores",
            "0",
            str(support_threshold),
            "use scores='posterior': P(H_i∈H* | x) may be small where P(H_i∈H* | x_{-i}) is near one",
        )
    certificate = memory_certificate(model, task, prompt, support_threshold=support_threshold, tolerance=tolerance)
    if not certificate.recoverable:
        raise ConditionNotMet(certificate, "learn a head instead, or try a prompt that restricts the memory")
    weights = certificate.score_weights if scores == "posterior" else certificate.context_score_weights
    return AttentionHead.from_weights(
        weights.cpu().numpy(),
        certificate.value_weights.cpu().numpy(),
        attention="hard",
        scores=scores,
        tolerance=certificate.attention_tolerance,
    )
