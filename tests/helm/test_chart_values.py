"""The chart against the code: settings, versions, default values, what it writes down twice."""

import json
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import msgspec
import pytest
import yaml

from tests.helm.chart import CASES, CHART, LIBRARY, NEWEST, OLDEST, ROOT
from tests.helm.schemas import VERSIONS
from tools.chart_schema import OWN_VALUES, SENSELESS
from trtserve.config import Settings

SETTINGS = {field.name for field in msgspec.structs.fields(Settings)}


def read(path):
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def test_the_schemas_are_as_the_settings_make_them():
    done = subprocess.run(
        [sys.executable, "tools/make_chart_schema.py", "--check"], cwd=ROOT, capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_every_setting_is_given_in_one_way():
    schema = json.loads((CHART / "values.schema.json").read_text())
    given = set(schema["properties"]["settings"]["properties"])
    assert given | set(OWN_VALUES) | set(SENSELESS) >= SETTINGS
    assert not given & set(OWN_VALUES)


@pytest.mark.parametrize("chart", [CHART, LIBRARY], ids=lambda chart: chart.name)
def test_every_value_of_the_schema_has_a_default_and_the_other_way(chart):
    def names(schema, at=""):
        for name, found in schema.get("properties", {}).items():
            inner = list(names(found, f"{at}{name}."))
            yield from inner or [at + name]

    def given(values, schema, at=""):
        for name, found in values.items():
            below = schema.get("properties", {}).get(name, {})
            inner = below.get("properties") and at + name != "settings" and isinstance(found, dict)
            yield from given(found, below, f"{at}{name}.") if inner else [at + name]

    schema = json.loads((chart / "values.schema.json").read_text())
    wanted = {
        name for name in names(schema)
        if not name.startswith("settings.") and name not in ("global", "trtserve-sidecar")
    }
    assert set(given(read(chart / "values.yaml"), schema)) == wanted | {"settings"}


def test_the_library_s_defaults_are_the_chart_s_but_for_these():
    """What both have should be known once, so that nobody is surprised."""
    chart, library = read(CHART / "values.yaml"), read(LIBRARY / "values.yaml")
    different = {name for name in chart.keys() & library.keys() if chart[name] != library[name]}
    assert different == {
        "gpu", "host", "httpHost", "socket", "settings", "drain", "probes", "cache", "resources",
    }


def test_everything_has_trtserve_s_version(helm):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for chart in (CHART, LIBRARY):
        described = read(chart / "Chart.yaml")
        assert (described["version"], described["appVersion"]) == (version, version)
    (dependency,) = read(CHART / "Chart.yaml")["dependencies"]
    assert dependency["version"] == version
    template = (LIBRARY / "templates" / "_environment.tpl").read_text()
    assert f'"trtserve-sidecar.version" -}}}}\n{version}\n' in template


def test_the_charts_say_for_which_versions_of_kubernetes_they_are():
    oldest = ".".join(OLDEST.split(".")[:2])
    for chart in (CHART, LIBRARY):
        assert read(chart / "Chart.yaml")["kubeVersion"] == f">={oldest}.0-0"
    assert (VERSIONS[0], VERSIONS[-1]) == (OLDEST, NEWEST)
    newest = ".".join(NEWEST.split(".")[:2])
    assert f"Kubernetes {oldest} to {newest}" in (ROOT / "docs" / "kubernetes.md").read_text()


@pytest.mark.parametrize(("case", "present", "absent"), [
    ("default", ("nvidia.com/gpu", "plain text", "Nothing scrapes", "round_robin"), ("anew",)),
    ("tls", ("with TLS",), ("plain text", "Whoever reaches")),
    ("gpu", (), ("The image can change",)),
    ("cpu", ("One pod only",), ("Pending",)),
    ("hpa", ("production-trtserve-adapter-rules",), ()),
    ("monitoring", (), ("Nothing scrapes",)),
])
def test_the_notes_say_what_to_do_next(helm, case, present, absent, tmp_path):
    """`helm template` leaves them out; rendered as an object of the chart they are seen."""
    text = rendered_notes(helm, CASES[case], tmp_path)
    for word in (*present, "rollout status deployment/production-trtserve", "trtserve models"):
        assert word in text
    for word in absent:
        assert word not in text


def rendered_notes(helm, values, folder):
    """The notes, from a copy of the chart in which they are a ConfigMap."""
    chart = folder / "trtserve"
    shutil.copytree(CHART, chart)
    text = (chart / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "NOTES.txt").unlink()
    defined = f'{{{{- define "notes" }}}}{text}{{{{ end -}}}}'
    (chart / "templates" / "_notes.tpl").write_text(defined)
    (chart / "templates" / "notes.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n"
        'data:\n  text: {{ include "notes" . | quote }}\n'
    )
    objects = helm.render(values, chart)
    return next(each["data"]["text"] for each in objects if each["metadata"]["name"] == "notes")
