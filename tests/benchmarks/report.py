"""Write docs/performance.md from measurements: prose stays, what lies between its markers is generated.

``python -m benchmarks.report results/benchmarks.json`` reads what pytest-benchmark wrote, and keeps the seconds beside
the page. Runs on a CPU and on a GPU fill parts of their own, and neither touches the other's. The exit status is 1
where a peer was faster.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks import figures
from benchmarks.records import OWN, SECTIONS, Comparison, Measurements, Scaling

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "performance.md"
BESIDE = DOCS / "_static" / "performance"
KEPT = {"cpu": BESIDE / "measurements.json", "gpu": BESIDE / "gpu-measurements.json"}


def main(source: str) -> int:
    measurements = Measurements.from_pytest_benchmark(json.loads(Path(source).read_text()))
    BESIDE.mkdir(parents=True, exist_ok=True)
    KEPT[measurements.device].write_text(json.dumps(measurements.as_json(), separators=(",", ":")) + "\n")
    PAGE.write_text(filled(PAGE.read_text(), measurements))
    if measurements.device == "cpu":
        figures.draw(measurements, BESIDE)
    print(missed(measurements))
    print(*measurements.slower, sep="\n")
    return 1 if measurements.slower else 0


def filled(page: str, measurements: Measurements) -> str:
    """Return the page with the parts that were measured written anew."""
    of_device = "" if measurements.device == "cpu" else "gpu "
    parts = {f"{of_device}machine": machine(measurements), f"{of_device}missed": missed(measurements)}
    if measurements.scalings:
        parts["scaling"] = scaling_table(measurements)
    for section in SECTIONS:
        chosen = [one for one in measurements.comparisons if one.section == section]
        if chosen:
            parts[section] = comparison_table(chosen)

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{parts[match[2]]}\n\n{match[3]}" if match[2] in parts else match[0]

    return re.sub(r"(<!-- begin ([a-z ]+) -->).*?(<!-- end -->)", part, page, flags=re.DOTALL)


def machine(measurements: Measurements) -> str:
    return table(("", ""), measurements.machine.items())


def comparison_table(comparisons: list[Comparison]) -> str:
    """Return a row for each of the others that we were measured beside."""
    header = ("quantity", "B×T×K", "precision", "ns per token", "beside", "its ns per token", "we are", "aim", "")
    rows = [
        (
            one.quantity,
            str(one.shape),
            one.dtype,
            digits(one.nanoseconds(OWN)),
            other,
            digits(one.nanoseconds(other)),
            outcome(one, other),
            aim(one, other),
            verdict(one, other),
        )
        for one in comparisons
        for other in one.seconds
        if other != OWN
    ]
    return table(header, rows)


def outcome(one: Comparison, other: str) -> str:
    """Return the median ratio in words."""
    ratio = one.ratio(other)
    if other in one.within:
        return f"{digits(1 / ratio)}× its time"
    return f"{digits(ratio)}× faster" if ratio > 1 else f"{digits(1 / ratio)}× slower"


def aim(one: Comparison, other: str) -> str:
    if other in one.within:
        return f"within {one.within[other]:g}×"
    if other not in one.faster:
        return ""
    return "faster" if one.faster[other] is None else f"{one.faster[other]:g}× faster"


def verdict(one: Comparison, other: str) -> str:
    if other in one.slower_than:
        return "**slower**"
    by = one.missed_by(other)
    if by is None:
        return "met" if other in one.faster else ""
    return f"missed by {by:.0%}" if by else "met"


def scaling_table(measurements: Measurements) -> str:
    """Return a row for each dimension: the exponent of our time, and the time at each size."""
    header = ("in", "B×T×K at most", "exponent", "aim", "", "ns per token by size")
    return table(header, (_scaling_row(one) for one in measurements.scalings))


def _scaling_row(one: Scaling) -> tuple[str, ...]:
    smallest, largest = one.aim
    wanted = f"{smallest:g} to {largest:g}" if smallest else f"at most {largest:g}"
    found = f"missed by {one.missed_by:.2f}" if one.missed_by else "met"
    times = ", ".join(f"{size}: {digits(time)}" for size, time in one.nanoseconds(OWN).items())
    return one.dimension, str(one.shape), f"{one.exponent:.2f} (from {one.fitted_from} on)", wanted, found, times


def missed(measurements: Measurements) -> str:
    """Return a list of the aims that were missed, each with how much."""
    lines = [
        f"- {one.quantity}, {one.dtype}, {one.shape}, beside {other}: {outcome(one, other)}, aim {aim(one, other)}"
        f" ({verdict(one, other).strip('*')})"
        for one in measurements.by_section()
        for other in one.seconds
        if other in one.slower_than or one.missed_by(other)
    ]
    lines += [
        f"- exponent in {one.dimension}: {one.exponent:.2f}, missed by {one.missed_by:.2f}"
        for one in measurements.scalings
        if one.missed_by
    ]
    return "\n".join(lines) or "None."


def digits(value: float) -> str:
    """Return two decimals of what is small, none of what is large."""
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    header = tuple(header)
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
