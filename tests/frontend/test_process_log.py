"""What a front end keeps out of its log."""

import logging

import pytest

from trtserve.frontend.process import _tells_more_than_that_a_call_is_over


@pytest.mark.parametrize(("text", "kept"), [
    ("ExecuteBatchError raised in core by servicer method [/inference/ModelInfer]", False),
    ("Unexpected [KeyError] raised by servicer method [/inference/ModelInfer]", True),
])
def test_only_answers_to_calls_that_are_over_are_dropped(text, kept):
    record = logging.makeLogRecord({"msg": text})
    assert _tells_more_than_that_a_call_is_over(record) is kept
