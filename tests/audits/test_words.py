"""Whatever decides a verdict, there is a sentence and an advice for it, and no word of the reasons matters."""

import dataclasses
import functools

import pytest

from ppl_hmm import audit, example
from ppl_hmm.audits.tree import Audited
from ppl_hmm.audits.words import advice, sentence
from ppl_hmm.schema import Cause

CAUSES = {
    "aliased": {
        "head": set(Cause) - {Cause.TOO_LARGE, Cause.SEARCH, Cause.REFUTATION},
        "masks": set(Cause) - {Cause.TOO_LARGE, Cause.WITNESS, Cause.SEARCH, Cause.REFUTATION},  # this one has none
        # Refutations have groups of their own, as witnesses have: this example has none.
        "prompt": set(Cause) - {Cause.TOO_LARGE, Cause.ROUNDING, Cause.WITNESS, Cause.REFUTATION},
    },
    "memory": {
        "head": set(Cause) - {Cause.WITNESS, Cause.SEARCH, Cause.REFUTATION},  # this example has none
        "masks": set(Cause) - {Cause.WITNESS, Cause.SEARCH, Cause.REFUTATION},
        "attention": {Cause.CONDITION_HOLDS, Cause.CONDITION_FAILS, Cause.CONTRADICTED},
        "attention-prompt": {Cause.CONDITION_HOLDS, Cause.CONDITION_FAILS, Cause.CONTRADICTED},
    },
}
ASKED = [(name, question, cause) for name, of in CAUSES.items() for question in of for cause in sorted(of[question])]


@functools.cache
def audited(name):
    return Audited(audit(*example(name), length=3, n_sequences=50, seed=0))


@pytest.mark.parametrize(("name", "question", "cause"), ASKED)
def test_every_cause_has_its_words(name, question, cause):
    tree = audited(name)
    asked = dataclasses.replace(tree.asked[question], cause=cause, verdict=cause.verdict)
    said, told = sentence(tree, asked), advice(tree, asked)
    other = dataclasses.replace(asked, reasons=("a head exists on paper, σ_min(W) = 0",), theorem="another")
    assert (sentence(tree, other), advice(tree, other)) == (said, told)
    assert said[0].isupper()
    assert said.endswith(".")
    assert not any(word in said + told for word in ("Theorem", "residual", "σ", "π", "ᵀ"))
    assert said.startswith("It is open whether") == (cause.verdict == "undecided")
    assert ("cannot solve this task" in said) == (cause.verdict == "not recoverable")
