"""Nothing here unpickles, evaluates or loads YAML that makes objects."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "trtserve"

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {"eval", "exec", "__import__"}
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "full_load"}


def faults(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in CALLS:
                found.append(function.id)
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                name = f"{function.value.id}.{function.attr}"
                loader = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if function.value.id == "yaml" and function.attr in UNSAFE_YAML:
                    safe = "Safe" in loader.get("Loader", "")
                    found += [] if safe else [name]
                if name in ("np.load", "numpy.load") and loader.get("allow_pickle") != "False":
                    found.append(name)
    return found


def test_nothing_unpickles():
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in ROOT.rglob("*.py") if (wrong := faults(path.read_text()))
    }
    assert not found


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "eval('1')", "yaml.load(text)",
    "np.load(path)", "np.load(path, allow_pickle=True)", "def f():\n    import marshal",
])
def test_what_would_is_found(source):
    assert faults(source)
