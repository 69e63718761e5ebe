"""What was measured, as plain records that go to JSON and come back; and what they say of the aims."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import numpy as np

OWN = "ppl_hmm"
SECTIONS = ("smoothing", "beliefs", "quantities", "many states", "gpu")  # of the page
Seconds = dict[str, list[float]]  # by name, one a round


@dataclasses.dataclass(frozen=True)
class Shape:
    """Texts B of length T, by a model of K states and V tokens."""

    texts: int
    length: int
    states: int
    vocabulary: int

    def __str__(self) -> str:
        return f"{self.texts}×{self.length}×{self.states}"

    @property
    def tokens(self) -> int:
        return self.texts * self.length


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One quantity, of one shape, by us and by others, measured side by side.

    ``faster`` are those that we must be faster than, each with how many times faster we aim to be, if any; ``within``
    are limits, each with how many times its time we aim to stay within. Others in ``seconds`` are there to compare.
    """

    section: str  # one of SECTIONS
    quantity: str
    dtype: str
    shape: Shape
    seconds: Seconds
    faster: dict[str, float | None] = dataclasses.field(default_factory=dict)
    within: dict[str, float] = dataclasses.field(default_factory=dict)

    def ratio(self, other: str) -> float:
        """Return the median over rounds of another's time by ours."""
        return statistics.median(b / a for a, b in zip(self.seconds[OWN], self.seconds[other], strict=True))

    def nanoseconds(self, name: str) -> float:
        """Return the median time per token."""
        return 1e9 * statistics.median(self.seconds[name]) / self.shape.tokens

    @property
    def slower_than(self) -> list[str]:
        """Return those that we must be faster than and are not."""
        return [other for other in self.faster if self.ratio(other) <= 1]

    def missed_by(self, other: str) -> float | None:
        """Return how far from its aim our time is, as a share of the time aimed at: 0 where met, None without aim."""
        if other in self.within:
            return max(0.0, 1 / self.ratio(other) / self.within[other] - 1)
        aim = self.faster.get(other)
        return None if aim is None else max(0.0, aim / self.ratio(other) - 1)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Time of one quantity by the size of one dimension, the others fixed, all measured side by side."""

    dimension: str  # a field of Shape
    dtype: str
    shape: Shape  # the largest
    curves: dict[str, dict[int, list[float]]]  # seconds of each round, by name and size
    fitted_from: int  # the smallest size that the exponent is fitted to
    aim: tuple[float, float]  # the exponent's smallest and largest value

    def nanoseconds(self, name: str) -> dict[int, float]:
        """Return the median time per token by size."""
        shapes = {size: dataclasses.replace(self.shape, **{self.dimension: size}) for size in self.curves[name]}
        return {size: 1e9 * statistics.median(self.curves[name][size]) / shapes[size].tokens for size in shapes}

    @property
    def exponent(self) -> float:
        """Return the slope of our time on logarithmic axes."""
        sizes = [size for size in self.curves[OWN] if size >= self.fitted_from]
        medians = [statistics.median(self.curves[OWN][size]) for size in sizes]
        return float(np.polyfit(np.log(sizes), np.log(medians), 1)[0])

    @property
    def missed_by(self) -> float:
        """Return how far the exponent is from what is aimed at, 0 where met."""
        smallest, largest = self.aim
        return max(0.0, smallest - self.exponent, self.exponent - largest)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """All records of one run, and the machine they were taken on."""

    machine: dict[str, str]
    comparisons: list[Comparison]
    scalings: list[Scaling]

    @property
    def device(self) -> str:
        """Return "gpu" where the run was about one, else "cpu"."""
        return "gpu" if any(one.section == "gpu" for one in self.comparisons) else "cpu"

    def by_section(self) -> list[Comparison]:
        """Return the comparisons in the page's order."""
        return sorted(self.comparisons, key=lambda one: SECTIONS.index(one.section))

    @property
    def slower(self) -> list[str]:
        """Say where a peer was faster: what must not be."""
        return [
            f"{one.quantity}, {one.dtype}, {one.shape}: {other} is faster"
            for one in self.by_section()
            for other in one.slower_than
        ]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Measurements:
        return cls(
            read["machine"],
            [Comparison(**one | {"shape": Shape(**one["shape"])}) for one in read["comparisons"]],
            [_scaling(one) for one in read["scalings"]],
        )

    @classmethod
    def from_pytest_benchmark(cls, report: dict[str, Any]) -> Measurements:
        """Return what the benchmarks left in pytest-benchmark's own report."""
        left = [benchmark["extra_info"] for benchmark in report["benchmarks"]]
        read = {kind: [one[kind] for one in left if kind in one] for kind in ("comparison", "scaling")}
        machine = {"date": report["datetime"][:10], **report["machine_info"]["ppl_hmm"]}
        return cls.from_json({"machine": machine, "comparisons": read["comparison"], "scalings": read["scaling"]})


def _scaling(read: dict[str, Any]) -> Scaling:
    curves = {
        name: {int(size): seconds for size, seconds in by_size.items()} for name, by_size in read["curves"].items()
    }
    return Scaling(**read | {"shape": Shape(**read["shape"]), "curves": curves, "aim": tuple(read["aim"])})
