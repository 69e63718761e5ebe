"""What an experiment is configured by, and the cells it falls into.

A cell is one point of the grid and a fixed block of seeds, whose models may train together. The layout depends on the
configuration alone, so that results do not depend on who computes which cell.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import quote

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.experiments.engine.axes import Axis, Scalar

if TYPE_CHECKING:  # the command line reads settings, and must start without xarray
    import xarray as xr


@dataclasses.dataclass(frozen=True)
class Cell:
    """The unit of work: one value of each axis, and seeds that are computed together."""

    name: str  # in the store
    point: Mapping[str, Scalar]  # dimension of an axis: its value
    seeds: tuple[int, ...]

    def __getitem__(self, dimension: str) -> Any:
        """Return the value of an axis."""
        one_of("axis", dimension, self.point)
        return self.point[dimension]

    @property
    def labels(self) -> dict[str, list[Scalar]]:
        """Labels of the cell along each dimension of the grid; the seeds are the last."""
        return {**{name: [value] for name, value in self.point.items()}, schema.SEED: list(self.seeds)}


#: The settings of every experiment that is defined, by its name.
DEFINED: dict[str, type[Settings]] = {}


class Settings:
    """Everything that determines the numbers of an experiment.

    Subclass it as a frozen dataclass. Its definition registers it under ``experiment``, so that stores are read back;
    its fields are numbers, strings, truth values or tuples of these. Refuse bad values in ``__post_init__``: nothing is
    written before.

    Attributes
    ----------
    experiment
        Name of the experiment, its own.
    n_seeds
        Seeds 0..n_seeds−1 at each point of the grid: a field of each subclass.
    threads
        Threads of linear algebra in a cell, 1; a subclass that declares it as a field lets it be set.
    seeds_per_cell
        Seeds that are computed together, and lie together on disk: 5; 1 where each takes long and they share nothing.

    Raises
    ------
    InvalidInput
        When a class is defined under the name of another.

    See Also
    --------
    ppl_hmm.experiments.run_experiment : compute an experiment

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Sizes(Settings):
    ...     experiment = "sizes"
    ...     sizes: tuple[int, ...] = (4, 8)
    ...     n_seeds: int = 7
    ...
    ...     def axes(self):
    ...         return (Axis("size", self.sizes),)
    >>> [cell.name for cell in Sizes().cells()]
    ['size-4-seeds-0-4', 'size-4-seeds-5-6', 'size-8-seeds-0-4', 'size-8-seeds-5-6']
    """

    experiment: ClassVar[str]
    seeds_per_cell: ClassVar[int] = 5
    n_seeds: int
    threads: int = 1

    def __init_subclass__(cls, **options: Any) -> None:
        """Enter a class into :data:`DEFINED` under its ``experiment``; its own definition may be repeated."""
        super().__init_subclass__(**options)
        if "experiment" not in cls.__dict__:
            return
        other = DEFINED.get(cls.experiment, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise InvalidInput(
                f"experiment {cls.experiment!r}",
                "a name of its own",
                f"that of {other.__module__}.{other.__qualname__}",
                "choose another name",
            )
        DEFINED[cls.experiment] = cls

    def axes(self) -> tuple[Axis, ...]:
        """Return the axes of the grid, at least one; the seeds come after them by themselves."""
        raise NotImplementedError(f"{type(self).__name__}.axes")

    def cost(self, cell: Cell) -> float:  # noqa: ARG002 (what subclasses answer from)
        """Return the relative time of a cell: the longest are computed first."""
        return 0.0

    def references(self) -> dict[str, xr.Dataset]:
        """Return what stands beside the results in the tree, by group: published numbers, for example."""
        return {}

    def cells(self) -> list[Cell]:
        """Return the cells, those of the highest cost first: the longest work must not come last."""
        return sorted(self._cells(), key=self.cost, reverse=True)

    def _cells(self) -> Iterator[Cell]:
        axes = self.axes()
        for values in itertools.product(*(axis.values for axis in axes)):
            point = {axis.dimension: value for axis, value in zip(axes, values, strict=True)}
            names = [f"{axis.label}-{quote(str(value), safe='')}" for axis, value in zip(axes, values, strict=True)]
            for start in range(0, self.n_seeds, self.seeds_per_cell):
                seeds = tuple(range(start, min(start + self.seeds_per_cell, self.n_seeds)))
                yield Cell("-".join([*names, f"seeds-{seeds[0]}-{seeds[-1]}"]), point, seeds)

    def as_attributes(self) -> dict[str, Any]:
        """Return the settings as attributes of a store."""
        values = {"experiment": self.experiment, **dataclasses.asdict(cast(Any, self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check_whole_numbers(settings: Any, smallest: Mapping[str, int]) -> None:
    """Make fields of integers integers; raise :class:`InvalidInput` for one below its smallest, by default one."""
    for field in dataclasses.fields(settings):
        if field.type == "int":
            value = at_least(field.name, getattr(settings, field.name), smallest.get(field.name, 1))
            object.__setattr__(settings, field.name, value)


def require_grid(settings: Settings) -> None:
    """Raise :class:`InvalidInput` unless the axes and seeds of settings make a grid."""
    at_least("n_seeds", settings.n_seeds, 1)
    axes = settings.axes()
    if not isinstance(axes, tuple) or not axes or not all(isinstance(axis, Axis) for axis in axes):
        raise InvalidInput(
            f"axes of {settings.experiment}", "a tuple of at least one Axis", repr(axes), "return e.g. (Axis(…),)"
        )
    dimensions = [axis.dimension for axis in axes]
    if len(set(dimensions)) < len(dimensions):
        raise InvalidInput(f"axes of {settings.experiment}", "different names", ", ".join(dimensions), "rename one")
    names = [cell.name.casefold() for cell in settings.cells()]
    if len(set(names)) < len(names):
        raise InvalidInput(
            f"axes of {settings.experiment}", "values that name different files", str(axes), "rename the values"
        )
