"""Parameters of hidden Markov models and soft prompts: frozen, validated records.

Conventions (docs/conventions.md): a *silent* initial state H₀ emits nothing; row-stochastic ``transition`` and
``emission``; X₁ is emitted by H₁, after one transition from H₀.
"""

from ppl_hmm.models.concepts import ConceptHMM
from ppl_hmm.models.hmm import HMM
from ppl_hmm.models.mealy import MealyHMM
from ppl_hmm.models.memory import MemoryHMM
from ppl_hmm.models.prompt import MemoryPrompt, SoftPrompt, prompt_rows

__all__ = ["HMM", "ConceptHMM", "MealyHMM", "MemoryHMM", "MemoryPrompt", "SoftPrompt", "prompt_rows"]
