"""Theorem R: no prompt, of any length, lets any linear head classify some texts.

With F_i = A diag(f_i) W a prompt v ≥ 0 and a head b score text i by vᵀF_i b / vᵀF_i 1 (:mod:`.bilinear`). Let α ≥ 0 be
weights of the texts and D_α = Σ_i α_i y_i F_i. If D_α b < 0 in every state that prompts leave and in which a weighted
text is possible, then Σ_i α_i y_i vᵀF_i b < 0 for all of these prompts: one of the texts is wrong. A head is refuted
together with a cone around it, and all prompts are once finitely many such cones cover all heads. The other way round,
for each head either some α exists or a prompt that has no text wrong (Gordan). The theorem is ours.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Self

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.claim import Check, Claim, check
from ppl_hmm.recoverability.cones import LEAF
from ppl_hmm.recoverability.exact_texts import ExactTexts
from ppl_hmm.recoverability.refutation_file import read, write
from ppl_hmm.recoverability.rounded import Rounded
from ppl_hmm.tasks import PosteriorTask, latent_posterior

#: τ relative to ‖μ‖_∞, by default: texts whose margins are within it are left out.
TOLERANCE = 1e-9
# The τ of a proof, relative to the smallest margin of its texts: rounding of the margin must not matter.
_BELOW = 1 - 1e-6


@typing.final
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Refutation(Claim):
    """A proof that no prompt of any length, with any linear head, has all of some texts right.

    Attributes
    ----------
    cover
        (nodes,4): cones of heads b (V,) in preorder. A node (i, j, s, t) splits its cone at s·g_i + t·g_j, which
        replaces g_i in the first half and g_j in the second; (0, 0, 0, 0) is a leaf. There are 2V roots for each set of
        states that prompts of one length leave: for each token w and each sign, that spanned by ±1 and all e_v, v ≠ w.
    weights
        α (leaves,n) ≥ 0 of the texts, in the order of the leaves in ``cover``.

    See Also
    --------
    refute_prompts : Finds one, or a prompt.
    Witness : Of one given prompt.

    Examples
    --------
    >>> from itertools import product
    >>> from ppl_hmm import PosteriorTask, random_hmm, refute_prompts
    >>> model, task = random_hmm("dirichlet", 4, 2, seed=19), PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]])
    >>> refutation = refute_prompts(model, task, list(product(range(2), repeat=3))).refutation
    >>> print(refutation.explain().splitlines()[0])
    No prompt of any length lets any linear head tell these 4 texts of classes 0 and 1 apart.
    """

    cover: np.ndarray = dataclasses.field(repr=False)
    weights: np.ndarray = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cover.ndim != 2 or self.cover.shape[1] != len(LEAF) or self.cover.dtype.kind not in "iO":
            got = f"{self.cover.dtype} {self.cover.shape}"
            raise InvalidInput("cover of a refutation", "integers (nodes, 4)", got, "pass what was found or saved")
        if self.weights.ndim != 2 or self.weights.shape[1] != len(self.texts) or self.weights.dtype.kind != "f":
            got = f"{self.weights.dtype} {self.weights.shape}"
            expected = f"floats (leaves, {len(self.texts)})"
            raise InvalidInput("weights of a refutation", expected, got, "pass what was found or saved")

    def holds(self) -> Check:
        """Check the proof by matrix products in float64, where only signs count that rounding cannot change.

        Cost O(n·T·K²), and O(K·V·(n+K)) for each leaf.
        """
        return check(self, Rounded.of(self), self.cover, self.weights)

    def holds_exactly(self) -> Check:
        """Check the proof in integers: the model's floats are taken as the exact numbers that they are."""
        return check(self, ExactTexts.of(self), self.cover, self.weights)

    def sharpened(self) -> Self:
        """Return the same proof for the largest τ that all of its texts allow."""
        margins = self.task.margins(latent_posterior(self.model, self.task, torch.from_numpy(self.texts))).abs()
        return dataclasses.replace(self, tolerance=max(self.tolerance, _BELOW * float(margins.min())))

    def explain(self) -> str:
        """Return in words what is proved, and how."""
        n_leaves, n_texts = self.weights.shape
        limit = f" by a margin of more than {self.margin:g}·Σ(b − min b)" if self.margin else ""
        return (
            f"No prompt of any length lets any linear head tell these {n_texts} texts of classes "
            f"{self.classes[0]} and {self.classes[1]} apart{limit}.\n"
            f"All heads are covered by {n_leaves} cones. For each cone there are weights of the texts under which the "
            "weighted sum of their scores, right ones counted as positive, is negative for every prompt and every head "
            "of the cone: so one of the texts has the wrong sign, or is impossible after the prompt.\n"
            f"Each text's class leads by a margin of more than {self.tolerance:g}. holds() checks all this with matrix "
            "products, holds_exactly() without rounding, and a short program what save() writes."
        )

    def save(self, path: str | Path) -> None:
        """Write the proof with its model as JSON that a few lines of any language check.

        Raises
        ------
        ForeignFile
            The place cannot be written.
        """
        write(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the proof that :meth:`save` wrote; whether it holds, :meth:`holds` says.

        Raises
        ------
        ForeignFile
            The file cannot be read, or is no refutation.
        """
        return read(cls, path)

    def to_dataset(self) -> xr.Dataset:
        """Return all but the model and the task as a labelled dataset."""
        text = schema.WITNESS_TEXT
        variables = {
            "tokens": ((text, schema.POSITION), self.texts),
            "label": ((text,), self.labels),
            "exponent": ((text,), self.exponents),
            "cover": ((schema.NODE, schema.SPLIT), self.cover.astype(str)),  # integers without bound
            "weights": ((schema.LEAF, text), self.weights),
        }
        return xr.Dataset(
            variables, attrs={"tolerance": self.tolerance, "margin": self.margin, "classes": list(self.classes)}
        )

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, model: HMM, task: PosteriorTask) -> Self:
        """Return the refutation that :meth:`to_dataset` wrote, of this model and task."""
        first, second = map(int, dataset.attrs["classes"])
        return cls(
            model=model.detach().to(torch.float64, "cpu"),
            task=task.detach().to(torch.float64, "cpu"),
            classes=(first, second),
            texts=dataset["tokens"].values,
            labels=dataset["label"].values,
            exponents=dataset["exponent"].values,
            tolerance=float(dataset.attrs["tolerance"]),
            margin=float(dataset.attrs["margin"]),
            cover=np.array([[int(entry) for entry in node] for node in dataset["cover"].values.tolist()], object),
            weights=dataset["weights"].values,
        )
