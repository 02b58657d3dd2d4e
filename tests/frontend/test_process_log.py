"""What a front end keeps out of its log."""

import logging

import pytest

from trtserve.frontend.process import _is_news


@pytest.mark.parametrize(("text", "kept"), [
    ("ExecuteBatchError raised in core by servicer method [/inference/ModelInfer]", False),
    ("Invalid encoding on %s", False),
    ("Unexpected [UnicodeDecodeError] raised by servicer method [/s/\\xff]", False),
    ("Unexpected [KeyError] raised by servicer method [/inference/ModelInfer]", True),
])
def test_only_what_clients_can_make_at_will_is_dropped(text, kept):
    record = logging.makeLogRecord({"msg": text})
    assert _is_news(record) is kept
