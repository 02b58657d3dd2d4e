"""Measure what our layers of the container images have in them, without a container engine.

The steps are the Dockerfiles' own: the build's files are copied as .dockerignore lets them, a wheel
is made of them, and docker/install.sh installs it. Run as `python tools/image_size.py`; with
--write the table goes into docs/containers.md.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "containers.md"
BEGIN, END = "<!-- sizes: made by tools/image_size.py -->\n", "<!-- end of sizes -->\n"

BASE_MB = 125
"""python:3.12-slim, unpacked, as its registry shows it. Not measured here."""

CONTENT = ("pyproject.toml", "README.md", "LICENSE", "trtserve")
"""What the Dockerfiles copy for the wheel."""

SHOWN = 9
"""Packages that get a row of their own."""


@dataclass(frozen=True)
class Layer:
    """Sizes in bytes: of all files, and of each entry of site-packages, the largest first."""

    total: int
    packages: tuple[tuple[str, int], ...]


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; links count as nothing, as in a layer."""
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(size(entry) for entry in path.iterdir())


def build_wheel(folder: Path, python: str = sys.executable) -> Path:
    """The stage `wheel`, in a folder: the wheel's path."""
    source = folder / "source"
    source.mkdir()
    for name in CONTENT:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    _run([python, "-m", "pip", "wheel", "--quiet", "--no-cache-dir", "--no-deps",
          "--wheel-dir", str(folder), "."], source)
    (wheel,) = folder.glob("trtserve-*.whl")
    return wheel


def install(wheel: Path, extra: str, target: Path, python: str = sys.executable) -> None:
    """The stage `install`."""
    _run(["sh", str(ROOT / "docker" / "install.sh"), str(wheel), extra, str(target)], ROOT, python)


def measure(target: Path) -> Layer:
    """An environment that `install` made."""
    (site,) = target.glob("lib/python*/site-packages")
    packages: dict[str, int] = {}
    for entry in site.iterdir():
        name = entry.name.removesuffix(".libs").partition("-")[0].removesuffix(".py")
        packages[name] = packages.get(name, 0) + size(entry)
    return Layer(size(target), tuple(sorted(packages.items(), key=lambda item: -item[1])))


def table(layer: Layer) -> str:
    """The layer of the CPU image, with the base that is assumed, in Markdown."""
    shown = layer.packages[:SHOWN]
    rest = layer.total - sum(amount for _, amount in shown)
    rows = [
        ("`python:3.12-slim`: Debian and Python (assumed)", f"{BASE_MB}"),
        ("the user `trtserve` in `/etc`", "under 0.1"),
        ("`/opt/trtserve`", f"{layer.total / 1e6:.1f}"),
        *((f"— {name}", f"{amount / 1e6:.1f}") for name, amount in shown),
        ("— everything else", f"{rest / 1e6:.1f}"),
        ("**together**", f"**{BASE_MB + layer.total / 1e6:.0f}**"),
    ]
    return "\n".join(["| layer | MB |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows), ""])


def _run(command: list[str], folder: Path, python: str = sys.executable) -> None:
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PYTHON": python})


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra", default="cpu", help="cpu or cuda-system")
    parser.add_argument("--python", default=sys.executable, help="what installs: python3.12")
    parser.add_argument("--write", action="store_true", help="put the table into docs/")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(build_wheel(folder), asked.extra, folder / "trtserve", asked.python)
        made = table(measure(folder / "trtserve"))
    sys.stdout.write(made)
    if asked.write:
        text = PAGE.read_text()
        before, _, behind = text.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{behind.partition(END)[2]}")


if __name__ == "__main__":
    main()
