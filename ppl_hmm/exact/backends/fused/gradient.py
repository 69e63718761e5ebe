"""Expected counts: the gradient of the log-evidence by one pass each way.

∂ log P(x) / ∂ A[i,j] = Σ_t before_t(i) after_t(j) / z_t, where before_t is the law that the move to row t starts from,
after_t the row times the message behind it, and z_t the total of predicted_t · after_t; for a row of the table it is
Σ_t predicted_t message_t / z_t, for the initial law f / Σ_h π₀(h) f(h).
"""

from __future__ import annotations

import triton.language as tl

from ppl_hmm.exact.backends.fused.steps import (
    advance,
    block_of_sequences,
    device,
    fainter,
    get,
    kernel,
    likelihood_of,
    logarithm,
    matrix_of,
    multiply,
    nothing_counted,
    put,
)


@kernel
def expected_counts(
    start,
    end,
    transition,
    table,
    ids,
    floor,
    weights,
    predictions,
    of_initial,
    of_transition,
    of_table,
    log_evidence,
    lost,
    n_sequences,
    n_segments,
    length,
    wrap,
    of_models,
    n_rows,
    n_sums,
    n_states,
    SMALLEST_TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
):
    """Add Σ_b weight_b ∂ log P(x_b) to one of the ``n_sums`` partial sums of each model, (n_sums,P,…).

    Write log P of the rows of each sequence, given those before it. ``predictions`` (P,n,L,K) is room for the predicted
    laws. Laws are normalised at once, so that the law before a row is known from the prediction and the row before.
    """
    model, sequence, exists = block_of_sequences(n_sequences, BLOCK)
    number = model * n_sequences + sequence
    weight = tl.load(weights + model * (n_sequences // n_segments) + sequence // n_segments, mask=exists, other=0)
    sums = (tl.program_id(0) % n_sums).to(tl.int64) * (tl.num_programs(0) // tl.cdiv(n_sequences, BLOCK)) + model
    state = tl.arange(0, STATES)

    first = get(start, model * wrap + sequence % wrap, exists, n_states, STATES)
    law, faintest = first, fainter(float("inf"), first)
    total, mantissa, exponent = nothing_counted(law, BLOCK)
    moves = matrix_of(transition, model, n_states, n_states, 1, STATES)
    for t in range(length):
        likelihood, live = likelihood_of(
            table, ids, model, t, sequence, exists, length, of_models, n_rows, n_states, STATES
        )
        predicted = advance(law, moves)
        put(predictions, number * length + t, predicted, live, n_states, STATES)
        weighed = predicted * likelihood
        mantissa, exponent = multiply(mantissa, exponent, tl.where(live, tl.sum(weighed, 1), total))
        law = tl.where(live[:, None], normalised(weighed), law)
        faintest = fainter(faintest, law)
    tl.store(log_evidence + number, logarithm(mantissa, exponent), mask=exists)

    tl.debug_barrier()  # what a thread reads from now on, another may have written
    message = get(end, model * wrap + sequence % wrap, exists, n_states, STATES)
    cancels = tl.zeros([BLOCK], tl.int1)
    counts = tl.zeros([STATES, STATES], message.dtype)
    reverse = matrix_of(transition, model, n_states, 1, n_states, STATES)
    likelihood, live = likelihood_of(
        table, ids, model, length - 1, sequence, exists, length, of_models, n_rows, n_states, STATES
    )
    predicted = get(predictions, number * length + length - 1, live, n_states, STATES)
    for back in range(length):
        t = length - 1 - back
        earlier, earlier_live = likelihood_of(
            table, ids, model, t - 1, sequence, exists & (t > 0), length, of_models, n_rows, n_states, STATES
        )
        earlier_predicted = get(predictions, number * length + t - 1, earlier_live, n_states, STATES)
        before = tl.where(t > 0, normalised(earlier_predicted * earlier), first)

        after = message * likelihood
        both = tl.sum(predicted * after, 1)
        cancels |= live & (both < SMALLEST_TOTAL)
        share = share_of(weight, both, live)
        token = tl.load(ids + model * of_models + sequence.to(tl.int64) * length + t, mask=live, other=0)
        place = (sums * n_rows + token)[:, None] * n_states + state[None, :]
        counted = (share != 0)[:, None] & (state[None, :] < n_states)
        tl.atomic_add(of_table + place, predicted * share[:, None] * message, mask=counted, sem="relaxed")
        counts += advance(tl.trans(before), after * share[:, None])

        message = tl.where(live[:, None], normalised(advance(after, reverse)), message)
        faintest = fainter(faintest, message)
        likelihood, live, predicted = earlier, earlier_live, earlier_predicted

    inside = (state[:, None] < n_states) & (state[None, :] < n_states)
    entries = sums * n_states * n_states + state[:, None] * n_states + state[None, :]
    tl.atomic_add(of_transition + entries, counts, mask=inside, sem="relaxed")
    both = tl.sum(first * message, 1)
    at_start = exists & (sequence % n_segments == 0)
    of_start = tl.sum(message * share_of(weight, both, at_start)[:, None], 0)
    tl.atomic_add(of_initial + sums * n_states + state, of_start, mask=state < n_states, sem="relaxed")
    faint = tl.min(faintest, 1) < tl.load(floor + model)
    tl.store(lost + number, (weight != 0) & (faint | cancels | (both < SMALLEST_TOTAL)), mask=exists)


@device
def normalised(law):
    """Return the law divided by its total; one of no weight stays as it is."""
    total = tl.sum(law, 1)
    return law / tl.where(total > 0, total, 1)[:, None]


@device
def share_of(weight, total, counted):
    """Return weight / total, or zero for what has no total or is not counted."""
    possible = counted & (total > 0)
    return tl.where(possible, weight / tl.where(possible, total, 1), 0)
