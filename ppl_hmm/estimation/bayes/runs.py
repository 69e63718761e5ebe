"""Runs of samplers, block by block, and the stores from which they go on.

    OUT/run.json            the configuration, written first: what belongs here and what does not
    OUT/blocks/00000.zarr   the state after the first block and, tuning apart, its draws; then 00001.zarr, …

Blocks are written aside and renamed, and know their files by hash: what is there is whole. A sampler remembers nothing
but its state, so that a run that goes on is, bit for bit, the run that was not interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.base import atomic, configured, hashed
from ppl_hmm.errors import ForeignFile
from ppl_hmm.estimation.bayes.sampler import Block, Sampler, State
from ppl_hmm.estimation.bayes.target import Target

#: Draws of a block: those that a kill may lose.
BLOCK_DRAWS = 25
_CONFIGURATION = "run.json"
_BLOCKS = "blocks"
_LAW, _STATISTIC, _STATE = "law_", "statistic_", "state_"

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How many draws of each chain tune the sampler, and how many are kept."""

    tune: int
    draws: int

    def blocks(self) -> Iterator[tuple[int, bool]]:
        """Yield the length of each block, and whether it tunes."""
        for total, tuning in ((self.tune, True), (self.draws, False)):
            for begin in range(0, total, BLOCK_DRAWS):
                yield min(BLOCK_DRAWS, total - begin), tuning


def run(
    sampler: Sampler,
    target: Target,
    start: Callable[[], State],
    schedule: Schedule,
    store: Store | None,
    progress: Progress | None,
) -> Block:
    """Return the draws of a schedule, those that a store has and the others; ``start`` is called where it has none.

    ``progress`` is called with (draws of each chain that are done and saved, draws in all).
    """
    blocks, total = list(schedule.blocks()), schedule.tune + schedule.draws
    report = progress or (lambda _done, _total: None)
    n_saved = 0 if store is None else store.n_whole(len(blocks))
    state = store.state(n_saved - 1) if store is not None and n_saved else None
    kept = [] if store is None else [store.block(n) for n in range(n_saved) if not blocks[n][1]]
    done = sum(n for n, _ in blocks[:n_saved])
    report(done, total)
    if state is None:
        state = start()
    for number, (n, tuning) in enumerate(blocks[n_saved:], n_saved):
        state, block = sampler.advance(target, state, n, tuning)
        if store is not None:
            store.write(number, state, None if tuning else block)
        if not tuning:
            kept.append(block)
        done += n
        report(done, total)
    return _joined(kept)


class Store:
    """The directory of one run.

    Raises
    ------
    ForeignFile
        ``path`` cannot be written, or holds something else, or a run of another configuration; nothing is changed.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = configured.hold(path, _CONFIGURATION, "run", settings)
        try:
            (self.path / _BLOCKS).mkdir(exist_ok=True)
        except OSError as error:
            raise ForeignFile(
                f"output {self.path}", "a directory that can be written", str(error), "choose another out"
            ) from None

    def n_whole(self, n_blocks: int) -> int:
        """Return how many blocks are there without a gap or damage; what is damaged is removed."""
        for number in range(n_blocks):
            place = self._place(number)
            if place.exists() and hashed.damaged_files(place):
                atomic.remove(place)
            if not place.exists():
                return number
        return n_blocks

    def write(self, number: int, state: State, block: Block | None) -> None:
        """Write a block and the state after it, whole or not at all."""
        variables = {_STATE + name: array for name, array in state.items()}
        by_draw: dict[str, torch.Tensor] = {}
        if block is not None:
            by_draw = {_LAW + name: law for name, law in block.laws.items()}
            by_draw |= {_STATISTIC + name: values for name, values in block.statistics.items()}
        dataset = xr.Dataset(
            {name: (_dimensions(name, array.ndim), array.numpy()) for name, array in variables.items()}
            | {
                name: ((schema.CHAIN, schema.DRAW, *_dimensions(name, array.ndim - 2)), array.numpy())
                for name, array in by_draw.items()
            }
        )
        hashed.write(dataset, self._place(number))

    def state(self, number: int) -> State:
        """Return the state after a block."""
        return self._read(number, _STATE)

    def block(self, number: int) -> Block:
        """Return the draws of a block."""
        return Block(self._read(number, _LAW), self._read(number, _STATISTIC))

    def _read(self, number: int, prefix: str) -> dict[str, torch.Tensor]:
        tree = hashed.read(self._place(number))
        if tree is None:
            remedy = "run the same command again: it draws what is damaged again"
            raise ForeignFile(f"block {number} in {self.path}", "a whole store", "a damaged one", remedy)
        return {
            str(name).removeprefix(prefix): torch.from_numpy(np.array(values))
            for name, values in tree.to_dataset().data_vars.items()
            if str(name).startswith(prefix)
        }

    def _place(self, number: int) -> Path:
        return self.path.resolve() / _BLOCKS / f"{number:05d}.zarr"


def _joined(blocks: list[Block]) -> Block:
    """Return the draws of several blocks, in order."""
    laws, statistics = zip(*((block.laws, block.statistics) for block in blocks), strict=True)
    return Block(
        {name: torch.cat([each[name] for each in laws], 1) for name in laws[0]},
        {name: torch.cat([each[name] for each in statistics], 1) for name in statistics[0]},
    )


def _dimensions(name: str, n: int) -> tuple[str, ...]:
    return tuple(f"{name}_{axis}" for axis in range(n))
