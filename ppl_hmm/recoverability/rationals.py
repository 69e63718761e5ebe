"""Exact numbers: floats as integers, and linear equations solved in rational arithmetic.

Every float is an integer over a power of two. The arrays of a model are therefore integers up to one factor each, sums
of their products have exact signs, and no rounding is left to bound. As they are, rows sum to one only up to rounding:
they are non-negative weights, not quite laws. Heads on several masks would read in G what rounding has put there. So
:func:`laws` replaces the largest entry of each row by one minus the others, which moves it by that rounding alone.

Equations are solved by p-adic lifting (Dixon 1982): the solution modulo a prime gains a digit with each step, and the
rationals follow from their residues. What is returned was checked by products of integers.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ppl_hmm.errors import PplHmmError

# A minor that the first divides is unlikely, and one that all do hardly exists.
_PRIMES = (2**61 - 1, 2**89 - 1, 2**107 - 1, 2**127 - 1)
_FIRST_DIGITS = 8


def integers(values: ArrayLike) -> tuple[np.ndarray, int]:
    """Return n, Python integers in an array of the same shape, and e with values = n·2^−e exactly.

    Finite floats only; e is the smallest one, at least 0.
    """
    array = np.asarray(values, float)
    ratios = [value.as_integer_ratio() for value in array.ravel().tolist()]
    exponent = max((below.bit_length() - 1 for _, below in ratios), default=0)
    exact = np.empty(array.size, object)
    exact[:] = [above << (exponent + 1 - below.bit_length()) for above, below in ratios]
    return exact.reshape(array.shape), exponent


def laws(values: ArrayLike) -> tuple[np.ndarray, int]:
    """Return the same of distributions (…,n): each row sums to 2^e exactly, its first largest entry being the rest."""
    exact, exponent = integers(values)
    for row in exact.reshape(-1, exact.shape[-1]):
        row[row.argmax()] += (1 << exponent) - row.sum()
    return exact, exponent


def floats(values: np.ndarray) -> np.ndarray:
    """Return rationals (…) as the nearest floats, infinite beyond them."""
    return np.array([_float(value) for value in values.ravel()]).reshape(values.shape)


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def over_common(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return rationals (n,) as integers (n,) over their least common denominator, and that."""
    below = math.lcm(*(value.denominator for value in values))
    above = np.empty(len(values), object)
    above[:] = [value.numerator * (below // value.denominator) for value in values]
    return above, below


class Alternative(NamedTuple):
    """What holds of equations Mx = t: they have a solution, or some combination of them reads 0 = 1.

    Attributes
    ----------
    solution
        x (m,), rationals; None where there is none.
    obstruction
        y (n,), rationals with yᵀM = 0 and yᵀt ≠ 0; None where there is a solution.
    """

    solution: np.ndarray | None
    obstruction: np.ndarray | None


def solve(matrix: np.ndarray, target: np.ndarray) -> Alternative:
    """Solve matrix (n,m)·x = target (n,) for integers, or prove that no x does.

    The solution is basic: zero but for as many entries as the rank. Cost O(r³·bits) for rank r and entries of so many
    bits, in operations on numbers of one word.
    """
    for prime in _PRIMES:
        rows, columns = _pivots(matrix, prime)
        block = matrix[np.ix_(rows, columns)]
        solution = np.full(matrix.shape[1], Fraction(0), object)
        solution[columns] = _solve_square(block, target[rows], prime)
        above, below = over_common(solution)
        wrong = np.flatnonzero(matrix @ above != target * below)
        if not len(wrong):
            return Alternative(solution, None)
        obstruction = np.full(len(matrix), Fraction(0), object)
        obstruction[rows] = -_solve_square(block.T, matrix[wrong[0], columns], prime)
        obstruction[wrong[0]] = Fraction(1)
        above, _ = over_common(obstruction)
        if not (above @ matrix).any():  # else the prime divides a minor, and the rank is larger
            return Alternative(None, obstruction)
    raise PplHmmError("equations in rationals", "a prime that divides no minor", "none", "report this model and task")


def _pivots(matrix: np.ndarray, prime: int) -> tuple[list[int], list[int]]:
    """Return rows and columns, as many as the rank, whose block has an inverse modulo the prime, and so has one."""
    left = matrix % prime
    free, rows, columns = list(range(len(matrix))), [], []
    for column in range(matrix.shape[1]):
        row = next((row for row in free if left[row, column]), None)
        if row is None:
            continue
        free.remove(row)
        rows.append(row)
        columns.append(column)
        unit = left[row] * pow(left[row, column], -1, prime) % prime
        for other in free:
            left[other] = (left[other] - left[other, column] * unit) % prime
    return rows, columns


def _inverse(block: np.ndarray, prime: int) -> np.ndarray:
    """Return the inverse (r,r) modulo the prime, by Gauss and Jordan."""
    size = len(block)
    both = np.hstack([block % prime, np.array([[int(i == j) for j in range(size)] for i in range(size)], object)])
    for column in range(size):
        row = next(row for row in range(column, size) if both[row, column])
        both[[column, row]] = both[[row, column]]
        both[column] = both[column] * pow(both[column, column], -1, prime) % prime
        for other in range(size):
            if other != column:
                both[other] = (both[other] - both[other, column] * both[column]) % prime
    return both[:, size:]


def _solve_square(block: np.ndarray, target: np.ndarray, prime: int) -> np.ndarray:
    """Return the solution (r,), rationals, of equations whose matrix has an inverse modulo the prime."""
    if not len(block):
        return np.empty(0, object)
    inverse, residual = _inverse(block, prime), target
    residues, modulus, n_digits = 0 * target, 1, _FIRST_DIGITS
    while True:
        for _ in range(n_digits):
            digit = (inverse @ (residual % prime)) % prime
            residual = (residual - block @ digit) // prime
            residues, modulus = residues + digit * modulus, modulus * prime
        found = _reconstructed(residues, modulus)
        if found is not None:
            above, below = found
            if (block @ above == target * below).all():
                return np.array([Fraction(value, below) for value in above], object)
        n_digits *= 2


def _reconstructed(residues: np.ndarray, modulus: int) -> tuple[np.ndarray, int] | None:
    """Return numerators (r,) and one denominator with these residues, all small against the modulus; None if none."""
    bound, below = math.isqrt(modulus) // 2, 1
    for residue in residues:
        below *= _denominator(residue * below % modulus, modulus, bound)
        if below > bound:
            return None
    above = residues * below % modulus
    return np.where(above > modulus // 2, above - modulus, above), below


def _denominator(residue: int, modulus: int, bound: int) -> int:
    """Return the smallest d with residue·d, modulo the modulus, at most a bound in absolute value: Euclid's steps."""
    above, remainder, before, below = modulus, residue, 0, 1
    if modulus - residue <= bound:
        return 1
    while remainder > bound:
        quotient = above // remainder
        above, remainder = remainder, above - quotient * remainder
        before, below = below, before - quotient * below
    return abs(below)
