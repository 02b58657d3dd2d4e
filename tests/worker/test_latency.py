"""What a latency table learns, and how it chooses sizes."""

from collections.abc import Callable

import pytest

from trtserve.worker.latency import (
    LONG_NS,
    MAX_GAP_NS,
    MAX_PATIENCE_NS,
    PATIENCE,
    REFRESH,
    TRIALS,
    USUAL_NS,
    LatencyTable,
)

US = 1_000
MS = 1_000_000


def explore(table: LatencyTable, service: Callable[[int], int], batches: int) -> list[int]:
    """Run batches of the size that the table asks for; returns the sizes."""
    sizes = []
    for _ in range(batches):
        sizes.append(table.best_rows)
        table.record(sizes[-1], service(sizes[-1]))
    return sizes


def row_ns(table: LatencyTable) -> int:
    """What a row costs at the best size."""
    found = table.cost()
    assert found is not None
    return found.row_ns


def light(rows: int) -> int:
    return 500 * US + 20 * US * rows


def heavy(rows: int) -> int:
    return 40 * MS * rows


def test_nothing_is_known_at_first():
    table = LatencyTable(32)
    assert table.estimate(1) is None
    assert table.cost() is None
    assert table.patience_ns == 0


def test_one_measurement_scales_up_in_proportion_and_holds_downwards():
    table = LatencyTable(32)
    table.record(4, 1000)
    assert table.estimate(4) == 1000
    assert table.estimate(8) == 2000
    assert table.estimate(5) == 1250
    assert table.estimate(1) == 1000


def test_between_measurements_it_interpolates():
    table = LatencyTable(32)
    table.record(2, 1000)
    table.record(8, 4000)
    assert table.estimate(4) == 2000
    assert table.estimate(5) == 2500
    assert table.estimate(16) == 8000


def test_mixed_sizes_of_one_grid_step_stay_on_a_straight_curve():
    table = LatencyTable(32)
    for rows in [8, 15, 9, 14, 10, 13, 11, 12] * 8:
        table.record(rows, light(rows))
    table.record(1, light(1))
    found = table.estimate(8)
    assert found is not None
    assert found == pytest.approx(light(8), rel=0.01)


def test_a_cold_first_run_does_not_count():
    table = LatencyTable(8)
    table.record(1, 900 * MS)
    table.record(1, 2 * MS)
    assert table.estimate(1) == 2 * MS


def test_one_stray_run_hardly_counts_but_a_lasting_change_arrives():
    table = LatencyTable(1)
    for _ in range(10):
        table.record(1, 1 * MS)
    table.record(1, 1000 * MS)
    assert (table.estimate(1) or 0) < 1.2 * MS
    for _ in range(40):
        table.record(1, 3 * MS)
    assert table.estimate(1) == pytest.approx(3 * MS, rel=0.05)


def test_an_unknown_bucket_tries_doubled_sizes_in_turn():
    table = LatencyTable(32)
    sizes = explore(table, light, 7 * TRIALS)
    assert sizes == [size for size in (1, 2, 4, 8, 16, 32) for _ in range(TRIALS)] + [32] * TRIALS


def test_sizes_that_gain_nothing_are_given_up():
    table = LatencyTable(32)
    sizes = explore(table, heavy, 50)
    assert sizes == [1] * TRIALS + [2] * TRIALS + [1] * (50 - 2 * TRIALS)


def test_growing_ends_where_it_stops_paying():
    def saturating(rows: int) -> int:
        return max(8, rows) * 100 * US

    table = LatencyTable(64)
    explore(table, saturating, 30)
    assert table.best_rows == 8


def test_a_long_batch_must_gain_more():
    def slow(rows: int) -> int:
        return LONG_NS // 4 + LONG_NS // 4 * rows  # gains 33 % from 1 to 2, 20 % from 2 to 4

    def quick(rows: int) -> int:
        return slow(rows) // 100

    sizes = []
    for service in (slow, quick):
        table = LatencyTable(8)
        explore(table, service, 4 * TRIALS)
        sizes.append(table.best_rows)
    assert sizes == [2, 8]


@pytest.mark.parametrize("max_rows", [1, 2, 3, 6, 48, 100])
def test_the_largest_batch_is_reached_and_never_exceeded(max_rows: int):
    table = LatencyTable(max_rows)
    sizes = explore(table, lambda rows: 1 * MS + rows, 40)
    assert max(sizes) == max_rows == sizes[-1]


def test_requests_of_many_rows_need_no_small_trials():
    table = LatencyTable(32)
    for _ in range(TRIALS):
        table.record(8, light(8))
    assert table.best_rows == 16


def test_a_size_that_did_not_pay_is_tried_again_later():
    table = LatencyTable(8)
    explore(table, heavy, REFRESH)
    assert table.best_rows == 2
    # The device has changed: now a batch costs little more than one row.
    sizes = explore(table, lambda rows: 40 * MS + rows, 4 * TRIALS)
    assert sizes == [size for size in (2, 4, 8) for _ in range(TRIALS)] + [8] * TRIALS


def test_a_slower_device_does_not_shrink_the_batches_for_good():
    table = LatencyTable(32)
    explore(table, light, 30)
    assert table.best_rows == 32
    explore(table, lambda rows: 3 * light(rows), 2 * REFRESH)
    assert table.best_rows == 32


def test_the_row_cost_is_that_of_the_best_size():
    table = LatencyTable(32)
    table.record(1, 1000)
    assert row_ns(table) == 1000
    table.record(8, 1600)
    assert row_ns(table) == 200
    table.record(16, 8000)
    assert row_ns(table) == 200


def test_the_cost_has_a_point_for_each_size_that_was_measured():
    table = LatencyTable(8)
    table.record(1, 1000)
    table.record(6, 2400)
    found = table.cost()
    assert found is not None
    # Six rows were measured; four of them are interpolated.
    assert found.points == ((1, 1000), (4, 1840))
    assert found.row_ns == 400
    table.record(8, 2800)
    later = table.cost()
    assert later is not None
    assert later.points == ((1, 1000), (4, 1840), (8, 2800))
    assert table.cost() is later  # worked out anew only after another batch


def test_the_cost_tells_how_large_batches_are_while_requests_come():
    table = LatencyTable(32)
    table.record(1, 1000)

    def usual(now: int) -> int:
        found = table.cost(now)
        assert found is not None
        return found.usual_rows

    table.arrival(10)
    assert usual(20) == 0  # none has left
    table.left(12)
    assert usual(20) == 16
    for _ in range(100):
        table.left(2)
    assert usual(20) == 2
    assert usual(10 + USUAL_NS - 1) == 2
    assert usual(10 + USUAL_NS) == 0
    table.arrival(10 + USUAL_NS)
    assert usual(10 + USUAL_NS) == 2


def test_patience_is_a_part_of_the_lone_service_time():
    table = LatencyTable(8)
    table.record(1, 3 * MS)
    for now in range(0, 100 * 10 * US, 10 * US):
        table.arrival(now)
    assert table.patience_ns == 3 * MS // PATIENCE
    table.record(2, 600 * MS)
    for _ in range(100):
        table.record(1, 500 * MS)
    table.arrival(100 * 10 * US)
    assert table.patience_ns == MAX_PATIENCE_NS


def test_without_company_in_sight_there_is_no_patience():
    table = LatencyTable(8)
    table.record(1, 3 * MS)
    now = 0
    for _ in range(100):
        now += MAX_GAP_NS
        table.arrival(now)
    assert table.patience_ns == 0
    # After however long a pause, a few close arrivals bring it back.
    now += 3600 * 1000 * MS
    for _ in range(40):
        now += 10 * US
        table.arrival(now)
    assert table.patience_ns > 0


def test_alone_is_the_quickest_that_was_seen():
    table = LatencyTable(8)
    assert table.alone(1) is None
    for took in (900, 700, 800, 5000):
        table.record(2, took)
    assert table.alone(2) == 700
    assert table.alone(3) == 1050  # of the same step of the grid
    assert table.alone(4) is None
    assert table.alone(1) is None


# --- batches that are padded -------------------------------------------------------------

SIZES = (2, 4, 8, 12)


def padded(service: Callable[[int], int] = light) -> LatencyTable:
    """Batches are padded to SIZES, of which each was measured."""
    table = LatencyTable(100, SIZES)
    for size in SIZES:
        for _ in range(TRIALS):
            table.record(size, service(size))
    return table


@pytest.mark.parametrize(("rows", "size"), [
    (1, 2), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 12), (12, 12),
])
def test_a_padded_batch_takes_as_long_as_its_size(rows, size):
    assert padded().estimate(rows) == light(size)
    assert padded().alone(rows) == light(size)
    assert LatencyTable(100, SIZES).estimate(rows) is None


def test_beyond_the_largest_size_it_scales_up_in_proportion():
    assert padded().estimate(24) == 2 * light(12)


def test_a_padded_batch_is_a_measurement_of_its_size():
    table = LatencyTable(100, SIZES)
    for _ in range(TRIALS):
        table.record(3, 1000)
    assert [table.estimate(rows) for rows in (3, 4)] == [1000, 1000]
    assert row_ns(table) == 250  # of the rows that the engine ran
    assert table.estimate(2) == 1000  # the smaller size is not known
    table.record(1, 100)
    assert [table.estimate(rows) for rows in (1, 2, 3)] == [100, 100, 1000]


def test_sizes_are_tried_in_turn_and_only_they():
    table = LatencyTable(100, SIZES)
    sizes = explore(table, light, 20)
    assert sizes[0] == 1  # a lone one, padded to two
    assert dict.fromkeys(sizes[1:]) == dict.fromkeys(SIZES)


def test_sizes_that_gain_nothing_are_given_up_here_too():
    table = padded(heavy)
    assert table.best_rows == 2
    assert padded().best_rows == 12


def test_one_size_only():
    table = LatencyTable(100, (4,))
    table.record(1, 1000)
    assert table.best_rows == 4
    assert table.estimate(1) == table.estimate(4) == 1000
