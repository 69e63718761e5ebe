"""Pieces of LLVM code that the instructions on vectors are written with."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils


def address(context, builder, signature, arguments, vector):
    """Return the address of ``array[index]``, the first two arguments, as that of a vector."""
    array_type = signature.args[0]
    array = context.make_array(array_type)(context, builder, arguments[0])
    index = cgutils.unpack_tuple(builder, arguments[1], array_type.ndim)
    pointer = cgutils.get_item_pointer(context, builder, array_type, array, index)
    return builder.bitcast(pointer, vector.as_pointer())


def itemsize(array):
    """Return the bytes of an entry of an array of this type."""
    return array.dtype.bitwidth // 8


def call(builder, name, result, arguments, suffix="", of=None, fastmath=()):
    """Call LLVM's function of this name for vectors like ``of``."""
    of = of or result
    bits = 32 if of.element == ir.FloatType() else 64
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    full_name = f"llvm.{name}.v{of.count}f{bits}{suffix}"
    function = cgutils.get_or_insert_function(builder.module, signature, full_name)
    return builder.call(function, arguments, fastmath=fastmath)


def spread(builder, number, vector):
    """Return a vector of this type that holds one number throughout."""
    undefined = ir.Constant(vector, ir.Undefined)
    in_first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(in_first, undefined, zeros(ir.VectorType(ir.IntType(32), vector.count)))


def first(builder, vector, count):
    """Return the mask of the first ``count`` lanes."""
    numbers = ir.VectorType(ir.IntType(64), vector.count)
    return builder.icmp_signed("<", ir.Constant(numbers, list(range(vector.count))), spread(builder, count, numbers))


def zeros(vector):
    """Return the vector of this type that holds zeros."""
    return ir.Constant(vector, None)
