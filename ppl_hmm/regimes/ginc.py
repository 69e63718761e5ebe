"""The regime ``ginc``: text whose concept must be inferred, and prompts of examples that share one.

Source: Xie, Raghunathan, Liang & Ma (2021), "An explanation of in-context learning as implicit Bayesian inference",
arXiv 2111.02080, §4 and appendix on GINC, and the released code. State (θ, v, s), a concept, a value (the paper's
entity) and a slot (its property), has number (θ·n_values + v)·n_slots + s. Within concept θ

    A = kron(A_value, A_slot[θ]),   A_value = 0.1·mixture + 0.9·I,   A_slot[θ] = mixture,

mixtures of as many permutations as there are values (slots), with weights softmax(U / 0.1); A_value is one for all
concepts, A_slot belongs to the concept. A state emits table[v, s] for sure, a table that concepts share: token 0, the
delimiter, in slot 0; a uniform token 1..V−1 in the others. P(θ) is uniform, and π₀ within θ is softmax(U / 10) over
(v, s), drawn for each concept.

Differences from the released code: H₀ is silent, so that H₁ ∼ π₀A where the code has H₁ ∼ π₀; concepts of
out-of-distribution prompts are not drawn, draw another model for them; and ``smoothing`` ε replaces every mixture by
(1−ε)·mixture + ε·uniform. With ε = 0, as released, about a third of A_slot is zero, and most prompts of independent
examples have probability zero in every concept: the paper's assumption that delimiters are reachable from and lead to
every state with a probability bounded below needs ε > 0.
"""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU, Laws, Seed, categorical, generator
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.inference.concepts import InContextText
from ppl_hmm.models import ConceptHMM
from ppl_hmm.regimes.draws import mixture_of_permutations, softmax_rows

#: The released softmax temperatures, of the initial law and of transitions, and the weight of I in A_value.
INITIAL_TEMPERATURE = 10.0
TEMPERATURE = 0.1
VALUE_STAYS = 0.9

#: The token of slot 0.
DELIMITER = 0


def ginc(
    n_states: int,
    vocabulary_size: int,
    stream: torch.Generator,
    *,
    n_concepts: int = 4,
    n_slots: int = 4,
    smoothing: float = 0.0,
) -> ConceptHMM:
    """Return a random model of the regime; with more concepts of the same sizes, the first stay.

    Raises
    ------
    InvalidInput
        K is no multiple of n_concepts · n_slots, V < 2, fewer than two slots, ``smoothing`` outside [0, 1].
    """
    n_concepts, n_slots = at_least("n_concepts", n_concepts, 1), at_least("n_slots", n_slots, 2)
    at_least("vocabulary_size of regime 'ginc'", vocabulary_size, 2)
    if n_states % (n_concepts * n_slots):
        raise InvalidInput(
            "n_states of regime 'ginc'",
            f"a multiple of n_concepts · n_slots = {n_concepts * n_slots}",
            str(n_states),
            "pass n_concepts · n_values · n_slots",
        )
    if not isinstance(smoothing, Real) or not 0 <= smoothing <= 1:
        raise InvalidInput("smoothing", "a number in [0, 1]", repr(smoothing), "pass e.g. 0.01")
    n_values = n_states // (n_concepts * n_slots)

    def mixture(size: int) -> Tensor:
        return (1 - smoothing) * mixture_of_permutations(size, size, TEMPERATURE, stream) + smoothing / size

    identity = torch.eye(n_values, dtype=torch.float64, device=CPU)
    of_values = (1 - VALUE_STAYS) * mixture(n_values) + VALUE_STAYS * identity
    table = torch.randint(1, vocabulary_size, (n_values, n_slots), generator=stream, device=CPU)
    table[:, 0] = DELIMITER
    initial, transition = [], []
    for _ in range(n_concepts):
        transition.append(torch.kron(of_values, mixture(n_slots)))
        initial.append(softmax_rows(n_values * n_slots, temperature=INITIAL_TEMPERATURE, stream=stream) / n_concepts)
    emission = torch.nn.functional.one_hot(table.flatten(), vocabulary_size).double()
    return ConceptHMM(
        torch.cat(initial),
        torch.block_diag(*transition),
        emission.repeat(n_concepts, 1),
        torch.arange(n_concepts, device=CPU).repeat_interleave(n_values * n_slots),
    )


def in_context_text(model: ConceptHMM, n_texts: int, n_examples: int, example_length: int, seed: Seed) -> InContextText:
    """Return prompts of ``n_examples`` independent examples of ``example_length`` tokens and a test example to finish.

    θ is drawn from the model's P(θ) and a slot uniformly from the others than 0. Each example starts in that slot of θ
    with a uniform value and then follows A: no state carries over from one example to the next, as in the released
    code's in-distribution prompts. Their law is not that of the model's own text: see :class:`InContextText`.

    Raises
    ------
    InvalidInput
        A model of another regime, no text, fewer than zero examples, examples of fewer than two tokens.

    Notes
    -----
    Cost O(B·n·k·K) time, O(B·n·(k+K)) memory.
    """
    slots = _slots(model)
    n_texts, n_examples = at_least("n_texts", n_texts, 1), at_least("n_examples", n_examples, 0)
    example_length = at_least("example_length", example_length, 2)
    stream = generator(seed, "in-context text")
    concept_of_state = model.concept_of_state
    prior = model.initial.new_zeros(model.n_concepts).index_add(0, concept_of_state, model.initial)
    concept = categorical(prior.expand(n_texts, -1), stream)
    slot = 1 + torch.randint(int(slots.max()), (n_texts,), generator=stream, device=CPU).to(model.device)
    start = ((concept_of_state == concept[:, None]) & (slots == slot[:, None])).to(model.initial)
    start = start / start.sum(-1, keepdim=True)
    state = categorical(start[:, None].expand(-1, n_examples + 1, -1), stream)
    of_moves, of_tokens = Laws.of(model.transition), Laws.of(model.emission)
    tokens = [of_tokens.draw(state, stream)]
    for _ in range(example_length - 1):
        state = of_moves.draw(state, stream)
        tokens.append(of_tokens.draw(state, stream))
    tokens.append(torch.full_like(state, DELIMITER))
    # The last example loses its delimiter and the token to predict.
    return InContextText(torch.stack(tokens, -1).flatten(1)[:, :-2], concept, start, example_length)


def _slots(model: ConceptHMM) -> Tensor:
    """Return the slot (K,) of each state: slot 0, and only it, emits the delimiter."""
    if isinstance(model, ConceptHMM) and not model.batch_shape:
        delimits = model.emission[:, DELIMITER] == 1
        n_slots = model.n_states // max(1, int(delimits.sum()))
        slots = torch.arange(model.n_states, device=model.device) % n_slots
        whole = model.n_states % n_slots == 0 and (model.concept_of_state.view(-1, n_slots).diff(dim=-1) == 0).all()
        if n_slots > 1 and whole and torch.equal(delimits, slots == 0):
            return slots
    raise InvalidInput(
        "model of in-context text",
        "one model of the regime 'ginc'",
        f"{type(model).__name__} with {model.n_states} states and batch dimensions {model.batch_shape}",
        "draw it with random_hmm('ginc', …)",
    )
