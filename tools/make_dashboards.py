"""Make the chart's dashboards and rules from tools/monitoring (run by `make dashboards`).

With --check nothing is written: it says which files would change and exits with 1 if any would.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.monitoring.files import files  # noqa: E402
from tools.monitoring.objectives import given  # noqa: E402


def main() -> None:
    """Write every file, or compare."""
    try:
        made = files(given())
    except ValueError as error:
        sys.exit(str(error))
    if "--check" in sys.argv[1:]:
        stale = [path for path, content in made.items() if _there(path) != content]
        sys.exit("\n".join(f"{path} would change" for path in stale) if stale else 0)
    for path, content in made.items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


def _there(path: str) -> str | None:
    target = ROOT / path
    return target.read_text() if target.exists() else None


if __name__ == "__main__":
    main()
