import hashlib

import pytest
import tensorrt_rtx

from trtserve.build.timing_cache import TimingCache, timing_cache_path
from trtserve.model.plan_manifest import PlanGpu


class HostMemory(bytes):
    """What TensorRT returns bytes in."""


class Cache:
    """A timing cache that knows words, with the calls and the manners of TensorRT's."""

    def __init__(self, words):
        self.words = set(words)

    def combine(self, other, ignore_mismatch):
        assert ignore_mismatch is False
        if any(word.startswith(b"?") for word in other.words):
            return False
        self.words |= other.words
        return True

    def serialize(self):
        return HostMemory(b" ".join(sorted(self.words)))


class Config:
    """As much of IBuilderConfig. Data that begins with ! is damaged, with ? of another GPU."""

    def __init__(self):
        self.cache = Cache(())

    def create_timing_cache(self, serialized_timing_cache):
        if serialized_timing_cache.startswith(b"!"):
            return None
        return Cache(serialized_timing_cache.split())

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        if any(word.startswith(b"?") for word in cache.words):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


def build(cache, *words):
    """A build that times these; whether it had timings, and the hash of what was kept."""
    config = Config()
    known = cache.attach(config)
    config.cache.words |= set(words)
    return known, cache.keep(config)


@pytest.fixture
def cache(tmp_path):
    return TimingCache(tmp_path / "timing" / "t.cache")


def test_a_file_is_for_one_version_and_one_gpu(tmp_path):
    path = timing_cache_path(tmp_path, "tensorrt", "11.4.0", PlanGpu("NVIDIA H200 / x", "9.0"))
    assert path == tmp_path / "timing" / "tensorrt-11.4.0-NVIDIA_H200_x-sm9.0.cache"


def test_what_was_timed_is_there_for_the_next_build(cache):
    known, first = build(cache, b"conv")
    assert not known
    assert first == hashlib.sha256(b"conv").hexdigest()
    known, second = build(cache, b"gemm")
    assert known
    assert cache.path.read_bytes() == b"conv gemm"
    assert second != first


def test_builds_side_by_side_keep_both_timings(cache):
    one, two = Config(), Config()
    cache.attach(one)
    cache.attach(two)
    one.cache.words.add(b"conv")
    two.cache.words.add(b"gemm")
    cache.keep(one)
    cache.keep(two)
    assert cache.path.read_bytes() == b"conv gemm"


@pytest.mark.parametrize("content", [b"!damaged", b"?other"])
def test_a_file_that_does_not_fit_is_replaced(cache, content):
    cache.path.parent.mkdir()
    cache.path.write_bytes(content)
    known, _ = build(cache, b"conv")
    assert not known
    assert cache.path.read_bytes() == b"conv"


def test_the_calls_are_those_of_the_real_bindings(cache):
    # Here they do nothing, and say so.
    log = tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR)
    config = tensorrt_rtx.Builder(log).create_builder_config()
    with pytest.warns(DeprecationWarning, match="no-ops"):
        cache.attach(config)
    with pytest.warns(DeprecationWarning, match="no-ops"):
        kept = cache.keep(config)
    assert kept == hashlib.sha256(cache.path.read_bytes()).hexdigest()
