"""All children: starting, connecting, hearing and reaping them. What to decide is elsewhere."""

import logging
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from trtserve.ipc.message import AnyMessage, Connect, Reaped
from trtserve.ipc.statistics import Statistics
from trtserve.security.keeper import Keeper
from trtserve.supervisor.child import Child
from trtserve.supervisor.desired import Models
from trtserve.supervisor.post import Post
from trtserve.supervisor.role import Kind, Role
from trtserve.supervisor.totals import Totals, merged

_log = logging.getLogger(__name__)

Ready = Callable[[int], None]
"""What the selector holds for each descriptor: called with the time when it is ready."""


class Crew:
    """The posts and the processes in them.

    `news` has what children said, in order, for the supervisor to act on; `started` and `gone`
    the posts that were filled and emptied. `models` says what a worker loads that starts in a
    post, None for all in the repository. With `winding_down` set nobody is replaced any more.
    """

    def __init__(
        self, selector: selectors.BaseSelector, roles: Iterable[Role], settings: bytes,
        keeper: Keeper | None = None,
    ) -> None:
        self._selector = selector
        self._settings = settings
        self._keeper = keeper or Keeper(None, None)
        self._retired = Totals()
        self.posts = [Post(role) for role in roles]
        self.news: deque[tuple[Post, AnyMessage]] = deque()
        self.started: deque[Post] = deque()
        self.gone: deque[Post] = deque()
        self.models: Callable[[Post], Models | None] = lambda _: None
        self.winding_down = False

    def of(self, kind: Kind) -> list[Post]:
        """The posts of a kind, filled or not."""
        return [post for post in self.posts if post.role.kind is kind]

    def living(self) -> list[Post]:
        """The posts that a process fills."""
        return [post for post in self.posts if post.child is not None]

    def alive(self) -> set[Kind]:
        """The kinds of which any process lives."""
        return {post.role.kind for post in self.living()}

    def statistics(self) -> Statistics:
        """The sums over all processes, the dead ones included."""
        living = (post.child.statistics for post in self.posts if post.child is not None)
        return merged(self._retired.statistics(), living)

    def statistics_later(self) -> Callable[[], Statistics]:
        """As statistics(), of this moment, but added up when somebody wants them."""
        living = [post.child.statistics for post in self.posts if post.child is not None]
        retired = self._retired.statistics()
        return lambda: merged(retired, living)

    def turn(self, now: int) -> None:
        """Start what is due and kill what hangs."""
        self._keeper.turn(now)
        for post in self.posts:
            if post.child is not None:
                if post.child.hung(now):
                    _log.error("%s hangs: killed", post.role.name)
                    post.child.heard_ns = now
                    post.child.kill()
            elif not self.winding_down and post.start_ns is not None and now >= post.start_ns:
                self._start(post, now)

    def wake_ns(self) -> int | None:
        """When the next restart is due."""
        due = [post.start_ns for post in self.posts
               if post.child is None and post.start_ns is not None and not self.winding_down]
        return min(due, default=None)

    def tell(self, post: Post, message: AnyMessage, fd: int | None = None) -> None:
        """Send a message to the process in a post, if there is one."""
        if post.child is None:
            return
        post.told(message)
        post.child.control.send(message, fd)
        self._flush(post.child)

    def tell_all(self, posts: Iterable[Post], message: AnyMessage) -> None:
        """Send a message to all of them."""
        for post in posts:
            self.tell(post, message)

    def kill(self, posts: Iterable[Post]) -> None:
        """kill -9 for all of them."""
        for post in posts:
            if post.child is not None:
                post.child.kill()

    def close(self) -> None:
        """Kill and reap whatever still lives. Twice is harmless."""
        self.winding_down = True
        self.kill(self.posts)
        for post in self.living():
            if post.child is not None:
                self._forget(post.child)
                post.child.reap()
                post.emptied()

    def _start(self, post: Post, now: int) -> None:
        try:
            models = self.models(post) if post.role.kind is Kind.WORKER else None
            files = self._keeper.contents() if post.role.kind is Kind.FRONT_END else b""
            child = Child.spawn(post.role, self._settings, now, models, files)
        except OSError as error:
            _log.error("%s does not start: %s", post.role.name, error)
            post.start_ns = post.policy.died(now).at_ns
            return
        post.filled(child, now)
        self.started.append(post)
        if post.restarts:
            _log.info("%s is started again", post.role.name)
        self._selector.register(
            child.control, selectors.EVENT_READ, partial(self._on_control, post, child)
        )
        self._selector.register(
            child.pidfd, selectors.EVENT_READ, partial(self._on_exit, post, child)
        )
        for peer in self.of(post.role.kind.other):
            if peer.child is not None:
                self._connect(post, peer)

    def _connect(self, one: Post, other: Post) -> None:
        """Give two processes the ends of a new data channel; ours are closed."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with first, second:
            self.tell(one, Connect(other.role.name), first.fileno())
            self.tell(other, Connect(one.role.name), second.fileno())

    def _on_control(self, post: Post, child: Child, now: int) -> None:
        if child is not post.child:  # reaped earlier in the same turn
            return
        self._flush(child)
        messages = child.receive(now)
        if messages is None:
            # It says no more, and ends by itself; if not, it hangs and will be killed.
            self._selector.unregister(child.control)
        else:
            self._take(post, messages)

    def _take(self, post: Post, messages: list[AnyMessage]) -> None:
        for message in messages:
            post.heard(message)
            self.news.append((post, message))

    def _on_exit(self, post: Post, child: Child, now: int) -> None:
        while messages := child.receive(now):  # its last words
            self._take(post, messages)
        self._retired.retire(child.statistics)
        self._forget(child)
        ended = child.reap()
        post.emptied()
        self.gone.append(post)
        if self.winding_down:
            post.hopeless = True
            _log.debug("%s ended: %s", post.role.name, ended)
        else:
            restart = post.policy.died(now)
            post.start_ns, post.hopeless = restart.at_ns, restart.hopeless
            _log.error(
                "%s died: %s%s", post.role.name, ended,
                "; it keeps dying, the next try comes later" if restart.hopeless else "",
                extra={"child": post.role.name, "pid": child.pid},
            )
        reaped = Reaped(post.role.name, post.hopeless)
        self.tell_all(self.of(post.role.kind.other), reaped)

    def _flush(self, child: Child) -> None:
        """Send what waits; where the socket is full, wait until it is not."""
        events = selectors.EVENT_READ
        if not child.control.flush():
            events |= selectors.EVENT_WRITE
        try:
            key = self._selector.get_key(child.control)
        except KeyError:  # it has hung up
            return
        if key.events != events:
            self._selector.modify(child.control, events, key.data)

    def _forget(self, child: Child) -> None:
        for source in (child.control, child.pidfd):
            try:
                self._selector.unregister(source)
            except KeyError:  # it had hung up
                pass
