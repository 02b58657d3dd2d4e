"""Models of several engine files, and requests that share a batch with a bad one."""

from typing import Any

import numpy as np
import pytest

from trtserve.client import Client, Internal, InvalidArgument, Item, Result

LEARNING = 10
"""Calls after which a worker has surely learned that batches pay. The first batch of a model
only shows whether its requests may share one; it is answered request by request."""


def image(side: int, value: float = 0.0, rows: int = 1) -> np.ndarray:
    return np.full((rows, side, side), value, np.float32)


def test_each_size_goes_to_its_engine(client):
    sides = [8, 16] * 10
    items = [
        Item("sized", {"x": image(side, value)}, receipt=True)
        for value, side in enumerate(sides)
    ]
    for value, (side, result) in enumerate(
        zip(sides, client.infer_many(items), strict=True)
    ):
        np.testing.assert_array_equal(result["y"], image(side, value + 1))
        assert result.receipt["receipt_variant"] == {8: "small.onnx", 16: "large.onnx"}[side]


def test_mixed_sizes_share_batches_with_their_own_kind(client):
    items = [Item("sized", {"x": image(side)}, receipt=True) for side in [8, 16] * 8]
    for _ in range(LEARNING):
        rows = [result.receipt["receipt_batch_rows"] for result in client.infer_many(items)]
        # The first that comes starts at once, alone; what comes meanwhile goes together.
        if min(max(rows[0::2]), max(rows[1::2])) >= 4:
            return
    raise AssertionError(f"batches of {rows} rows only")


def test_a_size_that_no_engine_takes_lists_those_that_are_taken(client):
    with pytest.raises(InvalidArgument) as caught:
        client.infer("sized", {"x": image(12)})
    message = str(caught.value)
    assert "12" in message
    for taken in ("8, 8", "16, 16"):
        assert taken in message


def look_up(client: Client, model: str, indices: list[int]) -> list[Any]:
    items = [Item(model, {"x": np.array([[index]])}, receipt=True) for index in indices]
    return client.infer_many(items)


def assert_only_99_fails(indices: list[int], results: list[Any]) -> None:
    for index, result in zip(indices, results, strict=True):
        if index == 99:
            assert isinstance(result, Internal)
            assert "99" in str(result)
        else:
            assert isinstance(result, Result), result
            assert result["y"].tolist() == [[index**2]]


def test_one_bad_request_fails_alone(client):
    indices = [3, 1, 4, 1, 5, 9, 2, 6]
    for _ in range(LEARNING):
        results = look_up(client, "look_up", indices)
        if {result.receipt["receipt_batch_requests"] for result in results} == {8}:
            break
    else:
        raise AssertionError("they never shared a batch")
    indices[4] = 99
    assert_only_99_fails(indices, look_up(client, "look_up", indices))


def test_one_bad_request_in_the_very_first_batch_fails_alone(client):
    indices = [3, 1, 4, 99, 5, 9, 2, 6]
    assert_only_99_fails(indices, look_up(client, "untried_look_up", indices))
    indices[3] = 7
    assert_only_99_fails(indices, look_up(client, "untried_look_up", indices))
