"""What a refutation claims of some texts, and what has to be shown for it.

A leaf with weights α ≥ 0 of the texts and generators g is right if, in every state k that a prompt can leave and in
which some weighted text is possible,

    (D_α g)_k < ε N(g) Σ_i α_i (F_i 1)_k,     D_α = Σ_i α_i y_i F_i,   F_i = A diag(f_i) W.

:func:`check` asks an :class:`Arithmetic` for each leaf in turn: floats with a bound on their rounding
(:mod:`ppl_hmm.recoverability.rounded`), or whole numbers (:mod:`ppl_hmm.recoverability.exact_texts`).
"""

from __future__ import annotations

import dataclasses
from typing import Protocol, Self

import numpy as np
import torch

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.messages import wide_messages
from ppl_hmm.exact.support import largest_supports
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.arguments import require_numbers
from ppl_hmm.recoverability.cones import Cone, leaves
from ppl_hmm.schema import Flaw
from ppl_hmm.tasks import PosteriorTask

# Of texts of millions of tokens.
_LARGEST_EXPONENT = 1 << 23
# The fields with an entry for each text.
_OF_TEXTS = ("texts", "labels", "exponents")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Claim:
    """Texts of two classes, told apart by more than τ, of which no prompt and head has all right by more than ε.

    Attributes
    ----------
    model, task
        In float64, on the CPU; these floats are taken as exact.
    classes
        The two classes that a head tells apart, by b = b_second − b_first: (0, 1) for a task with two.
    texts
        (n,T): their tokens, ``MASK`` where nothing is observed.
    labels
        (n,): the class of each, one of the two.
    exponents
        (n,): weight α_i is that of 2^exponent_i f_i, so that weights of long texts are no tiny numbers.
    tolerance
        τ: the class of each text leads all others by more than this, in units of the margin.
    margin
        ε: every prompt and head has y_i bᵀG_i ≤ ε Σ_w (b_w − min b) on some text; 0 = it has a text wrong or on the
        boundary.
    """

    model: HMM = dataclasses.field(repr=False)
    task: PosteriorTask = dataclasses.field(repr=False)
    classes: tuple[int, int]
    texts: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray = dataclasses.field(repr=False)
    exponents: np.ndarray = dataclasses.field(repr=False)
    tolerance: float
    margin: float

    def __post_init__(self) -> None:
        n_texts = len(self.texts)
        shapes = {"texts": (n_texts, *self.texts.shape[1:2]), "labels": (n_texts,), "exponents": (n_texts,)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.ndim != len(shape) or array.dtype.kind != "i":
                got = f"{array.dtype} {array.shape}"
                raise InvalidInput(f"{name} of a refutation", f"integers {shape}", got, "pass what was found or saved")
        require_numbers(tolerance=self.tolerance, margin=self.margin)  # below zero labels would mean nothing
        first, second = self.classes
        if first == second or not {first, second} <= set(range(self.task.n_classes)):
            expected = f"two of 0..{self.task.n_classes - 1}"
            raise InvalidInput("classes of a refutation", expected, str(self.classes), "pass what was found or saved")
        outside = (self.texts < -1) | (self.texts >= self.model.vocabulary_size)
        far = np.abs(self.exponents).max(initial=0) > _LARGEST_EXPONENT
        if outside.any() or far or not np.isin(self.labels, self.classes).all():
            expected = f"tokens below {self.model.vocabulary_size}, classes {self.classes}, exponents of their messages"
            raise InvalidInput("texts of a refutation", expected, "others", "pass what was found or saved")

    @property
    def signs(self) -> np.ndarray:
        """Return y (n,): 1 for the second of the two classes, −1 for the first."""
        return np.where(self.labels == self.classes[1], 1.0, -1.0)

    @property
    def contrasts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights w_c (C,K), and which (n,C) a text's class has to lead."""
        weights = self.task.weights.numpy()
        return weights, self.labels[:, None] != np.arange(len(weights))

    @property
    def supports(self) -> list[np.ndarray]:
        """Return the states (K,) that prompts of one length can leave, for each length whose set is in no other's."""
        return [states.numpy() for states in largest_supports(self.model.initial, self.model.transition).values()]

    def select(self, chosen: np.ndarray) -> Self:
        """Return the claim about some of the texts, by number or by a mask."""
        return dataclasses.replace(self, **{name: getattr(self, name)[chosen] for name in _OF_TEXTS})

    def joined(self, other: Self) -> Self:
        """Return the claim about these texts and others, these first."""
        each = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _OF_TEXTS}
        return dataclasses.replace(self, **each)


def exponents_of(model: HMM, texts: np.ndarray) -> np.ndarray:
    """Return for each text (n,T) the exponent (n,) that brings the largest entry of 2^exponent f into [½, 1)."""
    wide = wide_messages(model.transition, model.emission, torch.from_numpy(texts))
    return -wide.exponent.amax(1).long().numpy()


@dataclasses.dataclass(frozen=True)
class Check:
    """Whether a proof holds, and what is wrong with it if not. It is true iff the proof holds.

    Attributes
    ----------
    flaw
        The kind of the first thing that is wrong; None if the proof holds.
    reason
        The same in words.
    leaf
        The number of the leaf that fails, where one does.
    text
        The number of the text whose label fails, where one does.
    """

    flaw: Flaw | None = None
    reason: str = "the proof holds"
    leaf: int | None = None
    text: int | None = None

    def __bool__(self) -> bool:
        return self.flaw is None


class Arithmetic(Protocol):
    """The texts of a claim in one kind of arithmetic."""

    def labelled(self) -> np.ndarray:
        """Say of which texts (n,) it shows that their class leads every other one by more than τ."""
        ...

    def refuted(self, states: np.ndarray, weights: np.ndarray, cone: Cone) -> bool:
        """Say whether it shows that a leaf with weights (n,), not all zero, is right for prompts on states (K,)."""
        ...


def check(claim: Claim, texts: Arithmetic, cover: np.ndarray, weights: np.ndarray) -> Check:
    """Check the labels of a claim, and a cover (nodes,4) whose leaves have weights (leaves,n).

    The cover comes once for each of the supports.
    """
    if weights.shape[1:] != (len(claim.texts),) or not (np.isfinite(weights).all() and (weights >= 0).all()):
        return Check(Flaw.WEIGHTS, "some weights of texts are missing, negative, or no numbers")
    for text in np.flatnonzero(~texts.labelled()):
        return Check(Flaw.LABEL, f"text {text} is not shown to have its class by more than τ", text=int(text))
    supports = claim.supports
    try:
        cones = list(leaves(cover, claim.model.vocabulary_size, len(supports)))
    except ValueError as error:
        return Check(Flaw.COVER, f"the cones do not cover all heads: {error}")
    if len(cones) != len(weights):
        return Check(Flaw.COVER, f"there are {len(cones)} leaves, and weights for {len(weights)}")
    for leaf, ((time, cone), given) in enumerate(zip(cones, weights, strict=True)):
        if not texts.refuted(supports[time], given, cone):
            reason = f"leaf {leaf}: its weighted score is not shown to be negative for all its heads and prompts"
            return Check(Flaw.LEAF, reason, leaf=leaf)
    return Check()
