"""Heads and prompts that an audit learns from labelled texts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ppl_hmm.audits.reading import Examples, Reading
from ppl_hmm.base.randomness import Seed
from ppl_hmm.heads.linear import LinearHead, best_on_path
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.recoverability.search import FoundPrompt

#: Penalties that learned heads are chosen from: conditionals of nearly aliased states differ by little.
LEARNING_GRID = (1.0, 1e2, 1e4, 1e6, 1e8, 1e10)
#: Texts that a prompt is learned from, at most.
PROMPT_TEXTS = 5000
_VALIDATION_SHARE = 0.2


def learned_head(
    examples: Examples, test: Examples, scale: Literal["probability", "log"] = "probability"
) -> tuple[LinearHead | None, float]:
    """Return the learned head and its accuracy; the only label that was seen, if there is one, needs no head."""
    if not len(examples.labels) or not len(test.labels):
        return None, float("nan")
    if len(np.unique(examples.labels)) == 1:
        return None, float((test.labels == examples.labels[0]).mean())
    validation, training = (Examples(*(part[own] for part in examples)) for own in _split(len(examples.labels)))
    if len(np.unique(training.labels)) == 1:
        training = examples
    if scale == "probability" and max(examples.labels) == 1:
        head = best_on_path(*training, *validation, LEARNING_GRID)
    else:
        head = LinearHead.select(*training, *validation, grid=LEARNING_GRID, features=scale)
    return head, float(head.score(*test))


def learned_prompt(
    model: HMM, practice: Reading, n_prompt_tokens: int, seed: Seed, found: FoundPrompt | None = None
) -> SoftPrompt | None:
    """Return a prompt learned from decidable texts; None without tokens, or where all texts have one label.

    A prompt of as many tokens that was found is one of the starts. Cost of :func:`ppl_hmm.fit_prompt`, at most
    :data:`PROMPT_TEXTS` texts being read.
    """
    kept = practice.answers.decidable.nonzero()[:PROMPT_TEXTS, 0]
    tokens, labels = practice.tokens[kept], practice.answers.labels[kept]
    held_out, training = _split(len(kept))
    if not n_prompt_tokens or len(labels[training].unique()) < 2:
        return None
    return fit_prompt(
        OracleLM(model),
        tokens[training],
        labels[training],
        validation=(tokens[held_out], labels[held_out]),
        prompt_length=n_prompt_tokens,
        seed=seed,
        start=found if found is not None and len(found.prompt.rows) == n_prompt_tokens else None,
    ).prompt


def _split(n_texts: int) -> tuple[slice, slice]:
    """Return which texts are held out to choose by, and which are learned from."""
    n_validation = max(1, int(_VALIDATION_SHARE * n_texts))
    return slice(None, n_validation), slice(n_validation, None)
