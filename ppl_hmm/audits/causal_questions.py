"""The questions of a causal reader: a head on the next-token law, a prompt after the text, channel prompts."""

from __future__ import annotations

import dataclasses

from ppl_hmm import schema
from ppl_hmm.audits.held import held_to_counts
from ppl_hmm.audits.questions import Question, Readings, ask_head, unless_constant
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Model
from ppl_hmm.recoverability.causal import causal_certificate
from ppl_hmm.recoverability.causal_prompt import causal_prompt_certificate
from ppl_hmm.recoverability.causal_reading import require_causal
from ppl_hmm.recoverability.channel import channel_certificate
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.schema import Reader
from ppl_hmm.tasks import PosteriorTask, Task


def reader_of(reader: str, model: Model, task: Task) -> Reader:
    """Return the reader that is asked for.

    Raises
    ------
    InvalidInput
        Another one than there are; a causal one of a memory model, or of a task that is given the context of a token.
    """
    one_of("reader", reader, list(Reader))
    if reader == Reader.CAUSAL:
        if not isinstance(model, HMM):
            remedy = "pass model.flatten() with a PosteriorTask on its states"
            raise InvalidInput("audit of a causal reader", "an HMM", type(model).__name__, remedy)
        require_causal("audit of a causal reader", task.place)
    return Reader(reader)


def ask_causal(model: HMM, task: PosteriorTask, readings: Readings, tolerance: float) -> list[Question]:
    """Return the questions of a model and a task before a causal reader, their verdicts held against the texts.

    Channel prompts are asked of tasks on H₀ alone.
    """
    certificates = {
        schema.HEAD: causal_certificate(model, task, tolerance=tolerance),
        schema.PROMPT: causal_prompt_certificate(model, task, tolerance=tolerance),
    }
    asked = [ask_head(name, _unless_constant(found, model, task), readings) for name, found in certificates.items()]
    if task.position is None:
        channel, texts = channel_certificate(model, task), readings.texts
        asked.append(Question(schema.CHANNEL, channel, channel.sign_agreement(texts.tokens, texts.lengths)))
    return [held_to_counts(question, readings.texts) for question in asked]


def _unless_constant(certificate: HeadCertificate, model: HMM, task: PosteriorTask) -> HeadCertificate:
    """Return the certificate, or that of the constant head of a task on H₀ that gives all texts the same label."""
    if task.position is not None:
        return certificate
    return dataclasses.replace(unless_constant(certificate, model, task), reader=Reader.CAUSAL)
