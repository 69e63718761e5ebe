"""What text so far says of the hidden state and of the token to come: beliefs, by one pass from left to right."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from ppl_hmm.base.labels import Names
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import predictive
from ppl_hmm.exact.configurations import configurations, select_rows
from ppl_hmm.inference.rows import Impossible, masks, memory_arrays
from ppl_hmm.inference.suffixes import ReadText, Suffix
from ppl_hmm.models import ConceptHMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Prompt, Text, by_memory_value, n_memories

#: Bytes that the joint beliefs over memories and states may take.
JOINT_LIMIT = 1 << 32


@dataclasses.dataclass(frozen=True, eq=False)
class Beliefs:
    """Exact beliefs after each prefix x_1..x_t of text, t = 0..T; t = 0 is before any text, and after the prompt.

    From the first impossible token on, rows are zeros and ``log_prefix`` is −∞.

    Attributes
    ----------
    joint
        (P…,B,T+1,K): α_t = P(H_t | x_1..x_t); with a memory (P…,B,T+1,m,…,m,K): P(M, H_t | x_1..x_t), a dimension for
        each of the N cells.
    log_prefix
        (P…,B,T+1): log P(x_1..x_t) in nats; after a prompt log P(u, x_1..x_t), the first of which is log P(u).
    joint_after_suffix
        (P…,B,K), or (P…,B,m,…,m,K): the law of the last state after text and suffix; None without suffix.
    model
        Whose beliefs these are.

    See Also
    --------
    ppl_hmm.beliefs : Computes them.
    ppl_hmm.CausalOracleLM : The next-token laws as a language model.

    Examples
    --------
    >>> from ppl_hmm import HMM, beliefs
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> found = beliefs(model, [[0, 1, 1]])
    >>> found.next_token[0].numpy().round(3)  # P(X_{t+1} | x_1..x_t), t = 0..3
    array([[0.43 , 0.57 ],
           [0.596, 0.404],
           [0.478, 0.522],
           [0.372, 0.628]])
    """

    joint: Tensor
    log_prefix: Tensor
    joint_after_suffix: Tensor | None
    model: Model = dataclasses.field(repr=False)

    @property
    def names(self) -> Names:
        """Names of the model's states, which a task with names is aligned to."""
        return self.model.names

    @functools.cached_property
    def filtered(self) -> Tensor:
        """(P…,B,T+1,K): α_t = P(H_t | x_1..x_t)."""
        return _of_states(self.model, self.joint)

    @functools.cached_property
    def predicted(self) -> Tensor:
        """(P…,B,T+1,K): P(H_{t+1} | x_1..x_t) = Aᵀα_t."""
        return self.filtered @ self.model.transition[..., None, :, :]

    @functools.cached_property
    def next_token(self) -> Tensor:
        """(P…,B,T+1,V): P(X_{t+1} | x_1..x_t) = WᵀAᵀα_t."""
        return _next_token(self.model, _over_memories(self.model, self.joint))

    @functools.cached_property
    def memory(self) -> Tensor | None:
        """(P…,B,T+1,N,m): P(M_j=a | x_1..x_t); None for models without memory."""
        return _of_cells(self.model, self.joint)

    @functools.cached_property
    def concepts(self) -> Tensor | None:
        """(P…,B,T+1,C): P(θ | x_1..x_t); None but for models of concepts."""
        if not isinstance(self.model, ConceptHMM):
            return None
        of_state = self.model.concept_of_state[..., None, None, :].expand(self.filtered.shape)
        empty = self.filtered.new_zeros(*self.filtered.shape[:-1], self.model.n_concepts)
        return empty.scatter_add(-1, of_state, self.filtered)

    @functools.cached_property
    def after_suffix(self) -> Tensor | None:
        """(P…,B,K): the law of the last state after text and suffix; None without suffix."""
        return None if self.joint_after_suffix is None else _of_states(self.model, self.joint_after_suffix)

    @functools.cached_property
    def memory_after_suffix(self) -> Tensor | None:
        """(P…,B,N,m): P(M_j=a | text, suffix); None without suffix or memory."""
        return None if self.joint_after_suffix is None else _of_cells(self.model, self.joint_after_suffix)

    @functools.cached_property
    def next_token_after_suffix(self) -> Tensor | None:
        """(P…,B,V): the law of the token after text and suffix; None without suffix."""
        if self.joint_after_suffix is None:
            return None
        return _next_token(self.model, _over_memories(self.model, self.joint_after_suffix)[..., None, :, :])[..., 0, :]


def beliefs(
    model: Model,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    suffix: Suffix | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> Beliefs:
    """Return the exact :class:`Beliefs` after each prefix of tokens (B,T), or (P…,B,T), T ≥ 0.

    Parameters
    ----------
    model
        :class:`~ppl_hmm.HMM` or :class:`~ppl_hmm.MemoryHMM`: K states, V tokens, optional leading batch dimensions P….
    tokens
        Integers 0..V−1, or ``MASK`` (−1) where nothing is observed; texts may be empty.
    prompt
        :class:`~ppl_hmm.SoftPrompt` or rows of likelihoods, before the text: (L,K), or (L,m,K) for a memory model.
    suffix
        What follows each text at its end: tokens (S,), masks among them, or rows as of a prompt.
    lengths
        (B,): where texts end; beliefs past that are predictive. By default a text ends after its last token that is not
        ``MASK``.
    impossible
        What to do with text of probability zero: ``'raise'``, or ``'mask'`` for zero rows from its first impossible
        token on.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments; joint laws over memories of more than :data:`JOINT_LIMIT` bytes; impossible text or suffix
        (which sequence, its first impossible token).

    See Also
    --------
    ppl_hmm.posterior : Laws of states given all of the text.
    ppl_hmm.CausalOracleLM, ppl_hmm.next_token_features : The next-token laws as those of a language model.

    Notes
    -----
    Differentiable in the model's parameters, the prompt and the suffix. An entry that is exactly zero counts as a
    constant where text is near underflow or excludes a memory. Cost O(B·(L+T)·K²) time, O(B·T·K) memory; with a memory
    m^N times both; a suffix reads the text once more. Next-token laws O(B·T·K·V), when first asked for.

    Examples
    --------
    >>> from ppl_hmm import HMM, beliefs
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> found = beliefs(model, [[0, 1, 1]], suffix=[0])
    >>> found.filtered[0].numpy().round(3)  # before any token, after the first, the second, the third
    array([[0.5  , 0.5  ],
           [0.895, 0.105],
           [0.614, 0.386],
           [0.362, 0.638]])
    >>> found.after_suffix.numpy().round(3)  # after one more token, 0
    array([[0.853, 0.147]])
    """
    mask, text = masks(impossible), ReadText.of(model, tokens, prompt, lengths)
    _require_room(model, text)
    found = predictive.belief(text.rows.text, text.prefixes)
    if not mask:
        text.rows.require_possible(found.log_prefix[..., -1] > -torch.inf, can_mask=True)
    joint, log_prefix = map(text.rows.unflatten, found)
    after = None if suffix is None else _by_cell(model, _after(model, text, suffix, mask=mask))
    return Beliefs(_by_cell(model, joint), log_prefix, after, model)


def law_after(
    model: Model,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    suffix: Suffix | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> Tensor:
    """Return the law (P…,B,V) of the token after each text, at its end, and an optional suffix.

    Parameters and errors as in :func:`beliefs`, whose ``next_token_after_suffix`` it equals. Cost O(B·(L+T)·K² + B·K·V)
    time, O(B·n·K) memory for texts of n different lengths; with a memory m^N times both.
    """
    mask, text = masks(impossible), ReadText.of(model, tokens, prompt, lengths)
    return _next_token(model, _after(model, text, suffix, mask=mask)[..., None, :, :])[..., 0, :]


def _after(model: Model, text: ReadText, suffix: Suffix | None, *, mask: bool) -> Tensor:
    """Return the joint law (P…,B,C,K) of memory and last state after each text and suffix."""
    continued = text.followed_by(model, suffix)
    different = continued.last.unique()
    found = predictive.belief(continued.text, different.tolist())
    slot = torch.searchsorted(different, continued.last)[..., None]
    joint = torch.take_along_dim(found.joint, slot[..., None, None], dim=2)[:, :, 0]
    if not mask:
        continued.require_possible(torch.take_along_dim(found.log_prefix, slot, dim=2)[..., 0] > -torch.inf)
    return text.rows.unflatten(joint)


def _by_cell(model: Model, joint: Tensor) -> Tensor:
    """Return laws (…,C,K) over all memories with a dimension for each cell; for an HMM (…,K)."""
    if isinstance(model, MemoryHMM):
        return joint.unflatten(-2, (model.n_memory_values,) * model.n_cells)
    return joint[..., 0, :]


def _over_memories(model: Model, joint: Tensor) -> Tensor:
    """Return laws with a dimension for each cell as laws (…,C,K) over all memories."""
    return joint.flatten(-1 - model.n_cells, -2) if isinstance(model, MemoryHMM) else joint[..., None, :]


def _of_states(model: Model, joint: Tensor) -> Tensor:
    """Return the marginal law of the state."""
    return _over_memories(model, joint).sum(-2) if isinstance(model, MemoryHMM) else joint


def _of_cells(model: Model, joint: Tensor) -> Tensor | None:
    """Return the marginal laws (…,N,m) of the memory's cells."""
    if not isinstance(model, MemoryHMM):
        return None
    of_memory, cells = joint.sum(-1), range(-model.n_cells, 0)
    others = [[other for other in cells if other != cell] for cell in cells]
    return torch.stack([of_memory.sum(rest) if rest else of_memory for rest in others], dim=-2)


def _next_token(model: Model, joint: Tensor) -> Tensor:
    """Return the law (P…,B,N,V) of the token after beliefs (P…,B,N,C,K)."""
    prior, cell_of_state = memory_arrays(model)
    memories = configurations(prior.shape[1], prior.shape[2])
    emission = by_memory_value(model, model.emission).mT  # (P…,m,K,V)
    law = predictive.next_token(
        joint.reshape(-1, *joint.shape[-4:]),
        model.transition.reshape(-1, model.n_states, model.n_states),
        select_rows(emission.reshape(-1, *emission.shape[-3:]), cell_of_state, memories),
    )
    return law.reshape(*model.batch_shape, *law.shape[1:])


def _require_room(model: Model, text: ReadText) -> None:
    """Raise :class:`InvalidInput` where joint laws over memories and states take too much."""
    n_models, n_sequences, _ = text.rows.text.ids.shape
    size = n_models * n_sequences * (text.length + 1) * n_memories(model) * model.n_states * model.dtype.itemsize
    if n_memories(model) > 1 and size > JOINT_LIMIT:
        raise InvalidInput(
            "joint beliefs over memories and states",
            f"at most {JOINT_LIMIT / 1e9:.1f} GB",
            f"{size / 1e9:.1f} GB: m^N = {n_memories(model)} memories at each position",
            "pass fewer or shorter texts at once",
        )
