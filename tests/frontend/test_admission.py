"""Permits: at once or not at all."""

import pytest

from trtserve.clock import NS_PER_MS, NS_PER_S
from trtserve.errors import Overloaded
from trtserve.frontend.admission import Admission, AdmissionStatistics


def test_no_more_come_in_than_the_limit():
    admission = Admission(2)
    admission.take()
    admission.take()
    with pytest.raises(Overloaded, match=r"2 requests are in flight.*max_in_flight"):
        admission.take()
    assert admission.statistics() == AdmissionStatistics(in_flight=2, limit=2)
    admission.release(NS_PER_MS)
    admission.take()
    assert admission.statistics().in_flight == 2


@pytest.mark.parametrize(("duration_ns", "pushback_ms"), [
    (50 * NS_PER_MS, 50), (1000, 1), (60 * NS_PER_S, 2000),
])
def test_the_pushback_is_the_usual_duration_within_bounds(duration_ns, pushback_ms):
    admission = Admission(1)
    for _ in range(1000):
        admission.take()
        admission.release(duration_ns)
    admission.take()
    with pytest.raises(Overloaded) as caught:
        admission.take()
    assert caught.value.retry_after_ms == pytest.approx(pushback_ms, abs=1)
