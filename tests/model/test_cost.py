"""What batches cost by their size."""

import msgspec
import pytest

from trtserve.model.cost import Cost, request_ns, usual_rows, usual_size

CURVE = Cost(40, 0, ((2, 1000), (4, 1400), (16, 640)))


@pytest.mark.parametrize(("rows", "ns"), [
    (1, 1000), (2, 1000), (3, 1200), (4, 1400), (10, 1020), (16, 640), (32, 1280),
])
def test_between_points_it_is_interpolated_and_beyond_the_last_in_proportion(rows, ns):
    assert CURVE.batch_ns(rows) == ns


def test_without_points_each_row_costs_the_same():
    assert Cost(40).batch_ns(3) == 120


@pytest.mark.parametrize(("rows", "usual", "ns"), [
    (1, 0, 1000), (1, 4, 350), (4, 16, 160), (16, 4, 640),
])
def test_a_request_pays_its_rows_part_of_the_batch_that_it_is_in(rows, usual, ns):
    assert request_ns(CURVE, rows, usual) == ns


@pytest.mark.parametrize(("rows", "size"), [
    (0.0, 0), (1.0, 1), (1.3, 1), (1.5, 2), (2.7, 2), (3.0, 4), (11.0, 8), (12.0, 16),
])
def test_usual_sizes_are_powers_of_two(rows, size):
    assert usual_size(rows) == size


def test_the_usual_rows_are_those_of_the_variant_that_runs():
    assert usual_rows(()) == 0
    assert usual_rows((Cost(1, 0), Cost(1, 8), Cost(1, 2))) == 8


@pytest.mark.parametrize(("change", "differs"), [
    ({}, False), ({"row_ns": 43}, False), ({"row_ns": 45}, True), ({"usual_rows": 1}, True),
    ({"points": ((2, 1000), (4, 1400))}, True),
    ({"points": ((2, 1050), (4, 1400), (16, 640))}, False),
    ({"points": ((2, 1200), (4, 1400), (16, 640))}, True),
    ({"points": ((1, 1000), (4, 1400), (16, 640))}, True),
])
def test_a_change_counts_from_a_part_on(change, differs):
    assert msgspec.structs.replace(CURVE, **change).differs(CURVE, 0.1) is differs
