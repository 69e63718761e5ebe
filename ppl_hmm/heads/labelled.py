"""Labelled text for heads whose features change while a prompt is trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.arrays import require_unmasked
from ppl_hmm.base.labels import matched, read
from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.projection import HeadProblem, head_problem
from ppl_hmm.language_models.probe import probe_input
from ppl_hmm.language_models.protocol import EncodedText, MaskedLM, checked_conditionals
from ppl_hmm.models.kinds import Text


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledText:
    """Text, its labels of any names, and its features after any prompt."""

    tokens: Tensor  # raw, (B,T) or (P…,B,T)
    labels: np.ndarray  # (P,B); P = 1 for a single model
    encoded: EncodedText  # with the mask in front
    batch_shape: tuple[int, ...]  # (), or (P,)
    vocabulary_size: int

    @classmethod
    def of(
        cls, lm: MaskedLM, tokens: Text, labels: ArrayLike | Tensor, lengths: Text | None = None
    ) -> LabelledText:
        """Return text (B,T), or (P…,B,T), that is encoded once, with labels (B,) or (P…,B).

        Raises
        ------
        InvalidInput
            Labels of another shape, masked, or of real numbers; text and lengths as :func:`probe_features`.
        """
        masked = probe_input(lm, tokens, lengths)
        texts = read(tokens, (schema.SEQUENCE, schema.POSITION), "tokens").labels.get(schema.SEQUENCE)
        require_unmasked(labels=labels)
        array = read(labels, (schema.SEQUENCE,), "labels")
        values = array.values
        found = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
        expected = (*lm.batch_shape, masked.shape[-2])
        if found.shape != expected:
            raise InvalidInput("labels", f"shape {expected}", f"shape {found.shape}", "label every sequence")
        order = torch.arange(found.shape[-1], device=CPU)
        found = found[..., matched(order, array.labels.get(schema.SEQUENCE), texts, "labels", "tokens").numpy()]
        try:
            check_classification_targets(found.reshape(-1))
        except ValueError as error:
            raise InvalidInput("labels", "classes", str(error).split(".")[0], "name each class") from None
        classes = found.reshape(-1, found.shape[-1])
        return cls(masked[..., 1:], classes, lm.encode(masked), lm.batch_shape, lm.vocabulary_size)

    def first(self, lm: MaskedLM, n_texts: int) -> LabelledText:
        """Return the first texts."""
        tokens = self.tokens[..., :n_texts, :]
        encoded = lm.encode(probe_input(lm, tokens))
        return dataclasses.replace(self, tokens=tokens, labels=self.labels[:, :n_texts], encoded=encoded)

    def numbers(self, classes: np.ndarray, like: Tensor) -> Tensor:
        """Return the number of each label's class (P,B), −1 for one that is not among the classes."""
        numbers = np.searchsorted(classes, self.labels).clip(max=len(classes) - 1)
        return torch.from_numpy(np.where(classes[numbers] == self.labels, numbers, -1)).to(like.device)

    def problem(self, classes: np.ndarray, like: Tensor) -> HeadProblem:
        """Return the problem of the head for these labels."""
        return head_problem(self.numbers(classes, like), len(classes))

    def features(self, rows: Tensor) -> Tensor:
        """Return G (R,P,B,V) at the mask after prompts (R,P,L,…)."""
        prompts = rows.reshape(len(rows), *self.batch_shape, *rows.shape[2:])
        leading = prompts.shape[: 1 + len(self.batch_shape)]
        shape = (*leading, self.labels.shape[1], 1, self.vocabulary_size)
        conditionals = checked_conditionals(self.encoded, self.encoded.conditionals(prompts, positions=[0]), shape)
        return conditionals.reshape(*rows.shape[:2], self.labels.shape[1], -1).to(rows)
