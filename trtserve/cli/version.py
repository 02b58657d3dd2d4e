"""`trtserve version`: what runs here."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from trtserve import __version__
from trtserve.cli.connection import Json
from trtserve.cli.output import print_json, print_table

PACKAGES = ("grpcio", "protobuf", "numpy", "onnxruntime")

ABSENT = "not installed"


def version(json: Json = False) -> None:
    """Print the versions of trtserve and of what it runs on."""
    versions = {"trtserve": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        versions[package] = _installed(package)
    if json:
        print_json({name: None if v == ABSENT else v for name, v in versions.items()})
    else:
        print_table(("component", "version"), versions.items())


def _installed(package: str) -> str:
    # The metadata of what is installed, so that nothing has to be imported.
    try:
        return version_of(package)
    except PackageNotFoundError:
        return ABSENT
