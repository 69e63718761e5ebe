"""All texts of a length that a model writes, with their probabilities and beliefs."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput, at_least, within
from ppl_hmm.exact import belief_tree
from ppl_hmm.models import HMM, MealyHMM
from ppl_hmm.models.mealy import as_machine

#: Numbers that are held for the next tokens of all texts of a length, at most: 256 MiB.
LARGEST_TREE = 1 << 25


@dataclasses.dataclass(frozen=True, eq=False)
class Prefixes:
    """All texts of T tokens whose probability exceeds a threshold, in lexicographic order.

    Attributes
    ----------
    tokens
        (N,T).
    log_probability
        (N,): log P(x_1..x_T) in nats.
    beliefs
        (N,K): P(H_T | x_1..x_T); of a :class:`~ppl_hmm.MealyHMM`, over its own S states.

    See Also
    --------
    prefixes : Finds them.

    Examples
    --------
    >>> from ppl_hmm import prefixes, process
    >>> found = prefixes(process("z1r"), 2)
    >>> found.tokens.shape, found.beliefs.shape, round(found.probability.sum().item(), 4)
    (torch.Size([4, 2]), torch.Size([4, 3]), 1.0)
    """

    tokens: Tensor
    log_probability: Tensor
    beliefs: Tensor

    @property
    def probability(self) -> Tensor:
        """(N,): P(x_1..x_T); they sum to one if the threshold left out no text."""
        return self.log_probability.exp()


@torch.no_grad()
def prefixes(model: HMM | MealyHMM, length: int, min_probability: float = 0.0) -> Prefixes:
    """Return all texts of a length with probability above a threshold, and the beliefs that they leave.

    Texts are found breadth first: one whose beginning is too improbable is not looked at.

    Parameters
    ----------
    length
        T ≥ 0.
    min_probability
        Texts of this probability, or less, are left out; 0 keeps all that are possible.

    Raises
    ------
    InvalidInput
        More than :data:`LARGEST_TREE` numbers at once; a threshold that is no probability, or leaves no text; a batch
        of models, or one with a memory.

    See Also
    --------
    beliefs : The beliefs along given texts.
    mixed_states : Beliefs without their texts, each one once.
    entropies : What texts of each length predict.

    Notes
    -----
    Cost O(N·V·K²) time, O(N·(T + V·K)) memory for N texts. Probabilities are products, normalised at each token, in
    float64.

    Examples
    --------
    >>> from ppl_hmm import prefixes, process
    >>> found = prefixes(process("golden_mean"), 2)
    >>> found.tokens.tolist(), found.probability.numpy().round(4).tolist()
    ([[0, 1], [1, 0], [1, 1]], [0.3333, 0.3333, 0.3333])
    """
    machine, length = as_machine(model, "prefixes"), at_least("length", length, 0)
    min_probability = within("min_probability", min_probability, 0, 1)
    least = math.log(min_probability) if min_probability else -math.inf
    texts = belief_tree.no_text(machine.initial)
    for n_tokens in range(length):
        _require_room(texts.beliefs, machine, n_tokens, length)
        texts = belief_tree.longer(texts, machine.matrices, least)
        if not len(texts.tokens):
            got = f"{min_probability:g}, which no text of {n_tokens + 1} tokens exceeds"
            raise InvalidInput("min_probability", "a threshold that some text exceeds", got, "pass a smaller one")
    return Prefixes(*texts)


def _require_room(beliefs: Tensor, machine: MealyHMM, n_tokens: int, length: int) -> None:
    if len(beliefs) * machine.vocabulary_size * machine.n_states > LARGEST_TREE:
        raise InvalidInput(
            f"prefixes of {length} tokens",
            f"at most {LARGEST_TREE} numbers for the next tokens of all texts",
            f"{len(beliefs)} texts of {n_tokens} tokens, {machine.vocabulary_size} tokens, {machine.n_states} states",
            "pass a larger min_probability, or a smaller length",
        )
