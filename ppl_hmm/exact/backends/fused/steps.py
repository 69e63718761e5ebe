"""The steps of the recursions on a block of sequences, as functions of a GPU kernel.

A *law* is a block (B,K) of weights on chip: B sequences that take each step together, K states padded with zeros to a
power of two. As in :mod:`ppl_hmm.exact.backends.compiled.steps`, a law is normalised one step late: it waits as it is
while its total is summed, and the next weighing divides by that total on the way. What was divided by is multiplied up
as a pair, mantissa · 2^exponent, of which only the mantissa is rounded; logarithms are taken where they are asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

#: Sizes that differ from call to call and that no kernel is specialised to.
_SIZES = (
    *("n_sequences", "n_segments", "length", "repeats", "wrap", "of_models"),
    *("n_rows", "n_slots", "first_slot", "n_sums"),
)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile for the GPU at the first call with each kind of argument; Triton keeps the machine code on disk."""
    # What tests wrap around functions to check shapes is not for the compiler.
    return triton.jit(do_not_specialize=_SIZES)(inspect.unwrap(function))


def device(function: Callable[..., Any]) -> Any:
    """Compile as part of the kernels that call it."""
    return triton.jit(inspect.unwrap(function))


@device
def block_of_sequences(n_sequences, BLOCK: tl.constexpr):
    """Return the model of this program, its sequences' numbers, and which of them exist."""
    per_model = tl.cdiv(n_sequences, BLOCK)
    sequence = tl.program_id(0) % per_model * BLOCK + tl.arange(0, BLOCK)
    return (tl.program_id(0) // per_model).to(tl.int64), sequence, sequence < n_sequences


@device
def matrix_of(matrices, model, n_states, row_stride, column_stride, STATES: tl.constexpr):
    """Return one model's matrix (K,K), or its transpose by exchanged strides, padded with zeros."""
    state = tl.arange(0, STATES)
    inside = (state[:, None] < n_states) & (state[None, :] < n_states)
    entries = state[:, None] * row_stride + state[None, :] * column_stride
    return tl.load(matrices + model * n_states * n_states + entries, mask=inside, other=0)


@device
def get(laws, place, asked, n_states, STATES: tl.constexpr):
    """Return the asked laws at their places in an array (…,K), padded with zeros."""
    state = tl.arange(0, STATES)
    inside = asked[:, None] & (state[None, :] < n_states)
    return tl.load(laws + (place * n_states)[:, None] + state[None, :], mask=inside, other=0)


@device
def put(laws, place, law, asked, n_states, STATES: tl.constexpr):
    """Write the asked laws, without their padding, to their places in an array (…,K)."""
    state = tl.arange(0, STATES)
    inside = asked[:, None] & (state[None, :] < n_states)
    tl.store(laws + (place * n_states)[:, None] + state[None, :], law, mask=inside)


@device
def nothing_counted(law, BLOCK: tl.constexpr):
    """Return a total to divide by and a scale, all one."""
    return tl.full([BLOCK], 1, law.dtype), tl.full([BLOCK], 1, law.dtype), tl.zeros([BLOCK], tl.int32)


@device
def likelihood_of(table, ids, model, t, sequence, exists, length, of_models, n_rows, n_states, STATES: tl.constexpr):
    """Return row t's likelihoods (B,K), read where they lie in the table, and which sequences have such a row."""
    state = tl.arange(0, STATES)
    token = tl.load(ids + model * of_models + sequence.to(tl.int64) * length + t, mask=exists, other=-1)
    live = token >= 0
    inside = live[:, None] & (state[None, :] < n_states)
    row = (model * n_rows + token) * n_states
    return tl.load(table + row[:, None] + state[None, :], mask=inside, other=0), live


@device
def advance(law, matrix):
    """Return law'[b,j] = Σ_k law[b,k] · matrix[k,j], in full precision."""
    return tl.dot(law, matrix, input_precision="ieee", out_dtype=law.dtype)


@device
def weigh(law, likelihood, divisor):
    """Return law · likelihood / divisor, state by state; a divisor of zero belongs to a law of no weight."""
    return law * (likelihood * (1 / tl.where(divisor > 0, divisor, 1))[:, None])


@device
def combine(law, message):
    """Return law · message, normalised, and its total; zero rows where the total is zero."""
    both = law * message
    total = tl.sum(both, 1)
    return both * tl.where(total > 0, 1 / tl.where(total > 0, total, 1), 0)[:, None], total


@device
def fainter(faintest, law):
    """Return the smaller of ``faintest`` and the positive weights of the law, entry by entry."""
    return tl.minimum(faintest, tl.where(law > 0, law, float("inf")))


@device
def multiply(mantissa, exponent, factor):
    """Return mantissa · 2^exponent · factor as a mantissa in [1, 2), or zero, and an exponent.

    By the bits of the float: a sign, the exponent, and the mantissa's digits.
    """
    product = mantissa * factor
    if product.dtype == tl.float64:
        bits = product.to(tl.int64, bitcast=True)
        shift = ((bits >> 52) - 1023).to(tl.int32)
        digits = ((bits & 0xFFFFFFFFFFFFF) | (1023 << 52)).to(tl.float64, bitcast=True)
    else:
        bits = product.to(tl.int32, bitcast=True)
        shift = (bits >> 23) - 127
        digits = ((bits & 0x7FFFFF) | (127 << 23)).to(tl.float32, bitcast=True)
    positive = product > 0
    return tl.where(positive, digits, 0), exponent + tl.where(positive, shift, 0)


@device
def logarithm(mantissa, exponent):
    """Return the natural logarithm of mantissa · 2^exponent, −inf for zero."""
    positive = mantissa > 0
    value = tl.log(tl.where(positive, mantissa, 1)) + exponent.to(mantissa.dtype) * 0.6931471805599453
    return tl.where(positive, value, float("-inf"))


@device
def step_forward(law, total, mantissa, exponent, predicted, likelihood, live):
    """Return the law after one more row, its total, and the scale that leaves this total out.

    What is not ``live`` has no more rows and stays as it is.
    """
    weighed = weigh(predicted, likelihood, total)
    mantissa, exponent = multiply(mantissa, exponent, tl.where(live, total, 1))
    return (
        tl.where(live[:, None], weighed, law),
        tl.where(live, tl.sum(weighed, 1), total),
        mantissa,
        exponent,
    )


@device
def step_backward(message, total, mantissa, exponent, reverse, likelihood, live):
    """Return the message to the state before a row, the total it is yet to be divided by, and the message's scale."""
    weighed = weigh(message, likelihood, total)
    mantissa, exponent = multiply(mantissa, exponent, tl.where(live, total, 1))
    return (
        tl.where(live[:, None], advance(weighed, reverse), message),
        tl.where(live, tl.sum(weighed, 1), total),
        mantissa,
        exponent,
    )
