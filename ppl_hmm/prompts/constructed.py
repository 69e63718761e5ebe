"""Soft prompts that a certificate constructs."""

from __future__ import annotations

from typing import Any, Literal, cast

from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Model
from ppl_hmm.recoverability.causal_prompt import causal_prompt_certificate
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE, ConditionNotMet
from ppl_hmm.recoverability.memory import memory_prompt_certificate
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.schema import Reader
from ppl_hmm.tasks import MemoryTask, PosteriorTask, Task

# What else a reader may do, in words.
_OTHERWISE = {
    Reader.MASKED: "allow a support threshold",
    Reader.CAUSAL: "try longer templates, causal_certificate(model, task, template)",
}


def constructed_prompt(
    model: Model,
    task: Task,
    *,
    prompt_length: int | None = None,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
    reader: Literal["masked", "causal"] = "masked",
) -> SoftPrompt:
    """Return a prompt after which a constructed head recovers the task.

    For an HMM that of Theorem P, for ``constructed_head(model, task, prompt)``; with a memory one that restricts the
    cell to the values that the task needs, for ``constructed_attention(model, task, prompt)``.

    Parameters
    ----------
    model, task
        One model and one task of its kind.
    prompt_length
        L ≥ 1 for an HMM, 1 by default. A memory's prompt has one token or two, as the model asks.
    support_threshold, tolerance
        As in :func:`ppl_hmm.recoverability.prompt.prompt_certificate` and
        :func:`ppl_hmm.recoverability.memory.memory_certificate`; pass the same to the head.
    reader
        ``'causal'``: the prompt of :func:`~ppl_hmm.causal_prompt_certificate`, which stands after the text.

    Raises
    ------
    ConditionNotMet
        No prompt was found that meets the condition; ``.certificate`` is that of the best one.
    InvalidInput
        As the certificates; a ``prompt_length`` for a memory model, or for a causal reader.

    See Also
    --------
    ppl_hmm.prompt_certificate, ppl_hmm.memory_prompt_certificate : The condition, and what it promises.
    ppl_hmm.constructed_head, ppl_hmm.constructed_attention : The head to go with it.
    ppl_hmm.fit_prompt : A learned prompt.

    Notes
    -----
    Source: Wei, Xie & Ma (2021), Theorems 3.6 and 4.6. No prompt found is no proof that none exists.

    Examples
    --------
    >>> from ppl_hmm import OracleLM, constructed_head, constructed_prompt, example, posterior, probe_features
    >>> model, task = example("aliased")
    >>> prompt = constructed_prompt(model, task)
    >>> prompt.rows.numpy()
    array([[1., 0., 0.]])
    >>> head, text = constructed_head(model, task, prompt), [[0, 1], [0, 2], [1, 1], [2, 2]]
    >>> head.predict(probe_features(OracleLM(model), text, prompt=prompt))
    array([0, 0, 0, 1])
    >>> task.labels(posterior(model, text)).numpy()
    array([0, 0, 0, 1])
    """
    one_of("reader", reader, list(Reader))
    options: dict[str, Any] = {"support_threshold": support_threshold, "tolerance": tolerance}
    if reader == Reader.CAUSAL:
        if prompt_length not in (None, 1) or support_threshold != 0:
            got = f"{prompt_length} and {support_threshold}"
            what = "prompt_length and support_threshold of a causal reader"
            raise InvalidInput(what, "1 and 0", got, "leave them out")
        certificate = causal_prompt_certificate(model, task, tolerance=tolerance)  # type: ignore[arg-type]
    elif isinstance(model, HMM):
        length = 1 if prompt_length is None else prompt_length
        certificate = prompt_certificate(model, cast(PosteriorTask, task), prompt_length=length, **options)
    elif prompt_length is not None:
        raise InvalidInput("prompt_length for a memory model", "None", str(prompt_length), "leave it out")
    else:
        certificate = memory_prompt_certificate(model, cast(MemoryTask, task), **options)
    if not certificate.recoverable or certificate.prompt is None:
        raise ConditionNotMet(certificate, f"learn a prompt instead, or {_OTHERWISE[Reader(reader)]}")
    return certificate.prompt
