"""The one call that asks every question of a model and a task."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import ppl_hmm.audits.accessor  # noqa: F401  # registers tree.ppl_hmm
from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.audits import arrays, groups
from ppl_hmm.audits.questions import Question, Reading, ask
from ppl_hmm.audits.texts import Texts, texts_to_read
from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.base.records import Record
from ppl_hmm.base.tokens import MASK
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Text
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE, Certificate, require_pair, require_thresholds
from ppl_hmm.recoverability.head import entering_law, task_targets
from ppl_hmm.recoverability.memory import MemoryCertificate
from ppl_hmm.recoverability.transfer import smallest_half_range
from ppl_hmm.recoverability.witness import Witness
from ppl_hmm.tasks import MemoryTask, PosteriorTask, Task, on_possible_values, require_uncertain

#: Chains that the sampled texts are dealt to, for ArviZ.
N_CHAINS = 4


def audit(
    model: Model,
    task: Task,
    tokens: Text | None = None,
    *,
    n_sequences: int = 5000,
    length: int = 80,
    seed: Seed,
    lengths: Text | None = None,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> xr.DataTree:
    """Return what can be recovered of a task, why, and how stably: verdicts, certificates or witnesses, diagnostics.

    Parameters
    ----------
    model, task
        One model and one task of its kind. :class:`~ppl_hmm.HMM` and :class:`~ppl_hmm.PosteriorTask`: questions
        ``head`` and ``prompt``, or ``head`` alone for a task on a position. :class:`~ppl_hmm.MemoryHMM` and
        :class:`~ppl_hmm.MemoryTask`: questions ``head``, ``attention`` and ``attention-prompt``.
    tokens, lengths
        Text (B,T) to read. By default all texts of ``length`` tokens where there are at most ``n_sequences``, and then
        expectations are exact; else a sample of that many.
    seed
        Of the sample, and of the texts that heads are learned from and tested on.
    tolerance
        Largest residual of a certificate that counts as solved.

    Returns
    -------
    xarray.DataTree
        ``/model``, ``/task``, ``/observed_data``, ``/exact_posterior`` (posterior, label, margin, decidable),
        ``/features`` (G), ``/recoverability`` (a row for each ``question``, details below it), ``/head`` and
        ``/prompt`` (weights and rows, by question), ``/diagnostics``, and ``/draws`` (the sampled texts as draws for
        ArviZ). ``tree.ppl_hmm`` summarises, plots and explains it.

    Raises
    ------
    InvalidInput, ImpossibleText
        Batches, a task of another kind or size, one on a latent with a single possible value, bad text, text without
        the task's position, sizes below one, a negative tolerance.

    Notes
    -----
    Cost of some ten posteriors, O(B·T·K²) each, with a memory m^N times that; the search for prompts comes on top.
    """
    if isinstance(model, Record) and isinstance(task, Task):
        task = task.aligned_to(model)
    require_pair("audit", model, task, MemoryHMM if isinstance(model, MemoryHMM) else HMM, any_position=True)
    require_uncertain("audit", model, task)
    require_thresholds(0.0, tolerance)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    asked = on_possible_values(model, task)  # with the scale of its margins
    texts = texts_to_read(model, tokens, lengths, n_sequences=n_sequences, length=length, seed=seed)
    reading = Reading.of(model, asked, texts.tokens, texts.lengths)
    fresh = Reading.of(model, asked, _more(model, texts, n_sequences, generator(seed, "audit: test")))
    practice = reading
    if texts.exact:
        practice = Reading.of(model, asked, _more(model, texts, n_sequences, generator(seed, "audit: learn")))
    questions = ask(model, asked, reading, practice, fresh, tolerance)
    datasets = {
        schema.MODEL: model.to_dataset(),
        schema.TASK: task.to_dataset(),
        schema.OBSERVED_DATA: _observed(texts),
        schema.EXACT_POSTERIOR: _posterior(asked, reading),
        schema.FEATURES: _features(questions),
        schema.RECOVERABILITY: _summary(questions),
        **_details(questions, reading),
        **_diagnostics(model, asked, texts, reading, questions),
    }
    if not texts.exact and len(texts.tokens) >= N_CHAINS:
        datasets[schema.DRAWS] = _draws(reading)
    tree = xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in datasets.items()})
    tree.attrs = {
        "package": "ppl_hmm",
        "version": __version__,
        "kind": "audit",
        "texts": texts.source,
        **({} if task.place.position is None else {"latent": str(task.place)}),
        "n_sequences": n_sequences,
        "length": int(texts.tokens.shape[1]),
        "tolerance": tolerance,
        **({} if isinstance(seed, torch.Generator) else {"seed": int(seed)}),
    }
    return tree


def _more(model: Model, texts: Texts, n_sequences: int, stream: torch.Generator) -> Tensor:
    """Return new texts: as many as were sampled or given, unobserved where those are."""
    n_texts, length = texts.tokens.shape
    if texts.exact:
        return sample(model, n_sequences, length, stream).tokens
    drawn = sample(model, n_texts, length, stream).tokens.to(texts.tokens.device)
    return torch.where(texts.tokens == MASK, MASK, drawn)


def _observed(texts: Texts) -> xr.Dataset:
    dataset = xr.Dataset({"tokens": ((schema.SEQUENCE, schema.POSITION), texts.tokens.cpu().numpy())})
    if texts.exact:
        dataset["probability"] = (schema.SEQUENCE, texts.weights)
    return dataset


def _posterior(task: Task, reading: Reading) -> xr.Dataset:
    name = "memory" if isinstance(task, MemoryTask) else "initial" if task.place.position is None else "state"
    labels, margins, decidable = (part.cpu().numpy() for part in reading.answers)
    return xr.Dataset(
        {
            name: ((schema.SEQUENCE, groups.latent_dimension(task)), reading.law.cpu().numpy()),
            "label": (schema.SEQUENCE, labels),
            "margin": (schema.SEQUENCE, margins),
            "decidable": (schema.SEQUENCE, decidable.astype(np.int8)),
        }
    )


def _features(questions: list[Question]) -> xr.Dataset:
    """Return what linear heads read: G, zeros for impossible contexts, and G after the prompt if there is one."""
    names = {schema.HEAD: "conditionals", schema.PROMPT: "conditionals_after_prompt"}
    return xr.Dataset(
        {
            names[question.name]: ((schema.SEQUENCE, schema.TOKEN), _conditionals(question).cpu().numpy())
            for question in questions
            if question.features is not None
            and (question.name == schema.HEAD or question.certificate.prompt is not None)
        }
    )


def _conditionals(question: Question) -> Tensor:
    """Return the G (B,V) that a head reads; where it sees the hidden token, all blocks but that token's are zero."""
    assert question.features is not None  # the question is one of a linear head
    return question.features.unflatten(-1, (-1, question.certificate.model.vocabulary_size)).sum(-2)


def _summary(questions: list[Question]) -> xr.Dataset:
    """Return a row for each question."""
    certificates = [question.certificate for question in questions]
    columns = {
        "verdict": [certificate.verdict for certificate in certificates],
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
    }
    return xr.Dataset(
        {name: (schema.QUESTION, values) for name, values in columns.items()},
        coords={schema.QUESTION: [question.name for question in questions]},
    )


def _details(questions: list[Question], reading: Reading) -> dict[str, xr.Dataset]:
    """Return the weights, prompts and witnesses of all questions, by group."""
    datasets: dict[str, xr.Dataset] = {}
    for question in questions:
        certificate = question.certificate
        datasets[f"{schema.RECOVERABILITY}/{question.name}"] = _certificate(certificate)
        if certificate.witness is not None:
            group = f"{schema.RECOVERABILITY}/{question.name}/{schema.WITNESS}"
            datasets[group] = _witness(certificate.witness, reading, groups.feature_dimension(certificate.task))
        if certificate.prompt is not None:
            datasets[f"{schema.PROMPT}/{question.name}"] = certificate.prompt.to_dataset()
        if certificate.recoverable and not isinstance(certificate, MemoryCertificate):
            constructed = LinearHead.from_weights(certificate.weights.cpu().numpy())
            datasets[f"{schema.HEAD}/{question.name}"] = constructed.to_dataset()
        if question.learned is not None:
            datasets[f"{schema.HEAD}/{question.name}-learned"] = question.learned.to_dataset()
    return datasets


def _certificate(certificate: Certificate) -> xr.Dataset:
    """Return what a certificate says of single states."""
    model, task = certificate.model, certificate.task
    if isinstance(certificate, MemoryCertificate):
        states = list(certificate.recoverable_states)
        dims = (schema.MEMORY_VALUE, schema.STATE, schema.TOKEN)
        return xr.Dataset({"weights": (dims, certificate.weights.cpu().numpy())}, coords={schema.STATE: states})
    weights = np.atleast_2d(certificate.weights.cpu().numpy())
    if task.place.sees_token:
        weights = weights.reshape(len(weights), -1, model.vocabulary_size)
        return xr.Dataset({"weights": ((schema.SCORE, schema.OBSERVED_TOKEN, schema.TOKEN), weights)})
    dataset = xr.Dataset({"weights": ((schema.SCORE, schema.TOKEN), weights)})
    if isinstance(model, HMM) and isinstance(task, PosteriorTask) and task.position is None:
        dataset["entering_law"] = (schema.STATE, entering_law(model, certificate.prompt).cpu().numpy())
        dataset["needed"] = (schema.STATE, (task_targets(model, task) != 0).any(0).cpu().numpy().astype(np.int8))
        narrowest = smallest_half_range(model, task, certificate.prompt, tolerance=certificate.tolerance)
        dataset["smallest_half_range"] = ((), narrowest.half_range)
    return dataset


def _witness(witness: Witness, reading: Reading, feature: str) -> xr.Dataset:
    return xr.Dataset(
        {
            "tokens": ((schema.WITNESS_TEXT, schema.POSITION), reading.tokens[witness.texts].cpu().numpy()),
            "conditionals": ((schema.WITNESS_TEXT, feature), witness.features),
            "label": (schema.WITNESS_TEXT, witness.labels),
            "weights": ((schema.WITNESS_TEXT, schema.CLASS), witness.weights),
            "residual": ((), witness.residual),
        }
    )


def _diagnostics(
    model: Model, task: Task, texts: Texts, reading: Reading, questions: list[Question]
) -> dict[str, xr.Dataset]:
    """Return the diagnostics by group, one for each concept."""
    head, weights = questions[0], texts.weights
    assert head.features is not None  # the first question is that of a linear head
    features = head.features.cpu().numpy()
    possible = features.sum(-1) > 0
    read, law = features[possible], reading.law.cpu().numpy()[possible]
    share = None if weights is None else weights[possible] / weights[possible].sum()
    prompt = next((question.certificate.prompt for question in questions if question.name == schema.PROMPT), None)
    found = {
        "conditioning": groups.conditioning(model, prompt),
        "margins": groups.margins(task, reading.answers, weights).assign_attrs(tolerance=reading.tolerance),
        **groups.by_length(model, task, texts),
    }
    if len(read):
        found["linear_map"] = groups.linear_map(read, law, task, share)
        in_use = _head_in_use(head)
        if in_use is not None:
            found["transfer"] = groups.transfer(read, in_use[1], share).assign_attrs(head=in_use[0])
    if isinstance(model, HMM):
        found["identifiability"] = groups.identifiability(model)
    for question in questions:
        if isinstance(question.certificate, MemoryCertificate) and question.name == schema.ATTENTION:
            found["memory"] = groups.memory(question.certificate, texts)
    return {f"{schema.DIAGNOSTICS}/{name}": dataset for name, dataset in found.items()}


def _head_in_use(question: Question) -> tuple[str, np.ndarray] | None:
    """Return the constructed head where it is certified, else the learned one, its intercept added to all of b."""
    if question.certificate.recoverable:
        return "constructed", question.certificate.weights.cpu().numpy()
    if question.learned is None:
        return None
    weights = question.learned.coef_ + question.learned.intercept_[:, None]
    return "learned", weights[0] if len(weights) == 1 else weights


def _draws(reading: Reading) -> xr.Dataset:
    """Return the sampled texts as independent draws (chain, draw), dealt to four chains; up to three are left over."""
    law = reading.law.cpu().numpy()
    per_text = {
        "margin": reading.answers.margins.cpu().numpy(),
        "best_guess": law.max(-1),
        "posterior_entropy": arrays.entropy(law),
    }
    units = {"posterior_entropy": {"units": "nats"}}
    n_draws = len(reading.tokens) // N_CHAINS
    return xr.Dataset(
        {
            name: (
                (schema.CHAIN, schema.DRAW),
                values[: N_CHAINS * n_draws].reshape(N_CHAINS, n_draws),
                units.get(name),
            )
            for name, values in per_text.items()
        },
        coords={schema.CHAIN: np.arange(N_CHAINS), schema.DRAW: np.arange(n_draws)},
    )
