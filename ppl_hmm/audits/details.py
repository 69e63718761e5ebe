"""What the answers of an audit leave in its tree: a row for each question, and its weights, prompts and proofs."""

from __future__ import annotations

from typing import cast

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits import groups
from ppl_hmm.audits.asked import found, learned
from ppl_hmm.audits.questions import RADII, Question
from ppl_hmm.audits.reading import Reading
from ppl_hmm.audits.remedy import n_masks, relative_half_range
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.entering import entering_law, task_targets
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.witness import Witness
from ppl_hmm.schema import Reader
from ppl_hmm.tasks import PosteriorTask


def table(questions: list[Question]) -> xr.Dataset:
    """Return a row for each question."""
    certificates = [question.certificate for question in questions]
    columns = {
        schema.VERDICT: [str(certificate.verdict) for certificate in certificates],
        schema.CAUSE: [str(certificate.cause) for certificate in certificates],
        "theorem": [certificate.theorem for certificate in certificates],
        "reasons": ["\n".join(certificate.reasons) for certificate in certificates],
        "residual": [certificate.residual for certificate in certificates],
        "margin_error": [certificate.margin_error for certificate in certificates],
        "sigma_min": [certificate.sigma_min for certificate in certificates],
        "agreeing": [question.agreement.agreeing for question in questions],
        "decidable": [question.agreement.decidable for question in questions],
        "undecidable": [question.agreement.undecidable for question in questions],
        "separation_margin": [question.margin for question in questions],
        "learned_accuracy": [question.learned_accuracy for question in questions],
        schema.N_MASKS: [n_masks(question) for question in questions],
        schema.HALF_RANGE: [relative_half_range(question) for question in questions],
        **{name: [question.radii[name] for question in questions] for name in RADII},
    }
    return xr.Dataset(
        {name: (schema.QUESTION, values) for name, values in columns.items()},
        coords={schema.QUESTION: [question.name for question in questions]},
    )


def details(questions: list[Question]) -> dict[str, xr.Dataset]:
    """Return the weights, prompts and witnesses of all questions, by group."""
    datasets: dict[str, xr.Dataset] = {}
    for question in questions:
        certificate = question.certificate
        datasets[f"{schema.RECOVERABILITY}/{question.name}"] = _certificate(question)
        if certificate.witness is not None and question.proof is not None:
            group = f"{schema.RECOVERABILITY}/{question.name}/{schema.WITNESS}"
            dimension = groups.feature_dimension(cast(HeadCertificate, certificate))
            datasets[group] = _witness(certificate.witness, question.proof, dimension)
        if certificate.prompt is not None:
            datasets[f"{schema.PROMPT}/{question.name}"] = certificate.prompt.to_dataset()
        if certificate.recoverable and question.features is not None:  # of a linear head
            constructed = LinearHead.from_weights(certificate.weights.cpu().numpy())
            datasets[f"{schema.HEAD}/{question.name}"] = constructed.to_dataset()
        if question.learned is not None:
            datasets[f"{schema.HEAD}/{learned(question.name)}"] = question.learned.to_dataset()
        if question.learned_prompt is not None:
            datasets[f"{schema.PROMPT}/{learned(question.name)}"] = question.learned_prompt.to_dataset()
        if isinstance(certificate, HeadCertificate):
            datasets |= _searched(question.name, certificate)
    return datasets


def _searched(name: str, certificate: HeadCertificate) -> dict[str, xr.Dataset]:
    """Return the prompt with a head that was found for the texts, and the proof that there is none, by group."""
    datasets = {}
    if certificate.found is not None:
        datasets[f"{schema.PROMPT}/{found(name)}"] = certificate.found.prompt.to_dataset()
        datasets[f"{schema.HEAD}/{found(name)}"] = LinearHead.from_weights(certificate.found.head).to_dataset()
    if certificate.refutation is not None:
        datasets[f"{schema.RECOVERABILITY}/{name}/{schema.REFUTATION}"] = certificate.refutation.to_dataset()
    return datasets


def _certificate(question: Question) -> xr.Dataset:
    """Return what a certificate says of single states."""
    certificate = question.certificate
    model, task = certificate.model, certificate.task
    dataset = certificate.to_dataset()
    of_mask = isinstance(certificate, HeadCertificate) and certificate.reader is Reader.MASKED
    if of_mask and isinstance(model, HMM) and isinstance(task, PosteriorTask) and task.position is None:
        dataset["entering_law"] = (schema.STATE, entering_law(model, certificate.prompt).cpu().numpy())
        dataset["needed"] = (schema.STATE, (task_targets(model, task) != 0).any(0).cpu().numpy().astype(np.int8))
        dataset["smallest_half_range"] = ((), question.half_range)
    return dataset


def _witness(witness: Witness, reading: Reading, feature: str) -> xr.Dataset:
    return xr.Dataset(
        {
            "tokens": ((schema.WITNESS_TEXT, schema.POSITION), reading.tokens[witness.texts].cpu().numpy()),
            "posterior": ((schema.WITNESS_TEXT, schema.LATENT), reading.law[witness.texts].cpu().numpy()),
            "conditionals": ((schema.WITNESS_TEXT, feature), witness.features),
            "label": (schema.WITNESS_TEXT, witness.labels),
            "weights": ((schema.WITNESS_TEXT, schema.CLASS), witness.weights),
            "residual": ((), witness.residual),
        }
    )
