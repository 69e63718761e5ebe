"""The parts of an audit's tree as what they stand for: the task, the texts with their law, labels and features."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.base.positions import in_block_of
from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.models import MemoryHMM
from ppl_hmm.tasks import MemoryTask, PosteriorTask, Task

_OTHER_TREE = "pass a tree that audit returned"


@dataclasses.dataclass(frozen=True, eq=False)
class Audited:
    """An audit's tree.

    Every part raises :class:`~ppl_hmm.errors.InvalidInput` where the tree has no such group.
    """

    tree: xr.DataTree

    def group(self, path: str, remedy: str = _OTHER_TREE) -> xr.Dataset:
        """Return a group, without what it inherits; if there is none, an error with a remedy."""
        try:
            node = self.tree[path]
        except KeyError:
            node = None
        if not isinstance(node, xr.DataTree):
            raise InvalidInput("audit to draw", f"a group /{path}", ", ".join(self.tree.children) or "none", remedy)
        return node.to_dataset(inherit=False)

    @cached_property
    def task(self) -> Task:
        """The task."""
        found = self.group(schema.TASK)
        return (MemoryTask if "target_cell" in found else PosteriorTask).from_dataset(found)

    @property
    def memory_model(self) -> MemoryHMM:
        """The model, one with a memory."""
        return MemoryHMM.from_dataset(self.group(schema.MODEL))

    @property
    def texts(self) -> str:
        """What the texts are, in words."""
        return self.tree.attrs.get("texts", "the texts")

    @property
    def latent(self) -> str:
        """What the task asks of, in a word."""
        return "value" if isinstance(self.task, MemoryTask) else "state"

    @property
    def law(self) -> np.ndarray:
        """P(H₀|x), P(H_t|·) or P(M_{j*}|x), (B,n)."""
        return next(self._answers[name].values for name in ("memory", "initial", "state") if name in self._answers)

    @property
    def labels(self) -> np.ndarray:
        """Classes (B,)."""
        return self._answers["label"].values

    @property
    def margins(self) -> np.ndarray:
        """Margins (B,)."""
        return self._answers["margin"].values

    @property
    def decidable(self) -> np.ndarray:
        """Whether each margin (B,) is beyond the tolerance."""
        return self._answers["decidable"].values == 1

    @cached_property
    def weights(self) -> np.ndarray:
        """The probability of each text (B,), or equal shares in a sample."""
        found = self.group(schema.OBSERVED_DATA)
        n_texts = found.sizes[schema.SEQUENCE]
        return found["probability"].values if "probability" in found else np.full(n_texts, 1 / n_texts)

    def features(self, question: str = schema.HEAD) -> np.ndarray:
        """Return what heads read (B,V): G, after the prompt if that is the question; zeros for impossible contexts."""
        name = "conditionals_after_prompt" if question == schema.PROMPT else "conditionals"
        conditionals = self.group(schema.FEATURES)[name].values
        hidden = self.task.place.probe(torch.from_numpy(self.group(schema.OBSERVED_DATA)["tokens"].values)).hidden
        return conditionals if hidden is None else in_block_of(hidden, torch.from_numpy(conditionals)).numpy()

    def head(self, question: str) -> tuple[str, LinearHead | None]:
        """Return the constructed head of a question where it is certified, else the learned one, if there is one."""
        for kind, name in (("constructed", question), ("learned", f"{question}-learned")):
            if schema.HEAD in self.tree.children and name in self.tree[schema.HEAD].children:
                return kind, LinearHead.from_dataset(self.group(f"{schema.HEAD}/{name}"))
        return "", None

    @property
    def witness(self) -> np.ndarray:
        """Numbers of the texts (n,) that no linear head on G classifies; none where there is no witness."""
        if schema.WITNESS not in self.tree[f"{schema.RECOVERABILITY}/{schema.HEAD}"].children:
            return np.empty(0, dtype=int)
        found = self.group(f"{schema.RECOVERABILITY}/{schema.HEAD}/{schema.WITNESS}")["tokens"].values
        texts = self.group(schema.OBSERVED_DATA)["tokens"].values
        return (found[:, None] == texts).all(-1).argmax(1)

    def share(self, chosen: np.ndarray, among: np.ndarray) -> float:
        """Return the probability of the chosen texts (B,) among some (B,); NaN where there are none."""
        total = self.weights @ among
        return float(self.weights @ (chosen & among) / total) if total > 0 else float("nan")

    @cached_property
    def _answers(self) -> xr.Dataset:
        return self.group(schema.EXACT_POSTERIOR)


def without_own(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return scores (B,C) with −∞ at each text's own class."""
    return np.where(labels[:, None] == np.arange(scores.shape[1]), -np.inf, scores)
