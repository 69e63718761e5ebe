"""What an audit says of a question in plain words: the answer in a sentence or two, and what to do.

Both follow from the question, from what decided it, and from what was measured.
"""

from __future__ import annotations

import numpy as np

from ppl_hmm import schema
from ppl_hmm.audits.asked import Asked, learned
from ppl_hmm.audits.remedy import LARGEST_HALF_RANGE
from ppl_hmm.audits.tree import Audited
from ppl_hmm.recoverability.causal_reading import is_filtered
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.witness import SEPARATION
from ppl_hmm.schema import Basis, Cause, Reader, Remedy

#: What each question asks about.
NAMES = {
    schema.HEAD: "a linear head",
    schema.MASKS: "a linear head on several masks",
    schema.PROMPT: "a prompt and a linear head",
    schema.ATTENTION: "attention over all positions",
    schema.ATTENTION_PROMPT: "a prompt and attention",
    schema.CHANNEL: "the likelihoods of channel prompts",
}
_SUBJECTS = {
    schema.HEAD: "a linear head",
    schema.MASKS: "a linear head on {masks}",
    schema.PROMPT: "a prompt with a linear head",
    schema.ATTENTION: "attention over all positions",
    schema.ATTENTION_PROMPT: "a prompt with attention",
    schema.CHANNEL: "a comparison of how likely channel prompts make the text",
}
_SUBJECTS_OF_CAUSAL = {
    schema.HEAD: "a linear head on the next-token law",
    schema.PROMPT: "a prompt after the text with a linear head on the next-token law",
}
# Remedies have the names of the questions that they answer; one answers none.
_REMEDIES = {**_SUBJECTS, Remedy.LOG_PROBABILITIES: "a linear head on log-probabilities"}
#: Singular values below this are as good as zero for anything that is trained.
ILL_CONDITIONED = 1e-6
#: The questions whose answers hold for texts that show the memory cell.
OF_ATTENTION = (schema.ATTENTION, schema.ATTENTION_PROMPT)

_OPEN = {
    Cause.CONDITION_FAILS: "no weights for it could be constructed, which does not rule it out",
    Cause.ROUNDING: "on paper weights for it exist, but what they read is lost in rounding",
    Cause.TOO_LARGE: "the model is too large to construct weights for it",
    Cause.CONTRADICTED: "the verdict was withdrawn, as the texts that were read contradict it",
}
_NO_CHANNEL = "the first token cannot come from a state that the task needs, so that none were constructed"

_NO_LABEL = "nothing to learn: rounding decides the label of every text that was read"
# Where the cause alone decides.
_ADVICE_BY_CAUSE = {
    Cause.CONSTANT_LABEL: "nothing to learn: every text has the same label",
    Cause.CONTRADICTED: "report this model and task: one of the two computations is wrong",
}
_ADVICE = {
    (schema.HEAD, Cause.CONDITION_HOLDS): "constructed_head(model, task) is that head; a learned one needs no prompt "
    "either",
    (schema.HEAD, Cause.WITNESS): "no linear head on one mask will do, however it is trained: see whether several "
    "masks or a prompt do; or read log-probabilities, LinearHead(features='log')",
    (schema.HEAD, Cause.CONDITION_FAILS): "learn a head and test it; longer or more text may hold a witness",
    (schema.HEAD, Cause.ROUNDING): "expect no trained head to find it: see whether several masks do better",
    (schema.MASKS, Cause.CONDITION_HOLDS): "constructed_head(model, task, n_masks={n_masks}) is that head; it reads "
    "probe_features(lm, tokens, n_masks={n_masks})",
    (schema.MASKS, Cause.WITNESS): "no linear head on these masks will do, however it is trained: see whether a prompt "
    "does; or read log-probabilities, LinearHead(features='log')",
    (schema.MASKS, Cause.CONDITION_FAILS): "learn a head on probe_features(lm, tokens, n_masks={n_masks}) and test it; "
    "longer or more text may hold a witness",
    (schema.MASKS, Cause.ROUNDING): "expect no trained head to find it: see whether a prompt does better",
    (schema.PROMPT, Cause.CONDITION_HOLDS): "constructed_prompt(model, task), then constructed_head(model, task, "
    "prompt)",
    (schema.PROMPT, Cause.CONDITION_FAILS): "the search found no prompt, which proves nothing: fit_prompt(lm, …) "
    "learns one",
    (schema.PROMPT, Cause.REFUTATION): "no prompt will do, however it is trained: see whether several masks do, "
    "masks_needed(model, task), or read log-probabilities, LinearHead(features='log')",
    (schema.PROMPT, Cause.SEARCH): "use the prompt and the head that were found, "
    "groups prompt/prompt-found and head/prompt-found of the tree, and test them on new text",
    (schema.ATTENTION, Cause.CONDITION_HOLDS): "constructed_attention(model, task) reads the cell where the states "
    "are sure",
    (schema.ATTENTION, Cause.CONDITION_FAILS): "AttentionHead().fit(…) learns one: that none was "
    "constructed proves nothing",
    (schema.ATTENTION_PROMPT, Cause.CONDITION_HOLDS): "constructed_prompt(model, task), then "
    "constructed_attention(model, task, prompt)",
    (schema.ATTENTION_PROMPT, Cause.CONDITION_FAILS): "fit an AttentionHead, with or without a prompt",
}
_ADVICE_WITH_MEMORY = {
    (schema.HEAD, Cause.CONDITION_HOLDS): "LinearHead.from_dataset(tree['head/head'].to_dataset()) is that head; a "
    "learned one needs no attention either",
    (schema.HEAD, Cause.WITNESS): "no linear head will do, however it is trained: see whether attention does, or read "
    "log-probabilities, LinearHead(features='log')",
    (schema.HEAD, Cause.ROUNDING): "expect no trained head to find it: see whether attention does better",
    (schema.HEAD, Cause.TOO_LARGE): "ask attention, whose condition needs no larger model, or learn a head and test it",
    (schema.MASKS, Cause.CONDITION_HOLDS): "LinearHead.from_dataset(tree['head/masks'].to_dataset()) is that head; it "
    "reads probe_features(lm, tokens, n_masks={n_masks})",
    (schema.MASKS, Cause.WITNESS): "no linear head on these masks will do, however it is trained: see whether "
    "attention does, or read log-probabilities, LinearHead(features='log')",
    (schema.MASKS, Cause.ROUNDING): "expect no trained head to find it: see whether attention does better",
    (schema.MASKS, Cause.TOO_LARGE): "ask attention, whose condition needs no larger model, or learn a head and test "
    "it",
}
_ADVICE_OF_CAUSAL = {
    (schema.HEAD, Cause.CONDITION_HOLDS): "constructed_head(model, task, reader='causal') is that head; it reads "
    "next_token_features(lm, tokens{ends}){counted}",
    (schema.HEAD, Cause.WITNESS): "no linear head on the next-token law will do, however it is trained: see whether a "
    "prompt does, or read log-probabilities, LinearHead(features='log')",
    (schema.HEAD, Cause.CONDITION_FAILS): "learn a head on next_token_features(lm, tokens{ends}) and test it; longer "
    "or more text may hold a witness{counted}",
    (schema.HEAD, Cause.ROUNDING): "expect no trained head to find it: see whether a prompt does better",
    (schema.PROMPT, Cause.CONDITION_HOLDS): "constructed_prompt(model, task, reader='causal'), then "
    "constructed_head(model, task, prompt, reader='causal'); it reads next_token_features(lm, tokens, "
    "template=prompt{ends}){counted}",
    (schema.PROMPT, Cause.CONDITION_FAILS): "no prompt of one token was constructed: try a template, "
    "causal_certificate(model, task, template)",
    (schema.CHANNEL, Cause.CONDITION_HOLDS): "channel_prompts(model, task).labels(tokens) compares the likelihoods",
    (schema.CHANNEL, Cause.CONDITION_FAILS): "give moves to every state that the task needs a small probability",
}
# Where no head of a causal reader is known to answer a task on H₀. Likelihoods do, where there are channel prompts.
_NOT_FOR_HEADS = tuple(
    (question, cause)
    for question in (schema.HEAD, schema.PROMPT)
    for cause in (Cause.WITNESS, Cause.CONDITION_FAILS)
)
_READ_MASKED = "read a masked language model"
_COMPARE = f"compare the likelihoods of channel prompts, channel_prompts(model, task), or {_READ_MASKED}"
_ADVICE_AT_POSITION = {
    (schema.HEAD, Cause.CONDITION_HOLDS): "constructed_head(model, task) is that head; it reads probe_features(lm, "
    "tokens, position=…, given=…), as the task says",
    (schema.HEAD, Cause.WITNESS): "no linear head on this mask will do, however it is trained: read "
    "log-probabilities, LinearHead(features='log'), or ask what another 'given' leaves",
    (schema.HEAD, Cause.ROUNDING): "expect no trained head to find it: ask what another 'given' leaves",
}


def sentence(audited: Audited, asked: Asked) -> str:
    """Return the answer to a question in plain words."""
    subject, cause = _subjects(audited)[asked.question].format(masks=_masks(asked.n_masks)), asked.cause
    if cause is Cause.CONSTANT_LABEL:
        return f"{_capital(subject)} solves this task without reading: every text has the same label."
    if cause is Cause.CONDITION_HOLDS and asked.question == schema.MASKS and asked.n_masks == 1:
        return "One mask is enough: more are not needed."
    if cause is Cause.CONDITION_HOLDS:
        return f"{_capital(subject)} solves this task: {_constructed(asked)}.{_hardly_learned(asked)}"
    if cause is Cause.SEARCH:
        answer = f"{_capital(subject)} was found that is right on the texts that were read, which proves no more."
    elif cause is Cause.REFUTATION:
        n_texts = _n_proving(audited, asked, schema.REFUTATION)
        answer = f"{_capital(subject)} cannot solve this task, however both are trained: {n_texts} texts prove it."
    elif cause is Cause.WITNESS:
        n_texts = _n_proving(audited, asked, schema.WITNESS)
        answer = f"{_capital(subject)} cannot solve this task, however it is trained: {n_texts} texts prove it."
    else:
        why = _NO_CHANNEL if (asked.question, cause) == (schema.CHANNEL, Cause.CONDITION_FAILS) else _OPEN[cause]
        answer = f"It is open whether {subject} solves this task: {why}."
    of_head = audited.reader is Reader.CAUSAL and asked.question != schema.CHANNEL
    if of_head and not asked.recoverable and not is_filtered(audited.task.place):
        answer += " What it reads depends on the text through the law of the last state alone."
    return " ".join([answer, *_learned(audited, asked)])


def _n_proving(audited: Audited, asked: Asked, proof: str) -> int:
    """Return of how many texts a proof is."""
    return audited.group(f"{schema.RECOVERABILITY}/{asked.question}/{proof}").sizes[schema.WITNESS_TEXT]


def advice(audited: Audited, asked: Asked) -> str:
    """Return what to do."""
    question, cause = asked.question, asked.cause
    if cause is not Cause.CONSTANT_LABEL and not audited.decidable.any():
        return _NO_LABEL
    if cause in _ADVICE_BY_CAUSE:
        return _ADVICE_BY_CAUSE[cause]
    if cause is Cause.CONDITION_FAILS and audited.has(f"{schema.PROMPT}/{learned(question)}"):
        return (
            f"use what was learned, groups prompt/{learned(question)} and head/{learned(question)} of the tree, or "
            "ask for a longer prompt: audit(…, n_prompt_tokens=…)"
        )
    if question == schema.ATTENTION_PROMPT and asked.recoverable and not audited.has(f"{schema.PROMPT}/{question}"):
        found = "no prompt restricts this memory, and none is needed: constructed_attention(model, task)"
    else:
        with_memory = _ADVICE_WITH_MEMORY if schema.ATTENTION in audited.asked else {}
        at_position = _ADVICE_AT_POSITION if audited.latent_asked else {}
        of_causal = _ADVICE_OF_CAUSAL if audited.reader is Reader.CAUSAL else {}
        if of_causal and audited.task.place.position is None:
            there_are = schema.CHANNEL in audited.asked and audited.asked[schema.CHANNEL].recoverable
            of_causal = {**of_causal, **dict.fromkeys(_NOT_FOR_HEADS, _COMPARE if there_are else _READ_MASKED)}
        of_head = question == schema.MASKS and asked.n_masks == 1
        found = {**_ADVICE, **with_memory, **at_position, **of_causal}[schema.HEAD if of_head else question, cause]
        found = found.format(n_masks=asked.n_masks, **_ends(audited))
        if of_head and asked.recoverable:
            found = f"one mask is enough: {found}"
    if asked.recoverable and asked.residual > RESIDUAL_TOLERANCE:
        found += f"; pass tolerance={audited.tolerance:g}, as to this audit"
    return found


def _ends(audited: Audited) -> dict[str, str]:
    """Return the argument that ends texts at the position of a causal reader's task, and what it counts, in words."""
    place = audited.task.place
    if not is_filtered(place) or place.position == -1:
        return {"ends": "", "counted": ""}
    counted = f"; lengths are the numbers of tokens up to position {place.position} with it"
    return {"ends": ", lengths=…", "counted": counted}


def recommendation(audited: Audited) -> str:
    """Return what is recommended in plain words: the cheapest thing that works, its cost, and how stable it is."""
    found = audited.remedy
    remedy, basis = Remedy(found[schema.RECOMMENDED]), Basis(found[schema.BASIS])
    if remedy is Remedy.NOTHING:
        return "Nothing has to be learned: every text has the same label."
    if remedy is Remedy.UNKNOWN:
        return "Nothing can be recommended: no label was clear enough to learn from."
    what = {**_REMEDIES, **_subjects(audited)}[remedy].format(masks=_masks(int(found["n_masks"])))
    cost = _cost(int(found["n_masks"]), int(found["n_prompt_tokens"]), audited)
    if remedy is Remedy.CHANNEL:
        cost = f"It reads each text after {audited.task.n_classes} prompts of one token each."
    if basis is Basis.MEASUREMENT:
        return (
            f"Nothing is proved to solve this task. As good as any that was learned is {what}, right on "
            f"{found['accuracy']:.2%} of new text with a clear label. {cost}"
        )
    return f"Use {what}: of all that is proved to solve this task it costs least. {cost}{_stability(found)}"


def _subjects(audited: Audited) -> dict[str, str]:
    """Return what each question is about, in words."""
    return {**_SUBJECTS, **(_SUBJECTS_OF_CAUSAL if audited.reader is Reader.CAUSAL else {})}


def _cost(n_masks: int, n_prompt_tokens: int, audited: Audited) -> str:
    """Say what a remedy reads of each text, and which prompt stands in front, or after it for a causal reader."""
    read = f"{n_masks * audited.vocabulary_size} numbers of each text" if n_masks else "the whole text"
    tokens = f"{n_prompt_tokens} prompt token{'s' if n_prompt_tokens > 1 else ''}"
    with_prompt = f" and {tokens} after it" if audited.reader is Reader.CAUSAL else f", after {tokens}"
    return f"It reads {read}{with_prompt if n_prompt_tokens else ''}."


def _stability(found: dict) -> str:
    """Say what errors of a language model are multiplied by, where that is known."""
    half_range = found["half_range"]
    if not np.isfinite(half_range):
        return ""
    faint = ", more than any trained one can bear" if half_range > LARGEST_HALF_RANGE else ""
    return f" Errors of the language model it multiplies by up to {half_range:.2g} (its half-range){faint}."


def accuracy(audited: Audited, asked: Asked) -> str:
    """Return how often what was learned is right on new texts."""
    name = learned(asked.question)
    if audited.has(f"{schema.PROMPT}/{name}"):
        n_tokens = audited.group(f"{schema.PROMPT}/{name}").sizes[schema.PROMPT_POSITION]
        what = f"a learned prompt of {n_tokens} token{'s' if n_tokens > 1 else ''} with its head"
    else:
        what = "a learned head" if audited.has(f"{schema.HEAD}/{name}") else "the one label that was seen"
    return f"{what} is right on {asked.learned_accuracy:.2%} of new text with a clear label"


def _constructed(asked: Asked) -> str:
    """Say on how many texts what was constructed is right."""
    clear = "that show the memory cell clearly" if asked.question in OF_ATTENTION else "with a clear label"
    if not asked.decidable:
        return f"it was constructed from the model, though no texts {clear} were read"
    found = f"what was constructed from the model is right on {asked.agreeing} of {asked.decidable} texts {clear}"
    others = "other" if asked.undecidable == 1 else "others"
    return found + (f", and claims nothing of {asked.undecidable} {others}" if asked.undecidable else "")


def _hardly_learned(asked: Asked) -> str:
    """Warn of weights that read the faintest differences."""
    if not 0 < asked.sigma_min < ILL_CONDITIONED:
        return ""
    return f" It reads differences as small as {asked.sigma_min:.0e}, which training may not find."


def _learned(audited: Audited, asked: Asked) -> list[str]:
    """Say what was learned instead, and whether some head is right on all texts after a learned prompt."""
    if np.isnan(asked.learned_accuracy):
        return []
    said = _capital(accuracy(audited, asked))
    if not audited.has(f"{schema.PROMPT}/{learned(asked.question)}"):
        return [f"{said}."]
    some = "some head is" if asked.separation_margin > SEPARATION else "no head is known to be"
    return [f"{said}; after this prompt {some} right on all texts that were read."]


def _masks(n_masks: int) -> str:
    return f"{n_masks} masks" if n_masks > 1 else "one mask"


def _capital(words: str) -> str:
    """Return words that begin a sentence."""
    return words[0].upper() + words[1:]
