"""Two tasks on the text of a model, each read at the end of the text and after a template of one word.

``state``: a random task on the last state, its weights six normal ones. ``completion``: a sentence completion task in
the sense of Saunshi, Malladi & Arora (2021), §2. Its question is which of two sets of words the next word after text x
and template z is from: 1(vᵀp(·|x,z) ≥ c), with v = ±1 by whether the last state a or b makes the word likelier, and c
the median, which halves the texts. Template and states are those of all that differ most: the z, a and b with the
largest distance between the laws p(·|H_T=a, z) and p(·|H_T=b, z).

As p(·|x,z) ∝ NᵀMᵀα with N = AW and M = A diag(W[:,z]), it is the task μ = MN(v − c) on the law α of the last state: the
head v − c solves it after the template, while without one a head must have Nb = μ on all α that texts lead to.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.randomness import CPU, derived_seed
from ppl_hmm.experiments.trained.loss_vs_error.configuration import LossVsError
from ppl_hmm.experiments.trained.loss_vs_error.heads import PENALTIES
from ppl_hmm.heads.logistic import logistic_path
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.causal import next_token_features
from ppl_hmm.language_models.causal_oracle import CausalOracleLM
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.causal import read_through
from ppl_hmm.recoverability.causal_reading import template_rows
from ppl_hmm.recoverability.natural import distance, natural_head
from ppl_hmm.regimes.tasks import random_task
from ppl_hmm.tasks import PosteriorTask, latent_posterior

# Of networks, in nats, that natural heads are fitted for.
_EXCESSES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


class Parts(NamedTuple):
    """Which texts heads are fitted on, chosen on and measured on."""

    train: slice
    validation: slice
    test: slice

    @classmethod
    def of(cls, settings: LossVsError) -> Parts:
        """Return consecutive texts."""
        ends = np.cumsum([0, settings.n_train, settings.n_validation, settings.n_test]).tolist()
        return cls(*(slice(*pair) for pair in pairwise(ends)))


class Question(NamedTuple):
    """A task that is read after a template."""

    task: str
    template: str
    tokens: Tensor | None  # of the template (S,)
    exact: np.ndarray  # p* (B,V) after each text and the template
    labels: np.ndarray  # classes 0 and 1 (B,)
    heads: tuple[np.ndarray, ...]  # (V,), on the exact laws of training texts


class Asked(NamedTuple):
    """Texts and all questions about them."""

    text: Tensor  # (B,T)
    parts: Parts
    questions: tuple[Question, ...]

    @classmethod
    def draw(cls, model: HMM, settings: LossVsError, seed: int) -> Asked:
        """Return the texts and questions of a model and a seed."""
        parts = Parts.of(settings)
        text = sample(model, parts.test.stop, settings.length, derived_seed(seed, "texts")).tokens
        template, words = completion(model)
        templates = {schema.NO_TEMPLATE: None, schema.TEMPLATE: template}
        laws = {name: next_token_features(CausalOracleLM(model), text, each) for name, each in templates.items()}
        tasks = {
            schema.LAST_STATE: random_task(model, derived_seed(seed, "state"), text, position=-1),
            schema.COMPLETION: completion_task(model, template, words, laws[schema.TEMPLATE]),
        }
        questions = []
        for name, task in tasks.items():
            labels = task.labels(latent_posterior(model, task, text)).numpy()
            for where, law in laws.items():
                exact = law.numpy()
                heads = exact_heads(exact[parts.train], labels[parts.train])
                questions.append(Question(name, where, templates[where], exact, labels, heads))
        return cls(text, parts, tuple(questions))


def exact_heads(laws: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return heads (V,) on laws (N,V) with margins of all sizes: logistic by penalty, natural by the ε they are for."""
    logistic = logistic_path(laws, labels, PENALTIES)
    return (*logistic, *(natural_head(laws, labels, price=distance(each)).weights for each in _EXCESSES))


def completion(model: HMM) -> tuple[Tensor, Tensor]:
    """Return a template z (1,) and words v = ±1 (V,): of all templates and pairs of states those that differ most."""
    after = torch.einsum("hk,kz,kv->zhv", model.transition, model.emission, model.transition @ model.emission)
    laws = after / after.sum(-1, keepdim=True)
    place = int(torch.cdist(laws, laws, p=1).argmax())
    template, pair = divmod(place, model.n_states**2)
    first, second = divmod(pair, model.n_states)
    words = torch.where(laws[template, first] >= laws[template, second], 1.0, -1.0).to(laws)
    return torch.tensor([template], device=CPU), words


def completion_task(model: HMM, template: Tensor, words: Tensor, laws: Tensor) -> PosteriorTask:
    """Return the completion task of a template (1,) and words (V,), balanced on laws (B,V) after the template."""
    contrast = read_through(model, template_rows(model, template)) @ (words - (laws @ words).median())
    return PosteriorTask(torch.stack([torch.zeros_like(contrast), contrast]), position=-1)
