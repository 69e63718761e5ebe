"""The pages of the documentation: code fits a phone's column, figures have words, links end somewhere."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]
COMPUTED = [path for path in PAGES if "\nkernelspec:\n" in path.read_text(encoding="utf-8")]
COLUMNS = 68
# Fences whose lines are no code of a reader: directives of figures, tables of contents, lists of names, formulas.
DIRECTIVES = ("{figure}", "{image}", "{toctree}", "{autosummary}", "{math}", "{table}", "{note}", "{dropdown}")

sys.path.insert(0, str(DOCS))
from check_html import check  # noqa: E402  (a script of the documentation, no module of the package)


def blocks(path):
    """Yield (number of the first line, kind, options, code) of each fenced block."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"^(```+)([^\n`]*)\n(.*?)^\1\s*$", text, re.MULTILINE | re.DOTALL):
        kind, body = found[2].strip(), found[3]
        options = re.match(r"---\n.*?^---\n|(?::[a-z_]+:.*\n)*", body, re.MULTILINE | re.DOTALL)[0]
        yield text[: found.start(3)].count("\n") + options.count("\n") + 1, kind, options, body[len(options) :]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_code_is_at_most_68_columns_wide(path):
    wide = [
        f"{name_of(path)}:{first + number}: {line}"
        for first, kind, _, code in blocks(path)
        if not kind.startswith(DIRECTIVES)
        for number, line in enumerate(code.splitlines())
        if len(line) > COLUMNS
    ]
    assert not wide, "\n".join(wide)


def anchors(path):
    """Return the anchors of a page: its headings, and those that it names."""
    text = re.sub(r"^(```+).*?^\1\s*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = (re.sub(r"[`*_]", "", heading) for heading in re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE))
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_within_the_sources_end_somewhere(path):
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"`[^`\n]+`", "", re.sub(r"^```[^{].*?^```\s*$", "", text, flags=re.MULTILINE | re.DOTALL))
    targets = re.findall(r"\]\(([^()\s]+)\)", text) + re.findall(r"^```\{(?:figure|image)\} (\S+)", text, re.MULTILINE)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        file = path.parent / file if file else path
        assert file.exists(), target
        assert not anchor or file.suffix != ".md" or anchor in anchors(file), target


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_figures_say_what_they_show(path):
    for line, kind, options, code in blocks(path):
        if kind.startswith(("{figure}", "{image}")):
            assert re.search(r"^:alt: \S", options, re.MULTILINE), line
        elif draws(code):
            assert re.search(r"^ +alt: \S", options, re.MULTILINE), line
    assert not re.search(r"!\[\]\(", path.read_text(encoding="utf-8"))


def draws(code):
    """Return whether the last statement of a cell shows a figure."""
    shown = r"^(?:[\w.]*(?:draw_\w+|ppl_hmm\.plot)\(|figure, |.*\.show\(\)$)"
    return bool(re.search(shown, code, re.MULTILINE))


@pytest.mark.parametrize("path", COMPUTED, ids=name_of)
def test_pages_that_compute_name_their_kernel_for_jupytext(path):
    head = re.match(r"---\n(.*?)^---$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]
    assert "display_name: Python 3" in head


def test_the_checker_of_built_pages_finds_what_is_dead(tmp_path):
    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="b.html#here">b</a><img src="c.svg" alt="a circle">')
    (tmp_path / "b.html").write_text('<a href="a.html#top">a</a><a href="https://example.org/x">far</a>')
    (tmp_path / "c.svg").write_text("<svg/>")
    assert check(tmp_path) == ["a.html: no anchor behind b.html#here"]
    (tmp_path / "b.html").write_text('<p id="here"><a href="gone.html">gone</a><img src="c.svg" alt="c.svg">')
    assert check(tmp_path) == ["b.html: image c.svg has no alt text", "b.html: no file behind gone.html"]


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({}, []),
        ({"tags": ["hide-cell"], "jupyter": {"source_hidden": True}}, []),
        ({"tags": ["hide-cell"]}, ["a.ipynb: an open solution"]),
    ],
)
def test_the_checker_of_built_pages_finds_open_solutions(metadata, found, tmp_path):
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [{"metadata": metadata}]}))
    assert check(tmp_path) == found
