"""Plans are programs: who could have changed one, and which are allowed. Pure but `places`.

A plan runs with the daemon's rights, so a plan that somebody else can write is a way to take the
daemon over. What counts is the file, its folders up to the root, and what their links lead to.
"""

import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from trtserve.errors import ConfigurationError
from trtserve.model.plan_manifest import PlanManifest

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder, and the system's facts about it."""

    path: str
    mode: int
    owner: int


def places(plan: Path) -> list[Place]:
    """The plan and all folders above it, as named and as its links lead. Raises OSError."""
    named = Path(os.path.abspath(plan))
    found = dict.fromkeys(
        path for start in (named, named.resolve(strict=True)) for path in (start, *start.parents)
    )
    # Links have no rights of their own: what counts is where they lie and what they lead to.
    facts = [(path, path.stat()) for path in found]
    return [Place(str(path), fact.st_mode, fact.st_uid) for path, fact in facts]


def writable_by_others(found: Sequence[Place], user: int) -> list[str]:
    """Who else than this user and root could change a plan, by the facts about its places."""
    return [problem for place in found if (problem := _problem(place, user))]


def writable_cure(found: Sequence[Place], user: int) -> str:
    """What to do about it."""
    wrong = [place.path for place in found if _problem(place, user)]
    owned = [place.path for place in found if place.owner not in (user, 0)]
    change = f"chown {user} {' '.join(owned)}" if owned else f"chmod go-w {' '.join(wrong)}"
    return f"{change}; or allow it with allow_writable_plans if you trust them"


def needs_host_code(manifest: PlanManifest | None) -> bool:
    """Whether a plan carries code for the host's processor: version-compatible ones do, with a
    runtime of their own inside."""
    return manifest is not None and manifest.request.options.version_compatible


def host_code_problem(manifest: PlanManifest | None, *, allowed: bool) -> str:
    """Why a plan's host code keeps it from being loaded; empty if it does not."""
    if allowed or not needs_host_code(manifest):
        return ""
    return (
        "the plan is version-compatible, so it carries code for this machine's processor, which "
        "would run with the daemon's rights"
    )


HOST_CODE_CURE = (
    "Allow it with allow_engine_host_code if you trust who built it, or build it again without "
    "--version-compatible"
)


def parse_hashes(text: str, where: str) -> frozenset[str]:
    """The SHA-256 hashes of an allow-list, in the form of sha256sum: a hash begins each line,
    and a name may follow. Empty lines and lines from # on say nothing.

    Raises ConfigurationError with the line.
    """
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if not _SHA256.fullmatch(words[0].lower()):
            raise ConfigurationError(
                f"'{words[0]}' is no SHA-256", where=f"{where}:{number}",
                cure="Write the lines that sha256sum prints for the plans",
            )
        found.add(words[0].lower())
    return frozenset(found)


def hash_problem(sha256: str, allowed: Collection[str] | None) -> str:
    """Why an allow-list keeps a plan from being loaded; empty if it does not, or is None."""
    if allowed is None or sha256 in allowed:
        return ""
    return f"the plan's SHA-256, {sha256}, is not among those of plan_hashes"


HASH_CURE = "Add what `sha256sum PLAN` prints to the file that plan_hashes names"


def _problem(place: Place, user: int) -> str:
    if place.owner not in (user, 0):
        return f"{place.path} belongs to user {place.owner}, who can change it"
    others = [
        who for bit, who in ((stat.S_IWGRP, "its group"), (stat.S_IWOTH, "everybody"))
        if place.mode & bit
    ]
    # In a sticky folder, such as /tmp, only the owner of an entry can rename it.
    sticky = stat.S_ISDIR(place.mode) and place.mode & stat.S_ISVTX
    if not others or sticky:
        return ""
    return f"{place.path} can be changed by {' and '.join(others)}"
