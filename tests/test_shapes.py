"""The checks of shapes that the other tests run under find what is wrong, in any place."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import shapes
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, Int

from ppl_hmm.exact import chain

Matrix = Float[np.ndarray, "n m"]
Vector = Float[np.ndarray, "m"]
Result = Float[np.ndarray, "n"]
Anything = Int[np.ndarray, "..."]


@shapes.checked
def product(left: Matrix, right: Vector, change=lambda result: result) -> Result:
    return change(left @ right)


@shapes.checked
def rows_of(matrix: Matrix) -> Iterator[Vector]:
    yield from matrix


@shapes.checked
def first_of(matrices: Vector, matrix: Matrix) -> Vector:
    next(rows_of(matrix[:, :1]))
    return matrices


def in_an_inner_function(value):
    @shapes.checked
    def inner(given: Vector) -> Vector:
        return value

    return inner(np.zeros(2))


@shapes.checked
@dataclasses.dataclass
class Pair:
    one: Vector
    other: Vector

    @shapes.checked
    def same(self, count: Anything) -> "Pair":
        return self if count.sum() else count


FLOATS, NUMBERS = np.zeros((3, 2)), np.ones(2, int)


def test_what_agrees_passes():
    assert product(FLOATS, np.ones(2)).shape == (3,)
    assert product(FLOATS[:2], np.ones(2)).shape == (2,)  # sizes are those of one call
    for value in (np.zeros(2), np.ones(2)):
        assert in_an_inner_function(value) is value
    assert first_of(FLOATS[0], FLOATS) is not None  # a generator's sizes are its own
    pair = Pair(FLOATS[0], FLOATS[1])
    assert pair.same(NUMBERS) is pair is pair.same(NUMBERS[None])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: product(FLOATS, np.ones(3)),
        lambda: product(FLOATS, NUMBERS),
        lambda: product(FLOATS, np.ones(2), change=lambda result: result[1:]),
        lambda: in_an_inner_function(np.zeros(3)),
        lambda: Pair(FLOATS[0], FLOATS[:, 0]),
        lambda: Pair(FLOATS[0], FLOATS[1]).same(FLOATS),
        lambda: Pair(FLOATS[0], FLOATS[1]).same(0 * NUMBERS),
        lambda: chain.log_evidence(None, None, None, None),
    ],
)
def test_what_does_not_is_found(wrong):
    for _ in range(2):  # what is remembered changes nothing
        with pytest.raises(BeartypeCallHintViolation):
            wrong()
