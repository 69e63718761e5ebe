"""What an audit measures of its texts, as labelled datasets: posteriors, features, diagnostics, draws for ArviZ."""

from __future__ import annotations

import numpy as np
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.audits import arrays, groups
from ppl_hmm.audits.questions import Question
from ppl_hmm.audits.reading import Reading
from ppl_hmm.audits.remedy import n_masks
from ppl_hmm.audits.texts import Texts
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Model
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.memory import MemoryCertificate
from ppl_hmm.recoverability.witness import Witness
from ppl_hmm.schema import Reader
from ppl_hmm.tasks import MemoryTask, Task

#: Chains that the sampled texts are dealt to, for ArviZ.
N_CHAINS = 4


def observed_data(texts: Texts) -> xr.Dataset:
    """Return the texts (B,T), with the probability of each where these are all there are."""
    dataset = xr.Dataset({"tokens": ((schema.SEQUENCE, schema.POSITION), texts.tokens.cpu().numpy())})
    if texts.exact:
        dataset["probability"] = (schema.SEQUENCE, texts.weights)
    return dataset


def exact_posterior(task: Task, reading: Reading) -> xr.Dataset:
    """Return the posterior, the label and the margin of each text, and whether the label is decidable."""
    name = "memory" if isinstance(task, MemoryTask) else "initial" if task.place.position is None else "state"
    labels, margins, decidable = (part.cpu().numpy() for part in reading.answers)
    return xr.Dataset(
        {
            name: ((schema.SEQUENCE, task.latent_dimension), reading.law.cpu().numpy()),
            "label": (schema.SEQUENCE, labels),
            "margin": (schema.SEQUENCE, margins),
            "decidable": (schema.SEQUENCE, decidable.astype(np.int8)),
        }
    )


def read_features(questions: list[Question]) -> xr.Dataset:
    """Return what linear heads read: G, zeros for impossible contexts; at several masks, after a prompt if any."""
    names = {schema.HEAD: "conditionals", schema.PROMPT: "conditionals_after_prompt"}
    found: dict[str, tuple] = {
        names[question.name]: ((schema.SEQUENCE, schema.TOKEN), _conditionals(question).cpu().numpy())
        for question in questions
        if question.features is not None
        and (question.name == schema.HEAD or question.prompt is not None)
    }
    for question in questions:
        if question.name == schema.MASKS and question.features is not None and n_masks(question) > 1:
            read = question.features.unflatten(-1, (n_masks(question), -1))
            found["conditionals_at_masks"] = ((schema.SEQUENCE, schema.MASK, schema.TOKEN), read.cpu().numpy())
    return xr.Dataset(found)


def _conditionals(question: Question) -> Tensor:
    """Return the G (B,V) that a head reads; where it sees the hidden token, all blocks but that token's are zero."""
    assert question.features is not None  # the question is one of a linear head
    return question.features.unflatten(-1, (-1, question.certificate.model.vocabulary_size)).sum(-2)


def diagnostics(
    model: Model, task: Task, texts: Texts, reading: Reading, questions: list[Question]
) -> dict[str, xr.Dataset]:
    """Return the diagnostics by group, one for each concept."""
    head, weights = questions[0], texts.weights
    assert head.features is not None  # the first question is that of a linear head
    features = head.features.cpu().numpy()
    possible = features.sum(-1) > 0
    read, law = features[possible], reading.law.cpu().numpy()[possible]
    share = None if weights is None else weights[possible] / weights[possible].sum()
    assert isinstance(head.certificate, HeadCertificate)
    of_mask = head.certificate.reader is Reader.MASKED  # what enters it depends on the prompt
    prompts = [question.certificate.prompt for question in questions if question.name == schema.PROMPT and of_mask]
    found = {
        "conditioning": groups.conditioning(model, *prompts),
        "margins": groups.margins(task, reading.answers, weights).assign_attrs(tolerance=reading.tolerance),
        **groups.by_length(model, task, texts),
    }
    if len(read):
        found["linear_map"] = groups.linear_map(read, law, task, groups.feature_dimension(head.certificate), share)
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


def witness(found: Witness, reading: Reading, feature: str) -> xr.Dataset:
    """Return the texts of a witness, what heads read of them, and its weights."""
    return xr.Dataset(
        {
            "tokens": ((schema.WITNESS_TEXT, schema.POSITION), reading.tokens[found.texts].cpu().numpy()),
            "posterior": ((schema.WITNESS_TEXT, schema.LATENT), reading.law[found.texts].cpu().numpy()),
            "conditionals": ((schema.WITNESS_TEXT, feature), found.features),
            "label": (schema.WITNESS_TEXT, found.labels),
            "weights": ((schema.WITNESS_TEXT, schema.CLASS), found.weights),
            "residual": ((), found.residual),
        }
    )


def draws(reading: Reading) -> xr.Dataset:
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
