"""Make the values.schema.json of the chart and of its library (run by `make chart`).

What both have is here once, and the settings come from trtserve.config, so that a new setting can
be given to the chart. With --check nothing is written: it says which files would change and exits
with 1 if any would.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.chart_schema import application, library  # noqa: E402
from trtserve.config import Settings  # noqa: E402

CHART = ROOT / "helm" / "trtserve"


def made() -> dict[Path, str]:
    """Each file and what belongs into it."""
    settings = msgspec.structs.fields(Settings)
    contents: dict[Path, dict[str, Any]] = {
        CHART / "values.schema.json": application(settings),
        CHART / "charts" / "trtserve-sidecar" / "values.schema.json": library(settings),
    }
    return {path: json.dumps(content, indent=2) + "\n" for path, content in contents.items()}


def main() -> None:
    """Write both files, or compare."""
    if "--check" in sys.argv[1:]:
        stale = [
            path for path, content in made().items()
            if not path.exists() or path.read_text() != content
        ]
        sys.exit("\n".join(f"{path} would change: make chart" for path in stale) if stale else 0)
    for path, content in made().items():
        path.write_text(content)


if __name__ == "__main__":
    main()
