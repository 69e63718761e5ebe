"""The passes over a block of sequences, each one kernel: the transition and the laws stay on chip from row to row.

A program takes ``BLOCK`` sequences of one model. A *sequence* is a text (P,B,T), or one of the ``n_segments`` segments
that a text is cut into (:mod:`ppl_hmm.exact.backends.fused.segments`); shorter ones end in row numbers −1. Where one
starts is a law, behind it a message: arrays (P,wrap,K), of which sequence n has number n modulo ``wrap``.
``slots`` (n_segments,L) says where the result of each row goes, −1 for nowhere; ``log_outside`` (P,n) is the part of a
prefix's or a context's evidence, or of a message's scale, that lies outside the sequence.
"""

from __future__ import annotations

import triton.language as tl

from ppl_hmm.exact.backends.fused.steps import (
    advance,
    block_of_sequences,
    combine,
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
    step_backward,
    step_forward,
)


@kernel
def forward(
    start,
    transition,
    table,
    ids,
    floor,
    log_evidence,
    laws,
    exponents,
    lost,
    n_sequences,
    length,
    repeats,
    wrap,
    of_models,
    n_rows,
    n_states,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write log P(x), or (with ``laws``) the law after the last row times P(x), as laws · 2^exponents.

    Each text is read by ``repeats`` sequences in a row.
    """
    model, sequence, exists = block_of_sequences(n_sequences, BLOCK)
    moves = matrix_of(transition, model, n_states, n_states, 1, STATES)
    law = get(start, model * wrap + sequence % wrap, exists, n_states, STATES)
    faintest = fainter(float("inf"), law)
    total, mantissa, exponent = nothing_counted(law, BLOCK)
    for t in range(length):
        likelihood, live = likelihood_of(
            table, ids, model, t, sequence // repeats, exists, length, of_models, n_rows, n_states, STATES
        )
        predicted = advance(law, moves)
        law, total, mantissa, exponent = step_forward(law, total, mantissa, exponent, predicted, likelihood, live)
        faintest = fainter(faintest, law)
    mantissa, exponent = multiply(mantissa, exponent, total)
    number = model * n_sequences + sequence
    tl.store(lost + number, tl.min(faintest, 1) < tl.load(floor + model), mask=exists)
    if laws is None:
        tl.store(log_evidence + number, logarithm(mantissa, exponent), mask=exists)
    else:
        law = law * (mantissa / tl.where(total > 0, total, 1))[:, None]
        put(laws, number, law, exists, n_states, STATES)
        tl.store(exponents + number, exponent, mask=exists)


@kernel
def filtered(
    start,
    log_outside,
    transition,
    table,
    ids,
    slots,
    floor,
    laws,
    log_prefix,
    lost,
    n_sequences,
    n_segments,
    length,
    wrap,
    of_models,
    n_rows,
    n_slots,
    first_slot,
    n_states,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write the law after each row, normalised, and the log-probability of the rows so far; also before any row.

    The initial law goes to ``first_slot``, −1 for nowhere.
    """
    model, sequence, exists = block_of_sequences(n_sequences, BLOCK)
    segment = sequence % n_segments
    text = model * (n_sequences // n_segments) + sequence // n_segments
    law = get(start, model * wrap + sequence % wrap, exists, n_states, STATES)
    outside = tl.load(log_outside + model * n_sequences + sequence, mask=exists, other=0)
    faintest = fainter(float("inf"), law)
    total, mantissa, exponent = nothing_counted(law, BLOCK)
    asked = exists & (segment == 0) & (first_slot >= 0)
    place = text * n_slots + first_slot
    put_law(laws, log_prefix, place, law, mantissa, exponent, outside, ~exists, asked, n_states, STATES)
    moves = matrix_of(transition, model, n_states, n_states, 1, STATES)
    for t in range(length):
        likelihood, live = likelihood_of(
            table, ids, model, t, sequence, exists, length, of_models, n_rows, n_states, STATES
        )
        place, asked = slot_of(slots, text, segment, t, live, length, n_slots)
        predicted = advance(law, moves)
        law, total, mantissa, exponent = step_forward(law, total, mantissa, exponent, predicted, likelihood, live)
        put_law(laws, log_prefix, place, law, mantissa, exponent, outside, exists, asked, n_states, STATES)
        faintest = fainter(faintest, law)
    number = model * n_sequences + sequence
    tl.store(lost + number, tl.min(faintest, 1) < tl.load(floor + model), mask=exists)


@kernel
def smooth(
    start,
    end,
    log_outside,
    transition,
    table,
    ids,
    slots,
    floor,
    log_evidence,
    law_of_start,
    marginals,
    log_contexts,
    lost,
    n_sequences,
    n_segments,
    length,
    wrap,
    of_models,
    n_rows,
    n_slots,
    n_states,
    SMALLEST_TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write the evidence, P(H₀|x) and the marginals, or (with ``log_contexts``) cavities and their contexts' evidence.

    What comes from before a row waits in the place of its result for the message from behind.
    """
    model, sequence, exists = block_of_sequences(n_sequences, BLOCK)
    segment = sequence % n_segments
    text = model * (n_sequences // n_segments) + sequence // n_segments
    law = get(start, model * wrap + sequence % wrap, exists, n_states, STATES)
    outside = tl.load(log_outside + model * n_sequences + sequence, mask=exists, other=0)
    faintest = fainter(float("inf"), law)
    total, mantissa, exponent = nothing_counted(law, BLOCK)
    moves = matrix_of(transition, model, n_states, n_states, 1, STATES)
    for t in range(length):
        likelihood, live = likelihood_of(
            table, ids, model, t, sequence, exists, length, of_models, n_rows, n_states, STATES
        )
        place, asked = slot_of(slots, text, segment, t, live, length, n_slots)
        predicted = advance(law, moves)
        if log_contexts is not None:
            put(marginals, place, predicted, asked, n_states, STATES)
            tl.store(log_contexts + place, outside + logarithm(mantissa, exponent), mask=asked)
        law, total, mantissa, exponent = step_forward(law, total, mantissa, exponent, predicted, likelihood, live)
        if log_contexts is None:
            put(marginals, place, law, asked, n_states, STATES)
        faintest = fainter(faintest, law)
    mantissa, exponent = multiply(mantissa, exponent, total)
    number = model * n_sequences + sequence
    tl.store(log_evidence + number, logarithm(mantissa, exponent), mask=exists)

    tl.debug_barrier()  # what a thread reads from now on, another may have written
    message = get(end, model * wrap + sequence % wrap, exists, n_states, STATES)
    total, mantissa, exponent = nothing_counted(message, BLOCK)
    cancels = tl.zeros([BLOCK], tl.int1)
    reverse = matrix_of(transition, model, n_states, 1, n_states, STATES)
    for back in range(length):
        t = length - 1 - back
        likelihood, live = likelihood_of(
            table, ids, model, t, sequence, exists, length, of_models, n_rows, n_states, STATES
        )
        place, asked = slot_of(slots, text, segment, t, live, length, n_slots)
        law, both = combine(get(marginals, place, asked, n_states, STATES), message)
        put(marginals, place, law, asked, n_states, STATES)
        cancels |= asked & (both < SMALLEST_TOTAL)
        if log_contexts is not None:
            log_before = tl.load(log_contexts + place, mask=asked, other=0)
            scale, power = multiply(mantissa, exponent, both)
            tl.store(log_contexts + place, log_before + logarithm(scale, power), mask=asked)
        message, total, mantissa, exponent = step_backward(
            message, total, mantissa, exponent, reverse, likelihood, live
        )
        faintest = fainter(faintest, message)
    law, both = combine(get(start, model * wrap + sequence % wrap, exists, n_states, STATES), message)
    put(law_of_start, text, law, exists & (segment == 0), n_states, STATES)
    faint = tl.min(faintest, 1) < tl.load(floor + model)
    tl.store(lost + number, faint | cancels | (both < SMALLEST_TOTAL), mask=exists)


@kernel
def messages(
    end,
    log_outside,
    transition,
    table,
    ids,
    slots,
    floor,
    kept,
    log_scales,
    lost,
    n_sequences,
    n_segments,
    length,
    wrap,
    of_models,
    n_rows,
    n_slots,
    first_slot,
    n_states,
    BLOCK: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write the message after each row, normalised, and the logarithm of its scale; that to the first state, f, too.

    The message after a text's last row is one for each state. f goes to ``first_slot``, −1 for nowhere.
    """
    model, sequence, exists = block_of_sequences(n_sequences, BLOCK)
    segment = sequence % n_segments
    text = model * (n_sequences // n_segments) + sequence // n_segments
    message = get(end, model * wrap + sequence % wrap, exists, n_states, STATES)
    faintest = fainter(float("inf"), message)
    total, mantissa, exponent = nothing_counted(message, BLOCK)
    outside = tl.load(log_outside + model * n_sequences + sequence, mask=exists, other=0)
    after_any = segment < n_segments - 1
    reverse = matrix_of(transition, model, n_states, 1, n_states, STATES)
    for back in range(length):
        t = length - 1 - back
        likelihood, live = likelihood_of(
            table, ids, model, t, sequence, exists, length, of_models, n_rows, n_states, STATES
        )
        place, asked = slot_of(slots, text, segment, t, live, length, n_slots)
        put_law(kept, log_scales, place, message, mantissa, exponent, outside, after_any, asked, n_states, STATES)
        after_any |= live
        message, total, mantissa, exponent = step_backward(
            message, total, mantissa, exponent, reverse, likelihood, live
        )
        faintest = fainter(faintest, message)
    asked = exists & (segment == 0) & (first_slot >= 0)
    place = text * n_slots + first_slot
    put_law(kept, log_scales, place, message, mantissa, exponent, outside, after_any, asked, n_states, STATES)
    faint = tl.min(faintest, 1) < tl.load(floor + model)
    tl.store(lost + model * n_sequences + sequence, faint, mask=exists)


@device
def slot_of(slots, text, segment, t, live, length, n_slots):
    """Return where the result of row t goes, and whether it was asked for."""
    slot = tl.load(slots + segment * length + t, mask=live, other=-1)
    return text * n_slots + slot, slot >= 0


@device
def put_law(
    laws, log_scales, place, law, mantissa, exponent, outside, normalise, asked, n_states, STATES: tl.constexpr
):
    """Write a law and the logarithm of its scale; what is not to be normalised stays as it is."""
    total = tl.where(normalise, tl.sum(law, 1), 1)
    put(laws, place, law / tl.where(total > 0, total, 1)[:, None], asked, n_states, STATES)
    scale, power = multiply(mantissa, exponent, total)
    tl.store(log_scales + place, outside + logarithm(scale, power), mask=asked)
