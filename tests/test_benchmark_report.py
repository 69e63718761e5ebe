"""The page of timings says what was measured: verdicts follow from seconds, and the committed page from its numbers."""

import dataclasses
import json

import pytest
from benchmarks import figures, report
from benchmarks.records import OWN, SECTIONS, Comparison, Measurements, Scaling, Shape

SHAPE = Shape(10, 100, 4, 5)
CURVE = {10: [1e-4] * 3, 100: [1e-3] * 3, 1000: [1e-2] * 3}
PAGE = "# Title\n<!-- begin smoothing -->\nold\n<!-- end -->\nprose\n<!-- begin missed -->\n<!-- end -->\n"


def comparison(**facts):
    seconds = {OWN: [1e-3, 2e-3, 1e-3], "peer": [3e-3, 6e-3, 2e-3], "limit": [5e-4, 1e-3, 5e-4]}
    return Comparison("smoothing", "marginals", "float32", SHAPE, seconds, **facts)


def scaling(curve=CURVE):
    return Scaling("texts", "float32", dataclasses.replace(SHAPE, texts=1000), {OWN: curve}, 10, (0.9, 1.1))


def measurements(*comparisons, scalings=()):
    return Measurements({"processor": "made up"}, list(comparisons), list(scalings))


def test_ratios_are_medians_over_rounds():
    one = comparison(faster={"peer": None})
    assert one.ratio("peer") == pytest.approx(3)
    assert one.nanoseconds(OWN) == pytest.approx(1000)  # of a thousand tokens


@pytest.mark.parametrize(
    ("facts", "other", "expected"),
    [
        ({"faster": {"peer": 2.5}}, "peer", "met"),
        ({"faster": {"peer": None}}, "peer", "met"),
        ({"faster": {"peer": 4.5}}, "peer", "missed by 50%"),
        ({"faster": {"limit": None}}, "limit", "**slower**"),
        ({"within": {"limit": 2.1}}, "limit", "met"),
        ({"within": {"limit": 1.6}}, "limit", "missed by 25%"),
        ({}, "peer", ""),
    ],
)
def test_verdicts(facts, other, expected):
    one = comparison(**facts)
    assert report.verdict(one, other) == expected
    assert bool(measurements(one).slower) == (expected == "**slower**")


def test_outcomes_are_told_in_words():
    one = comparison(within={"limit": 2.5})
    assert (report.outcome(one, "limit"), report.aim(one, "limit")) == ("2.00× its time", "within 2.5×")
    assert (report.outcome(comparison(), "limit"), report.aim(comparison(), "limit")) == ("2.00× slower", "")


def test_exponents():
    assert scaling().exponent == pytest.approx(1)
    assert scaling().missed_by == 0
    steep = {size: [seconds[0] * size] for size, seconds in CURVE.items()}
    assert scaling(steep).missed_by == pytest.approx(0.9)
    assert scaling().nanoseconds(OWN) == pytest.approx(dict.fromkeys(CURVE, 100))


def test_the_page_is_filled_between_its_markers():
    page = report.filled(PAGE, measurements(comparison(faster={"peer": 4.5}), scalings=[scaling()]))
    assert (
        "| marginals | 10×100×4 | float32 | 1000 | peer | 3000 | 3.00× faster | 4.5× faster | missed by 50% |" in page
    )
    assert "- marginals, float32, 10×100×4, beside peer: 3.00× faster, aim 4.5× faster (missed by 50%)" in page
    assert "prose" in page
    assert "old" not in page
    assert "\nNone.\n" in report.filled(PAGE, measurements(comparison(faster={"peer": 2}), scalings=[scaling()]))


def test_a_run_fills_the_parts_of_its_device_only():
    page = PAGE + "".join(f"<!-- begin {name} -->\nkept\n<!-- end -->\n" for name in ("gpu", "gpu machine", "machine"))
    on_gpu = dataclasses.replace(comparison(faster={"peer": 2}), section="gpu")
    by_gpu, by_cpu = report.filled(page, measurements(on_gpu)), report.filled(page, measurements(comparison()))
    assert "old" in by_gpu
    assert "begin machine -->\nkept" in by_gpu
    assert "kept" not in by_gpu.split("begin machine")[0]
    assert "begin gpu -->\nkept" in by_cpu
    assert "begin gpu machine -->\nkept" in by_cpu
    assert "old" not in by_cpu


def test_a_run_writes_the_page_and_fails_where_a_peer_is_faster(tmp_path, monkeypatch, capsys):
    page = tmp_path / "performance.md"
    beside = tmp_path / "beside"
    for name, value in {"PAGE": page, "BESIDE": beside, "KEPT": {"cpu": beside / "kept.json"}}.items():
        monkeypatch.setattr(report, name, value)
    left = [{"extra_info": {"scaling": dataclasses.asdict(scaling())}}]
    for faster, status in (({"peer": 2}, 0), ({"limit": None}, 1)):
        page.write_text(PAGE)
        compared = {"extra_info": {"comparison": dataclasses.asdict(comparison(faster=faster))}}
        machine = {"datetime": "2026-11-25T00:00:00", "machine_info": {"ppl_hmm": {"processor": "made up"}}}
        source = tmp_path / "benchmarks.json"
        source.write_text(json.dumps({"benchmarks": [compared, *left], **machine}))
        assert report.main(str(source)) == status
        kept = Measurements.from_json(json.loads(report.KEPT["cpu"].read_text()))
        assert kept == Measurements.from_pytest_benchmark(json.loads(source.read_text()))
        assert page.read_text() == report.filled(PAGE, kept)
        assert ("limit is faster" in capsys.readouterr().out) == bool(status)
        for figure in ("scaling.svg", "peers.svg"):
            assert "</svg>" in (report.BESIDE / figure).read_text()


def test_the_same_numbers_draw_the_same_figures(tmp_path):
    taken = measurements(comparison(faster={"peer": 4.5}, within={"limit": 2}), scalings=[scaling()])
    drawn = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        figures.draw(taken, tmp_path / name)
        drawn.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_committed_page_is_that_of_the_committed_numbers(device):
    kept = Measurements.from_json(json.loads(report.KEPT[device].read_text()))
    assert kept.device == device
    page = report.PAGE.read_text()
    assert page == report.filled(page, kept)
    other = dataclasses.replace(kept, comparisons=kept.comparisons[1:])
    assert page != report.filled(page, other)  # the check can fail
    for section in (*SECTIONS, "machine", "scaling", "missed", "gpu machine", "gpu missed"):
        assert f"<!-- begin {section} -->" in page
