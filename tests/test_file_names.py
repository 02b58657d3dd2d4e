"""The names of the tests' files: each is there once, because the folders are no packages."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).parent

PER_FOLDER = {"conftest.py"}
"""What pytest finds by its folder."""


def doubled(paths: Iterable[Path]) -> dict[str, list[str]]:
    """The names that several files have, with the folders of those."""
    folders = defaultdict(list)
    for path in paths:
        folders[path.name].append(str(path.parent))
    return {
        name: sorted(there) for name, there in folders.items()
        if len(there) > 1 and name not in PER_FOLDER
    }


def test_no_two_files_have_one_name():
    assert doubled(path.relative_to(TESTS) for path in TESTS.rglob("*.py")) == {}


def test_two_of_a_name_are_noticed():
    paths = map(Path, ("a/test_x.py", "b/c/test_x.py", "a/test_y.py", "a/conftest.py",
                       "b/conftest.py"))
    assert doubled(paths) == {"test_x.py": ["a", "b/c"]}
