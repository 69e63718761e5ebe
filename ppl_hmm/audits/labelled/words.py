"""What an audit of labelled texts says in plain words: a sentence for each question, how sure it is, what to do."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.asked import Answer, Asked
from ppl_hmm.audits.texts_needed import in_words
from ppl_hmm.audits.tree import Audited
from ppl_hmm.schema import Cause, Remedy

_NAMES = {
    schema.HEAD: "a linear head",
    Remedy.LOG_PROBABILITIES: "a linear head on log-probabilities",
    schema.PROMPT: "a prompt with a linear head",
    Remedy.BAG_OF_TOKENS: "a linear head on how often each token occurs, which needs no language model",
}
_SENTENCES = {
    Cause.SEARCH: "{Name} has all {n} labelled texts right, which says nothing of others.",
    Cause.WITNESS: "{Name} cannot have all {n} labelled texts right, however it is trained: {n_proving} of them "
    "prove it.",
    Cause.CONDITION_FAILS: "After this prompt no linear head has all {n} labelled texts right: {n_proving} of them "
    "prove it. Other prompts may do.",
    Cause.ROUNDING: "It is open whether {name} has all {n} labelled texts right: rounding would decide it.",
}
_ADVICE = {
    Cause.SEARCH: "test the learned head, group head/{question}-learned of the tree, on new text",
    Cause.WITNESS: "look at these texts, group recoverability/{question}/witness: their labels may be wrong, or what "
    "is read does not tell them",
    Cause.CONDITION_FAILS: "use what was learned, groups prompt/prompt-learned and head/prompt-learned, or ask for a "
    "longer prompt: audit_language_model(…, n_prompt_tokens=…)",
    Cause.ROUNDING: "learn a head and test it",
}
_NO_BETTER = "cannot be told from what random labels teach"


def answer(audited: Audited, asked: Asked) -> Answer:
    """Return the answer to one question."""
    learned = _row(audited, asked.question)
    name = _NAMES[asked.question]
    curve = audited.diagnostics[schema.LEARNING_CURVE]
    needed = [_needed(audited, asked.question)] if asked.question in curve[schema.APPROACH] else []
    return Answer(
        question=asked.question,
        name=name,
        verdict=asked.verdict,
        cause=asked.cause,
        sentence=f"{_separates(audited, asked, name)} {_accuracy(learned)}",
        why=[f"{asked.theorem}: {asked.reasons[0]}"],
        measured=[_selective(learned), *needed],
        quantities=_quantities(asked),
        advice=_ADVICE[asked.cause].format(question=asked.question),
    )


def recommendation(audited: Audited) -> str:
    """Return what is recommended in plain words, and beside which baselines."""
    found, n_tested = audited.remedy, int(audited.diagnostics[schema.LEARNED]["n_tested"])
    majority = f"The most frequent class alone is right on {_percent(_learned(audited)['majority_accuracy'].item())}."
    if found[schema.RECOMMENDED] == Remedy.UNKNOWN:
        doubt = f"what was learned {_NO_BETTER}, by {n_tested} held-out texts"
        return f"Nothing can be recommended: {doubt}. {majority}"
    chosen = str(found[schema.RECOMMENDED])
    bag = ""
    if chosen != Remedy.BAG_OF_TOKENS and Remedy.BAG_OF_TOKENS in _learned(audited)[schema.APPROACH]:
        share = _row(audited, Remedy.BAG_OF_TOKENS)[schema.ACCURACY].item()
        bag = f" A head on how often each token occurs is right on {_percent(share)}."
    row = _row(audited, chosen)
    return (
        f"Use {_NAMES[chosen]}: of all that is as accurate as the best it costs least, right on {_share(row)} of "
        f"held-out texts.{bag} {majority}"
    )


def _separates(audited: Audited, asked: Asked, name: str) -> str:
    witness = f"{schema.RECOVERABILITY}/{asked.question}/{schema.WITNESS}"
    n_proving = audited.group(witness).sizes[schema.WITNESS_TEXT] if audited.has(witness) else 0
    n_texts = audited.group(schema.OBSERVED_DATA).sizes[schema.SEQUENCE]
    parts = {"name": name, "Name": name[0].upper() + name[1:], "n": n_texts, "n_proving": n_proving}
    return _SENTENCES[asked.cause].format(**parts)


def _accuracy(row: xr.Dataset) -> str:
    n_learned, n_tested = (int(row[name]) for name in ("n_learned", "n_tested"))
    return f"Learned from {n_learned} texts, it is right on {_share(row)} of {n_tested} held out."


def _selective(row: xr.Dataset) -> str:
    """Say how much more of the true labels is learned than of random ones."""
    control = row[schema.CONTROL_ACCURACY].item()
    value, low, high = (row[f"{schema.SELECTIVITY}{end}"].item() for end in ("", "_low", "_high"))
    selectivity = f"selectivity {100 * value:.1f} points ({100 * low:.1f} to {100 * high:.1f})"
    doubt = "" if low > 0 else f": what was learned {_NO_BETTER}"
    return f"on random labels of the same frequencies {_percent(control)}; {selectivity}{doubt}"


def _needed(audited: Audited, question: str) -> str:
    """Say how many labelled texts the highest accuracy takes that is reached; the lowest, where none is."""
    curve = audited.diagnostics[schema.LEARNING_CURVE].sel({schema.APPROACH: question})
    reached = np.flatnonzero(np.isfinite(curve[schema.TEXTS_NEEDED].values))
    at = curve.isel({schema.TARGET: int(reached[-1]) if len(reached) else 0})
    names = (schema.TEXTS_NEEDED, f"{schema.TEXTS_NEEDED}_low", f"{schema.TEXTS_NEEDED}_high")
    n_texts, low, high = (at[name].item() for name in names)
    number = in_words(n_texts, low, high, int(curve[schema.N_TEXTS].max()))
    return f"{_percent(at[schema.TARGET].item())} accuracy takes {number}"


def _quantities(asked: Asked) -> list[str]:
    if asked.cause is Cause.SEARCH:
        return [f"a head with |b| ≤ 1 has them right by {asked.separation_margin:.1e} at least"]
    return [f"the smallest singular value of the features is {asked.sigma_min:.1e}"]


def _learned(audited: Audited) -> xr.Dataset:
    return audited.diagnostics[schema.LEARNED]


def _row(audited: Audited, approach: str) -> xr.Dataset:
    return _learned(audited).sel({schema.APPROACH: str(approach)})


def _share(row: xr.Dataset) -> str:
    """Return an accuracy and its interval."""
    value, low, high = (row[f"{schema.ACCURACY}{end}"].item() for end in ("", "_low", "_high"))
    return f"{_percent(value)} ({100 * low:.1f} to {100 * high:.1f} %)"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

