"""The errors: the drawing is complete, each has its word and code, and they cross processes."""

import inspect
import re

import grpc
import pytest

from trtserve import errors
from trtserve.errors import (
    Overloaded,
    RequestError,
    TrtserveError,
    request_error,
    request_error_classes,
)

CLASSES = {
    cls.__name__: cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, TrtserveError)
}


def drawn_parents() -> dict[str, str]:
    """Each class in the module's drawing with the one it hangs from."""
    parents: dict[str, str] = {}
    levels: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]*)([A-Z]\w+)(?: {2,}|$)", line)
        if found:
            depth = len(found[1]) // 4
            levels[depth:] = [found[2]]
            if depth:
                parents[found[2]] = levels[depth - 1]
    return parents


def test_the_drawing_shows_every_class_under_its_parent():
    real = {
        name: cls.__bases__[0].__name__ for name, cls in CLASSES.items() if cls is not TrtserveError
    }
    assert drawn_parents() == real


def test_everything_here_is_in_the_tree():
    assert all(
        issubclass(cls, TrtserveError)
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    )


def test_each_request_error_has_a_word_of_its_own_and_a_code_of_grpc():
    subclasses = {cls for cls in CLASSES.values() if issubclass(cls, RequestError)}
    assert set(request_error_classes().values()) == subclasses
    assert len(request_error_classes()) == len(subclasses)
    for word, cls in request_error_classes().items():
        assert cls.word == word
        assert re.fullmatch(r"[a-z_]+", word)
        assert word != "ok"  # the outcome of requests that did not fail
        assert grpc.StatusCode[cls.code] is not grpc.StatusCode.OK


@pytest.mark.parametrize("cls", request_error_classes().values())
def test_request_errors_cross_processes(cls):
    error = cls("what and why")
    again = request_error(error.word, str(error), error.retry_after_ms)
    assert type(again) is cls
    assert str(again) == "what and why"
    assert again.retry_after_ms == error.retry_after_ms


def test_a_pushback_crosses_too_and_stays_with_its_error():
    again = request_error("overloaded", "full", 40)
    assert again.retry_after_ms == 40
    assert Overloaded("full").retry_after_ms == 10
    assert RequestError("no").retry_after_ms is None


def test_an_unknown_word_is_an_internal_error():
    error = request_error("future", "text")
    assert type(error) is RequestError
    assert error.code == "INTERNAL"


@pytest.mark.parametrize(("where", "cure", "text"), [
    ("m/config.pbtxt:3", "Use 1", "m/config.pbtxt:3: 0 is wrong. Use 1"),
    ("", "Use 1", "0 is wrong. Use 1"),
    ("here", "", "here: 0 is wrong"),
])
def test_operator_errors_say_where_and_how_to_mend_it(where, cure, text):
    assert str(errors.OperatorError("0 is wrong", where=where, cure=cure)) == text


def test_device_errors_say_whether_the_device_is_lost():
    error = errors.DeviceError("illegal address", name="cudaErrorIllegalAddress", sticky=True)
    assert error.sticky
    assert error.name == "cudaErrorIllegalAddress"
    assert not errors.DeviceError("out of memory").sticky


@pytest.mark.parametrize("long", ["n" * 100_000, "\u00fc" * 100_000, "\U0001f600" * 100_000])
def test_what_a_client_is_told_is_bounded(long):
    error = RequestError(f"no model '{long}'")
    assert len(error.text.encode()) <= errors.MAX_TEXT_BYTES
    assert error.text.startswith("no model '" + long[0])
    assert error.text.endswith("...")
    assert RequestError("no model 'm'").text == "no model 'm'"
