"""The one call that asks every question of a model and a task."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import ppl_hmm.audits.accessor  # noqa: F401  # registers tree.ppl_hmm
from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.audits import groups, measured
from ppl_hmm.audits.learning import learned_head
from ppl_hmm.audits.questions import RADII, Question, Readings, ask
from ppl_hmm.audits.reading import Examples, Reading
from ppl_hmm.audits.remedy import n_masks, relative_half_range, remedy
from ppl_hmm.audits.texts import Texts, short_texts, texts_to_read
from ppl_hmm.audits.tree import learned
from ppl_hmm.base.labels import coordinates
from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.base.records import Record
from ppl_hmm.base.threads import threads
from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import at_least
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Text, n_memories
from ppl_hmm.recoverability.arguments import require_pair, require_thresholds
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import entering_law, task_targets
from ppl_hmm.recoverability.witness import Witness
from ppl_hmm.tasks import PosteriorTask, Task, on_possible_values, require_uncertain

# Steps B·T·K² of a posterior, of every memory, that one thread takes as soon as several that wait for each other.
_STEPS_OF_ONE_THREAD = 20_000_000


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
    n_prompt_tokens: int = 1,
) -> xr.DataTree:
    """Ask whether heads, prompts and attention recover a task, and why.

    Parameters
    ----------
    model, task
        One model and one task of its kind. :class:`~ppl_hmm.HMM` and :class:`~ppl_hmm.PosteriorTask`: questions
        ``head``, ``masks`` and ``prompt``, or ``head`` alone for a task on a position. :class:`~ppl_hmm.MemoryHMM` and
        :class:`~ppl_hmm.MemoryTask`: questions ``head``, ``masks``, ``attention`` and ``attention-prompt``.
    tokens, lengths
        Text (B,T) to read. By default all texts of ``length`` tokens where there are at most ``n_sequences``, and then
        expectations are exact; else a sample of that many.
    seed
        Of the sample, of the texts that heads and prompts are learned from and tested on, and of the prompts' starts.
    tolerance
        Largest residual of a certificate that counts as solved.
    n_prompt_tokens
        Length of the prompt that is learned where none is constructed; 0 learns none.

    Returns
    -------
    xarray.DataTree
        ``/model``, ``/task``, ``/observed_data``, ``/exact_posterior`` (posterior, label, margin, decidable),
        ``/features`` (G), ``/recoverability`` (a row for each ``question``, details below it), ``/head`` and
        ``/prompt`` (weights and rows, by question; those that are learned end in ``-learned``), ``/remedy`` (the
        cheapest thing that works), ``/diagnostics``, and ``/draws`` (the sampled texts as draws for ArviZ).
        ``tree.ppl_hmm`` summarises, plots and explains it.

    Raises
    ------
    InvalidInput, ImpossibleText
        Batches, a task of another kind or size, one on a latent with a single possible value, bad text, text without
        the task's position, sizes below one, a negative tolerance or number of prompt tokens.

    Notes
    -----
    Cost of some ten posteriors, O(B·T·K²) each, with a memory m^N times that; the search for prompts comes on top, and
    :func:`fit_prompt` where it finds none: some two seconds for 30 states and 10 tokens.

    See Also
    --------
    open_audit : The tree of a saved audit.
    head_certificate, masks_needed, prompt_certificate, memory_certificate : Single theorems.
    fit_prompt : Prompts for own text and labels.

    Examples
    --------
    >>> from ppl_hmm import audit, example
    >>> tree = audit(*example("aliased"), length=4, seed=0)
    >>> tree.ppl_hmm.verdict
    {'head': 'not recoverable', 'masks': 'recoverable', 'prompt': 'recoverable'}
    >>> tree.ppl_hmm.remedy["recommended"], tree.ppl_hmm.remedy["n_masks"]
    ('masks', 2)
    """
    if isinstance(model, Record) and isinstance(task, Task):
        task = task.aligned_to(model)
    require_pair("audit", model, task, MemoryHMM if isinstance(model, MemoryHMM) else HMM, any_position=True)
    require_uncertain("audit", model, task)
    require_thresholds(0.0, tolerance)
    at_least("n_prompt_tokens", n_prompt_tokens, 0)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    texts = texts_to_read(model, tokens, lengths, n_sequences=n_sequences, length=length, seed=seed)
    learning = {"n_prompt_tokens": n_prompt_tokens, "seed": generator(seed, "audit: prompt")}
    with threads(_n_threads(model, texts)):
        datasets = _answers(model, task, texts, n_sequences, seed, tolerance, learning)
    labelled = {
        f"/{name}": dataset.assign_coords(coordinates(model.names, dataset.sizes)) for name, dataset in datasets.items()
    }
    tree = xr.DataTree.from_dict(labelled)
    tree.attrs = {
        "package": "ppl_hmm",
        "version": __version__,
        "kind": "audit",
        "texts": texts.source,
        **({} if task.place.position is None else {"latent": str(task.place)}),
        "n_sequences": n_sequences,
        "length": int(texts.tokens.shape[1]),
        "tolerance": tolerance,
        "n_prompt_tokens": n_prompt_tokens,
        **({} if isinstance(seed, torch.Generator) else {"seed": int(seed)}),
    }
    return tree


def _n_threads(model: Model, texts: Texts) -> int:
    """Return how many threads an audit uses: PyTorch wakes them for arrays that take less time than the waking."""
    n_steps = texts.tokens.numel() * model.n_states**2 * n_memories(model)
    return 1 if n_steps <= _STEPS_OF_ONE_THREAD else torch.get_num_threads()


def _answers(
    model: Model, task: Task, texts: Texts, n_sequences: int, seed: Seed, tolerance: float, learning: dict[str, Any]
) -> dict[str, xr.Dataset]:
    """Return all datasets of an audit by their groups."""
    asked = on_possible_values(model, task)  # with the scale of its margins
    reading = Reading.of(model, asked, texts.tokens, texts.lengths)
    fresh = Reading.of(model, asked, _more(model, texts, n_sequences, generator(seed, "audit: test")))
    practice = reading
    if texts.exact:
        practice = Reading.of(model, asked, _more(model, texts, n_sequences, generator(seed, "audit: learn")))

    def read_short(limit: int) -> Reading | None:
        tokens = short_texts(model, asked.place, limit)
        return Reading.of(model, asked, tokens) if len(tokens) else None

    def log_accuracy() -> float:
        practised, tested = (Examples.of(each, each.features()) for each in (practice, fresh))
        return learned_head(practised, tested, "log")[1]

    questions = ask(model, asked, Readings(reading, practice, fresh, read_short), tolerance, **learning)
    datasets = {
        schema.MODEL: model.to_dataset(),
        schema.TASK: task.to_dataset(),
        schema.OBSERVED_DATA: measured.observed_data(texts),
        schema.EXACT_POSTERIOR: measured.exact_posterior(asked, reading),
        schema.FEATURES: measured.read_features(questions),
        schema.RECOVERABILITY: _summary(questions),
        **_details(questions),
        schema.REMEDY: remedy(questions, int(fresh.answers.decidable.sum()), log_accuracy),
        **measured.diagnostics(model, asked, texts, reading, questions),
    }
    if not texts.exact and len(texts.tokens) >= measured.N_CHAINS:
        datasets[schema.DRAWS] = measured.draws(reading)
    return datasets


def _more(model: Model, texts: Texts, n_sequences: int, stream: torch.Generator) -> Tensor:
    """Return new texts: as many as were sampled or given, unobserved where those are."""
    n_texts, length = texts.tokens.shape
    if texts.exact:
        return sample(model, n_sequences, length, stream).tokens
    drawn = sample(model, n_texts, length, stream).tokens.to(texts.tokens.device)
    return torch.where(texts.tokens == MASK, MASK, drawn)


def _summary(questions: list[Question]) -> xr.Dataset:
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


def _details(questions: list[Question]) -> dict[str, xr.Dataset]:
    """Return the weights, prompts and witnesses of all questions, by group."""
    datasets: dict[str, xr.Dataset] = {}
    for question in questions:
        certificate = question.certificate
        datasets[f"{schema.RECOVERABILITY}/{question.name}"] = _certificate(question)
        if certificate.witness is not None and question.proof is not None:
            group = f"{schema.RECOVERABILITY}/{question.name}/{schema.WITNESS}"
            datasets[group] = _witness(certificate.witness, question.proof, groups.feature_dimension(certificate.task))
        if certificate.prompt is not None:
            datasets[f"{schema.PROMPT}/{question.name}"] = certificate.prompt.to_dataset()
        if certificate.recoverable and question.features is not None:  # of a linear head
            constructed = LinearHead.from_weights(certificate.weights.cpu().numpy())
            datasets[f"{schema.HEAD}/{question.name}"] = constructed.to_dataset()
        if question.learned is not None:
            datasets[f"{schema.HEAD}/{learned(question.name)}"] = question.learned.to_dataset()
        if question.learned_prompt is not None:
            datasets[f"{schema.PROMPT}/{learned(question.name)}"] = question.learned_prompt.to_dataset()
    return datasets


def _certificate(question: Question) -> xr.Dataset:
    """Return what a certificate says of single states."""
    certificate = question.certificate
    model, task = certificate.model, certificate.task
    dataset = certificate.to_dataset()
    if isinstance(model, HMM) and isinstance(task, PosteriorTask) and task.position is None:
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
