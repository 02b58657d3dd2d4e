"""Statistics over restarts, and the rounds of polls that gather them."""

from trtserve.ipc.statistics import (
    CounterSample,
    ErrorSample,
    Exemplar,
    HistogramSample,
    Statistics,
)
from trtserve.supervisor.polls import PATIENCE_NS, Polls
from trtserve.supervisor.totals import Totals, merged


def statistics(count, latest=0.0):
    return Statistics(
        counters=(
            CounterSample("requests", ("m", "1", "ok"), count),
            CounterSample("version_sums", ("m", "1", "last_inference_ms"), latest),
        ),
        gauges=(CounterSample("requests_in_flight", (), count),),
        histograms=(HistogramSample("batch_rows", ("m", "1"), (count, 0, 1), 2.5),),
    )


def test_the_dead_keep_their_counts_and_lose_their_gauges():
    retired = Totals()
    retired.retire(statistics(3, latest=200))
    both = merged(retired.statistics(), [statistics(4, latest=100), statistics(5)])
    assert both.counters == (
        CounterSample("requests", ("m", "1", "ok"), 12),
        CounterSample("version_sums", ("m", "1", "last_inference_ms"), 200),
    )
    assert both.gauges == (CounterSample("requests_in_flight", (), 9),)
    assert both.histograms == (HistogramSample("batch_rows", ("m", "1"), (12, 0, 3), 7.5),)


def test_of_each_kind_of_error_the_last_one_counts():
    def said(message, at_ns, word="invalid"):
        return Statistics(errors=(ErrorSample("m", "1", word, message, at_ns),))

    retired = Totals()
    retired.retire(said("old", 1))
    both = merged(retired.statistics(), [said("new", 3), said("older", 2), said("x", 1, "rate")])
    assert both.errors == (
        ErrorSample("m", "1", "invalid", "new", 3), ErrorSample("m", "1", "rate", "x", 1),
    )
    assert retired.statistics().errors == (ErrorSample("m", "1", "invalid", "old", 1),)


def test_merging_does_not_change_what_is_retired():
    retired = Totals()
    retired.retire(statistics(3))
    first = merged(retired.statistics(), [statistics(1)])
    assert merged(retired.statistics(), [statistics(1)]) == first


def test_the_latest_exemplar_of_each_bucket_stays_also_of_the_dead():
    def traced(*exemplars):
        counts = HistogramSample("batch_rows", ("m", "1"), (0, 0, 0), 0.0, exemplars)
        return Statistics(histograms=(counts,))

    old, new = Exemplar(0, "a", 0.5, 10.0), Exemplar(0, "b", 0.4, 11.0)
    other = Exemplar(2, "c", 9.0, 1.0)
    retired = Totals()
    retired.retire(traced(new, other))
    both = merged(retired.statistics(), [traced(old), statistics(4)])
    assert both.histograms == (
        HistogramSample("batch_rows", ("m", "1"), (4, 0, 1), 2.5, (new, other)),
    )


def test_a_round_ends_when_all_have_answered():
    polls: Polls[str] = Polls()
    polls.ask("scrape")
    token = polls.begin(["a", "b"], 0)
    assert token is not None
    polls.answered("a", token)
    polls.answered("b", 0)
    polls.answered("b", token - 1)
    assert polls.finished(1) == []
    polls.answered("b", token)
    assert polls.finished(1) == ["scrape"]
    assert polls.finished(1) == []


def test_a_round_does_not_wait_for_the_dead_nor_for_the_slow():
    polls: Polls[str] = Polls()
    polls.ask("one")
    polls.begin(["a"], 0)
    polls.gone("a")
    assert polls.finished(1) == ["one"]
    polls.ask("two")
    polls.begin(["a"], 0)
    assert polls.wake_ns() == PATIENCE_NS
    assert polls.finished(PATIENCE_NS - 1) == []
    assert polls.finished(PATIENCE_NS) == ["two"]


def test_who_asks_during_a_round_is_served_by_the_next():
    polls: Polls[str] = Polls()
    assert polls.begin(["a"], 0) is None
    polls.ask("early")
    first = polls.begin(["a"], 0)
    assert first is not None
    polls.ask("late")
    polls.ask("later")
    assert polls.begin(["a"], 0) is None
    polls.answered("a", first)
    assert polls.finished(1) == ["early"]
    second = polls.begin(["a"], 1)
    assert second is not None
    assert second != first
    polls.answered("a", second)
    assert polls.finished(2) == ["late", "later"]
