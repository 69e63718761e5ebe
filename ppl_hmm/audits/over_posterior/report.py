"""What the audit of a fit says: what forbids to believe it, then each answer with its probability."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.over_posterior.convergence import LARGEST_RHAT, NEARLY_PRIOR
from ppl_hmm.audits.words import NAMES
from ppl_hmm.schema import Agreement, Verdict

#: Budgets that a report tells of.
TOLD = (1.0, 10.0, 100.0, 1e4)
_BY_DRAW = (schema.CHAIN, schema.DRAW)
_IN_WORDS = {
    schema.SIGMA_MIN: "σ_min(W)",
    schema.TRANSITION_TRACE_SQUARED: "tr A²",
    schema.LOG_EVIDENCE: "the log evidence",
}
_APPROXIMATE = (
    "WARNING: the draws are of a variational approximation, which is surer than the posterior: probabilities near 0 "
    "and 1 are not to be believed. Draw with method='hmc'."
)

_OF_DRAWS = "What follows is said of these draws, not of the posterior."


def report(tree: xr.DataTree, *, width: int) -> str:
    """Return the answers of the audit of a fit as plain text, in lines of at most ``width`` columns."""
    lines = [*warnings(tree), *_answers(tree), *_explained(tree)]
    return "\n".join(textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in lines)


def as_json(tree: xr.DataTree) -> dict[str, Any]:
    """Return the same as plain dictionaries and lists; NaN and infinity are None."""
    told = {
        question: {
            "verdicts": shares,
            "probability": {f"{b:g}": _plain(p) for b, p in _probabilities(tree, question).items()},
            "cross_draw_accuracy": _plain(_mean(tree, schema.CROSS_DRAW_ACCURACY, question)),
        }
        for question, shares in verdict_shares(tree).items()
    }
    attributes = {str(name): value for name, value in tree.attrs.items() if isinstance(value, (str, int, float))}
    return {**attributes, "warnings": warnings(tree), "questions": told}


def verdict_shares(tree: xr.DataTree) -> dict[str, dict[str, float]]:
    """Return by question the share of draws of each verdict, those that no draw has left out."""
    verdicts = _drawn(tree)[schema.VERDICT]
    found = {}
    for question in verdicts[schema.QUESTION].values:
        codes = verdicts.sel({schema.QUESTION: question}).values
        codes = codes[~np.isnan(codes)]
        shares = {str(verdict): float((codes == code).mean()) for code, verdict in enumerate(Verdict)}
        found[str(question)] = {verdict: share for verdict, share in shares.items() if share > 0}
    return found


def warnings(tree: xr.DataTree) -> list[str]:
    """Return what must be known before any verdict: chains that do not agree, text that told nothing."""
    return [*_of_chains(tree), *_of_prior(tree), *_of_unanswered(tree)]


def _of_chains(tree: xr.DataTree) -> list[str]:
    found = tree[schema.CONVERGENCE].to_dataset()
    if tree.attrs.get("method") == "svi":
        return [_APPROXIMATE]
    if "agreement" in found.attrs:
        agreement = Agreement(found.attrs["agreement"])
        return [] if agreement is Agreement.MIXED else [f"WARNING: {found.attrs['summary']} {_OF_DRAWS}"]
    if not len(found[schema.QUANTITY]):
        return []
    if found[schema.RHAT].isnull().all():
        return ["WARNING: a single chain, or a short one, cannot tell whether it converged. Draw several chains."]
    worst = found.isel({schema.QUANTITY: int(found[schema.RHAT].fillna(0).values.argmax())})
    if worst[schema.RHAT] <= LARGEST_RHAT:
        return []
    name, effective = _IN_WORDS[worst[schema.QUANTITY].item()], float(found[schema.EFFECTIVE_DRAWS].min())
    return [
        f"WARNING: the chains did not converge: R-hat of {name} is {float(worst[schema.RHAT]):.3f}, above "
        f"{LARGEST_RHAT}; at the least {effective:.0f} draws are effective. {_OF_DRAWS}"
    ]


def _of_prior(tree: xr.DataTree) -> list[str]:
    found = tree[schema.CONVERGENCE].to_dataset()
    kept = [name for name in (schema.SIGMA_MIN, schema.TRANSITION_TRACE_SQUARED) if name in found[schema.QUANTITY]]
    distances = {name: float(found[schema.PRIOR_DISTANCE].sel({schema.QUANTITY: name})) for name in kept}
    if not distances or not all(distance <= NEARLY_PRIOR for distance in distances.values()):
        return []
    numbers = ", ".join(f"{distance:.2f} for {_IN_WORDS[name]}" for name, distance in distances.items())
    n_tokens = tree.attrs.get("n_sequences", 0) * tree.attrs.get("n_positions", 0)
    return [
        f"WARNING: the corpus is too small for {tree.attrs['n_states']} states: the posterior is nearly the prior. "
        f"Their distribution functions differ by at most {numbers} (0 to 1; {n_tokens} tokens were read). What follows "
        "is what was assumed."
    ]


def _of_unanswered(tree: xr.DataTree) -> list[str]:
    drawn = _drawn(tree)
    if not (n_missing := int(drawn.attrs["unanswered"])):
        return []
    n_all = drawn[schema.ANSWERED].size
    return [f"{n_missing} of {n_all} draws do not have this task and are left out: {drawn.attrs['refusal']}."]


def _answers(tree: xr.DataTree) -> list[str]:
    """Return a sentence for each question."""
    drawn, lines = _drawn(tree), []
    for question in map(str, drawn[schema.QUESTION].values):
        name = f"a linear head on {drawn.attrs['n_masks']} masks" if question == schema.MASKS else NAMES[question]
        chances = ", ".join(f"{p:.2f} within {b:g}" for b, p in _probabilities(tree, question).items())
        error = float(drawn[schema.PROBABILITY_ERROR].sel({schema.QUESTION: question}).max())
        line = f"- {name}: probability of a half-range {chances} (± {error:.2f} at most)."
        accuracy = _mean(tree, schema.CROSS_DRAW_ACCURACY, question)
        if np.isfinite(accuracy):
            spread, own = (_mean(tree, each, question) for each in (schema.CROSS_DRAW_SPREAD, schema.OWN_ACCURACY))
            line += (
                f" The head of one draw is right on {accuracy:.1%} of the text of another (± {spread:.1%} from draw to "
                f"draw; {own:.1%} on its own)."
            )
        lines.append(line)
    return lines


def _explained(tree: xr.DataTree) -> list[str]:
    drawn = _drawn(tree)
    majority = float(drawn[schema.MAJORITY].mean())
    shares = "; ".join(
        f"{question}: " + ", ".join(f"{verdict} {share:.0%}" for verdict, share in own.items())
        for question, own in verdict_shares(tree).items()
    )
    return [
        "",
        "Errors of a language model are multiplied by up to the half-range (over the largest margin): read the "
        "probability at the noise that you can afford.",
        f"Always saying the more frequent label is right on {majority:.1%}.",
        f"Exact verdicts of the draws, which say nothing without a budget, as draws have full rank almost surely "
        f"whatever the truth: {shares}.",
    ]


def _probabilities(tree: xr.DataTree, question: str) -> dict[float, float]:
    """Return P(half-range ≤ budget) at the budgets nearest to those that are told."""
    chances = _drawn(tree)[schema.PROBABILITY].sel({schema.QUESTION: question})
    nearest = chances.sel({schema.BUDGET: list(TOLD)}, method="nearest")
    return dict(zip(nearest[schema.BUDGET].values.tolist(), nearest.values.tolist(), strict=True))


def _mean(tree: xr.DataTree, name: str, question: str) -> float:
    return float(_drawn(tree)[name].sel({schema.QUESTION: question}).mean(_BY_DRAW))


def _drawn(tree: xr.DataTree) -> xr.Dataset:
    return tree[schema.RECOVERABILITY_POSTERIOR].to_dataset()


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
