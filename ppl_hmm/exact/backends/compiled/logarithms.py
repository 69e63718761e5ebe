"""Logarithms of whole vectors: calls of the C library, one a token, would take as long as small steps.

With x = 2ᵏ·m and √½ ≤ m < √2, log x = k·log 2 + 2·artanh(r), r = (m−1)/(m+1): |r| < 0.172, so that few terms of
artanh(r) = r + r³/3 + r⁵/5 + … are needed. Exact to a few roundings, as m−1 is exact.
"""

from __future__ import annotations

import math

from llvmlite import ir

from ppl_hmm.exact.backends.compiled.compiling import instruction

_TERMS = 11  # the next one is below a rounding: 0.172²² / 23 < 2⁻⁵³
_ROOT_OF_HALF = 0x3FE6A09E667F3BCD  # the bits of √½
_SIGN_AND_EXPONENT = -1 << 52  # those bits of a float64


@instruction
def log(_typing, vector):
    """Return the natural logarithms of zeros and positive numbers in float64, none of them subnormal."""

    def generate(_context, builder, _signature, arguments):
        (value,) = arguments
        numbers, integers = value.type, ir.VectorType(ir.IntType(64), value.type.count)

        def constant(number, of=numbers):
            return ir.Constant(of, [number] * of.count)

        def multiply_add(left, right, addend):  # in one instruction where there is one
            return builder.fadd(builder.fmul(left, right, flags=("contract",)), addend, flags=("contract",))

        bits = builder.bitcast(value, integers)
        above = builder.sub(bits, constant(_ROOT_OF_HALF, integers))
        power = builder.sitofp(builder.ashr(above, constant(52, integers)), numbers)
        mantissa = builder.sub(bits, builder.and_(above, constant(_SIGN_AND_EXPONENT, integers)))
        mantissa = builder.bitcast(mantissa, numbers)
        ratio = builder.fdiv(builder.fsub(mantissa, constant(1.0)), builder.fadd(mantissa, constant(1.0)))
        square = builder.fmul(ratio, ratio)
        series = constant(2 / (2 * _TERMS - 1))
        for term in range(_TERMS - 2, -1, -1):
            series = multiply_add(series, square, constant(2 / (2 * term + 1)))
        logarithm = multiply_add(power, constant(math.log(2)), builder.fmul(series, ratio))
        positive = builder.fcmp_ordered(">", value, constant(0.0))
        return builder.select(positive, logarithm, constant(-math.inf))

    return vector(vector), generate
