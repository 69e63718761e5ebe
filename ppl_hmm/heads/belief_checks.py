"""Whether what is probed for are beliefs of the model that the controls come from, each after its own prefix."""

from __future__ import annotations

import numpy as np

from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.prefix_rows import PrefixRows

# Beliefs may differ from those computed here by the rounding of float32.
_SAME = 1e-4
# Whose beliefs a row has, if not its own: those of a prefix longer by so many tokens.
_SHIFTS = {-1: "a token late", 1: "a token early"}
_REMEDY = "compute them of these tokens: beliefs(model, tokens)"


def require_beliefs(rows: PrefixRows, exact: np.ndarray, prefixes: np.ndarray) -> None:
    """Raise :class:`InvalidInput` where beliefs (N,K) do not follow from the model's P(H_t | x_1..x_t).

    What depends on the text through H_t alone, Z_t, has P(Z_t | x_1..x_t) = Σ_h P(Z_t | h) P(H_t=h | x_1..x_t): the law
    of the next state, that of a machine's state or of a group of states. Laws that are no linear function of the exact
    beliefs are those of another prefix, of another model, or come after a prompt. Cost O(N·K²).

    Parameters
    ----------
    exact
        (B,T+1,K): the model's own beliefs.
    prefixes
        (N,): a number for each prefix, equal for equal ones.
    """
    everywhere = np.ones(len(rows.position), dtype=bool)
    if (apart := _unexplained(rows, exact, 0, everywhere)) <= _SAME:
        return
    for shift, name in _SHIFTS.items():
        own = (rows.position + shift >= 0) & (rows.position + shift < exact.shape[1])
        if len(np.unique(prefixes[own])) > exact.shape[-1] and _unexplained(rows, exact, shift, own) <= _SAME:
            got = f"those after x_1..x_(t{shift:+d}): they are {name}"
            raise InvalidInput("beliefs", "laws after x_1..x_t", got, _REMEDY)
    _, first, number = np.unique(prefixes, return_index=True, return_inverse=True)
    if (differ := np.abs(rows.beliefs - rows.beliefs[first][number]).max()) > _SAME:
        remedy = "give beliefs the order of the tokens: texts first, then positions"
        raise InvalidInput("beliefs", "one law after the same prefix", f"laws that differ by {differ:.2g}", remedy)
    raise InvalidInput(
        "beliefs",
        "laws that follow from the model's P(H_t | x_1..x_t), as a linear function of it",
        f"laws that differ by {apart:.2g} from every such function: another model's, or after a prompt",
        _REMEDY,
    )


def _unexplained(rows: PrefixRows, exact: np.ndarray, shift: int, those: np.ndarray) -> float:
    """Return by how much some beliefs differ from the nearest linear function of exact ones ``shift`` tokens later."""
    known, laws = exact[rows.sequence[those], rows.position[those] + shift], rows.beliefs[those]
    return float(np.abs(laws - known @ np.linalg.lstsq(known, laws, rcond=None)[0]).max())
