"""What an audit says: a sentence for each question, then why, how stable it is, and what to do."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.asked import Answer, Asked
from ppl_hmm.audits.labelled import words as of_labels
from ppl_hmm.audits.tree import Audited
from ppl_hmm.audits.words import ILL_CONDITIONED, NAMES, OF_ATTENTION, accuracy, advice, recommendation, sentence
from ppl_hmm.recoverability.witness import SEPARATION
from ppl_hmm.schema import Cause, Reader

#: Columns of a report.
WIDTH = 80
#: The error on an inexact language model that a stable answer must stay below.
_ERROR = 0.05

_OFF_OTHERS = "the rows that are read, off the span of all others,"
_ROWS_OF_CHAIN = "the matrix R of the masks, that every state be told by them,"
_ROWS_AFTER_PROMPT = "AW on the states that the prompt allows"
_ROWS_IN_FRONT = "W on the states that enter the mask"
_ROWS_AT_POSITION = "the rows that the head reads, restricted to the laws that some text leads to,"


def answers(tree: xr.DataTree) -> list[Answer]:
    """Return the answers of an audit's tree."""
    audited = Audited(tree)
    answer = of_labels.answer if audited.of_labels else _answer
    return [answer(audited, asked) for asked in audited.asked.values()]


def report(tree: xr.DataTree, *, verbose: bool = False, width: int = WIDTH) -> str:
    """Return the answers of an audit's tree as plain text, in lines of at most ``width`` columns.

    First a sentence for each question, then the details, at last what is recommended; theorems and formulas only if
    ``verbose``.
    """
    audited, found = Audited(tree), answers(tree)
    lines = [_fold(answer.sentence, width, "- ") for answer in found]
    lines += ["", *(_fold(line, width) for line in _heading(audited, verbose))]
    for answer in found:
        lines += ["", _fold(f"{answer.name} ({answer.question}): {answer.verdict.upper()}", width)]
        parts = {
            "why": answer.why if verbose else [],
            "how stable": answer.stability if verbose else answer.measured,
            "what to do": [answer.advice],
        }
        for title, sentences in parts.items():
            titles = [title, *[""] * len(sentences)]
            lines += [_fold(text, width, f"  {own:<12}") for own, text in zip(titles, sentences, strict=False)]
    if audited.has(schema.REMEDY):
        recommended = of_labels.recommendation if audited.of_labels else recommendation
        lines += ["", _fold(recommended(audited), width)]
    return "\n".join(lines)


def as_json(tree: xr.DataTree) -> dict[str, Any]:
    """Return an audit as plain dictionaries and lists: answers, remedy, the table of questions, diagnostics.

    NaN and infinity are None, so that the result is strict JSON.
    """
    audited = Audited(tree)
    remedy = audited.remedy if audited.has(schema.REMEDY) else {}
    parts = ("question", "name", "verdict", "why", "stability", "advice", "cause", "sentence")
    return {
        **{name: _plain(value) for name, value in audited.attributes.items()},
        "answers": [{part: getattr(answer, part) for part in parts} for answer in answers(tree)],
        "remedy": {name: _plain(value) for name, value in remedy.items()},
        "questions": _columns(audited.table),
        "diagnostics": {name: _columns(dataset) for name, dataset in audited.diagnostics.items()},
    }


def _heading(audited: Audited, verbose: bool) -> list[str]:
    """Return what was asked, of which texts."""
    lines = [f"task: {audited.attributes['task']}"] if "task" in audited.attributes else []
    if audited.latent_asked:
        lines.append(f"asked of: {audited.latent_asked}")
    if audited.reader is Reader.CAUSAL:
        lines.append("reader: a causal language model, whose heads read the law of the next token")
    solved = f"; residuals up to {audited.tolerance:g} count as solved" if verbose else ""
    return [*lines, f"texts: {audited.texts}{solved}"]


def _fold(text: str, width: int, beside: str = "") -> str:
    """Return a text in lines of a width, all of them right of what stands beside the first."""
    return textwrap.fill(
        text,
        width,
        initial_indent=beside,
        subsequent_indent=" " * len(beside),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _answer(audited: Audited, asked: Asked) -> Answer:
    proof, of_theorem = asked.reasons[:0], asked.reasons
    if asked.cause in (Cause.WITNESS, Cause.REFUTATION, Cause.SEARCH):  # it comes first
        proof, of_theorem = asked.reasons[:1], asked.reasons[1:]
    return Answer(
        question=asked.question,
        name=NAMES[asked.question],
        verdict=asked.verdict,
        cause=asked.cause,
        sentence=sentence(audited, asked),
        why=[*proof, f"{asked.theorem}: {of_theorem[0]}", *of_theorem[1:]],
        measured=_measured(audited, asked),
        quantities=_quantities(audited, asked),
        advice=advice(audited, asked),
    )


def _measured(audited: Audited, asked: Asked) -> list[str]:
    """Return in plain words how good learned and inexact stand-ins are for what was constructed."""
    found = [accuracy(audited, asked)] if asked.recoverable and np.isfinite(asked.learned_accuracy) else []
    if asked.question == schema.HEAD and "transfer" in audited.diagnostics:
        found.append(_tolerated(audited.diagnostics["transfer"]))
    return [*found, *_robust(asked)]


def _robust(asked: Asked) -> list[str]:
    """Say how far the model may move before the answer, and this head, may fail."""
    found = []
    if asked.condition_radius > 0:
        found.append(f"some such head solves the task {_for_models(asked.condition_radius)}")
    if 0 < asked.median_radius < np.inf:
        on_all = f", on all of them within {_percent(asked.radius)}" if asked.radius > 0 else ""
        found.append(f"this head is right on half of the texts {_for_models(asked.median_radius)}{on_all}")
    return found


def _for_models(radius: float) -> str:
    return f"for every model whose probabilities, zeros aside, are within {_percent(radius)} of these"


def _percent(radius: float) -> str:
    """Return 1 − e^−η, rounded down: a probability that differs by no more is within a factor e^{±η}."""
    percent = -100 * np.expm1(-radius)
    digit = 10.0 ** (np.floor(np.log10(percent)) - 1)
    return f"{np.floor(percent / digit) * digit:.2g}%"


def _quantities(audited: Audited, asked: Asked) -> list[str]:
    """Return what is claimed of the texts, how well conditioned it is, and how well what was learned does."""
    found = []
    if not asked.recoverable and np.isfinite(asked.learned_accuracy):
        found.append(accuracy(audited, asked))
    if asked.recoverable:
        found.append(f"{asked.agreeing} of {asked.decidable} texts agree; {_left_out(audited, asked)}")
    if asked.cause is not Cause.CONSTANT_LABEL and np.isfinite(asked.sigma_min):
        found.append(_conditioned(_rows(audited, asked), asked.sigma_min))
    if not asked.recoverable and np.isfinite(asked.separation_margin):
        found.append(_separated(asked.separation_margin))
    return found


def _left_out(audited: Audited, asked: Asked) -> str:
    if asked.question in OF_ATTENTION:
        return f"nothing is claimed on {asked.undecidable}, where no position is sure enough for the margin"
    limit = max(asked.margin_error, audited.diagnostics["margins"].attrs["tolerance"])
    claims = f"whose |margin| is at most {limit:.1e} or whose score is rounding"
    return f"nothing is claimed on {asked.undecidable}, {claims}"


def _rows(audited: Audited, asked: Asked) -> str:
    """Return which rows must be independent."""
    if asked.question in OF_ATTENTION:
        return _OFF_OTHERS
    if asked.n_masks > 1:
        return _ROWS_OF_CHAIN
    if audited.reader is Reader.CAUSAL and asked.question == schema.PROMPT:
        return _ROWS_AFTER_PROMPT
    at_end = audited.latent_asked or audited.reader is Reader.CAUSAL
    return _ROWS_AT_POSITION if at_end else _ROWS_IN_FRONT


def _conditioned(rows: str, sigma: float) -> str:
    ill = ": as good as dependent for anything that is trained" if 0 < sigma < ILL_CONDITIONED else ""
    return f"the smallest singular value of {rows} is {sigma:.1e}{ill}"


def _separated(margin: float) -> str:
    if margin <= SEPARATION:
        return f"no linear head with |b| ≤ 1 separates the decidable texts by more than {SEPARATION:g}"
    return f"a linear head with |b| ≤ 1 separates the decidable texts by {margin:.1e}"


def _tolerated(transfer: xr.Dataset) -> str:
    """Say what loss of a language model the head stands, by the transfer bound."""
    head, excesses = transfer.attrs["head"], transfer[schema.EXCESS].values
    within = excesses[transfer["sharp_bound"].values <= _ERROR]
    worse = "a language model that loses {:g} nats over the exact one"
    if not len(within):
        return f"{worse.format(excesses[0])} may change over {_ERROR:.0%} of the {head} head's answers"
    return f"{worse.format(within[-1])} changes at most {_ERROR:.0%} of the {head} head's answers"


def _columns(dataset: xr.Dataset) -> dict[str, Any]:
    return {str(name): _plain(variable.values.tolist()) for name, variable in dataset.variables.items()}


def _plain(value: Any) -> Any:
    """Return nested lists of strings and numbers, None for NaN and infinity."""
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
