"""The server's options, by settings."""

import pytest
from msgspec.structs import replace

from trtserve.config import Settings
from trtserve.errors import ConfigurationError
from trtserve.frontend.server import MAX_METADATA_BYTES, max_calls, server_options
from trtserve.security.start import check, warnings


def options(**settings):
    return dict(server_options(Settings(repository="", **settings)))


def test_limits_are_the_settings():
    found = options(max_message_bytes=1 << 20, max_in_flight=7, grpc_max_connections=9)
    assert found["grpc.max_receive_message_length"] == 1 << 20
    assert found["grpc.max_send_message_length"] == 1 << 20
    assert found["grpc.max_concurrent_streams"] == 7
    assert found["grpc.max_allowed_incoming_connections"] == 9
    assert found["grpc.absolute_max_metadata_size"] == MAX_METADATA_BYTES


def test_connections_have_no_age_unless_wanted():
    assert not [name for name in options() if "connection_age" in name]
    found = options(
        grpc_max_connection_age_seconds=300, grpc_max_connection_age_grace_seconds=0.5
    )
    assert found["grpc.max_connection_age_ms"] == 300_000
    assert found["grpc.max_connection_age_grace_ms"] == 500


@pytest.mark.parametrize(("settings", "setting"), [
    ({"tls_certificate": "a"}, "tls_key"), ({"tls_key": "a"}, "tls_certificate"),
    ({"tls_client_ca": "a"}, "tls_client_ca"), ({"http_tls": True}, "http_tls"),
    ({"grpc_max_connections": 0}, "grpc_max_connections"),
    ({"grpc_max_connection_age_seconds": -1}, "grpc_max_connection_age_seconds"),
])
def test_settings_that_lack_something(settings, setting):
    with pytest.raises(ConfigurationError) as caught:
        check(Settings(repository="", **settings).check())
    assert caught.value.where == setting


@pytest.mark.parametrize(("settings", "has_access", "word"), [
    ({}, False, None),
    ({"host": "::1"}, False, None),
    ({"host": "0.0.0.0"}, False, "everybody who reaches"),
    ({"host": "0.0.0.0"}, True, "in clear"),
    ({"host": "0.0.0.0", "tls_certificate": "a"}, True, None),
    ({"control_on_tcp": True}, False, "load and unload"),
    ({"control_on_tcp": True}, True, None),
])
def test_what_is_dangerous_is_warned_of(settings, has_access, word):
    found = warnings(Settings(repository="", **settings), has_access=has_access)
    assert len(found) == (word is not None)
    assert all(word in text for text in found)


@pytest.mark.parametrize(("setting", "mode", "warned"), [
    ("tls_key", 0o644, True), ("tls_key", 0o640, False), ("access_file", 0o644, False),
    ("access_file", 0o646, True), ("tls_client_ca", 0o666, True), ("tls_client_ca", 0o644, False),
])
def test_files_that_others_reach_are_warned_of(tmp_path, setting, mode, warned):
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    settings = replace(Settings(repository=""), **{setting: str(file)})
    found = warnings(settings, has_access=True)
    assert len(found) == warned
    assert all(str(file) in text for text in found)


def test_calls_at_once_are_bounded_over_all_connections():
    assert max_calls(Settings(repository="", max_in_flight=4096)) < 10_000
    assert max_calls(Settings(repository="", max_in_flight=1)) > 1000
    assert options()["grpc.server_handshake_timeout_ms"] <= 30_000
