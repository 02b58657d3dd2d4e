"""Settings: the defaults work, and what can not work is refused by name."""

from typing import Any

import msgspec
import pytest

from trtserve.config import MIB, Settings
from trtserve.errors import ConfigurationError


def test_the_defaults_are_good_and_cross_processes():
    settings = Settings(repository="/models").check()
    data = msgspec.json.encode(settings)
    assert msgspec.json.decode(data, type=Settings) == settings


@pytest.mark.parametrize(("name", "value", "problem"), [
    ("grpc_port", -1, "-1 is no port"),
    ("grpc_port", 65536, "65536 is no port"),
    ("http_port", 70000, "70000 is no port"),
    ("front_ends", -1, "negative"),
    ("max_message_bytes", 0, "too small"),
    ("arena_bytes", 0, "too small"),
    ("max_in_flight", -5, "too small"),
    ("max_queue_size", 0, "too small"),
    ("lanes", -1, "negative"),
    ("drain_delay_seconds", -0.1, "negative"),
    ("drain_timeout_seconds", -1.0, "negative"),
    ("replay_patience_seconds", -1.0, "negative"),
    ("arena_bytes", 64 * MIB, "less than max_message_bytes"),
    ("trace_sample_ratio", -0.1, "-0.1 is no share"),
    ("trace_sample_ratio", 1.5, "1.5 is no share"),
    ("otlp_endpoint", "localhost:4318", "is no address of a collector"),
    ("otlp_endpoint", "", "is no address of a collector"),
    ("otlp_endpoint", "http://", "is no address of a collector"),
    ("log_format", "xml", "'xml' is not known"),
    ("log_level", "loud", "'loud' is not known"),
    ("devices", "tpu", "'tpu' is no device"),
    ("devices", "", "'' is no device"),
    ("devices", "cuda", "'cuda' is no device"),
    ("devices", "cuda:", "'cuda:' is no device"),
    ("devices", "cuda:-1", "'cuda:-1' is no device"),
    ("devices", "cuda:00", "'cuda:00' is no device"),
    ("devices", "cpu,", "'' is no device"),
    ("devices", "cpu, cuda:0", "' cuda:0' is no device"),
    ("devices", "cpu,auto", "'auto' is no device"),
    ("devices", "cuda:1,cpu,cuda:1", "'cuda:1' comes twice"),
    ("socket", "/tmp/" + "x" * 100, "longer than a Unix socket's"),
    ("socket", "/tmp/" + "é" * 50, "longer than a Unix socket's"),
])
def test_what_can_not_work_is_named_with_its_cure(name, value, problem):
    values: dict[str, Any] = {"repository": "/models", name: value}
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Settings(**values).check()
    assert caught.value.where == name
    assert caught.value.cure


@pytest.mark.parametrize(("name", "value"), [
    ("grpc_port", 0), ("http_port", 65535), ("lanes", 0), ("drain_delay_seconds", 0.0),
    ("socket", "/tmp/s"), ("log_format", "json"), ("log_level", "debug"),
    ("arena_bytes", 128 * MIB), ("max_in_flight", 1), ("front_ends", 0), ("devices", "auto"),
    ("devices", "all"), ("devices", "cpu"), ("devices", "cuda:0,cuda:11"),
    ("devices", "cpu,cuda:0"),
])
def test_values_at_the_bounds_are_taken(name, value):
    values: dict[str, Any] = {"repository": "/models", name: value}
    assert getattr(Settings(**values).check(), name) == value
