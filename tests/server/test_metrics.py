"""Goal: memory that a process keeps shows in its metrics, whichever allocator it came from.

Method: the registry of one process, asked before and after memory was taken from each allocator.
"""

from __future__ import annotations

import ctypes
import gc

import pytest

from lakehouse.server.metrics import Metrics

has_mallinfo2 = hasattr(ctypes.CDLL(None), "mallinfo2")


def allocated_bytes(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("lakehouse_allocated_bytes")


def python_blocks(metrics: Metrics) -> float:
    value = metrics.registry.get_sample_value("lakehouse_python_blocks")
    assert value is not None
    return value


@pytest.mark.skipif(not has_mallinfo2, reason="the C library keeps no account of its heap")
@pytest.mark.parametrize(("size", "times"), [(4 * 1024, 2000), (8 * 1024 * 1024, 1)], ids=["heap", "own mapping"])
def test_allocated_bytes_follow_what_a_library_takes_and_gives_back(size: int, times: int) -> None:
    metrics = Metrics()
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]

    before = allocated_bytes(metrics)
    taken = [library.malloc(size) for _ in range(times)]
    during = allocated_bytes(metrics)
    for pointer in taken:
        library.free(pointer)
    after = allocated_bytes(metrics)

    assert before is not None
    assert during is not None
    assert after is not None
    assert during - before == pytest.approx(size * times, rel=0.1)
    assert after - before == pytest.approx(0, abs=size * times * 0.1)


def test_python_blocks_follow_small_objects_which_the_c_library_does_not_see() -> None:
    metrics = Metrics()
    gc.collect()

    before = python_blocks(metrics)
    kept = [object() for _ in range(50_000)]
    during = python_blocks(metrics)
    del kept
    after = python_blocks(metrics)

    assert during - before == pytest.approx(50_000, rel=0.1)
    assert after - before == pytest.approx(0, abs=5_000)


def test_a_c_library_that_tells_nothing_leaves_the_other_metrics_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    metrics = Metrics()

    assert allocated_bytes(metrics) is None
    assert python_blocks(metrics) > 0
    assert metrics.registry.get_sample_value("lakehouse_rpcs_in_flight") == 0
