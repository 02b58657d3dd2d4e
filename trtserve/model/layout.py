"""How a model repository is laid out: names and folders, found without reading any of them."""

import os
import re

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""Names that are safe in a path, a metric's label and a URL, and no longer than a file's may be."""

VERSION_NAME = re.compile(r"[1-9][0-9]{0,17}")
"""A positive decimal number, short enough for the protocol's 64 bits."""

FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@-]{0,199}")
"""A plain file name: no separator, no leading dot, nothing that a shell or a log would read."""

CONFIGURATION_NAMES = ("config.pbtxt", "config.yaml", "config.json")
"""The names that a model's configuration may have; only one of them in its folder."""

PASSED_OVER = frozenset({"lost+found"})
"""What file systems put into the root of a volume."""


def model_folders(root: str) -> dict[str, str]:
    """The absolute path of each model's folder by the model's name, in the order of names.

    Folders whose names are no UTF-8 are passed over: nobody could name them. Raises OSError where
    the repository can not be read.
    """
    home = os.path.abspath(root)
    with os.scandir(home) as entries:
        names = sorted(
            entry.name for entry in entries
            if not entry.name.startswith(".") and entry.name not in PASSED_OVER
            and is_text(entry.name) and entry.is_dir()
        )
    return {name: os.path.join(home, name) for name in names}


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8. Python reads other bytes as what no UTF-8 can hold."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def version_file(path: str) -> tuple[str, str] | None:
    """Version and file name of a path such as `1/model.onnx`; None where it is anything else."""
    version, _, name = path.partition("/")
    if VERSION_NAME.fullmatch(version) and FILE_NAME.fullmatch(name):
        return version, name
    return None
