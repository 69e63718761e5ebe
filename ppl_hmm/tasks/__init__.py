"""Downstream tasks: labels as functions of the exact posterior.

The label of a text is deterministic: F*(x) = 1(μᵀp(x) ≥ 0), or argmax_c w_cᵀp(x) for C classes, where p(x) is the
posterior of one latent: P(H₀|x), P(H_t|·) at another position, or P(M_{j*}|x) for a memory model. It comes from the raw
text alone, without mask or prompt. Source: Wei, Xie & Ma (2021), §3 and §4, the downstream tasks; other positions are
ours.
"""

from ppl_hmm.tasks.base import Answers, Task, decide
from ppl_hmm.tasks.families import TaskOfModel, document_class, next_token_class, state_of_word
from ppl_hmm.tasks.latent import latent_posterior, latent_prior, on_possible_values, require_task, require_uncertain
from ppl_hmm.tasks.memory import MemoryTask
from ppl_hmm.tasks.state import PosteriorTask

__all__ = [
    "Answers",
    "MemoryTask",
    "PosteriorTask",
    "Task",
    "TaskOfModel",
    "decide",
    "document_class",
    "latent_posterior",
    "latent_prior",
    "next_token_class",
    "on_possible_values",
    "require_task",
    "require_uncertain",
    "state_of_word",
]
