"""The children that a daemon has."""

from trtserve.supervisor.role import Kind, Targets, roles


def test_a_worker_for_each_device_then_the_front_ends():
    everybody = roles(2, "cuda:1,cpu", Targets("frontend:main", "worker:main"))
    assert [(role.name, role.device, role.index, role.target) for role in everybody] == [
        ("worker cuda:1", "cuda:1", 0, "worker:main"),
        ("worker cpu", "cpu", 1, "worker:main"),
        ("front end 1", "", 1, "frontend:main"),
        ("front end 2", "", 2, "frontend:main"),
    ]
    assert [role.kind for role in everybody] == [Kind.WORKER] * 2 + [Kind.FRONT_END] * 2
    assert everybody[0].title == "trtserve worker cuda:1"
