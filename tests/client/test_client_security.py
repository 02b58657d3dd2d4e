"""What a client says of itself before it connects."""

import pytest

from trtserve.client import InferenceError, Security
from trtserve.security.tokens import make_token


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0", "\u00fc"])
def test_a_token_with_more_than_a_token_is_refused_without_showing_it(end):
    token = make_token()
    with pytest.raises(InferenceError, match="line's end") as caught:
        Security(token=token + end)
    assert token not in str(caught.value)
    assert Security(token=token).metadata == (("authorization", f"Bearer {token}"),)
    assert token not in repr(Security(token=token))


def test_half_a_pair_is_refused():
    with pytest.raises(InferenceError, match="go together"):
        Security(certificate="client.pem")
