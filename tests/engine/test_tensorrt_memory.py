import pytest

from tests.engine.plan_manifests import write_manifest
from tests.engine.tensorrt_stand import Stand
from trtserve.engine.tensorrt_memory import PlanNeeds
from trtserve.errors import ModelLoadError
from trtserve.testing.tensorrt_plan import make_plan

ROW = 4 * 4


def needs(**changes: int) -> PlanNeeds:
    given = {"weights": 1000, "lanes": 3, "scratch": 500, "had": 0, "tensors": 20} | changes
    return PlanNeeds(**given)


def test_what_fits():
    assert needs().lacking("cuda:0", 1560, loaded=True) == ""
    assert needs().lacking("cuda:0", 2560, loaded=False) == ""


def test_what_does_not_is_told_in_numbers():
    assert needs().lacking("cuda:0", 2559, loaded=False) == (
        "cuda:0 has too little memory for it: 2,560 bytes are needed and 2,559 are free. Its "
        "weights take 1,000, and each of 3 lanes needs 500 of scratch memory, and 20 for inputs "
        "and outputs"
    )
    assert "1,560 bytes are needed besides its weights and 1,559 are free" in needs().lacking(
        "cuda:0", 1559, loaded=True
    )


@pytest.mark.parametrize(("had", "lane"), [(0, 520), (200, 320), (500, 20), (900, 20)])
def test_scratch_memory_that_other_plans_brought(had, lane):
    assert needs(had=had).each_lane == lane
    if had:
        assert f"of which it has {min(had, 500)}" in needs(had=had).lacking("x", 0, loaded=True)


@pytest.fixture
def stand(tmp_path) -> Stand:
    stand = Stand(tmp_path)
    stand.device.default_lanes = 3
    return stand


def test_a_plan_is_measured(stand):
    make_plan(stand.path, scratch=(5000,))
    found = stand.load().needs
    assert (found.lanes, found.scratch, found.had) == (3, 5000, 0)
    assert found.tensors == 2 * 8 * ROW  # x and y, eight rows
    assert found.weights > 100


def test_the_largest_of_several_profiles(stand):
    make_plan(stand.path, shapes=[((1, 4), (2, 4), (2, 4)), ((1, 4), (6, 4), (6, 4))],
              scratch=(700, 600))
    found = stand.load().needs
    assert (found.scratch, found.tensors) == (700, 2 * 6 * ROW)


def test_a_plan_that_does_not_fit_has_no_context_made(stand):
    make_plan(stand.path, scratch=(5000,))
    stand.device.total_bytes = 3 * (5000 + 256) - 1
    with pytest.raises(
        ModelLoadError,
        match=r"15,768 bytes are needed besides its weights and 15,767 are free.* of 3 lanes needs "
        "5,000 of scratch memory",
    ) as caught:
        stand.load()
    assert "fewer lanes" in caught.value.cure
    assert stand.device.allocated_bytes == 0
    stand.device.total_bytes += 1
    stand.load()


def test_a_plan_is_refused_before_its_weights_are_loaded(stand):
    make_plan(stand.path, scratch=(5000,))
    stand.device.total_bytes = 100
    with pytest.raises(ModelLoadError, match="and 100 are free"):
        stand.load()
    assert stand.module.runtimes == 0


def test_the_manifest_tells_the_scratch_memory_before(stand):
    make_plan(stand.path, scratch=(5000,))
    write_manifest(stand.path, scratch=(4000, 5000))
    stand.device.total_bytes = 15000
    with pytest.raises(ModelLoadError, match="needs 5,000 of scratch memory"):
        stand.load()
    assert stand.module.runtimes == 0


def test_plans_share_the_scratch_memory_of_a_lane(stand):
    make_plan(stand.path, scratch=(5000,))
    first = stand.load()
    stand.context(first)
    assert (stand.scratch.size, stand.scratch.unshared) == (5000, 5000)
    make_plan(stand.path, scratch=(3000,))
    second = stand.load()
    assert second.needs.had == 5000
    assert second.needs.each_lane == second.needs.tensors
    stand.context(second)
    assert (stand.scratch.size, stand.scratch.unshared) == (5000, 8000)


def test_scratch_memory_that_is_not_there_when_it_is_wanted(stand):
    make_plan(stand.path, scratch=(5000,))
    engine = stand.load()
    stand.device.total_bytes = 1000
    with pytest.raises(
        ModelLoadError, match=r"no memory for a context of model\.plan, which needs 5,000 bytes"
    ):
        stand.context(engine)
    assert stand.device.allocated_bytes == 0
