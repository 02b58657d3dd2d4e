"""The server's certificate: proved before it is used, read again when it changes."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.security.authority import DAY, PEM, Authority, replace
from trtserve.config import Settings
from trtserve.errors import ConfigurationError
from trtserve.security.certificates import Files, read_identity
from trtserve.security.start import watched_identity


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_a_good_pair_tells_when_it_expires(authority, tmp_path):
    certificate, key = authority.server(ends=7)
    identity = read_identity(Files(certificate, key, str(authority.ca)))
    assert identity.certificate == Path(certificate).read_bytes()
    assert identity.key == Path(key).read_bytes()
    (of_server, soon), (of_ca, later) = identity.expires
    assert (of_server, of_ca) == ("tls_certificate", "tls_client_ca")
    assert later - soon == pytest.approx((30 - 7) * DAY.total_seconds(), abs=60)


def refused(certificate, key, ca=None):
    with pytest.raises(ConfigurationError) as caught:
        read_identity(Files(str(certificate), str(key), ca and str(ca)))
    assert caught.value.cure
    return caught.value


def test_what_is_wrong_is_said_with_the_setting(authority, tmp_path):
    certificate, key = authority.server()
    missing = refused(tmp_path / "nowhere.pem", key)
    assert missing.where == "tls_certificate"
    assert "No such file" in missing.problem
    _, other_key = authority.server("other")
    assert "is not the key of" in refused(certificate, other_key).problem
    assert refused(certificate, other_key).where == "tls_key"
    assert "has expired" in refused(*authority.server("old", begins=-3, ends=-1)).problem
    assert "not in force yet" in refused(*authority.server("new", begins=1)).problem
    assert "holds no certificate" in refused(key, key).problem
    assert "holds no key" in refused(certificate, certificate).problem
    assert "not accepted for a server" in refused(*authority.client("somebody")).problem
    assert refused(certificate, key, key).where == "tls_client_ca"
    assert "may sign others" in refused(certificate, key, certificate).problem


def test_a_key_with_a_password_is_refused_without_asking_the_terminal(authority, tmp_path):
    certificate, key = authority.server()
    plain = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(plain.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    ))
    error = refused(certificate, locked)
    assert error.where == "tls_key"
    assert "without a password" in error.cure


def test_changed_files_are_taken_up_and_broken_ones_are_not(authority, caplog):
    certificate, key = authority.server()
    settings = Settings(repository="", tls_certificate=certificate, tls_key=key)
    watched = watched_identity(settings)
    assert watched is not None
    first = watched.value
    assert not watched.look()
    # Half of the pair has changed: a moment in which nothing new can be used.
    Authority(authority.folder, "elsewhere").server("fresh")
    replace(Path(key), (authority.folder / "fresh.key").read_bytes())
    assert not watched.look()
    assert watched.value is first
    assert watched.failures == 1
    assert not watched.look()
    assert watched.failures == 1, "the same broken files count once"
    assert "the old one stays" in caplog.text
    replace(Path(certificate), (authority.folder / "fresh.pem").read_bytes())
    assert watched.look()
    assert watched.value.certificate == (authority.folder / "fresh.pem").read_bytes()
    Path(certificate).unlink()
    assert not watched.look()
    assert watched.failures == 2


def test_without_the_settings_there_is_none():
    assert watched_identity(Settings(repository="")) is None
