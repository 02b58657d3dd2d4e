"""The status page and /docs as documents: escaped, self-contained, with real tables."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.supervisor.snapshots import NASTY, snapshot
from trtserve.ipc.statistics import ErrorSample, Statistics
from trtserve.metrics import METRICS
from trtserve.supervisor.status_data import Status, status_of
from trtserve.supervisor.status_docs import docs_page
from trtserve.supervisor.status_page import page, security_policy, tables
from trtserve.supervisor.status_watch import Watched

VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Reads a document; everything that is opened has to be closed again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def status() -> Status:
    base = snapshot()
    errors = (ErrorSample(NASTY, "1", "invalid", "<img src=x>", 0),)
    placed = tuple(("worker cpu", update) for update in base.models)
    watched = Watched(10**9, placed, 10.0, Statistics(), ())
    return status_of(replace(
        base, statistics=Statistics(
            base.statistics.counters, base.statistics.gauges, base.statistics.histograms, errors
        ), watched=watched,
    ))


@pytest.fixture
def read() -> Reader:
    return Reader(page(status()))


def test_what_comes_from_outside_is_escaped(read):
    assert "<img" not in page(status())
    assert len(read.of("script")) == 1
    assert any(NASTY in text for text in read.text["th"])
    assert any("<img src=x>" in text for text in read.text["span"])


def test_nothing_comes_from_elsewhere(read):
    for _, attributes in read.tags:
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "data:,"))
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    policy = security_policy()
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_tables_have_headings_and_names(read):
    assert len(read.of("table")) == 5
    headings = read.of("th")
    assert {"row", "col"} == {heading["scope"] for heading in headings}
    for table in ("Models", "Variants", "Lanes", "Recent errors", "Processes"):
        assert table in read.text["h2"]
    identifiers = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in read.tags:
        assert attributes.get("aria-labelledby", identifiers[0]) in identifiers


def test_without_scripts_it_loads_itself_anew(read):
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page(status())


def test_the_parts_that_change_are_in_both():
    whole, parts = Reader(page(status())), Reader(tables(status()))

    def named(document: Reader) -> list[str | None]:
        return [each["data-part"] for _, each in document.tags if "data-part" in each]

    assert named(whole) == named(parts) == [
        "tiles", "reasons", "models", "variants", "devices", "errors", "processes"
    ]


def test_a_daemon_without_anything_has_a_page_too():
    empty = replace(snapshot(), not_ready=(), models=(), processes=(), statistics=Statistics())
    read = Reader(page(status_of(empty)))
    assert read.of("table") == []
    assert "None." in read.text["p"]
    assert "ready" in read.text["span"]


def test_the_docs_name_every_metric_that_is_exposed():
    text = docs_page()
    Reader(text)
    for metric in METRICS.values():
        shown = f"trtserve_{metric.name}" in text
        assert shown == ("not exposed" not in metric.help), metric.name
    for word in ("overloaded", "RESOURCE_EXHAUSTED", "/status.json", "/readyz"):
        assert word in text
