"""Triton's own load generator, perf_analyzer, from the pip package that carries it.

Only the tritonclient wheels up to 2.48.0 hold the binary; it is unpacked into .venv/bench with
the CUDA runtime library that it is linked to (it uses no GPU here). Debian's libb64-0d must be
installed.
"""

import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

WHEELS = ("tritonclient==2.48.0", "nvidia-cuda-runtime-cu12")
FOLDER = Path(sys.prefix) / "bench"


@dataclass(frozen=True)
class Load:
    """What one run found: requests a second, and the median latency in microseconds."""

    rate: float
    p50_us: float


def install() -> Path:
    """The binary, fetched on the first call."""
    binary = FOLDER / "perf_analyzer"
    if not binary.exists():
        FOLDER.mkdir(exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--disable-pip-version-check", "--dest", FOLDER, *WHEELS],
            check=True,
        )
        for wheel in FOLDER.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if name.endswith("/bin/perf_analyzer") or "/lib/libcudart.so" in name:
                        (FOLDER / Path(name).name).write_bytes(archive.read(name))
        binary.chmod(0o755)
    check = subprocess.run(["ldd", binary], env=_environment(), capture_output=True, text=True)
    missing = re.findall(r"(\S+) => not found", check.stdout)
    if missing:
        sys.exit(f"perf_analyzer lacks {', '.join(missing)}: apt-get install libb64-0d")
    return binary


def run(address: str, model: str, width: int, concurrency: int, *, stream: bool = False) -> Load:
    """Load a server for three windows of two seconds and return their mean."""
    command = [
        str(install()), "-u", address, "-i", "grpc", "-m", model, "--shape", f"x:{width}",
        "--concurrency-range", str(concurrency), "-p", "2000", "-r", "3", "-s", "999",
    ]
    if stream:
        command += ["--async", "--streaming"]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
    rate = re.search(r"Throughput: ([\d.]+) infer/sec", done.stdout)
    p50 = re.search(r"p50 latency: (\d+) usec", done.stdout)
    if done.returncode or not rate or not p50:
        sys.exit(f"perf_analyzer failed:\n{done.stdout}{done.stderr}")
    return Load(float(rate.group(1)), float(p50.group(1)))


def _environment() -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(FOLDER)}
