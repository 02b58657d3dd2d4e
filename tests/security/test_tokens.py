"""Tokens: long, random, and known by their hash only."""

from trtserve.security.tokens import PREFIX, hash_of, is_hash, make_token


def test_tokens_differ_and_are_long():
    made = {make_token() for _ in range(100)}
    assert len(made) == 100
    assert all(token.startswith(PREFIX) and len(token) >= len(PREFIX) + 43 for token in made)


def test_a_hash_has_its_form_and_hides_the_token():
    token = make_token()
    assert is_hash(hash_of(token))
    assert token not in hash_of(token)
    assert hash_of("abc") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_other_texts_are_no_hashes():
    for text in ("", "sha256:", "sha256:" + "0" * 63, "sha256:" + "G" * 64, "md5:" + "0" * 64,
                 hash_of("x") + "\n", make_token()):
        assert not is_hash(text), text
