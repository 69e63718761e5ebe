"""What an audit says, in words: the verdict of each question, why, how stable it is, and what to do."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.witness import SEPARATION

RECOVERABLE, NOT_RECOVERABLE, UNDECIDED = "recoverable", "not recoverable", "undecided"
#: The error on an inexact language model that a stable answer must stay below.
_ERROR = 0.05
#: Singular values below this are as good as zero for anything that is trained.
_ILL_CONDITIONED = 1e-6

_CONSTANT_LABEL = "constant label"  # the theorem of certificates for tasks that divide no text
_ADVICE = {
    (schema.HEAD, RECOVERABLE): "constructed_head(model, task) is that head; a learned one needs no prompt either",
    (schema.HEAD, NOT_RECOVERABLE): "no linear head will do, however it is trained: see whether a prompt helps, or "
    "read log-probabilities, LinearHead(features='log')",
    (schema.HEAD, UNDECIDED): "learn a head and test it; longer or more text may hold a witness",
    (schema.PROMPT, RECOVERABLE): "constructed_prompt(model, task), then constructed_head(model, task, prompt)",
    (schema.PROMPT, UNDECIDED): "the search found no prompt, which proves nothing: fit_prompt(lm, …) learns one",
    (schema.ATTENTION, RECOVERABLE): "constructed_attention(model, task) reads the cell where the states are sure",
    (schema.ATTENTION, UNDECIDED): "AttentionHead().fit(…) learns one; Theorem M's condition is sufficient only",
    (schema.ATTENTION_PROMPT, RECOVERABLE): "constructed_prompt(model, task), then constructed_attention(model, task, "
    "prompt)",
    (schema.ATTENTION_PROMPT, UNDECIDED): "fit an AttentionHead, with or without a prompt",
}
_ADVICE_WITH_MEMORY = {
    (schema.HEAD, RECOVERABLE): "LinearHead.from_dataset(tree['head/head'].to_dataset()) is that head; a learned one "
    "needs no attention either",
    (schema.HEAD, NOT_RECOVERABLE): "no linear head will do, however it is trained: see whether attention does, or "
    "read log-probabilities, LinearHead(features='log')",
}
_ADVICE_AT_POSITION = {
    (schema.HEAD, RECOVERABLE): "constructed_head(model, task) is that head; it reads probe_features(lm, tokens, "
    "position=…, given=…), as the task says",
    (schema.HEAD, NOT_RECOVERABLE): "no linear head on this mask will do, however it is trained: read "
    "log-probabilities, LinearHead(features='log'), or ask what another 'given' leaves",
}
_OFF_OTHERS = "the rows that are read, off the span of all others,"
_ROWS = {schema.ATTENTION: _OFF_OTHERS, schema.ATTENTION_PROMPT: _OFF_OTHERS}
_ROWS_IN_FRONT = "W on the states that enter the mask"
_ROWS_AT_POSITION = "the rows that the head reads, restricted to the laws that some text leads to,"
_NAMES = {
    schema.HEAD: "a linear head",
    schema.PROMPT: "a prompt and a linear head",
    schema.ATTENTION: "attention over all positions",
    schema.ATTENTION_PROMPT: "a prompt and attention",
}


class Answer(NamedTuple):
    """The answer to one question, each part in sentences."""

    question: str
    name: str
    verdict: str
    why: list[str]
    stability: list[str]
    advice: str


def answers(tree: xr.DataTree) -> list[Answer]:
    """Return the answers of an audit's tree."""
    table = tree[schema.RECOVERABILITY].to_dataset()
    return [_answer(tree, table.sel({schema.QUESTION: name})) for name in map(str, table[schema.QUESTION].values)]


def report(tree: xr.DataTree) -> str:
    """Return the answers of an audit's tree as plain text."""
    lines = [f"{tree.attrs['texts']}; residuals up to {tree.attrs['tolerance']:g} count as solved"]
    if "latent" in tree.attrs:
        lines.insert(0, f"asked of: {tree.attrs['latent']}")
    if "task" in tree.attrs:
        lines.insert(0, f"task: {tree.attrs['task']}")
    for answer in answers(tree):
        lines += ["", f"{answer.name} ({answer.question}): {answer.verdict.upper()}"]
        parts = {"why": answer.why, "how stable": answer.stability, "what to do": [answer.advice]}
        for title, sentences in parts.items():
            lines += [f"  {'' if number else title:<12}{text}" for number, text in enumerate(sentences)]
    return "\n".join(lines)


def as_json(tree: xr.DataTree) -> dict[str, Any]:
    """Return an audit as plain dictionaries and lists: answers, the table of questions, diagnostics.

    NaN and infinity are None, so that the result is strict JSON.
    """
    table = tree[schema.RECOVERABILITY].to_dataset()
    diagnostics = tree[schema.DIAGNOSTICS].children
    return {
        **{str(name): _plain(value) for name, value in tree.attrs.items()},
        "answers": [answer._asdict() for answer in answers(tree)],
        "questions": _columns(table),
        "diagnostics": {name: _columns(node.to_dataset()) for name, node in diagnostics.items()},
    }


def _answer(tree: xr.DataTree, row: xr.Dataset) -> Answer:
    question, verdict = str(row[schema.QUESTION].item()), str(row["verdict"].item())
    theorem, reasons = str(row["theorem"].item()), str(row["reasons"].item()).split("\n")
    proof = reasons[:1] if verdict == NOT_RECOVERABLE else []  # the witness comes first
    of_theorem = reasons[len(proof) :]
    why = [*proof, f"{theorem}: {of_theorem[0]}", *of_theorem[1:]]
    advice = _advice(tree, row, question, verdict)
    return Answer(question, _NAMES[question], verdict, why, _stability(tree, row, verdict), advice)


def _advice(tree: xr.DataTree, row: xr.Dataset, question: str, verdict: str) -> str:
    if row["theorem"].item() == _CONSTANT_LABEL:
        return "nothing to learn: every text has the same label"
    if not (tree[schema.EXACT_POSTERIOR]["decidable"] == 1).any():
        return "nothing to learn: rounding decides the label of every text that was read"
    if "a head exists on paper" in row["reasons"].item():
        return "expect no trained head to find it: see whether a prompt leaves better conditioned states in the mask"
    if (question, verdict) == (schema.ATTENTION_PROMPT, RECOVERABLE) and not _has(tree, schema.PROMPT, question):
        advice = "no prompt restricts this memory, and none is needed: constructed_attention(model, task)"
    else:
        with_memory = _ADVICE_WITH_MEMORY if _has(tree, schema.RECOVERABILITY, schema.ATTENTION) else {}
        at_position = _ADVICE_AT_POSITION if "latent" in tree.attrs else {}
        advice = {**_ADVICE, **with_memory, **at_position}[question, verdict]
    if verdict == RECOVERABLE and row["residual"].item() > RESIDUAL_TOLERANCE:
        advice += f"; pass tolerance={tree.attrs['tolerance']:g}, as to this audit"
    return advice


def _stability(tree: xr.DataTree, row: xr.Dataset, verdict: str) -> list[str]:
    question, sentences = str(row[schema.QUESTION].item()), []
    if verdict == RECOVERABLE:
        left_out = _left_out(tree, row, question)
        sentences.append(f"{_count(row['agreeing'])} of {_count(row['decidable'])} texts agree; {left_out}")
    if row["theorem"].item() != _CONSTANT_LABEL and np.isfinite(row["sigma_min"]):
        rows = _ROWS.get(question, _ROWS_AT_POSITION if "latent" in tree.attrs else _ROWS_IN_FRONT)
        sentences.append(_conditioned(rows, row["sigma_min"].item()))
    if np.isfinite(row["learned_accuracy"]):
        learned = "a learned head" if _has(tree, schema.HEAD, f"{question}-learned") else "the one label that was seen"
        sentences.append(f"{learned} is right on {row['learned_accuracy'].item():.2%} of new decidable text")
    if question == schema.HEAD and "transfer" in tree[schema.DIAGNOSTICS].children:
        sentences.append(_tolerated(tree[schema.DIAGNOSTICS]["transfer"].to_dataset()))
    if verdict != RECOVERABLE and np.isfinite(row["separation_margin"]):
        sentences.append(_separated(row["separation_margin"].item()))
    return sentences


def _left_out(tree: xr.DataTree, row: xr.Dataset, question: str) -> str:
    n_left_out = _count(row["undecidable"])
    if question in (schema.ATTENTION, schema.ATTENTION_PROMPT):
        return f"nothing is claimed on {n_left_out}, where no position is sure enough for the margin"
    undecidable = tree[schema.DIAGNOSTICS]["margins"].attrs["tolerance"]
    limit = max(row["margin_error"].item(), undecidable)
    return f"nothing is claimed on {n_left_out}, whose |margin| is at most {limit:.1e} or whose score is rounding"


def _conditioned(rows: str, sigma: float) -> str:
    ill = ": as good as dependent for anything that is trained" if 0 < sigma < _ILL_CONDITIONED else ""
    return f"the smallest singular value of {rows} is {sigma:.1e}{ill}"


def _separated(margin: float) -> str:
    if margin <= SEPARATION:
        return f"no linear head with |b| ≤ 1 separates the decidable texts by more than {SEPARATION:g}"
    return f"a linear head with |b| ≤ 1 separates the decidable texts by {margin:.1e}"


def _tolerated(transfer: xr.Dataset) -> str:
    """Say what loss of a language model the head stands, by the transfer bound."""
    head, excesses = transfer.attrs["head"], transfer[schema.EXCESS].values
    within = excesses[transfer["sharp_bound"].values <= _ERROR]
    if not len(within):
        return f"a loss of {excesses[0]:g} nats over exact G may change over {_ERROR:.0%} of the {head} head's answers"
    return f"a loss of {within[-1]:g} nats over exact G changes at most {_ERROR:.0%} of the {head} head's answers"


def _has(tree: xr.DataTree, group: str, name: str) -> bool:
    return group in tree.children and name in tree[group].children


def _count(value: xr.DataArray) -> str:
    return f"{value.item():d}"


def _columns(dataset: xr.Dataset) -> dict[str, Any]:
    return {str(name): _plain(variable.values.tolist()) for name, variable in dataset.variables.items()}


def _plain(value: Any) -> Any:
    """Return nested lists of strings and numbers, None for NaN and infinity."""
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
