"""Activations and beliefs brought together: a row for each prefix of a text, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.checks import check_distributions
from ppl_hmm.base.labels import Order, matched, read
from ppl_hmm.base.randomness import CPU
from ppl_hmm.base.tokens import as_text_with_ends
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.beliefs import Beliefs
from ppl_hmm.models.kinds import Text

Values = ArrayLike | Tensor
Activations = Values | Mapping[str, Values]

#: What the layer of a single array is called.
ONLY_LAYER = "activations"


class PrefixRows(NamedTuple):
    """N prefixes of B texts."""

    tokens: np.ndarray  # (B,T)
    sequence: np.ndarray  # (N,): a prefix is of which text,
    position: np.ndarray  # (N,): and how many of its tokens
    beliefs: np.ndarray  # (N,K)
    shape: RowShape

    def read(self, values: Values, what: str, trailing: tuple[str, ...] = (schema.FEATURE,)) -> np.ndarray:
        """Return the rows (N,…) of an array that begins as beliefs do, in float64.

        Raises
        ------
        InvalidInput
            Another shape, complex numbers, NaN or infinity, texts of other names.
        """
        return self.shape.rows(values, what, trailing, self.sequence, self.position)

    def read_groups(self, groups: Values) -> np.ndarray:
        """Return the groups (N,) of the prefixes, from one for each prefix or one for each text (B,)."""
        of_texts = self.shape._replace(leading=self.shape.leading[:1])
        shape = of_texts if tuple(as_tensor(groups, what="groups").shape) == of_texts.leading else self.shape
        return shape.rows(groups, "groups", (), self.sequence, self.position)


class RowShape(NamedTuple):
    """What arrays begin with that have an entry for each prefix."""

    leading: tuple[int, ...]  # (B,) where the texts end, else (B,T) or (B,T+1)
    length: int  # T
    sequences: Order | None  # the names of the texts

    def prefixes(self, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return text and length of each prefix that is no longer than its text, which ends at ``ends`` (B,)."""
        if len(self.leading) == 1:
            return np.arange(len(ends)), ends
        sequence, position = np.nonzero(np.arange(self.length + 1) <= ends[:, None])
        there = position >= self.shortest
        return sequence[there], position[there]

    def rows(
        self, values: Values, what: str, trailing: tuple[str, ...], sequence: np.ndarray, position: np.ndarray
    ) -> np.ndarray:
        """Return what such an array has of prefixes (N,…); what is beyond the end of a text may be anything."""
        places = (sequence, position - self.shortest)[: len(self.leading)]
        found = self.read(values, what, trailing)[places]
        if not np.isfinite(found).all():
            row, *others = np.argwhere(~np.isfinite(found))[0].tolist()
            where = [*(int(place[row]) for place in places), *others]
            got = str(found[row, *others])
            raise InvalidInput(f"{what}{where}", "a finite number", got, "drop what is not finite, or mend it")
        return found

    @property
    def shortest(self) -> int:
        """Tokens of the shortest prefix: one where there is no entry for the time before any text."""
        return self.length + 1 - self.leading[-1]

    def read(self, values: Values, what: str, trailing: tuple[str, ...]) -> np.ndarray:
        """Return a checked array (B,…) in float64, its texts in the order of the tokens."""
        dimensions = (schema.SEQUENCE, schema.POSITION)[: len(self.leading)]
        array = read(values, (*dimensions, *trailing), what)
        tensor = as_tensor(array.values, what=what).detach()
        if tensor.is_complex():
            raise InvalidInput(what, "real numbers", str(tensor.dtype), "pass real and imaginary parts as features")
        found = tensor.cpu().double()
        self._require(what, tuple(found.shape), len(trailing))
        order = torch.arange(len(found), device=CPU)
        order = matched(order, array.labels.get(schema.SEQUENCE), self.sequences, f"sequences of {what}", "tokens")
        return found[order].numpy()

    def _require(self, what: str, found: tuple[int, ...], n_trailing: int) -> None:
        n_leading = len(self.leading)
        if found[:n_leading] == self.leading and len(found) == n_leading + n_trailing and 0 not in found:
            return
        expected = f"{_written(*self.leading, *['D'] * n_trailing)}, as beliefs"
        remedy = "pass an entry for each belief"
        if n_leading == 2 and found[:2] == self.leading[::-1]:
            remedy = "put the texts first: .transpose(0, 1) of a tensor, .swapaxes(0, 1) of an array"
        elif n_leading == 2 <= len(found) and found[0] == self.leading[0]:
            own, beliefs = found[1], self.leading[1]
            if (own, beliefs) == (self.length, self.length + 1):
                expected += " (these have T+1 entries, the first of them before any text)"
                remedy = "put what is before any text in front of the others"
                if n_trailing:
                    remedy = f"drop that one, beliefs.filtered[:, 1:], or {remedy}"
            elif (own, beliefs) == (self.length + 1, self.length):
                expected += " (these lack the entry before any text: of T tokens there are T+1)"
                remedy = f"pass all T+1 beliefs, or drop the first entry of {what}"
        raise InvalidInput(what, expected, _written(*found), remedy)


def prefix_rows(
    activations: Mapping[str, Values],
    beliefs: Beliefs | Values,
    vocabulary_size: int,
    tokens: Text,
    lengths: Text | None,
) -> PrefixRows:
    """Return the prefixes of texts that there are beliefs and activations of; a record is read as these are.

    Raises
    ------
    InvalidInput
        Bad tokens or lengths, beliefs of other texts, rows of beliefs that are no laws.
    """
    text, ends = as_text_with_ends(tokens, vocabulary_size, lengths=lengths, device=CPU)
    n_texts, length = text.shape
    if not ends.any():
        remedy = "pass longer texts: there is nothing to probe for before any token"
        raise InvalidInput("tokens", "a text of at least one token", "empty texts alone", remedy)
    if isinstance(beliefs, Beliefs):
        at_ends = min(as_tensor(values, what=called(name)).ndim for name, values in activations.items()) < 3
        beliefs = _of_record(beliefs, ends if at_ends else None)
    leading = tuple(as_tensor(beliefs, what="beliefs").shape[:-1])
    if leading not in ((n_texts,), (n_texts, length), (n_texts, length + 1)):
        raise InvalidInput(
            "beliefs",
            f"{_written(n_texts, length + 1, 'K')}: T+1 entries, the first of them before any text; or"
            f" {_written(n_texts, length, 'K')} without it; or {_written(n_texts, 'K')}, one where each text ends",
            _written(*leading, "K"),
            "compute them of these tokens: beliefs(model, tokens)",
        )
    names = read(tokens, (schema.SEQUENCE, schema.POSITION), "tokens").labels.get(schema.SEQUENCE)
    shape = RowShape(leading, length, names)
    sequence, position = shape.prefixes(ends.numpy())
    laws = shape.rows(beliefs, "beliefs", (schema.STATE,), sequence, position)
    check_distributions("beliefs", torch.from_numpy(laws))
    if (laws == laws[0]).all():
        raise InvalidInput("beliefs", "laws that differ", "one law after every prefix", "there is nothing to probe for")
    return PrefixRows(text.numpy(), sequence, position, laws, shape)


def by_name(activations: Activations) -> dict[str, Values]:
    """Return activations by layer.

    Raises
    ------
    InvalidInput
        No layer, one without a name, or beliefs in the place of activations.
    """
    if isinstance(activations, Beliefs):
        raise InvalidInput("activations", "an array", "Beliefs", "pass activations first, then beliefs")
    if not isinstance(activations, Mapping):
        return {ONLY_LAYER: activations}
    if not activations or not all(isinstance(name, str) for name in activations):
        got = f"names {', '.join(map(repr, activations))}" if activations else "no layer"
        raise InvalidInput("activations", "an array, or a mapping with a name for each layer", got, "name each layer")
    return dict(activations)


def controls_by_name(controls: Mapping[str, Values] | None) -> dict[str, Values]:
    """Return the caller's own controls, if any.

    Raises
    ------
    InvalidInput
        No mapping, or a control without a name.
    """
    if controls is None:
        return {}
    if not isinstance(controls, Mapping) or not all(isinstance(name, str) for name in controls):
        got = f"names {', '.join(map(repr, controls))}" if isinstance(controls, Mapping) else type(controls).__name__
        remedy = "name each control: {'untrained': activations}"
        raise InvalidInput("controls", "a mapping with a name for each control", got, remedy)
    return dict(controls)


def called(layer: str) -> str:
    """Return what messages call the activations of a layer."""
    return layer if layer == ONLY_LAYER else f"activations {layer!r}"


def _of_record(beliefs: Beliefs, ends: Tensor | None) -> Tensor:
    """Return P(H_t | x_1..x_t) (B,T+1,K), or only where the texts end (B,K)."""
    filtered = beliefs.filtered.detach().cpu()
    if filtered.ndim != 3:
        raise InvalidInput(
            "beliefs", "those of one model, (B, T+1, K)", _written(*filtered.shape), "probe each model by itself"
        )
    if ends is None or len(ends) != len(filtered):
        return filtered
    return filtered[torch.arange(len(ends), device=CPU), ends]


def _written(*sizes: int | str) -> str:
    return f"shape ({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
