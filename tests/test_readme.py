"""What the README shows works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def quick_start():
    text = README.read_text()
    after_heading = re.split(r"^#+ *Quick start\s*$", text, maxsplit=1, flags=re.MULTILINE)[1]
    return re.search(r"^```python\n(.*?)^```", after_heading, flags=re.MULTILINE | re.DOTALL)[1]


def test_the_quick_start_runs(tmp_path):
    code = quick_start()
    assert "ppl_hmm" in code
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
