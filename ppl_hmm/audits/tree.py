"""The one reader of an audit's tree: its answers, task, texts, labels, features, heads and prompts."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.asked import Asked, learned
from ppl_hmm.base.positions import in_block_of
from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.models import HMM, MemoryHMM, SoftPrompt
from ppl_hmm.recoverability.entering import entering_law
from ppl_hmm.recoverability.refutation import Refutation
from ppl_hmm.schema import Cause, Reader, Verdict
from ppl_hmm.storage.layout import with_current_names
from ppl_hmm.tasks import MemoryTask, PosteriorTask, Task

_OTHER_TREE = "pass a tree that audit returned"
_CONSTANT_LABEL = "constant label"  # the theorem of such certificates


@dataclasses.dataclass(frozen=True, eq=False)
class Audited:
    """An audit's tree, whichever version wrote it.

    Every part raises :class:`~ppl_hmm.errors.InvalidInput` where the tree has no such group.
    """

    tree: xr.DataTree

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", with_current_names(self.tree))

    def has(self, path: str) -> bool:
        """Say whether there is a group."""
        return self._node(path) is not None

    def group(self, path: str, remedy: str = _OTHER_TREE) -> xr.Dataset:
        """Return a group, without what it inherits; if there is none, an error with a remedy."""
        node = self._node(path)
        if node is None:
            raise InvalidInput("audit to draw", f"a group /{path}", ", ".join(self.tree.children) or "none", remedy)
        return node.to_dataset(inherit=False)

    def _node(self, path: str) -> xr.DataTree | None:
        try:
            node = self.tree[path]
        except KeyError:
            return None
        return node if isinstance(node, xr.DataTree) else None

    @property
    def attributes(self) -> dict[str, object]:
        """What was asked for: texts, seed, tolerance and the like."""
        return {str(name): value for name, value in self.tree.attrs.items()}

    @property
    def of_labels(self) -> bool:
        """Whether it is of labelled texts, without a model."""
        return self.tree.attrs.get("kind") == schema.AUDIT_OF_LABELS

    @property
    def tolerance(self) -> float:
        """Largest residual that counts as solved."""
        return float(self.tree.attrs["tolerance"])

    @property
    def reader(self) -> Reader:
        """What heads read; a masked language model where the tree does not say."""
        return Reader(self.tree.attrs.get("reader", Reader.MASKED))

    @property
    def latent_asked(self) -> str | None:
        """What the task asks of in words, where this is not the first state or a memory cell."""
        return self.tree.attrs.get("latent")

    @cached_property
    def table(self) -> xr.Dataset:
        """A row for each question, with the columns that an audit of version 0.1 lacks.

        Its causes follow from its verdicts, its heads read one mask, their half-ranges and radii are not known.
        """
        found = self.group(schema.RECOVERABILITY)
        if schema.CAUSE not in found:
            rows = zip(found[schema.VERDICT].values.tolist(), found["theorem"].values.tolist(), strict=True)
            found = found.assign({schema.CAUSE: (schema.QUESTION, [str(_former_cause(*row)) for row in rows])})
        if schema.N_MASKS not in found:
            of_heads = found[schema.QUESTION].isin([schema.HEAD, schema.PROMPT])
            found = found.assign({schema.N_MASKS: of_heads.astype(int)})
        unknown = schema.QUESTION, np.full(found.sizes[schema.QUESTION], np.nan)
        added = [schema.HALF_RANGE, schema.RADIUS, schema.MEDIAN_RADIUS, schema.CONDITION_RADIUS]
        return found.assign({name: unknown for name in added if name not in found})

    @cached_property
    def asked(self) -> dict[str, Asked]:
        """The questions by name."""
        names = map(str, self.table[schema.QUESTION].values)
        return {name: Asked.of(self.table.sel({schema.QUESTION: name})) for name in names}

    @cached_property
    def diagnostics(self) -> dict[str, xr.Dataset]:
        """The diagnostics by name."""
        return {name: node.to_dataset(inherit=False) for name, node in self.tree[schema.DIAGNOSTICS].children.items()}

    @cached_property
    def task(self) -> Task:
        """The task."""
        found = self.group(schema.TASK)
        return (MemoryTask if "target_cell" in found else PosteriorTask).from_dataset(found)

    @property
    def model(self) -> HMM:
        """The model, one without a memory."""
        return HMM.from_dataset(self.group(schema.MODEL))

    @property
    def memory_model(self) -> MemoryHMM:
        """The model, one with a memory."""
        return MemoryHMM.from_dataset(self.group(schema.MODEL))

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.group(schema.MODEL).sizes[schema.TOKEN]

    @property
    def texts(self) -> str:
        """What the texts are, in words."""
        return self.tree.attrs.get("texts", "the texts")

    @property
    def latent(self) -> str:
        """What the task asks of, in a word."""
        return self.task.value

    @property
    def value_names(self) -> dict[str, list[str]]:
        """Names of the values of what the task asks of, as a coordinate ``latent``; empty where they have none."""
        model, dimension = self.group(schema.MODEL), self.task.latent_dimension
        return {schema.LATENT: list(map(str, model[dimension].values))} if dimension in model.coords else {}

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
        hidden = None  # by the mask of a head that sees the token
        if self.reader is Reader.MASKED:
            hidden = self.task.place.probe(torch.from_numpy(self.group(schema.OBSERVED_DATA)["tokens"].values)).hidden
        return conditionals if hidden is None else in_block_of(hidden, torch.from_numpy(conditionals)).numpy()

    def head(self, question: str) -> tuple[str, LinearHead | None]:
        """Return the constructed head of a question where it is certified, else the learned one, if there is one."""
        for kind, name in (("constructed", question), ("learned", learned(question))):
            if self.has(f"{schema.HEAD}/{name}"):
                return kind, LinearHead.from_dataset(self.group(f"{schema.HEAD}/{name}"))
        return "", None

    def prompt(self, question: str) -> SoftPrompt | None:
        """Return the prompt that heads of a question read after: the learned one, else the best constructed one."""
        for name in (learned(question), question):
            if self.has(f"{schema.PROMPT}/{name}"):
                return SoftPrompt.from_dataset(self.group(f"{schema.PROMPT}/{name}"))
        return None

    def entering_law(self, question: str) -> np.ndarray:
        """Return P(H=h) (K,) at the mask that heads of a question read, before text."""
        if self.reader is Reader.CAUSAL:  # has no mask
            raise InvalidInput("law that enters the mask", "a masked reader", "a causal one", "draw 'linear-map'")
        return entering_law(self.model, self.prompt(question)).numpy()

    @property
    def remedy(self) -> dict[str, str | int | float]:
        """What is recommended, on what basis, and the columns of ``/remedy`` for it."""
        found = self.group(schema.REMEDY, "audit again: versions before 0.3 recommended nothing")
        chosen = {name: found[name].item() for name in (schema.RECOMMENDED, schema.BASIS)}
        if chosen[schema.RECOMMENDED] not in found[schema.REMEDY]:
            return chosen
        row = found.sel({schema.REMEDY: chosen[schema.RECOMMENDED]}).drop_vars([*chosen, schema.REMEDY])
        return {**chosen, **{str(name): value.item() for name, value in row.data_vars.items()}}

    @property
    def witness(self) -> tuple[np.ndarray, np.ndarray]:
        """Posteriors (n,·) and labels (n,) of the texts that no linear head on G classifies; none without a witness."""
        path = f"{schema.RECOVERABILITY}/{schema.HEAD}/{schema.WITNESS}"
        if not self.has(path):
            return self.law[:0], self.labels[:0]
        found = self.group(path)
        if "posterior" in found:
            return found["posterior"].values, found["label"].values
        texts = self.group(schema.OBSERVED_DATA)["tokens"].values  # of version 0.1: the audit's own
        own = (found["tokens"].values[:, None] == texts).all(-1).argmax(1)
        return self.law[own], self.labels[own]

    @property
    def refutation(self) -> Refutation | None:
        """The proof that no prompt will do; None where none was found."""
        path = f"{schema.RECOVERABILITY}/{schema.PROMPT}/{schema.REFUTATION}"
        if not self.has(path):
            return None
        task = PosteriorTask.from_dataset(self.group(schema.TASK))
        return Refutation.from_dataset(self.group(path), self.model, task)

    def share(self, chosen: np.ndarray, among: np.ndarray) -> float:
        """Return the probability of the chosen texts (B,) among some (B,); NaN where there are none."""
        total = self.weights @ among
        return float(self.weights @ (chosen & among) / total) if total > 0 else float("nan")

    @cached_property
    def _answers(self) -> xr.Dataset:
        return self.group(schema.EXACT_POSTERIOR)


def _former_cause(verdict: str, theorem: str) -> Cause:
    """Return what decided a verdict of version 0.1, as far as it can be told."""
    if theorem == _CONSTANT_LABEL:
        return Cause.CONSTANT_LABEL
    return {
        Verdict.RECOVERABLE: Cause.CONDITION_HOLDS,
        Verdict.NOT_RECOVERABLE: Cause.WITNESS,
        Verdict.UNDECIDED: Cause.CONDITION_FAILS,
    }[Verdict(verdict)]
