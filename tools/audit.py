"""Looks at what we depend on: `make audit`.

Three steps, of which the first two need no network: packages that fit together (pip check); every
package that an installation brings is one that somebody has looked at, under the licence that it
had (tools/dependencies.toml), and ours have bounds; and no version in use has a known flaw
(pip-audit). Where the third can not be done it says so loudly; with AUDIT_STRICT=1 that fails too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXTRA = "cpu"
SECONDS = 300


def main() -> int:
    """The exit status."""
    problems = checked_together() + unknown_packages() + unbounded()
    flaws, unasked = known_flaws()
    for problem in problems + flaws:
        print(f"audit: {problem}")
    if unasked:
        print("audit: " + "!" * 66)
        print(f"audit: KNOWN FLAWS WERE NOT LOOKED FOR: {unasked}")
        print("audit: " + "!" * 66)
    if problems or flaws or (unasked and os.environ.get("AUDIT_STRICT") == "1"):
        return 1
    print(f"audit: {len(installed())} packages fit together, are known, and have known licences")
    return 0


def checked_together() -> list[str]:
    """What pip says of packages that do not fit, as far as it is about ours."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"],
        capture_output=True, text=True, check=False,
    )
    ours = installed()
    return [
        line for line in found.stdout.splitlines()
        if canonical(line.split(" ", 1)[0]) in {*ours, "trtserve"}
    ]


def unknown_packages() -> list[str]:
    """Packages that nobody has looked at, or under another licence than then."""
    known: dict[str, str] = tomllib.loads(
        (ROOT / "tools" / "dependencies.toml").read_text()
    )["packages"]
    found = []
    for name, package in installed().items():
        if name not in known:
            found.append(f"{name} {package.version} is new: look at it, and add it to "
                         "tools/dependencies.toml")
        elif known[name].lower() not in licence(package).lower():
            found.append(f"{name} {package.version} is under '{licence(package)[:80]}', and was "
                         f"under {known[name]}")
    return found


def unbounded() -> list[str]:
    """Dependencies of ours without a lower and an upper bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][EXTRA]]
    return [
        f"pyproject.toml: '{one}' needs a lower and an upper bound"
        for one in wanted if ">=" not in one or "<" not in one
    ]


def known_flaws() -> tuple[list[str], str]:
    """(flaws of the versions that are installed, why they could not be looked for)."""
    program = shutil.which("pip-audit")
    if program is None:
        return [], "there is no pip-audit"
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text("".join(
            f"{name}=={package.version}\n" for name, package in installed().items()
        ))
        try:
            ran = subprocess.run(
                [program, "--requirement", str(wanted), "--no-deps", "--disable-pip",
                 "--format", "json", "--progress-spinner", "off"],
                capture_output=True, text=True, timeout=SECONDS, check=False,
            )
        except subprocess.TimeoutExpired:
            return [], f"pip-audit had no answer within {SECONDS} s"
    try:
        answer = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = ran.stderr.strip().splitlines()
        return [], f"pip-audit gave none ({said[-1] if said else f'status {ran.returncode}'})"
    return judged(answer)


def judged(answer: list[dict[str, Any]]) -> tuple[list[str], str]:
    """What pip-audit's list of packages means: as `known_flaws`."""
    flaws = [
        f"{one['name']} {one['version']} has {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in answer for flaw in one.get("vulns", ())
    ]
    skipped = [one for one in answer if "skip_reason" in one]
    if not skipped:
        return flaws, ""
    # pip-audit calls that a success.
    return flaws, (
        f"{len(skipped)} of {len(answer)} packages were left out, such as {skipped[0]['name']}: "
        f"{skipped[0]['skip_reason']}"
    )


def installed() -> dict[str, metadata.Distribution]:
    """All packages that ours needs, and those that these need, by their canonical names."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [
        re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in metadata.requires("trtserve") or ()
        if "extra ==" not in one or re.search(rf"extra == ['\"]{EXTRA}['\"]", one)
    ]
    while waiting:
        name = canonical(waiting.pop())
        if name in found:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for other systems or versions of Python
            continue
        found[name] = package
        waiting += [
            re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in package.requires or ()
            if "extra ==" not in one
        ]
    return dict(sorted(found.items()))


def licence(package: metadata.Distribution) -> str:
    """What a package says of its licence, in whichever field."""
    about: Any = package.metadata
    classified = [one for one in about.get_all("Classifier") or () if one.startswith("License ::")]
    return " ".join(filter(None, [
        about.get("License-Expression"), about.get("License"), *classified,
    ]))


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
