"""The documentation against the code: tables are complete, links and names lead somewhere."""

import inspect
import json
import re
from pathlib import Path

import msgspec
import pytest
from google.protobuf import text_format
from prometheus_client.parser import text_string_to_metric_families
from typer.core import TyperGroup
from typer.main import get_command

from tests.supervisor.snapshots import snapshot
from tests.test_imports import ALLOWED
from trtserve import errors
from trtserve.cli.main import app
from trtserve.client.operation import SERVICE_CONFIG
from trtserve.config import Settings
from trtserve.frontend.receipt import receipt_parameters
from trtserve.frontend.reply import STATUS_NUMBERS
from trtserve.ipc import message as messages
from trtserve.metrics import METRICS, Kind
from trtserve.model.configuration_file import SCHEMA
from trtserve.model.configuration_text import from_json, from_yaml
from trtserve.model.unserved import UNSERVED
from trtserve.proto import grpc_service_pb2, model_config_pb2
from trtserve.supervisor.exposition import NOT_EXPOSED, Exposition
from trtserve.supervisor.triton_metrics import COUNTERS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trtserve"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}


def code_blocks(text, language):
    """The contents of the fenced blocks of a language; "" for blocks without one."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [body for found, body in blocks if found == language]


def rows(text):
    """Each table row's cells."""
    return [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in text.splitlines() if line.startswith("|")
    ]


def table(text):
    """The rows that begin with code, by that code's text; the code's ticks are gone."""
    return {
        row[0].strip("`"): row[1:] for row in rows(text) if re.fullmatch(r"`[^`]+`", row[0])
    }


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text):
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


@pytest.mark.parametrize("page", PAGES, ids=list(TEXTS))
def test_links_lead_somewhere(page):
    dead = []
    for link in links(page.read_text()):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    assert not dead


# --- operations.md -----------------------------------------------------------------------


def test_every_setting_is_in_the_table_with_its_flag_variable_and_default():
    # Other tables of the page name settings too.
    section = TEXTS["docs/operations.md"].partition("\n## Settings\n")[2].partition("\n## ")[0]
    documented = table(section)
    for field in msgspec.structs.fields(Settings):
        flag, variable, default, meaning = documented[field.name]
        if field.required:
            assert (flag, default) == (f"`{field.name.upper()}` (argument)", "required")
        else:
            assert flag == f"`--{field.name.replace('_', '-')}`"
            shown = "none" if field.default is None else f"`{field.default}`"
            assert (field.name, default) == (field.name, shown)
        assert variable == f"`TRTSERVE_{field.name.upper()}`"
        assert meaning


def test_the_example_of_a_settings_file_is_good():
    (example,) = code_blocks(TEXTS["docs/operations.md"], "toml")
    msgspec.toml.decode(example, type=msgspec.defstruct(
        "Known", [(f.name, f.type, None) for f in msgspec.structs.fields(Settings)],
        forbid_unknown_fields=True,
    ))


def metric_rows():
    documented = table(TEXTS["docs/operations.md"])
    return {name: (cells[0], cells[1]) for name, cells in documented.items() if len(cells) >= 2}


def exposed_name(metric):
    if metric.name in NOT_EXPOSED:
        return metric.name
    return f"trtserve_{metric.name}{'_total' if metric.kind is Kind.COUNTER else ''}"


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_is_in_the_table_with_its_type_and_labels(metric):
    assert metric_rows()[exposed_name(metric)] == (str(metric.kind), ", ".join(metric.labels))


def test_everything_that_a_scrape_gets_is_in_the_tables_and_nothing_else_is():
    _, body = Exposition(1).encode(snapshot(), "")
    scraped = {}
    for family in text_string_to_metric_families(body.decode()):
        name = family.name
        if family.type == "counter" and name not in COUNTERS:
            name += "_total"
        scraped[name] = (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
    documented = {
        name: (kind, set(filter(None, labels.split(", "))))
        for name, (kind, labels) in metric_rows().items()
        if name.startswith(("trtserve_", "nv_"))
    }
    for name, (kind, labels) in scraped.items():
        assert documented[name][0] == kind, name
        assert labels in (set(), documented[name][1]), name  # no sample has no labels
    assert documented.keys() == scraped.keys()


def test_every_class_of_error_is_explained():
    classes = {
        name for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.TrtserveError)
    } - {"TrtserveError"}
    explained = TEXTS["docs/operations.md"].partition("## Troubleshooting")[2]
    missing = {name for name in classes if not re.search(rf"^\| {name}\b", explained, re.M)}
    assert not missing


# --- protocol.md -------------------------------------------------------------------------


def test_every_call_is_documented_as_served_or_not():
    served, _, unserved = TEXTS["docs/protocol.md"].partition("### Not served")
    unserved = unserved.partition("\n## ")[0]
    service = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    source = (PACKAGE / "frontend" / "inference_service.py").read_text()
    for method in service.methods:
        place = served if f'"{method.name}"' in source else unserved
        assert f"`{method.name}`" in place, method.name


def test_every_error_word_is_documented_with_its_code():
    found = {(row[1].strip("`"), row[0]) for row in rows(TEXTS["docs/protocol.md"])
             if len(row) == 4}
    wanted = {(word, cls.code) for word, cls in errors.request_error_classes().items()}
    assert wanted <= found
    assert {code for _, code in wanted} == set(STATUS_NUMBERS)


def test_the_retry_policy_is_the_client_s():
    (config,) = code_blocks(TEXTS["docs/protocol.md"], "json")
    assert json.loads(config) == SERVICE_CONFIG


def test_every_parameter_of_a_receipt_is_documented():
    names = set(re.findall(r'"(receipt_\w+)"', inspect.getsource(receipt_parameters)))
    assert names
    documented = set(re.findall(r"`(receipt_\w+)`", TEXTS["docs/protocol.md"]))
    assert documented == names


# --- model-repository.md -----------------------------------------------------------------


def test_every_field_that_is_not_served_is_listed_with_its_reason():
    documented = table(TEXTS["docs/model-repository.md"])
    for name, entry in UNSERVED.items():
        assert documented[name][0].startswith(entry.reason), name


def test_the_three_forms_of_the_example_are_one_configuration():
    text = TEXTS["docs/model-repository.md"]
    (yaml,) = code_blocks(text, "yaml")
    (as_json,) = code_blocks(text, "json")
    (pbtxt,) = (block for block in code_blocks(text, "") if "dynamic_batching {" in block)
    forms = [
        text_format.Parse(form, model_config_pb2.ModelConfig())
        for form in (
            pbtxt, from_yaml(yaml, Path("config.yaml"), SCHEMA),
            from_json(as_json, Path("config.json"), SCHEMA),
        )
    ]
    assert forms[0].dynamic_batching.preferred_batch_size
    assert forms[0] == forms[1] == forms[2]


# --- architecture.md and glossary.md -----------------------------------------------------


def test_the_files_that_the_architecture_names_exist():
    text = TEXTS["docs/architecture.md"]
    names = set(re.findall(r"`([\w./-]+(?:\.py|/))`", text))
    assert len(names) > 80
    # In the tour a bare name belongs to the folder that heads its paragraph.
    folders = [PACKAGE, ROOT]
    for paragraph in text.split("\n\n"):
        heading = re.match(r"\*\*(.*?)\*\*", paragraph, re.S)
        inside = re.findall(r"`(\w+)/`", heading[1]) if heading else []
        places = [*(PACKAGE / folder for folder in inside), *folders]
        for name in re.findall(r"`([\w./-]+(?:\.py|/))`", paragraph):
            assert any((place / name).exists() for place in places), name


def test_the_tour_names_every_module():
    tour = TEXTS["docs/architecture.md"]
    modules = {
        path.name for path in PACKAGE.rglob("*.py")
        if not path.name.startswith("__") and not path.name.endswith("_pb2.py")
        and path.relative_to(PACKAGE).parts[0] not in ("cli", "client", "testing")
    }
    missing = {name for name in modules if not re.search(rf"[`/]{name}`", tour)}
    assert not missing


def test_the_import_table_is_the_tested_one():
    documented = {}
    section = TEXTS["docs/architecture.md"].partition("## Who may import whom")[2]
    for row in rows(section.partition("\n## ")[0]):
        for name in re.findall(r"`(\w+)`", row[0]):
            documented[name] = row[1]
    for name, allowed in ALLOWED.items():
        if name.startswith("__"):
            continue
        if documented[name] == "all":
            assert set(allowed) >= ALLOWED.keys() - {"__init__", "__main__", "testing", name, "cli"}
        else:
            wanted = set() if documented[name] == "nothing of ours" else {
                *documented[name].split(", ")
            }
            assert wanted == set(allowed), name


def test_every_message_is_in_the_conversations():
    section = TEXTS["docs/architecture.md"].partition("## Messages")[2].partition("\n## ")[0]
    kinds = [
        name for name, cls in inspect.getmembers(messages, inspect.isclass)
        if issubclass(cls, messages.Message) and cls is not messages.Message
    ]
    listed = {word for row in rows(section) for word in re.findall(r"\w+", row[-1])}
    assert set(kinds) <= listed


def test_the_glossary_s_names_are_in_the_code():
    sources = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    names = [
        name for row in rows(TEXTS["docs/glossary.md"]) for name in re.findall(r"`(.+?)`", row[-1])
    ]
    assert len(names) > 40
    missing = [
        name for name in names
        if not re.search(rf"\b{name.rpartition('.')[2]}\b", sources)
        and not (PACKAGE / name).is_dir()
    ]
    assert not missing


# --- commands ----------------------------------------------------------------------------


def shell_lines():
    return [
        line for text in TEXTS.values() for block in code_blocks(text, "sh")
        for line in block.splitlines()
    ]


def test_the_commands_that_are_shown_exist():
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    shown = [line.split() for line in shell_lines() if line.startswith("trtserve ")]
    assert len(shown) > 5
    for _, name, *arguments in shown:
        command = group.commands[name]
        if isinstance(command, TyperGroup) and arguments and arguments[0] in command.commands:
            command = command.commands[arguments[0]]
        options = {flag for parameter in command.params for flag in parameter.opts}
        wrong = {word for word in arguments if word.startswith("--")} - options
        assert not wrong, f"trtserve {name} has no {', '.join(wrong)}"


def test_the_targets_that_are_shown_exist():
    makefile = (ROOT / "Makefile").read_text()
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", "\n".join(TEXTS.values()), re.M))
    assert {"demo", "test"} <= shown
    missing = {name for name in shown if not re.search(rf"^{name}:", makefile, re.M)}
    assert not missing


def test_decisions_have_their_four_parts_and_their_number():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    for number, page in enumerate(pages, 1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        assert re.findall(r"^## (.*)$", text, re.M) == [
            "Context", "Decision", "Measured reason", "Consequences"
        ]
