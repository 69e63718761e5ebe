"""The one call that asks every question of a model and a task."""

from __future__ import annotations

import inspect
from typing import Literal, cast

import torch
import xarray as xr
from torch import Tensor

import ppl_hmm.audits.accessor  # noqa: F401  # registers tree.ppl_hmm
from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.audits import details, measured
from ppl_hmm.audits.causal_questions import ask_causal, reader_of
from ppl_hmm.audits.learning import learned_head
from ppl_hmm.audits.over_posterior.audit import audit_fit
from ppl_hmm.audits.questions import Effort, Readings, ask
from ppl_hmm.audits.reading import Examples, Reading
from ppl_hmm.audits.remedy import remedy
from ppl_hmm.audits.texts import Texts, short_texts, texts_to_read
from ppl_hmm.base.labels import coordinates
from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.base.records import Record
from ppl_hmm.base.threads import threads
from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Text, n_memories
from ppl_hmm.recoverability.arguments import require_numbers, require_pair, require_thresholds
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.schema import Reader
from ppl_hmm.tasks import PosteriorTask, Task, TaskOfModel, on_possible_values, require_uncertain

# Steps B·T·K² of a posterior, of every memory, that one thread takes as soon as several that wait for each other.
_STEPS_OF_ONE_THREAD = 20_000_000


def audit(
    model: Model | xr.DataTree,
    task: Task | TaskOfModel,
    tokens: Text | None = None,
    *,
    n_sequences: int = 5000,
    length: int = 80,
    seed: Seed,
    lengths: Text | None = None,
    tolerance: float = RESIDUAL_TOLERANCE,
    n_prompt_tokens: int = 1,
    prompt_seconds: float = 0.0,
    reader: Literal["masked", "causal"] = "masked",
) -> xr.DataTree:
    """Ask whether heads, prompts and attention recover a task, and why.

    Parameters
    ----------
    model, task
        One model and one task of its kind. :class:`~ppl_hmm.HMM` and :class:`~ppl_hmm.PosteriorTask`: questions
        ``head``, ``masks`` and ``prompt``, or ``head`` alone for a task on a position. :class:`~ppl_hmm.MemoryHMM` and
        :class:`~ppl_hmm.MemoryTask`: questions ``head``, ``masks``, ``attention`` and ``attention-prompt``. Or the tree
        of :func:`fit_bayes` and a function from a model to its task, as in :func:`recoverability_posterior`, with a
        ``seed`` alone.
    tokens, lengths
        Text (B,T) to read. By default all texts of ``length`` tokens where there are at most ``n_sequences``, and then
        expectations are exact; else a sample of that many.
    seed
        Of the sample, of the texts that heads and prompts are learned from and tested on, and of the prompts' starts.
    tolerance
        Largest residual of a certificate that counts as solved.
    n_prompt_tokens
        Length of the prompt that is learned where none is constructed; 0 learns none, and so does a causal reader.
    prompt_seconds
        Seconds to look, where none is constructed, for a prompt with a head that has all texts right, and for a proof
        that there is none: as :func:`refute_prompts`, among all short texts and the audit's own. How far they reach
        depends on the machine. Not spent on a causal reader.
    reader
        What heads read: ``'masked'``, conditionals at masks; ``'causal'``, the law of the next token, of an HMM. Its
        questions are ``head``, ``prompt`` (after the text) and, for tasks on H₀, ``channel``: prompts whose likelihoods
        answer.

    Returns
    -------
    xarray.DataTree
        ``/model``, ``/task``, ``/observed_data``, ``/exact_posterior`` (posterior, label, margin, decidable),
        ``/features`` (G), ``/recoverability`` (a row for each ``question``, details below it), ``/head`` and
        ``/prompt`` (weights and rows, by question; those that are learned end in ``-learned``, and those that were
        found for these texts in ``-found``), ``/remedy`` (the
        cheapest thing that works), ``/diagnostics``, and ``/draws`` (the sampled texts as draws for ArviZ).
        ``tree.ppl_hmm`` summarises, plots and explains it. Of a fit: ``/recoverability_posterior``, the same of its
        prior, and ``/convergence``; what is reported has probabilities, and chains that do not agree are named first.

    Raises
    ------
    InvalidInput, ImpossibleText
        Batches, a task of another kind or size, one on a latent with a single possible value or with equal weights of
        all classes, bad text, text without the task's position, sizes below one, a negative tolerance, number of prompt
        tokens or of seconds; another reader, or a causal one of a memory model, or of a task that is given the context
        of a token.

    Notes
    -----
    Cost of some ten posteriors, O(B·T·K²) each, with a memory m^N times that; the search for prompts comes on top, and
    :func:`fit_prompt` where it finds none: some two seconds for 30 states and 10 tokens.

    See Also
    --------
    open_audit : The tree of a saved audit.
    recoverability_posterior : Of the draws of a fit.
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
    if isinstance(model, xr.DataTree) and schema.POSTERIOR in model.children:
        given = {"tokens": tokens, "lengths": lengths, "n_sequences": n_sequences, "length": length}
        given |= {"tolerance": tolerance, "n_prompt_tokens": n_prompt_tokens, "prompt_seconds": prompt_seconds}
        _require_defaults({**given, "reader": reader})
        return audit_fit(model, cast(TaskOfModel, task), seed=seed)
    if isinstance(model, Record) and isinstance(task, Task):
        task = task.aligned_to(model)
    model, task = cast(Model, model), cast(Task, task)  # or refused at once
    require_pair("audit", model, task, MemoryHMM if isinstance(model, MemoryHMM) else HMM, any_position=True)
    require_uncertain("audit", model, task)
    _require_contrast(on_possible_values(model, task))
    require_thresholds(0.0, tolerance)
    at_least("n_prompt_tokens", n_prompt_tokens, 0)
    require_numbers(prompt_seconds=prompt_seconds)
    read_by = reader_of(reader, model, task)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    texts = texts_to_read(model, tokens, lengths, n_sequences=n_sequences, length=length, seed=seed)
    effort = Effort(n_prompt_tokens, generator(seed, "audit: prompt"), prompt_seconds)
    with threads(_n_threads(model, texts)):
        datasets = _answers(model, task, texts, n_sequences, seed, tolerance, read_by, effort)
    labelled = {
        f"/{name}": dataset.assign_coords(coordinates(model.names, dataset.sizes)) for name, dataset in datasets.items()
    }
    tree = xr.DataTree.from_dict(labelled)
    tree.attrs = {
        "package": "ppl_hmm",
        "version": __version__,
        "kind": "audit",
        "texts": texts.source,
        "reader": str(read_by),
        **({} if task.place.position is None else {"latent": str(task.place)}),
        "n_sequences": n_sequences,
        "length": int(texts.tokens.shape[1]),
        "tolerance": tolerance,
        "n_prompt_tokens": n_prompt_tokens,
        "prompt_seconds": prompt_seconds,
        **({} if isinstance(seed, torch.Generator) else {"seed": int(seed)}),
    }
    return tree


def _require_contrast(task: Task) -> None:
    """Raise :class:`InvalidInput` where all classes have the same weights: every text is then a tie."""
    if not task.scale:
        raise InvalidInput(
            "audit: weights of the task",
            "rows that differ on a possible value",
            "equal rows, so that every text is a tie",
            "give each class weights of its own",
        )


def _require_defaults(given: dict[str, object]) -> None:
    """Raise :class:`InvalidInput` where the audit of a fit is given what only that of a model takes."""
    defaults = {name: inspect.signature(audit).parameters[name].default for name in given}
    if other := [name for name, value in given.items() if value is not defaults[name] and value != defaults[name]]:
        remedy = "recoverability_posterior(fit, task, …) has options of its own"
        raise InvalidInput("audit of a fit", "the fit, a question and a seed", ", ".join(other), remedy)


def _n_threads(model: Model, texts: Texts) -> int:
    """Return how many threads an audit uses: PyTorch wakes them for arrays that take less time than the waking."""
    n_steps = texts.tokens.numel() * model.n_states**2 * n_memories(model)
    return 1 if n_steps <= _STEPS_OF_ONE_THREAD else torch.get_num_threads()


def _answers(
    model: Model,
    task: Task,
    texts: Texts,
    n_sequences: int,
    seed: Seed,
    tolerance: float,
    reader: Reader,
    effort: Effort,
) -> dict[str, xr.Dataset]:
    """Return all datasets of an audit by their groups."""
    asked = on_possible_values(model, task)  # with the scale of its margins

    def read(tokens: Tensor, lengths: Tensor | None = None) -> Reading:
        return Reading.of(model, asked, tokens, lengths, reader)

    reading = read(texts.tokens, texts.lengths)
    fresh = read(_more(model, texts, n_sequences, generator(seed, "audit: test")))
    practice = reading
    if texts.exact:
        practice = read(_more(model, texts, n_sequences, generator(seed, "audit: learn")))

    def read_short(limit: int) -> Reading | None:
        tokens = short_texts(model, asked.place, limit)
        return read(tokens) if len(tokens) else None

    def log_accuracy() -> float:
        practised, tested = (Examples.of(each, each.features()) for each in (practice, fresh))
        return learned_head(practised, tested, "log")[1]

    readings = Readings(reading, practice, fresh, read_short)
    if reader is Reader.CAUSAL:
        questions = ask_causal(cast(HMM, model), cast(PosteriorTask, asked), readings, tolerance)
    else:
        questions = ask(model, asked, readings, tolerance, effort)
    datasets = {
        schema.MODEL: model.to_dataset(),
        schema.TASK: task.to_dataset(),
        schema.OBSERVED_DATA: measured.observed_data(texts),
        schema.EXACT_POSTERIOR: measured.exact_posterior(asked, reading),
        schema.FEATURES: measured.read_features(questions),
        schema.RECOVERABILITY: details.table(questions),
        **details.details(questions),
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
