"""The demo of the README, as a whole."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_reads_what_it_drew():
    done = subprocess.run(
        [sys.executable, "-m", "examples.ocr.demo"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lines were read as they were drawn" in done.stdout
    assert "The daemon stopped with exit code 0." in done.stdout
