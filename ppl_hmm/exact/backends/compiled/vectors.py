"""Vectors of the machine's width as values in compiled loops.

A :class:`~ppl_hmm.exact.backends.compiled.registers.Vector` holds as many neighbouring entries of an array as one
register does. Loops written with them are fused and stay in registers, whatever the number of states. Each function
below is one instruction or a few; all work inside compiled functions only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from ppl_hmm.exact.backends.compiled.compiling import instruction
from ppl_hmm.exact.backends.compiled.llvm import address, call, first, itemsize, spread, zeros
from ppl_hmm.exact.backends.compiled.registers import Vector


@instruction
def load(typing, array, index):
    """Return the entries of the array from ``index`` on."""
    vector = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        value = context.get_value_type(vector)
        pointer = address(context, builder, signature, arguments, value)
        return builder.load(pointer, align=itemsize(array), typ=value)

    return vector(array, index), generate


@instruction
def entry(typing, array, index):
    """Return one entry, as ``array[index]`` does with more ado: numba lets indices count from the end."""

    def generate(context, builder, signature, arguments):
        value = context.get_value_type(array.dtype)
        return builder.load(address(context, builder, signature, arguments, value), typ=value)

    return array.dtype(array, index), generate


@instruction
def store(typing, array, index, vector):
    """Write the vector to the array from ``index`` on."""

    def generate(context, builder, signature, arguments):
        pointer = address(context, builder, signature, arguments, arguments[2].type)
        builder.store(arguments[2], pointer, align=itemsize(array))
        return context.get_dummy_value()

    return types.none(array, index, vector), generate


@instruction
def put(typing, array, index, number):
    """Write one entry, as ``array[index] = number`` does with more ado."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], address(context, builder, signature, arguments, arguments[2].type))
        return context.get_dummy_value()

    return types.none(array, index, array.dtype), generate


@instruction
def add_to(typing, array, index, number):
    """Add a number to one entry."""

    def generate(context, builder, signature, arguments):
        pointer = address(context, builder, signature, arguments, arguments[2].type)
        value = builder.load(pointer, typ=arguments[2].type)
        builder.store(builder.fadd(value, arguments[2]), pointer)
        return context.get_dummy_value()

    return types.none(array, index, array.dtype), generate


@instruction
def load_first(typing, array, index, count):
    """Return the first ``count`` entries from ``index`` on, then zeros; nothing beyond them is read."""
    vector = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        value = context.get_value_type(vector)
        pointer = address(context, builder, signature, arguments, value)
        mask = first(builder, value, arguments[2])
        return call(builder, "masked.load", value, [pointer, mask, zeros(value)], suffix=".p0")

    return vector(array, index, types.int64), generate


@instruction
def store_first(typing, array, index, vector, count):
    """Write the first ``count`` entries of the vector; nothing beyond them is touched."""

    def generate(context, builder, signature, arguments):
        value = arguments[2]
        pointer = address(context, builder, signature, arguments, value.type)
        mask = first(builder, value.type, arguments[3])
        call(builder, "masked.store", ir.VoidType(), [value, pointer, mask], suffix=".p0", of=value.type)
        return context.get_dummy_value()

    return types.none(array, index, vector, types.int64), generate


@instruction
def accumulate(typing, array, index, vector):
    """Add the vector to the entries of the array, which may be of a wider type."""

    def generate(context, builder, signature, arguments):
        wide = ir.VectorType(context.get_value_type(array.dtype), vector.lanes)
        pointer = address(context, builder, signature, arguments, wide)
        value = arguments[2] if array.dtype == vector.dtype else builder.fpext(arguments[2], wide)
        total = builder.fadd(builder.load(pointer, align=itemsize(array), typ=wide), value)
        builder.store(total, pointer, align=itemsize(array))
        return context.get_dummy_value()

    return types.none(array, index, vector), generate


@instruction
def fill(typing, array, number):
    """Return a vector of the array's type that holds one number throughout."""
    vector = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        return spread(builder, arguments[1], context.get_value_type(vector))

    return vector(array, array.dtype), generate


@instruction
def fma(typing, number, vector, total):
    """Return total + number · vector."""

    def generate(context, builder, signature, arguments):
        number, factor, total = arguments
        return call(builder, "fmuladd", factor.type, [spread(builder, number, factor.type), factor, total])

    return vector(vector.dtype, vector, vector), generate


@instruction
def multiply_add(typing, left, right, total):
    """Return total + left · right."""

    def generate(context, builder, signature, arguments):
        return call(builder, "fmuladd", arguments[0].type, arguments)

    return left(left, left, left), generate


def _elementwise(operation: Callable[..., Any]) -> Callable[..., Any]:
    @instruction
    def function(typing, left, right):
        def generate(context, builder, signature, arguments):
            return operation(builder, *arguments)

        return left(left, right), generate

    return function


def _quotient(builder, left, right):
    positive = builder.fcmp_ordered(">", right, zeros(right.type))
    return builder.select(positive, builder.fdiv(left, right), zeros(right.type))


def _smaller_positive(builder, left, right):
    positive = builder.fcmp_ordered(">", right, zeros(right.type))
    return builder.select(
        builder.and_(positive, builder.fcmp_ordered("<", right, left)),
        right,
        left,
    )


plus = _elementwise(lambda builder, left, right: builder.fadd(left, right))
times = _elementwise(lambda builder, left, right: builder.fmul(left, right))
smaller = _elementwise(lambda builder, left, right: builder.select(builder.fcmp_ordered("<", right, left), right, left))
quotient = _elementwise(_quotient)  # zero where the right entry is
larger = _elementwise(lambda builder, left, right: builder.select(builder.fcmp_ordered(">", right, left), right, left))
smaller_positive = _elementwise(_smaller_positive)  # the right entry where it is positive and smaller, else the left


@instruction
def without(typing, vector):
    """Return one minus the entries."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        return builder.fsub(ir.Constant(value.type, [1.0] * value.type.count), value)

    return vector(vector), generate


@instruction
def total(typing, vector):
    """Return the sum of the entries."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        zero = ir.Constant(value.type.element, -0.0)
        return call(
            builder, "vector.reduce.fadd", value.type.element, [zero, value], of=value.type, fastmath=("reassoc",)
        )

    return vector.dtype(vector), generate


@instruction
def largest(typing, vector):
    """Return the largest entry."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        return call(builder, "vector.reduce.fmax", value.type.element, [value], of=value.type)

    return vector.dtype(vector), generate


@instruction
def smallest(typing, vector):
    """Return the smallest entry."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        return call(builder, "vector.reduce.fmin", value.type.element, [value], of=value.type)

    return vector.dtype(vector), generate


@instruction
def any_below(typing, vector, number):
    """Say whether some entry is below the number."""

    def generate(context, builder, signature, arguments):
        value, number = arguments
        below = builder.fcmp_ordered("<", value, spread(builder, number, value.type))
        bits = builder.bitcast(below, ir.IntType(value.type.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(vector, vector.dtype), generate


@instruction
def partial_sums(typing, vector):
    """Return the sums of the entries up to each, in as few steps as doublings make all of them."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        count = value.type.count
        for shift in (1 << power for power in range(count.bit_length() - 1)):
            places = [count + lane if lane < shift else lane - shift for lane in range(count)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), count), places)
            value = builder.fadd(value, builder.shuffle_vector(value, zeros(value.type), mask))
        return value

    return vector(vector), generate


@instruction
def last(typing, vector):
    """Return the last entry."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        return builder.extract_element(value, ir.Constant(ir.IntType(32), value.type.count - 1))

    return vector.dtype(vector), generate


@instruction
def count_up_to(typing, vector, number):
    """Return how many entries are at most the number."""

    def generate(context, builder, signature, arguments):
        value, number = arguments
        chosen = builder.fcmp_ordered("<=", value, spread(builder, number, value.type))
        bits = builder.bitcast(chosen, ir.IntType(value.type.count))
        return builder.zext(builder.ctpop(bits), ir.IntType(64))

    return types.int64(vector, vector.dtype), generate
