"""Random families of models and tasks."""

from ppl_hmm.regimes.hmm import random_hmm
from ppl_hmm.regimes.memory import random_memory_hmm
from ppl_hmm.regimes.registry import register, register_memory
from ppl_hmm.regimes.tasks import random_task

__all__ = ["random_hmm", "random_memory_hmm", "random_task", "register", "register_memory"]
