"""A crew with real children, driven by the test's own selector and clock."""

import selectors
import socket

import msgspec
import pytest

from trtserve.clock import NS_PER_S, now_ns
from trtserve.config import Settings
from trtserve.ipc.message import Stop
from trtserve.supervisor.child import HUNG_NS, ChildState
from trtserve.supervisor.crew import Crew
from trtserve.supervisor.role import Targets, roles
from trtserve.supervisor.snapshot import not_ready, settled

PATIENCE_S = 30


@pytest.fixture
def hire(tmp_path):
    """Make a crew and `turn` until something is true of it."""
    with selectors.DefaultSelector() as selector, socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM
    ) as events:
        events.bind(str(tmp_path / "events"))
        crews = []

        def hire(front_end, worker):
            settings = msgspec.json.encode(Settings(repository=str(tmp_path)))
            children = "trtserve.testing.children:"
            targets = Targets(children + front_end, children + worker)
            crew = Crew(selector, roles(1, "cpu", targets), settings)
            crews.append(crew)

            def turn_until(condition):
                while not condition():
                    ready = selector.select(PATIENCE_S)
                    assert ready, "nothing happens any more"
                    for key, _ in ready:
                        key.data(now_ns())

            return crew, turn_until

        yield hire
        for crew in crews:
            crew.close()
            assert selector.get_map() is not None
            assert len(selector.get_map()) == 0


def test_it_settles_and_is_ready(hire):
    crew, turn_until = hire("front_end", "worker")
    assert not_ready(crew.posts, stopping=False) == (
        "worker cpu does not run", "front end 1 does not run"
    )
    crew.turn(now_ns())
    assert not_ready(crew.posts, stopping=False) == (
        "worker cpu is loading models", "front end 1 does not listen yet"
    )
    turn_until(lambda: settled(crew.posts))
    assert {post.state for post in crew.posts} == {ChildState.SERVING}
    assert not_ready(crew.posts, stopping=False) == ()
    assert not_ready(crew.posts, stopping=True) == ("the daemon is stopping",)


def test_a_silent_child_is_killed_and_counts_as_dead(hire):
    crew, turn_until = hire("front_end", "silent_worker")
    worker, front_end = crew.posts
    now = now_ns()
    crew.turn(now)
    turn_until(lambda: front_end.addresses)
    crew.turn(now + HUNG_NS - NS_PER_S)
    pid = worker.child.pid
    front_end.child.heard_ns = now + HUNG_NS
    crew.turn(now + HUNG_NS)
    turn_until(lambda: worker.child is None)
    assert list(crew.gone) == [worker]
    crew.turn(now_ns())
    assert worker.child is not None
    assert worker.child.pid != pid
    assert worker.restarts == 1
    assert front_end.restarts == 0


def test_nobody_is_replaced_while_winding_down(hire):
    crew, turn_until = hire("front_end", "worker")
    crew.turn(now_ns())
    turn_until(lambda: settled(crew.posts))
    crew.winding_down = True
    crew.tell_all(crew.posts, Stop(0))
    assert {post.state for post in crew.posts} == {ChildState.DRAINING}
    turn_until(lambda: not crew.living())
    crew.turn(now_ns() + 100 * NS_PER_S)
    assert crew.living() == []
    assert crew.wake_ns() is None
    # What they reported as their last word is kept.
    assert sum(c.value for c in crew.statistics().counters if c.name == "requests") == 6
    assert crew.statistics().gauges == ()


def test_what_a_dead_worker_said_is_forgotten(hire):
    crew, turn_until = hire("front_end", "broken_worker")
    crew.turn(now_ns())
    turn_until(lambda: settled(crew.posts))
    worker = crew.posts[0]
    assert len(worker.models) == 2
    worker.child.kill()
    turn_until(lambda: worker.child is None)
    assert worker.models == {}
    assert not worker.settled
    assert "worker cpu does not run" in not_ready(crew.posts, stopping=False)
