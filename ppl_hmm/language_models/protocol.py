"""What heads and prompts need of a masked language model, exact or trained, and the checks of what users bring."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models.kinds import Prompt, Text
from ppl_hmm.schema import Reader

# How far a row of conditionals may sum from one; other types are of half precision.
_ROW_SUM_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
_HALF_PRECISION = 2e-2


class EncodedText(Protocol):
    """Text with all prompt-free work done, once."""

    def conditionals(self, prompt: Tensor | None = None, positions: Sequence[int] | None = None) -> Tensor:
        """Return G (P…,B,positions,V) after ``prompt`` rows (P…,L,*prompt_shape); differentiable in them.

        Leading dimensions of the prompt before P… are kept in front of the result: many prompts on one text. A row of
        zeros stands where the model gives the context probability zero.
        """
        ...


class LanguageModel(Protocol):
    """What masked and causal language models both say of themselves."""

    @property
    def vocabulary_size(self) -> int:
        """V."""
        ...

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """P…: the shape of a batch of language models; empty for one."""
        ...

    @property
    def prompt_shape(self) -> tuple[int, ...]:
        """Shape of one soft token: (K,) for an exact HMM, (d_model,) for a trained model."""
        ...

    @property
    def prompt_constraint(self) -> Literal["nonnegative", "real"]:
        """Whether entries of soft tokens are likelihoods (non-negative) or embeddings (real)."""
        ...


@runtime_checkable
class MaskedLM(LanguageModel, Protocol):
    """A masked language model: G_i(x)[v] = P(X_i=v | x_{-i}).

    See Also
    --------
    ppl_hmm.OracleLM : The exact one of a hidden Markov model.
    ppl_hmm.probe_features, ppl_hmm.masked_features, ppl_hmm.fit_prompt : What takes one.

    Examples
    --------
    >>> from ppl_hmm import HMM, MaskedLM, OracleLM
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> isinstance(OracleLM(model), MaskedLM), isinstance(model, MaskedLM)
    (True, False)
    """

    def encode(self, tokens: Text, lengths: Text | None = None) -> EncodedText:
        """Return the text (B,T), or (P…,B,T), with all prompt-free work done."""
        ...

    def conditionals(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        positions: Sequence[int] | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return G (P…,B,positions,V) at ``positions`` (all by default); position 0 is the first token as passed."""
        ...


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A protocol of language models: its name and kind, the member that returns laws, and what reads and adapts one."""

    protocol: str
    kind: foreign.Wanted
    laws: str
    reader: Reader
    adapter: str


MASKED = Wanted("MaskedLM", "language model", "conditionals", Reader.MASKED, "from_masked_lm")
CAUSAL = Wanted("CausalLM", "causal language model", "law_after", Reader.CAUSAL, "from_causal_lm")


def text_vocabulary_size(lm: LanguageModel) -> int:
    """Return how many different tokens texts may hold: V, unless the laws are of some of them, the label words.

    A language model whose laws are of V label words says how many tokens its texts are made of by a member
    ``text_vocabulary_size``.
    """
    return getattr(lm, "text_vocabulary_size", lm.vocabulary_size)


def require_members(function: str, lm: object, *more: str, wanted: Wanted = MASKED) -> None:
    """Raise :class:`InvalidInput` unless a language model has what ``function`` asks of it: sizes, and ``more``.

    The message names what is missing, and the conversion to use for objects of another kind.
    """
    members = ("vocabulary_size", "batch_shape", wanted.laws, *more)
    missing = [name for name in members if isinstance(lm, type) or not hasattr(lm, name)]
    if missing:
        raise InvalidInput(
            f"{wanted.kind} of {function}",
            f"members {', '.join(members)}, as {wanted.protocol} describes them",
            f"{foreign.described(lm)} without {', '.join(missing)}",
            foreign.remedy(lm, wanted.kind, _remedy(lm, wanted)),
        )
    size, batch_shape = lm.vocabulary_size, lm.batch_shape  # type: ignore[attr-defined]
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidInput(f"vocabulary_size of {type(lm).__name__}", "an integer V ≥ 1", repr(size), "correct it")
    if not isinstance(batch_shape, tuple) or not all(isinstance(each, int) for each in batch_shape):
        got = repr(batch_shape)
        raise InvalidInput(f"batch_shape of {type(lm).__name__}", "a tuple, () for one model", got, "return a tuple")


def _remedy(lm: object, wanted: Wanted) -> str:
    """Return the remedy for a language model that lacks a member: one of the other kind has another reader."""
    other = CAUSAL if wanted is MASKED else MASKED
    if hasattr(lm, wanted.laws) or not hasattr(lm, other.laws):
        return "add what is missing"
    return f"pass reader={str(other.reader)!r} to an audit, or bring a {wanted.protocol}, e.g. by {wanted.adapter}"


def checked_conditionals(
    lm: object, conditionals: object, shape: tuple[int, ...], wanted: Wanted = MASKED
) -> Tensor:
    """Return laws of tokens, such as conditionals G (…,B,positions,V), of a language model, if they are that.

    Raises
    ------
    InvalidInput
        Another shape, NaN, a negative entry (logits?), a row that sums neither to one nor, for an impossible context,
        to zero.
    """
    what = f"{wanted.laws} of {type(lm).__name__}"
    found = conditionals if isinstance(conditionals, Tensor) else as_tensor(conditionals, what=what)  # type: ignore[arg-type]
    if tuple(found.shape) != shape:
        expected = f"shape {shape}: a probability for each of V = {shape[-1]} tokens at each position"
        raise InvalidInput(what, expected, f"shape {tuple(found.shape)}", "check vocabulary_size and positions")
    if not found.is_floating_point():
        raise InvalidInput(what, "floating-point probabilities", str(found.dtype), "convert with .double()")
    values = found.detach()
    sums = values.double().sum(-1)
    if not torch.isfinite(sums).all():  # each entry that is not finite makes its sum so, in a tenth of the memory
        raise InvalidInput(what, "finite probabilities", "NaN or infinity", "mend the language model")
    if values.min() < 0:
        lowest = f"an entry of {values.min().item():g}"
        raise InvalidInput(what, "probabilities", lowest, "logits need .softmax(-1), logarithms .exp()")
    wrong = ((sums - 1).abs() > _ROW_SUM_TOLERANCE.get(values.dtype, _HALF_PRECISION)) & (sums > 0)
    if wrong.any():
        got = f"a row that sums to {sums[wrong][0].item():.10g}"
        raise InvalidInput(what, "rows that sum to 1", got, "logits need .softmax(-1); else divide by the sum")
    return found
