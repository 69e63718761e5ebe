"""Proofs that a head solves a theorem's equations, or that none does, in rational arithmetic.

Theorems H, P and C ask for Aᵀ(Rb − π₀∘μ) = 0. Float64 solves this up to rounding, and where the rows of R are nearly
dependent it cannot tell a solution from none. With the parameters taken as exact rational numbers, as all floats are,
there is a solution b, or a y with yᵀAᵀR = 0 and yᵀAᵀ(π₀∘μ) ≠ 0 (Fredholm). Either is checked by matrix products.

What is proved is about the model whose rows sum to one exactly: the largest entry of each row is one minus the others,
which are the floats as they are.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from ppl_hmm.models import HMM
from ppl_hmm.recoverability.entering import margin_error, mask_laws
from ppl_hmm.recoverability.integer_chain import IntegerChain
from ppl_hmm.recoverability.rationals import floats, integers, over_common, solve
from ppl_hmm.recoverability.rounding import law_rounding
from ppl_hmm.schema import Cause
from ppl_hmm.tasks import PosteriorTask

if TYPE_CHECKING:
    from ppl_hmm.recoverability.linear import HeadCertificate

#: K³ times the bits of an entry of the equations, at most: about half a minute for each class.
EXACT_LIMIT = 3 * 10**8


@dataclasses.dataclass(frozen=True, eq=False)
class Proof:
    """What rational arithmetic says of a theorem's equations Aᵀ(Rb − π₀∘μ) = 0.

    Attributes
    ----------
    weights
        b (1,J·V) for two classes, (C,J·V) for more, in :class:`~fractions.Fraction`: a solution; None if there is none.
    obstruction
        y (K,) in fractions with yᵀAᵀR = 0 and yᵀAᵀ(π₀∘μ) ≠ 0: no b is a solution. None if one is.

    See Also
    --------
    head_certificate : Carries one, with ``exact=True``.

    Examples
    --------
    >>> from ppl_hmm import example, head_certificate
    >>> proof = head_certificate(*example("aliased"), exact=True).proof
    >>> proof.solved, len(proof.obstruction)
    (False, 3)
    """

    weights: np.ndarray | None
    obstruction: np.ndarray | None

    @property
    def solved(self) -> bool:
        """Whether some head solves the equations."""
        return self.weights is not None

    def holds(self, certificate: HeadCertificate) -> bool:
        """Say whether this proves what it says of a certificate's equations, by products of integers alone.

        Cost O(C·K·J·V) products.
        """
        matrix, targets, factor = _equations(certificate)
        if self.weights is None:
            above, _ = over_common(cast(np.ndarray, self.obstruction))
            return not (above @ matrix).any() and bool((targets @ above).any())
        for head, target in zip(self.weights, targets, strict=True):
            above, below = over_common(head)
            if (matrix @ above * factor.denominator != target * below * factor.numerator).any():
                return False
        return True


def proved(certificate: HeadCertificate) -> HeadCertificate:
    """Return a certificate whose equations are solved in rational arithmetic, or proved to have no solution.

    The solution differs from the certificate's weights in as many entries as the equations have rank. Its floats
    replace them where they err less. Where there is no solution, what is claimed of margins above the error stays. The
    first reason names a solution that no floats carry out.
    """
    needed = _work(certificate)
    if needed > EXACT_LIMIT:
        reason = f"no proof was sought: K³ times the bits of an entry is {needed:.1e}, above {EXACT_LIMIT:.0e}"
        return dataclasses.replace(certificate, cause=Cause.TOO_LARGE, reasons=(*certificate.reasons, reason))
    proof = _proof(certificate)
    if proof.weights is None:
        said = f"no head solves the equations exactly; its margins are off by up to {certificate.margin_error:.1e}"
        return dataclasses.replace(certificate, reasons=(*certificate.reasons, said), proof=proof)
    best = _rounded(certificate, proof.weights)
    said = f"a head solves the equations exactly; its floats leave a relative margin error of {best.residual:.3g}"
    reasons = (*_of_floats_only(certificate, proof.weights), *certificate.reasons, said)
    return dataclasses.replace(best, cause=Cause.CONDITION_HOLDS, reasons=reasons, proof=proof)


def _of_floats_only(certificate: HeadCertificate, exact: np.ndarray) -> tuple[str, ...]:
    """Return a warning if exact weights (C,J·V) are so large that rounding of G is more than any margin."""
    largest = np.abs(exact).max()
    if largest * Fraction(np.finfo(float).eps) <= Fraction(float(certificate.task.scale)):
        return ()
    size = f"1e{len(str(int(largest))) - 1}"
    return (f"true of these floats only: the head needs weights of about {size}; `weights` is not that head",)


def _rounded(certificate: HeadCertificate, exact: np.ndarray) -> HeadCertificate:
    """Return a certificate with the floats of exact weights (C,J·V), if these move margins less than its own."""
    weights = certificate.weights.new_tensor(floats(exact))
    if not weights.isfinite().all():
        return certificate
    model, task = cast(HMM, certificate.model), cast(PosteriorTask, certificate.task)
    laws = mask_laws(model, certificate.n_masks, certificate.prompt)
    rounding = law_rounding(model, certificate.prompt, certificate.n_masks)
    error = margin_error(model, task, laws, weights.unflatten(-1, (certificate.n_masks, -1)), rounding)
    residual = error / (float(task.contrasts.abs().max()) or 1.0)
    if residual >= certificate.residual:
        return certificate
    return dataclasses.replace(
        certificate,
        weights=weights.reshape(certificate.weights.shape),
        residual=residual,
        margin_error=error + rounding * float(task.scale),
    )


def _proof(certificate: HeadCertificate) -> Proof:
    matrix, targets, factor = _equations(certificate)
    heads = []
    for weights, target in zip(np.atleast_2d(certificate.weights.cpu().numpy()), targets, strict=True):
        near, exponent = integers(weights)
        unit = factor.denominator << exponent
        left = target * (factor.numerator << exponent) - matrix @ near * factor.denominator
        change, obstruction = solve(matrix, left)
        if change is None:
            return Proof(None, obstruction)
        heads.append([Fraction(n, 1 << exponent) + each / unit for n, each in zip(near, change, strict=True)])
    return Proof(np.array(heads, object), None)


def _equations(certificate: HeadCertificate) -> tuple[np.ndarray, np.ndarray, Fraction]:
    """Return M (K,J·V), t (C,K) in integers and a factor s: the equations are Mb = s·t."""
    model, n_masks = cast(HMM, certificate.model), certificate.n_masks
    chain = IntegerChain.of(model, certificate.prompt)
    of_initial, of_transition, of_emission, of_law = chain.units
    weights, of_weights = integers(certificate.task.weights.cpu().numpy())
    contrasts = weights[1:] - weights[:1] if len(weights) == 2 else weights - weights[:1]
    matrix = chain.transition.T @ chain.observability(n_masks)
    targets = (chain.initial * contrasts) @ chain.transition
    factor = of_initial / (of_law * of_transition ** (n_masks - 1) * of_emission * (1 << of_weights))
    return matrix, targets, factor


def _work(certificate: HeadCertificate) -> int:
    """Return about K³ times the bits of an entry of the equations."""
    model = cast(HMM, certificate.model)
    n_prompt = 0 if certificate.prompt is None else len(certificate.prompt.rows)
    bits = [integers(array.cpu().numpy())[1] for array in (model.initial, model.transition, model.emission)]
    if certificate.prompt is not None:
        bits[2] += sum(integers(row.cpu().numpy())[1] for row in certificate.prompt.rows)
    return model.n_states**3 * (bits[0] + (certificate.n_masks + n_prompt + 1) * bits[1] + bits[2])
