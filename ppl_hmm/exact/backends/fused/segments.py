"""Few long texts: an associative scan over segments.

A segment of rows is a matrix, M = ∏_t A·diag(row_t), and matrices multiply in any order. So all segments are multiplied
out at once, each from every state (:func:`~ppl_hmm.exact.backends.fused.passes.forward` from the rows of the identity);
the laws and messages at the segments' ends follow one after another, a product of a vector and a matrix each; then all
segments are smoothed at once.

Each row of M carries a scale of its own, 2^exponent: after many rows of text the starting states' weights may differ by
more than a float spans. A term that vanishes beside a larger one would be lost to rounding anyway; an entry is accurate
where what remains of it is far above the smallest float.
"""

from __future__ import annotations

import triton.language as tl

from ppl_hmm.exact.backends.fused.steps import device, kernel, logarithm, matrix_of, multiply

#: An exponent below that of any scale.
_NEVER = tl.constexpr(-(1 << 30))


@kernel
def link_laws(
    matrices,
    exponents,
    floor,
    initial,
    starts,
    log_before,
    log_evidence,
    lost,
    n_sequences,
    n_segments,
    n_states,
    EPSILON: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write the law at the start of each segment, log P of the rows before, and log P(x)."""
    model, state = tl.program_id(0) // n_sequences, tl.arange(0, STATES)
    first = tl.program_id(0).to(tl.int64) * n_segments
    smallest = tl.load(floor + model) / EPSILON
    law = tl.load(initial + model * n_states + state, mask=state < n_states, other=0)
    mantissa, exponent = tl.full([], 1, law.dtype), tl.full([], 0, tl.int32)
    fades = tl.zeros([STATES], tl.int1)
    for segment in range(n_segments):
        tl.store(starts + (first + segment) * n_states + state, law, mask=state < n_states)
        tl.store(log_before + first + segment, logarithm(mantissa, exponent))
        matrix, power = segment_of(matrices, exponents, first + segment, n_states, STATES)
        alive, largest = common_scale(tl.where(tl.max(matrix, 1) > 0, law, 0), power)
        after = tl.sum(alive[:, None] * matrix, 0)
        reached = tl.max(((law[:, None] > 0) & (matrix > 0)).to(tl.int32), 0) > 0
        fades |= reached & (after < smallest)
        total = tl.sum(after, 0)
        law = after / tl.where(total > 0, total, 1)
        mantissa, exponent = multiply(mantissa, exponent + largest, total)
    tl.store(log_evidence + tl.program_id(0), logarithm(mantissa, exponent))
    tl.store(lost + tl.program_id(0), tl.max(fades.to(tl.int32), 0) > 0)


@kernel
def link_messages(
    matrices,
    exponents,
    floor,
    ends,
    log_after,
    lost,
    n_sequences,
    n_segments,
    n_states,
    EPSILON: tl.constexpr,
    STATES: tl.constexpr,
):
    """Write the message after each segment, and the logarithm of its scale."""
    model, state = tl.program_id(0) // n_sequences, tl.arange(0, STATES)
    first = tl.program_id(0).to(tl.int64) * n_segments
    smallest = tl.load(floor + model) / EPSILON
    message = tl.where(state < n_states, 1, 0).to(smallest.dtype)
    mantissa, exponent = tl.full([], 1, smallest.dtype), tl.full([], 0, tl.int32)
    fades = tl.zeros([STATES], tl.int1)
    for back in range(n_segments):
        segment = first + n_segments - 1 - back
        tl.store(ends + segment * n_states + state, message, mask=state < n_states)
        tl.store(log_after + segment, logarithm(mantissa, exponent))
        matrix, power = segment_of(matrices, exponents, segment, n_states, STATES)
        before, largest = common_scale(tl.sum(message[None, :] * matrix, 1), power)
        reached = tl.max(((message[None, :] > 0) & (matrix > 0)).to(tl.int32), 1) > 0
        fades |= reached & (before < smallest)
        total = tl.sum(before, 0)
        message = before / tl.where(total > 0, total, 1)
        mantissa, exponent = multiply(mantissa, exponent + largest, total)
    tl.store(lost + tl.program_id(0), tl.max(fades.to(tl.int32), 0) > 0)


@device
def segment_of(matrices, exponents, segment, n_states, STATES: tl.constexpr):
    """Return one segment's matrix and the exponents of its rows."""
    state = tl.arange(0, STATES)
    power = tl.load(exponents + segment * n_states + state, mask=state < n_states, other=0)
    return matrix_of(matrices, segment, n_states, n_states, 1, STATES), power


@device
def common_scale(weights, power):
    """Return the numbers weights · 2^power beside the largest of them, and its exponent."""
    digits, power = multiply(weights, power, 1)
    largest = tl.max(tl.where(digits > 0, power, _NEVER), 0)
    largest = tl.where(largest > _NEVER, largest, 0)
    return digits * tl.exp2(tl.where(digits > 0, power - largest, 0).to(digits.dtype)), largest
