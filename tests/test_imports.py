"""Who may import whom, read from the sources: the table of the architecture, kept true."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "trtserve"

# Prefixes of what each folder, or file beside them, may import of ours. Its own is always allowed,
# and so is trtserve.__version__.
ALLOWED: dict[str, tuple[str, ...]] = {
    "__init__": (),
    "__main__": ("cli",),
    "errors": (),
    "clock": (),
    "cores": (),
    "config": ("errors",),
    "log": ("clock",),
    "metrics": ("errors", "ipc.statistics"),
    "proto": (),
    "security": ("errors", "clock", "config"),
    "model": ("errors", "proto"),
    "ipc": ("errors", "model.cost", "model.spec"),
    "device": ("errors", "clock", "cores"),
    "engine": ("errors", "cores", "model", "device.interface"),
    "build": ("errors", "clock", "model"),
    "worker": ("errors", "clock", "config", "metrics", "model", "ipc", "device", "engine"),
    "frontend": (
        "errors", "clock", "config", "log", "metrics", "security", "model", "ipc", "proto",
    ),
    "supervisor": (
        "errors", "clock", "config", "log", "metrics", "security", "ipc", "model.layout",
        "model.spec",
    ),
    "client": ("errors", "proto", "model.tensor"),
    "cli": (
        "errors", "clock", "cores", "config", "log", "metrics", "proto", "security", "model", "ipc",
        "device", "engine", "build", "worker", "frontend", "supervisor", "client",
    ),
    "testing": (
        "errors", "clock", "config", "log", "metrics", "proto", "security", "model", "ipc",
        "device", "engine", "worker", "frontend", "supervisor", "client", "cli",
    ),
}

# Libraries that only some folders may import.
ONLY_IN = {
    "grpc": ("frontend", "client", "cli"),
    "grpc_health": ("frontend", "client", "cli"),
    "grpc_reflection": ("frontend", "client", "cli"),
    "cuda": ("device",),
    "opentelemetry": ("frontend",),
    "onnxruntime": ("engine", "build"),
    "tensorrt": ("engine", "build"),
    "tensorrt_rtx": ("engine", "build"),
    "tensorrt_lean": ("engine",),
    "onnx": ("testing", "build"),
}

# Runtimes that need not be installed: only these are imported inside functions.
OPTIONAL = (
    "onnxruntime", "onnx", "cuda", "tensorrt", "tensorrt_rtx", "tensorrt_lean", "opentelemetry",
)


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """The whole names of all modules that a module imports, with what it takes from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def faults(module: str, source: str) -> list[str]:
    """What a module, such as `trtserve.ipc.arena`, imports and should not."""
    folder = module.split(".")[1]
    tree = ast.parse(source)
    if folder not in ALLOWED:
        return [f"{module}: the folder {folder} is not in the table"]
    found = []
    for name in imports(tree, module):
        top, _, rest = name.partition(".")
        if top == "trtserve":
            ours = any(f"{rest}.".startswith(f"{may}.") for may in (folder, *ALLOWED[folder]))
            if not ours and rest != "__version__":
                found.append(f"{module} imports {name}")
        elif folder not in ONLY_IN.get(top, (folder,)):
            found.append(f"{module} imports {name}")
    return found + ([] if folder == "cli" else late_imports(tree, module))


def late_imports(tree: ast.AST, module: str) -> list[str]:
    """Imports inside functions of what is always installed."""
    functions = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    late = {name for function in functions for name in imports(function, module)}
    return [
        f"{module} imports {name} inside a function"
        for name in sorted(late)
        if name.partition(".")[0] not in OPTIONAL
    ]


def modules() -> dict[str, str]:
    """Each module's name and source, without what protoc wrote."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        if path.name.endswith("_pb2.py"):
            continue
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts)] = path.read_text()
    return found


def test_every_import_is_in_the_table():
    found = [fault for module, source in modules().items() for fault in faults(module, source)]
    assert not found, "\n".join(found)


def test_the_sources_are_found():
    assert {"trtserve.errors", "trtserve.ipc.arena", "trtserve.worker.lane"} <= modules().keys()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trtserve.frontend.codec", "from trtserve.worker.batcher import Batcher"),
        ("trtserve.frontend.codec", "from trtserve import worker"),
        ("trtserve.frontend.codec", "from ..worker import lane"),
        ("trtserve.frontend.codec", "from .. import worker"),
        ("trtserve.ipc.arena", "import trtserve.model.route"),
        ("trtserve.ipc.arena", "from trtserve.model import route"),
        ("trtserve.engine.onnxruntime", "from trtserve.device.host import HostDevice"),
        ("trtserve.model.route", "if TYPE_CHECKING:\n    from trtserve.clock import now_ns"),
        ("trtserve.worker.lane", "import grpc.aio"),
        ("trtserve.supervisor.run", "import onnxruntime"),
        ("trtserve.worker.lane", "from cuda.core import Device"),
        ("trtserve.worker.lane", "def late():\n    import json"),
        ("trtserve.drawer.things", "import json"),
    ],
)
def test_a_wrong_arrow_is_found(module, source):
    assert faults(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trtserve.frontend.codec", "import grpc\nfrom trtserve.ipc import message as m"),
        ("trtserve.frontend.codec", "from . import wire"),
        ("trtserve.ipc.message", "from trtserve.model.spec import VersionSpec"),
        ("trtserve.engine.onnxruntime", "def load():\n    import onnxruntime"),
        ("trtserve.cli.infer", "def infer():\n    from trtserve.client import Client"),
        ("trtserve.cli.version", "from trtserve import __version__"),
    ],
)
def test_a_right_arrow_is_not(module, source):
    assert not faults(module, source)
