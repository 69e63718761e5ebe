"""Directories of work that goes on: a configuration, written first, says what belongs in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_hmm._version import __version__
from ppl_hmm.base import atomic
from ppl_hmm.errors import ForeignFile


def hold(path: str | Path, file: str, kind: str, settings: Mapping[str, Any]) -> Path:
    """Make a directory for work under ``settings``, or find it again; return its path.

    Parameters
    ----------
    file
        Name of the configuration in it.
    kind
        What the work is, in messages: ``'run'``.

    Raises
    ------
    ForeignFile
        The place cannot be written, or holds something else, or the same kind of work under other settings or another
        version; nothing is changed.
    """
    place = atomic.as_path(path, "store")
    configuration = {"package": "ppl_hmm", "version": __version__, "settings": dict(settings)}
    try:
        settle(place, file, configuration)
        _require_same(place, file, kind, configuration)
    except OSError as error:
        raise ForeignFile(
            f"output {place}", "a directory that can be written", str(error), "choose another out"
        ) from None
    return place


def settle(place: Path, file: str, configuration: Mapping[str, Any]) -> None:
    """Make a directory with its configuration, unless there is more than a run leaves that was killed before that."""
    if not place.exists() or (place.is_dir() and all(map(atomic.is_part, place.iterdir()))):
        place.mkdir(parents=True, exist_ok=True)
        atomic.create(json.dumps(configuration, indent=2).encode(), place / file)


def _require_same(path: Path, file: str, kind: str, wanted: dict[str, Any]) -> None:
    """Raise unless a directory holds work of this configuration."""
    try:
        found = json.loads((path / file).read_text())
        known = found["package"] == "ppl_hmm"
        settings = dict(found["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        known, settings, found = False, {}, {}
    if not known:
        expected, got = f"a {kind} of this package, or a new directory", f"no readable {file} in it"
        raise ForeignFile(f"output {path}", expected, got, "choose another out")
    ours = json.loads(json.dumps(wanted))
    if found == ours:
        return
    sides = ({"version": side.get("version"), **side["settings"]} for side in (ours, {**found, "settings": settings}))
    asked, there = sides
    differing = [name for name in {**asked, **there} if asked.get(name) != there.get(name)]
    expected, got = (", ".join(f"{name}={side.get(name)}" for name in differing) for side in (asked, there))
    remedy = "choose another out, or repeat the settings found there"
    raise ForeignFile(f"output {path} holds another {kind}", expected, got, remedy)
