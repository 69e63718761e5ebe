"""How far a model may move before a certificate fails: radii from signs of positive sums.

A model within η of another has the same zeros, and all other entries of π₀, A, W within a factor e^{±η}. A margin, and
the score of a head, is up to a positive factor a difference P − N of sums of products of entries:

    Σ_h c_h f_h,   c = π₀∘μ for the margin,   c = Rb for the score (c = q∘Wb for one mask),   f the text's message.

The factors of c are n in number: 1 for π₀∘μ, and 2 + L + J for a head on J masks after L prompt tokens. So c moves by
e^{±nη}. The message of T tokens moves by no more than e^{±η} for each A and W in it, and earlier steps of the recursion
contract what later ones add: A brings two messages closer in Hilbert's metric by the factor τ(A) (Birkhoff 1957). In
this metric f moves by at most 2η·s, s = Σ_t (1+o_t) τ^{t−1} with o_t = 1 where token t is observed; s = 2T where τ = 1.
Hence the sign of P − N is certain to stay as long as

    η < log(P/N) / 2(n + s).

No constant is estimated. The task's weights and the prompt's rows stay as they are. The bounds are ours.
"""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import torch
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.randomness import CPU
from ppl_hmm.base.tokens import MASK, as_tokens
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.contraction import birkhoff_coefficient
from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.entering import mask_laws, states_entered, task_targets
from ppl_hmm.recoverability.half_range import class_pairs
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.masks import observability
from ppl_hmm.recoverability.rounding import law_rounding, reading_rounding
from ppl_hmm.tasks import PosteriorTask, latent_posterior

# Singular values are off by no more, relative to the largest.
_SIGMA_ROUNDING = 1e-13


@dataclasses.dataclass(frozen=True, eq=False)
class Robustness:
    """How far a model may move before what a certificate says of it fails.

    Attributes
    ----------
    radius
        η: in every model within it the certificate's head, its weights unchanged, classifies all claimed texts, and
        their labels are the same. 0 where the head is wrong on one of them already, infinite where there are none.
    by_text
        (B,): the same for each text; 0 where nothing is claimed.
    claimed
        (B,): texts whose margin and score are beyond rounding and the certificate's margin error.
    condition_radius
        In every model within it the theorem's condition holds, for a head of that model's own and every text: the rows
        that it needs stay independent. 0 where they are dependent.
    certificate
        What was asked about.

    See Also
    --------
    robustness : Of a certificate and texts.

    Examples
    --------
    >>> from ppl_hmm import HMM, PosteriorTask, head_certificate, robustness
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> found = robustness(head_certificate(model, PosteriorTask([[1, 0], [0, 1]])), [[0, 1], [2, 2], [0, 0]])
    >>> found.fragile, round(found.condition_radius, 3), round(found.margin_error(0.001), 3)
    (1, 0.392, 0.01)
    """

    by_text: Tensor
    claimed: Tensor
    condition_radius: float
    certificate: HeadCertificate = dataclasses.field(repr=False)

    @property
    def radius(self) -> float:
        """The smallest radius of a claimed text."""
        return float(self.by_text[self.claimed].min()) if self.claimed.any() else float("inf")

    @property
    def median_radius(self) -> float:
        """Half of the claimed texts have a radius of at least this."""
        return float(self.by_text[self.claimed].median()) if self.claimed.any() else float("inf")

    @property
    def fragile(self) -> int | None:
        """The index of the claimed text of smallest radius; None where nothing is claimed."""
        if not self.claimed.any():
            return None
        return int(self.by_text.where(self.claimed, torch.inf).argmin())

    @property
    def total_variation(self) -> dict[str, Tensor]:
        """How far each row of π₀ (), A (K,) and W (K,) may move in total variation, its zeros kept, within the radius.

        An entry p > 0 that moves by at most (1−e^{−η})p stays within a factor e^{±η}, and no entry moves by more than
        its row's total variation.
        """
        share = -torch.expm1(torch.tensor(-self.radius, dtype=torch.float64, device=CPU))
        model = cast(HMM, self.certificate.model)
        rows = {name: getattr(model, name) for name in HMM.dimensions}
        return {name: share * row.where(row > 0, torch.inf).amin(-1) for name, row in rows.items()}

    def share(self, distance: float) -> float:
        """Return the share of claimed texts whose label and answer are certain in every model within a distance η."""
        n_claimed = int(self.claimed.sum())
        return float((self.by_text[self.claimed] > distance).sum()) / n_claimed if n_claimed else 1.0

    def covers(self, model: HMM) -> bool:
        """Say whether a model lies within the radius: the same zeros, all ratios of entries below e^η."""
        return distance(cast(HMM, self.certificate.model), model) < self.radius

    def margin_error(self, distance: float) -> float:
        """Bound what the head costs the margin in every model within η, for texts of any length.

        In each of these models the head, its weights unchanged, classifies every text whose |margin| exceeds the bound.
        With R⁺ and R⁻ what positive and negative weights add to Aᵀ(Rb), sums of products of n+1 entries, M⁺ and M⁻ the
        same of Aᵀ(π₀∘μ), of two entries, and a = π₀A, it is

            max_h (R⁺e^{(n+1)η} + M⁻e^{2η} − R⁻e^{−(n+1)η} − M⁺e^{−2η})_h / a_h e^{−2η}

        or that with all signs exchanged; infinite where a_h = 0 and the numerator is not. Cost O(J·K·(K+V)).
        """
        if not distance >= 0:
            raise InvalidInput("distance of a model", "a number of at least 0", repr(distance), "pass e.g. 0.01")
        certificate, model = self.certificate, cast(HMM, self.certificate.model)
        scores, margins = _pairs(certificate.weights), _pairs(certificate.task.contrasts)
        laws = [law.floats() for law in mask_laws(model, certificate.n_masks, certificate.prompt)]
        heads = scores.unflatten(-1, (len(laws), -1))
        above, below = (_coefficients(model, laws, part) for part in (heads.clamp(min=0), (-heads).clamp(min=0)))
        wanted, unwanted = (model.initial * part for part in (margins.clamp(min=0), (-margins).clamp(min=0)))
        rounding = law_rounding(model, certificate.prompt, len(laws))
        of_scores, of_margins = (n * distance + rounding for n in (_n_factors(certificate) + 1, 2))
        first = model.initial @ model.transition

        def most(up: Tensor, down: Tensor, against: Tensor, opposed: Tensor) -> Tensor:
            larger = math.exp(of_scores) * up + math.exp(of_margins) * opposed
            smaller = math.exp(-of_scores) * down + math.exp(-of_margins) * against
            return ((larger - smaller) @ model.transition).amax(0)

        worst = torch.maximum(most(above, below, wanted, unwanted), most(below, above, unwanted, wanted))
        if (worst[first == 0] > 0).any():
            return float("inf")
        return float((worst / first)[first > 0].max()) * math.exp(of_margins)


def distance(model: HMM, other: HMM) -> float:
    """Return the largest |log| of the ratio of two entries of two models; infinite where zeros are not the same.

    Raises
    ------
    InvalidInput
        Models of different sizes, or batches.
    """
    largest = 0.0
    for name in HMM.dimensions:
        one, two = (getattr(each, name).detach().double().cpu() for each in (model, other))
        if one.shape != two.shape:
            raise InvalidInput(
                f"{name} of the other model", f"shape {tuple(one.shape)}", f"shape {tuple(two.shape)}", "compare equals"
            )
        if not torch.equal(one > 0, two > 0):
            return float("inf")
        largest = max(largest, float((one / two)[one > 0].log().abs().max()))
    return largest


def robustness(certificate: HeadCertificate, tokens: Text, lengths: Text | None = None) -> Robustness:
    """Return how far the model may move before a certificate fails on texts, or for all texts.

    Parameters
    ----------
    certificate
        Of a linear head, for a task on the silent H₀: :func:`~ppl_hmm.head_certificate`,
        :func:`~ppl_hmm.prompt_certificate`, :func:`~ppl_hmm.chain_certificate`.
    tokens, lengths
        Texts (B,T) with ``MASK`` where nothing is observed, and where each ends.

    Raises
    ------
    InvalidInput, ImpossibleText
        Another certificate; texts that do not fit the model, or that it rules out.

    See Also
    --------
    Robustness : What it returns, and what is claimed.

    Notes
    -----
    Long texts have tiny radii in models that forget slowly. Cost O(B·T·K² + K³).

    Examples
    --------
    >>> from ppl_hmm import HMM, PosteriorTask, head_certificate, robustness
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> found = robustness(head_certificate(model, PosteriorTask([[1, 0], [0, 1]])), [[0, 1], [2, 2], [0, 0]])
    >>> round(found.radius, 4), found.fragile
    (0.0103, 1)
    >>> {name: row.numpy().round(4).tolist() for name, row in found.total_variation.items()}
    {'initial': 0.0041, 'transition': [0.0031, 0.0021], 'emission': [0.0021, 0.001]}
    """
    foreign.require(certificate, HeadCertificate, "certificate", "one of a linear head")
    task = certificate.task
    if task.place.position is not None:
        raise InvalidInput(
            "robustness of a certificate", "a task on the silent H₀", f"one on {task.place}", "ask of H₀"
        )
    model = cast(HMM, certificate.model)
    text = as_tokens(tokens, model.vocabulary_size, lengths=lengths, device=model.device)
    features, law = certificate.features(text), latent_posterior(model, task, text)
    return robustness_on(certificate, text, features, law)


def robustness_on(certificate: HeadCertificate, text: Tensor, features: Tensor, law: Tensor) -> Robustness:
    """Return the same for texts (B,T) whose features (B,J·V), and laws (B,K) of the silent state, are known."""
    model, task, n_tokens = cast(HMM, certificate.model), cast(PosteriorTask, certificate.task), text.shape[1]
    answers = task.answers(law, task.tolerance_after(n_tokens, model.n_states))
    slack = 4 * (message_rounding(n_tokens + _n_factors(certificate), model.n_states) + 2 * reading_rounding(model))
    steps = _steps(model, text)
    of_labels = _log_ratios(_by_class(task.contrasts), law, answers.labels, slack) / (1 + steps)
    of_scores = _log_ratios(_by_class(certificate.weights), features, answers.labels, slack)
    radii = torch.minimum(of_labels, of_scores / (_n_factors(certificate) + steps)) / 2
    claimed = certificate.claimed(features, answers, n_tokens)
    return Robustness(radii.clamp(min=0).where(claimed, 0.0), claimed, _condition_radius(certificate), certificate)


def _n_factors(certificate: HeadCertificate) -> int:
    """Return n: how many entries of the model are multiplied in an entry of R."""
    return 2 + certificate.n_masks + (0 if certificate.prompt is None else len(certificate.prompt.rows))


def _steps(model: HMM, text: Tensor) -> Tensor:
    """Return s = Σ_t (1+o_t) τ^{t−1} (B,), over the steps up to the last observed token."""
    observed = text != MASK
    read = observed.flip(-1).cummax(-1).values.flip(-1)
    powers = birkhoff_coefficient(model.transition) ** torch.arange(text.shape[1], device=text.device)
    return (read * (1 + observed.to(powers)) * powers).sum(-1)


def _by_class(weights: Tensor) -> Tensor:
    """Return weights (C,n): those of two classes (n,) or (1,n) after zeros, the others as they are."""
    rows = torch.atleast_2d(weights)
    return torch.cat([torch.zeros_like(rows), rows]) if len(rows) == 1 else rows


def _pairs(weights: Tensor) -> Tensor:
    """Return the differences (pairs,n) of the weights of all pairs of classes."""
    rows = _by_class(weights)
    lower, higher = class_pairs(len(rows))
    return rows[higher] - rows[lower]


def _log_ratios(weights: Tensor, values: Tensor, labels: Tensor, slack: float) -> Tensor:
    """Return min over other classes c of log P/N (B,), P and N the parts of (w_y − w_c)ᵀ values (B,n), less a slack."""
    differences = weights[labels][:, None] - weights
    above, below = ((part.clamp(min=0) * values[:, None]).sum(-1) for part in (differences, -differences))
    ratios = torch.where(above > 0, above.log() - below.log() - slack, -torch.inf)
    return ratios.scatter(1, labels[:, None], torch.inf).amin(1)


def _coefficients(model: HMM, laws: list[Tensor], heads: Tensor) -> Tensor:
    """Return Rb (n,K) of heads (n,J,V)."""
    coefficients = heads.new_zeros(len(heads), model.n_states)
    for law, block in zip(laws, heads.unbind(1), strict=True):
        coefficients = coefficients @ model.transition + law * (block @ model.emission.mT)
    return coefficients


def _condition_radius(certificate: HeadCertificate) -> float:
    """Return how far all entries may move, the rows of W[S] or R that the theorem needs staying independent.

    Entries that are products of n entries of the model move by e^{±nη}; of non-negative rows that moves no singular
    value by more than (e^{nη}−1) times the largest. Rows may be scaled first.
    """
    model, task = cast(HMM, certificate.model), cast(PosteriorTask, certificate.task)
    entered = states_entered(model, certificate.prompt)
    needed = (task_targets(model, task) != 0).any(0)
    if certificate.n_masks == 1:
        rows, n_factors = model.emission[entered], 1
        if (needed & ~entered).any():
            return 0.0
    else:
        rows = observability(model, certificate.prompt, certificate.n_masks)
        n_factors = _n_factors(certificate)
    largest = rows.amax(-1, keepdim=True)
    if len(rows) > rows.shape[1] or not (largest > 0).all():
        return 0.0
    values = torch.linalg.svdvals(rows / largest)
    relative = float(values[-1] / values[0]) - _SIGMA_ROUNDING
    return math.log1p(max(relative, 0.0)) / n_factors
