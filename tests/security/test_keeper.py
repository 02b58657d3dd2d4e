"""What the supervisor keeps for front ends that start later."""

import pytest

from tests.security.authority import Authority, replace
from trtserve.clock import NS_PER_S
from trtserve.config import Settings
from trtserve.errors import ConfigurationError
from trtserve.security.keeper import NOTHING, kept
from trtserve.security.start import check, watched_access, watched_identity
from trtserve.security.tokens import hash_of


def rules(token):
    return f"callers: [{{name: app, tokens: ['{hash_of(token)}']}}]".encode()


@pytest.fixture
def settings(tmp_path):
    certificate, key = Authority(tmp_path).server()
    access = tmp_path / "access.yaml"
    access.write_bytes(rules("t"))
    return Settings(
        repository="", tls_certificate=certificate, tls_key=key, access_file=str(access)
    )


def test_the_last_good_files_are_used_where_there_are_no_others(settings, tmp_path):
    keeper = check(settings)
    renewed = Authority(tmp_path, "other").server()
    replace(tmp_path / "access.yaml", rules("new"))
    keeper.turn(NS_PER_S)
    with open(renewed[0], "rb") as file:
        wanted = file.read()
    for path in (renewed[1], settings.access_file):
        with open(path, "w") as file:
            file.write("!")
    for watched in (watched_identity, watched_access):
        with pytest.raises(ConfigurationError):
            watched(settings)
    contents = kept(keeper.contents())
    identity = watched_identity(settings, contents)
    access = watched_access(settings, contents)
    assert identity is not None
    assert access is not None
    assert identity.value.certificate == wanted
    assert access.value.of_token("new").name == "app"


def test_nothing_is_kept_where_nothing_is_configured():
    assert kept(check(Settings(repository="")).contents()) == NOTHING
    assert kept(b"") == NOTHING


def test_a_key_is_not_printed(settings):
    assert "PRIVATE" not in repr(kept(check(settings).contents()))
