"""Files are written whole or not at all, and nothing is left of what could not be written."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading

import pytest
import xarray as xr
from matplotlib.figure import Figure

from ppl_hmm import audit, example, load, random_hmm, save
from ppl_hmm.audits import command
from ppl_hmm.base import atomic
from ppl_hmm.errors import ForeignFile
from ppl_hmm.experiments.look import drawing
from ppl_hmm.storage.files import save_tree

OLD, NEW = random_hmm("dirichlet", 3, 5, 0), random_hmm("dirichlet", 60, 80, 0)
SMALL = 20_000  # bytes: more than OLD's file, less than NEW's


@pytest.fixture
def full_disk():
    """Let no file grow beyond SMALL bytes, as a disk that is full then would."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def figure():
    drawn = Figure()
    drawn.subplots().plot(range(3000), [7 * i % 1000 for i in range(3000)])
    return drawn


WRITERS = {
    "save": lambda path: save(NEW, path),
    "save_tree": lambda path: save_tree(xr.DataTree(NEW.to_dataset()), path.with_name("new.nc")),
    "figure": lambda path: drawing.save(figure(), path.with_suffix(".png")),
    "bytes": lambda path: atomic.write_bytes(bytes(SMALL + 1), path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_on_a_full_disk_the_old_file_stays(writer, tmp_path, full_disk):
    save(OLD, tmp_path / "model.nc")
    before = (tmp_path / "model.nc").read_bytes()
    with pytest.raises(ForeignFile, match="expected a place that can be written, got File too large; choose another"):
        WRITERS[writer](tmp_path / "model.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["model.nc"]
    assert (tmp_path / "model.nc").read_bytes() == before
    assert load(tmp_path / "model.nc").identical(OLD)


def test_an_audit_is_written_whole_or_not_at_all(tmp_path, full_disk):
    tree = audit(*example("aliased"), length=3, seed=0)
    with pytest.raises(ForeignFile, match=r"^--out .*/new: expected a place that can be written, got File too large"):
        command.printed(tree, tmp_path / "new", as_json_alone=False, verbose=False, width=80)
    assert list(tmp_path.iterdir()) == []


def test_a_process_survives_a_full_disk(tmp_path):
    """HDF5 may fail again, and abort, when the interpreter ends."""
    save(OLD, tmp_path / "model.nc")
    code = f"""
import resource, signal
from ppl_hmm import load, random_hmm, save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({SMALL}, {SMALL}))
try:
    save(random_hmm("dirichlet", 60, 80, 0), {str(tmp_path / "model.nc")!r})
except Exception as error:
    print(type(error).__name__, load({str(tmp_path / "model.nc")!r}).n_states)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ForeignFile 3\n", "")


def test_whatever_fails_leaves_nothing(tmp_path):
    def interrupted():
        with atomic.written_aside(tmp_path / "store", "store") as aside:
            aside.mkdir()
            (aside / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_links_and_permissions_are_kept(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "model.nc", tmp_path / "link.nc"
    save(OLD, file)
    file.chmod(0o640)
    link.symlink_to(file)
    save(NEW, link)
    assert link.is_symlink()
    assert load(file).identical(NEW)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    mask = os.umask(0o027)
    try:
        save(NEW, tmp_path / "new.nc")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.nc").stat().st_mode) == 0o640


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(ForeignFile, match="got something that is no file is there"):
            save(OLD, tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "pipe"]


def test_a_read_only_file_is_not_replaced(tmp_path, monkeypatch):
    save(OLD, tmp_path / "model.nc")
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)  # root may write whatever the permissions
    with pytest.raises(ForeignFile, match="the file there is read-only"):
        save(NEW, tmp_path / "model.nc")


def test_writers_of_one_file_do_not_mix(tmp_path):
    path, contents = tmp_path / "file", [bytes([i]) * 200_000 for i in range(4)]
    threads = [threading.Thread(target=atomic.write_bytes, args=(content, path)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
