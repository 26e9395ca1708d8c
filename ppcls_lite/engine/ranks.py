"""What the processes of a training tell each other besides numbers: that they are there, what they
were given, and why one of them ends.

Paddle's gloo waits for 30 s, cannot be told otherwise, and then says that a number of bytes did not
come. So before each of its operations the ranks meet here, over connections of their own: a rank
that is late is waited for as long as the user wants, one that has ended is noticed at once, and
what it said is printed by all.
"""

import json
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ppcls_lite.errors import RankLost

# Seconds until the kernel gives up a connection to a machine that does not answer: gloo's own.
GONE = 30
LONGEST = 1 << 26  # bytes of one message


class Store(Protocol):
    """Paddle's key-value store; `get` waits for the key."""

    def set(self, key: str, value: str) -> None:
        """Gives a key its value."""

    def get(self, key: str) -> bytes:
        """Waits for a key, and returns its value."""


def watch(link: socket.socket) -> None:
    """Lets the kernel tell when the machine at the other end is gone: pulled out or switched off.

    A process that merely does not answer is not gone; its kernel answers.
    """
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", GONE // 3), ("TCP_KEEPINTVL", GONE // 6), ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", GONE * 1000),
    ):  # fmt: skip
        if hasattr(socket, name):  # Linux
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Link:
    """One connection: JSON, a line each. None is what was received when it has ended."""

    def __init__(self, link: socket.socket) -> None:
        self.socket = link
        self.ended = False
        self._rest = b""
        watch(link)

    def send(self, message: dict[str, Any]) -> None:
        """Sends, unless the other end is gone, which reading will tell."""
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.ended = True

    def read(self) -> dict[str, Any] | None:
        """Reads what has arrived; returns a message once it is whole, else {}."""
        if b"\n" not in self._rest:
            try:
                found = self.socket.recv(1 << 16)
            except OSError:
                found = b""
            if not found or len(self._rest) > LONGEST:
                self.ended = True
                return None
            self._rest += found
        line, newline, rest = self._rest.partition(b"\n")
        if not newline:
            return {}
        self._rest = rest
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):  # a stranger
            self.ended = True
            return None
        return message

    @property
    def has_more(self) -> bool:
        """Tells whether a whole message is here already."""
        return b"\n" in self._rest


class Ranks:
    """The other processes of this training. Rank 0 hears everybody and answers.

    Args:
        rank: of this process.
        size: number of processes.
        store: to tell the others where rank 0 listens.
        host: this machine's address, where the others reach it.
        timeout: seconds to wait for a rank that is behind.
    """

    def __init__(self, rank: int, size: int, store: Store, host: str, timeout: float) -> None:
        self.rank, self.size, self.timeout = rank, size, timeout
        self.names = {i: f"rank {i}" for i in range(size)}
        self._links: dict[int, Link] = {}
        if rank == 0:
            self._listen(store, host)
        else:
            self._join(store)
        name = f"rank {rank} of {size} ({socket.gethostname()})"
        self.names = dict(enumerate(self.exchange(name, "at the start")))

    def _listen(self, store: Store, host: str) -> None:
        password = secrets.token_hex(16)
        with socket.create_server((host, 0), backlog=self.size) as server:
            address = [*server.getsockname()[:2], password]
            store.set("ppcls_lite/ranks", json.dumps(address))
            deadline = time.monotonic() + self.timeout
            while len(self._links) < self.size - 1:
                server.settimeout(max(deadline - time.monotonic(), 0.01))
                try:
                    link, _ = server.accept()
                    link.settimeout(GONE)
                    candidate = Link(link)
                    while not (hello := candidate.read()) and hello is not None:
                        pass
                except TimeoutError:
                    absent = set(range(1, self.size)) - set(self._links)
                    raise RankLost(self._late(absent, self.timeout, "at the start")) from None
                if hello and secrets.compare_digest(str(hello.get("password")), password):
                    link.settimeout(None)
                    self._links[int(hello["rank"])] = candidate

    def _join(self, store: Store) -> None:
        host, port, password = json.loads(store.get("ppcls_lite/ranks"))
        try:
            link = socket.create_connection((host, port), timeout=GONE)
        except OSError as error:
            raise RankLost(f"rank {self.rank} does not reach rank 0 at {host}: {error}") from None
        link.settimeout(None)
        self._links[0] = Link(link)
        self._links[0].send({"password": password, "rank": self.rank})

    def exchange(self, value: Any, where: str) -> list[Any]:
        """Gives every rank the values of all, when all have come here.

        Args:
            value: of this rank; anything JSON has.
            where: what the training is at, for messages.

        Raises:
            RankLost: a rank ended or does not come.
        """
        try:
            if self.rank:
                self._links[0].send({"value": value})
                # Rank 0 may wait as long for another one; it tells which.
                answer = self._await({0}, where, self.timeout + GONE)
                return list(answer[0]["values"])
            found = self._await(set(self._links), where, self.timeout)
        except RankLost as lost:
            self._pass_on(lost)
            raise
        values = [value, *(found[i]["value"] for i in sorted(found))]
        self._tell({"values": values})
        return values

    def _await(self, ranks: set[int], where: str, seconds: float) -> dict[int, dict[str, Any]]:
        """Waits for a message of each rank; a farewell among them ends everything."""
        found: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + seconds
        while missing := ranks - set(found):
            ready = self._ready(missing, deadline)
            if not ready:
                raise RankLost(self._late(missing, seconds, where))
            for rank in ready:
                message = self._links[rank].read()
                if message is None:
                    raise RankLost(
                        f"{self.names[rank]} ended without a word {where}: killed, out of memory,"
                        " or its machine is gone"
                    )
                if "farewell" in message:
                    raise RankLost(str(message["farewell"]), int(message["status"]))
                if message:
                    found[rank] = message
        return found

    def _ready(self, ranks: Iterable[int], deadline: float) -> list[int]:
        waiting = [rank for rank in ranks if self._links[rank].has_more]
        if waiting:
            return waiting
        with selectors.DefaultSelector() as selector:
            for rank in ranks:
                selector.register(self._links[rank].socket, selectors.EVENT_READ, rank)
            while (left := deadline - time.monotonic()) > 0:
                if events := selector.select(left):
                    return [key.data for key, _ in events]
        return []

    def _late(self, ranks: Iterable[int], seconds: float, where: str) -> str:
        names = ", ".join(self.names[rank] for rank in sorted(ranks))
        return f"{names} did not answer for {seconds:g} s {where} (--rank-timeout {self.timeout:g})"

    def _pass_on(self, lost: RankLost) -> None:
        self._tell({"farewell": lost.message, "status": lost.status})

    def _tell(self, message: dict[str, Any]) -> None:
        for link in self._links.values():
            link.send(message)

    def farewell(self, reason: str, status: int) -> None:
        """Tells all others that this rank ends, and why."""
        self._tell({"farewell": f"{self.names[self.rank]} ended: {reason}", "status": status})

    def cause(self, error: BaseException) -> RankLost:
        """Returns why an operation of gloo failed: what a rank has said, or else gloo itself."""
        lost = RankLost(f"the connection between the processes broke: {str(error)[-200:]}")
        if self.rank:
            self._links[0].send({"value": None})  # this one is alive
        try:
            seconds = min(self.timeout, GONE)  # who is alive fails in the same sum
            self._await(set(self._links), "in the middle of a sum over the processes", seconds)
        except RankLost as found:
            lost = found
        self._pass_on(lost)
        return lost

    def close(self) -> None:
        """Closes the connections."""
        for link in self._links.values():
            link.socket.close()


def differences(found: list[dict[str, Any]], names: Callable[[int], str]) -> list[str]:
    """Says what ranks were given that rank 0 was not, a line for each item.

    Args:
        found: of each rank, {item: value}.
        names: gives what to call a rank.
    """
    lines = []
    for item in found[0]:
        values: dict[str, list[int]] = {}
        for rank, items in enumerate(found):
            values.setdefault(json.dumps(items.get(item)), []).append(rank)
        if len(values) > 1:
            said = "; ".join(
                f"{', '.join(names(rank) for rank in ranks)}: {json.loads(value)}"
                for value, ranks in values.items()
            )
            lines.append(f"  {item}: {said}")
    return lines
