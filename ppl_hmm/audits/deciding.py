"""Whether any prompt does for an audit's texts: one that is found for them, or a proof that none does."""

from __future__ import annotations

from collections.abc import Sequence

from ppl_hmm.audits.reading import Reading
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.decision import refute_prompts
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.refutation import TOLERANCE
from ppl_hmm.tasks import PosteriorTask


def decided(
    model: HMM, task: PosteriorTask, certificate: HeadCertificate, readings: Sequence[Reading], seconds: float
) -> HeadCertificate:
    """Return the certificate of Theorem P, where it proves nothing, with what these seconds find of prompts.

    A proof that no prompt does for some texts is one for all texts: whichever reading it comes from, it decides. A
    prompt with a head says something of its own texts alone: that of the last reading is kept.
    """
    least = TOLERANCE * float(task.scale)
    asked = [each for each in readings if bool((each.answers.margins.abs() > least).any())]
    found = None
    for reading in asked:
        decision = refute_prompts(model, task, reading.tokens, tolerance=least, seconds=seconds / len(asked))
        if decision.refutation is not None:
            return certificate.with_refutation(decision.refutation)
        found = decision.found
    return certificate if found is None else certificate.with_found(found)
