"""The Dockerfiles, reviewed: no engine is there to build them, so their rules are read."""

import fnmatch
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.docker.dockerfile import parse
from trtserve.config import Settings

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

WORDS = {
    "ARG", "LABEL", "RUN", "COPY", "ENV", "EXPOSE", "USER", "STOPSIGNAL", "HEALTHCHECK",
    "ENTRYPOINT", "CMD", "WORKDIR",
}
"""What they use. ADD is not there: it fetches and unpacks what nobody sees."""


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def file(request):
    return parse(request.param)


def test_both_are_there():
    assert [path.name for path in FILES] == ["Dockerfile.cpu", "Dockerfile.cuda"]


def test_bases_are_pinned_and_can_be_named_by_digest(file):
    arguments, stages = file
    for stage in stages:
        name = re.fullmatch(r"\$\{(\w+)\}", stage.base)
        assert name, f"{stage.base}: a base comes from an argument, so that a digest can be given"
        tag = arguments[name.group(1)].rpartition(":")[2]
        assert re.search(r"\d+\.\d+", tag), f"{tag} is no exact tag"
        assert "latest" not in tag


def test_only_known_instructions(file):
    _, stages = file
    assert {each.word for stage in stages for each in stage.instructions} <= WORDS


def test_every_stage_but_the_last_has_a_name_and_is_used(file):
    _, stages = file
    names = [stage.name for stage in stages]
    assert all(names[:-1])
    assert not names[-1]
    used = {copy.options.get("from") for stage in stages for copy in stage.all("COPY")}
    assert set(names[:-1]) <= used
    for number, stage in enumerate(stages):
        for copy in stage.all("COPY"):
            assert copy.options.get("from") in (None, *names[:number])


def test_what_is_copied_is_there_and_not_ignored(file):
    _, stages = file
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for stage in stages:
        for copy in stage.all("COPY"):
            if "from" in copy.options:
                continue
            for source in copy.words[:-1]:
                plain = source.rstrip("/")
                assert (ROOT / plain).exists(), source
                assert any(fnmatch.fnmatch(plain, pattern) for pattern in kept), source


def test_the_build_sees_nothing_else():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if line and not line.startswith("#")) == "*"


def test_commands_stop_at_the_first_that_fails(file):
    """`;` and a pipe would hide a failure."""
    _, stages = file
    for stage in stages:
        for run in stage.all("RUN"):
            assert ";" not in run.rest
            assert "|" not in run.rest.replace("||", "")
            assert "sudo" not in run.rest


def test_nothing_is_left_behind_by_package_managers(file):
    _, stages = file
    for stage in stages:
        for run in stage.all("RUN"):
            if "apt-get install" in run.rest:
                for wanted in ("apt-get update", "--no-install-recommends", "--yes",
                               "rm -rf /var/lib/apt/lists/*"):
                    assert wanted in run.rest
            if "pip" in run.rest:
                assert "--no-cache-dir" in run.rest
    assert "--no-cache-dir" in (ROOT / "docker" / "install.sh").read_text()
    assert not any("apt-get" in run.rest or "pip" in run.rest for run in stages[-1].all("RUN"))


def test_it_does_not_run_as_root(file):
    _, stages = file
    user = stages[-1].last("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user.rest), "by number, for runAsNonRoot"
    position = stages[-1].instructions.index(user)
    assert not [each for each in stages[-1].instructions[position:] if each.word == "RUN"]
    (made,) = [run.rest for run in stages[-1].all("RUN") if "useradd" in run.rest]
    assert f"--uid {user.rest.partition(':')[0]} " in made


def test_signals_reach_the_daemon(file):
    _, stages = file
    assert stages[-1].last("ENTRYPOINT").exec_form == ["trtserve"]
    assert stages[-1].last("CMD").exec_form == ["serve"]
    assert stages[-1].last("STOPSIGNAL").rest == "SIGTERM"


def environment(stage):
    found: dict[str, str] = {}
    for each in stage.all("ENV"):
        found.update(re.findall(r"(\w+)=(\S+)", each.rest))
    return found


def test_ports_and_settings_agree(file):
    _, stages = file
    variables = environment(stages[-1])
    ours = {name for name in variables if name.startswith("TRTSERVE_")}
    assert ours <= {f"TRTSERVE_{name.upper()}" for name in Settings.__struct_fields__}
    exposed = stages[-1].last("EXPOSE").words
    assert exposed == [variables["TRTSERVE_GRPC_PORT"], variables["TRTSERVE_HTTP_PORT"]]
    assert variables["PATH"].startswith("/opt/trtserve/bin:")


def test_labels_have_the_version(file):
    _, stages = file
    assert f"VERSION={VERSION}" in [each.rest for each in stages[-1].all("ARG")]
    labels = " ".join(each.rest for each in stages[-1].all("LABEL"))
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_the_extra_that_is_installed_is_one(file):
    _, stages = file
    (run,) = [each for each in stages[1].all("RUN") if "install.sh" in each.rest]
    assert run.words[run.words.index("/opt/trtserve") - 1] in EXTRAS


def test_the_health_check_asks_whether_it_is_ready(file):
    _, stages = file
    command = stages[-1].last("HEALTHCHECK")
    assert command.exec_form[:2] == ["python", "-I"]
    assert "/readyz" in command.exec_form[-1]
    assert {"interval", "timeout", "start-period", "retries"} <= set(command.options)


def test_the_script_is_one_for_plain_sh():
    script = ROOT / "docker" / "install.sh"
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert "\nset -eu\n" in script.read_text()
