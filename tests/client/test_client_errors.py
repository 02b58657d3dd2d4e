import grpc
import pytest

import trtserve.client
from trtserve.client import InferenceError, NotFound, Overloaded, errors
from trtserve.errors import request_error_classes


def test_every_status_makes_an_error_with_that_code():
    for status in grpc.StatusCode:
        error = errors.error_of(status.name, "why")
        assert (error.code, error.message, str(error)) == (status.name, "why", "why")
        assert errors.error_of_number(status.value[0], "why").code == status.name


def test_every_error_of_the_server_has_a_class_of_its_own():
    for cls in request_error_classes().values():
        assert type(errors.error_of(cls.code, "")) is not InferenceError


def test_every_class_is_exported():
    for cls in InferenceError.__subclasses__():
        assert getattr(trtserve.client, cls.__name__) is cls


def test_an_unknown_number_is_unknown():
    assert errors.error_of_number(99, "what").code == "UNKNOWN"


def test_an_empty_reason_is_said_to_be_so():
    assert isinstance(errors.error_of("NOT_FOUND", ""), NotFound)
    assert errors.error_of("NOT_FOUND", "").message == "the server gave no reason for NOT_FOUND"


class Failure:
    """What errors.error_of_call reads of a grpc.RpcError."""

    def __init__(self, code, details, trailers=()):
        self._code, self._details, self._trailers = code, details, trailers

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailers


@pytest.mark.parametrize(
    ("trailers", "seconds"),
    [
        (None, None),
        ((), None),
        ((("other", "1"), ("grpc-retry-pushback-ms", "1500")), 1.5),
        ((("grpc-retry-pushback-ms", "-1"),), None),
        ((("grpc-retry-pushback-ms", "soon"),), None),
    ],
)
def test_the_pushback_trailer_is_read_as_seconds(trailers, seconds):
    failure = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", trailers)
    error = errors.error_of_call(failure, "here:1")
    assert isinstance(error, Overloaded)
    assert (error.message, error.retry_after) == ("full", seconds)


def test_a_servers_own_unavailable_keeps_its_words():
    failure = Failure(grpc.StatusCode.UNAVAILABLE, "model det is loading")
    assert errors.error_of_call(failure, "here:1").message == "model det is loading"
