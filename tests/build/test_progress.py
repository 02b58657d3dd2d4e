import threading

import pytest
import tensorrt_rtx

from trtserve.build.progress import Phases, monitor


def test_steps_of_the_outermost_phase_are_the_whole():
    phases = Phases()
    phases.start("all", None, 4)
    assert phases.fraction == 0.0
    phases.step("all", 0)
    assert phases.fraction == 0.25
    phases.step("all", 3)
    assert phases.fraction == 1.0


def test_a_phase_inside_is_a_part_of_one_step():
    phases = Phases()
    phases.start("all", None, 4)
    phases.step("all", 0)
    phases.start("inside", "all", 2)
    phases.step("inside", 0)
    assert phases.fraction == pytest.approx(0.25 + 0.125)
    assert phases.current == "inside"
    phases.finish("inside")
    assert phases.fraction == pytest.approx(0.5)
    assert phases.current == "all"


def test_it_never_goes_back():
    phases = Phases()
    phases.start("all", None, 2)
    phases.start("first", "all", 1)
    phases.step("first", 0)
    assert phases.fraction == 0.5
    phases.start("first", "all", 10)  # it begins again
    assert phases.fraction == 0.5


def test_phases_side_by_side_count_as_the_furthest():
    phases = Phases()
    phases.start("all", None, 1)
    phases.start("one", "all", 4)
    phases.start("two", "all", 4)
    phases.step("one", 0)
    phases.step("two", 2)
    assert phases.fraction == 0.75


def test_all_is_done_when_the_outermost_is_over():
    phases = Phases()
    phases.start("all", None, 6)
    phases.finish("all")
    assert phases.fraction == 1.0
    assert phases.current == ""


def test_phases_without_steps_and_unknown_ones_do_no_harm():
    phases = Phases()
    phases.start("none", None, 0)
    assert phases.fraction == 0.0
    phases.step("other", 3)
    phases.finish("other")
    phases.start("stray", "never begun", 2)
    phases.step("stray", 1)
    assert phases.fraction == 1.0


def test_the_monitor_is_one_of_the_module_and_says_when_to_stop():
    told, cancelled = [], threading.Event()
    watching = monitor(tensorrt_rtx, cancelled, lambda *step: told.append(step))
    assert isinstance(watching, tensorrt_rtx.IProgressMonitor)
    watching.phase_start("all", None, 2)
    assert watching.step_complete("all", 0) is True
    cancelled.set()
    assert watching.step_complete("all", 1) is False
    watching.phase_finish("all")
    assert told == [(0.0, "all"), (0.5, "all"), (1.0, "all"), (1.0, "")]
