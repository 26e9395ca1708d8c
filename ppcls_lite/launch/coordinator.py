"""The first machine's part: who is there, when all start, and what follows when one is gone."""

import selectors
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ppcls_lite.engine.ranks import Link, differences
from ppcls_lite.launch.network import free_port
from ppcls_lite.launch.processes import GRACE
from ppcls_lite.launch.settings import LOST, LaunchConfig

# Exit statuses of a training that ended by its own decision: starting it again would not help.
GAVE_UP = (1, 2)
SIGNALS = {number.value: number.name for number in signal.Signals}


@dataclass(eq=False)
class Machine:
    """A machine that has come, by its connection."""

    link: Link
    name: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    is_first: bool = False


@dataclass(frozen=True)
class Failure:
    """Why the processes of a round do not go on."""

    reason: str
    status: int
    final: bool = False  # no restart helps, or none is wanted
    counts: bool = True  # among --restarts


class Coordinator(threading.Thread):
    """Starts the machines together, as often as it takes.

    Args:
        config: the settings, the same on every machine.
        server: where the machines' agents connect.
        address: of this machine, where all others reach it.
    """

    def __init__(self, config: LaunchConfig, server: socket.socket, address: str) -> None:
        super().__init__(daemon=True)
        self._config = config
        self._server, self._address = server, address
        self._machines: list[Machine] = []
        self._strangers: list[Machine] = []  # connected, and have not said who they are
        self._round = 0

    def run(self) -> None:
        """Works until the training is done or given up; then every machine has been told."""
        restarts = 0
        while True:
            if failure := self._gather():
                break
            failure = self._one_round()
            if failure is None or failure.final:
                break
            if failure.counts:
                restarts += 1
                if restarts > self._config.restarts:
                    words = f"{failure.reason}\nall --restarts {self._config.restarts} are used up"
                    failure = Failure(words, failure.status)
                    break
            self._tell({"say": f"{failure.reason}\nstarting again: {restarts} of"
                        f" {self._config.restarts} restarts"})  # fmt: skip
        end = {"end": failure.reason if failure else "", "status": failure.status if failure else 0}
        # This process ends when its own agent hears it.
        self._tell(end, sorted(self._machines, key=lambda machine: machine.is_first))

    def _gather(self) -> Failure | None:
        """Waits for the machines, or for enough of them; they have to be alike."""
        config, deadline = self._config, time.monotonic() + self._config.node_timeout
        said = 0
        while (count := len(self._machines)) < config.nodes:
            if count != said:
                self._tell({"say": f"{count} of {config.nodes} machines are here: {self._names()}"})
                said = count
            if self._next(deadline) is None:
                if count >= (config.min_nodes or config.nodes):
                    self._tell({"say": f"going on with {count} of {config.nodes} machines"})
                    break
                return Failure(
                    f"{count} of {config.nodes} machines came within {config.node_timeout} s"
                    f" (--node-timeout): {self._names()}",
                    LOST,
                )
        self._machines.sort(key=lambda machine: not machine.is_first)  # writes the checkpoints
        facts = [machine.facts for machine in self._machines]
        lines = differences(facts, lambda i: self._machines[i].name)
        return Failure("\n".join(["the machines differ in", *lines]), 2) if lines else None

    def _one_round(self) -> Failure | None:
        """Starts all processes and waits for their end; returns why they failed, if they did."""
        self._round += 1
        machines = list(self._machines)
        port = free_port(self._address)
        for rank, machine in enumerate(machines):
            machine.link.send({
                "start": self._round, "nodes": len(machines), "rank": rank,
                "master": f"{self._address}:{port}",
            })  # fmt: skip
        failure, running, deadline = None, set(machines), float("inf")
        while running:
            event = self._next(deadline)
            if event is None:  # whoever does not stop is as good as gone
                for machine in running:
                    self._forget(machine)
                break
            machine, message = event
            found = None
            if message is None:
                running.discard(machine)
                if machine in machines:
                    found = Failure(f"{machine.name} is gone", LOST)
            elif "ended" in message:
                running.discard(machine)
                found = self._judged(machine, message)
            elif "hello" in message and len(machines) < self._config.nodes:
                found = Failure(f"{machine.name} has come back", 0, counts=False)
            if found and (failure is None or (found.final and not failure.final)):
                failure = found
                deadline = time.monotonic() + 2 * GRACE
                self._tell({"stop": failure.reason}, list(running))
        return failure

    def _judged(self, machine: Machine, message: dict[str, Any]) -> Failure | None:
        """Says what the end of a machine's processes means."""
        status, reason = int(message["ended"]), str(message.get("reason") or "")
        if message.get("asked"):
            return Failure(f"stopped on {machine.name}", status, final=True)
        if status == 0:
            return None
        words = reason or f"a process ended with status {status}"
        if not reason and status > 128:
            words = f"a process was ended by {SIGNALS.get(status - 128, 'a signal')}"
        return Failure(f"{machine.name}: {words}", status, final=status in GAVE_UP)

    def _next(self, deadline: float) -> tuple[Machine, dict[str, Any] | None] | None:
        """Waits for a message of a machine, None when it is gone; returns None when time is up."""
        while True:
            known = [*self._machines, *self._strangers]
            ready = [machine for machine in known if machine.link.has_more]
            if not ready:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                ready = self._ready(known, min(left, 3600))
            for machine in ready:
                message = machine.link.read()
                if message is None:
                    was_known = machine in self._machines
                    self._forget(machine)
                    if was_known:
                        return machine, None
                elif machine in self._strangers and "hello" in message:
                    self._strangers.remove(machine)
                    if len(self._machines) < self._config.nodes:
                        self._welcome(machine, message)
                        return machine, message
                    words = f"all {self._config.nodes} machines are here already"
                    machine.link.send({"end": words, "status": 2})
                elif machine in self._machines and message:
                    return machine, message

    def _ready(self, known: list[Machine], seconds: float) -> list[Machine]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            for machine in known:
                selector.register(machine.link.socket, selectors.EVENT_READ, machine)
            found = []
            for key, _ in selector.select(seconds):
                if key.data is None:
                    link, _ = self._server.accept()
                    self._strangers.append(Machine(Link(link)))
                else:
                    found.append(key.data)
            return found

    def _welcome(self, machine: Machine, message: dict[str, Any]) -> None:
        machine.name, machine.facts = str(message["hello"]), dict(message["facts"])
        machine.is_first = bool(message["first"])
        # A machine that has seen a later round than this coordinator: its own was started anew.
        self._round = max(self._round, int(message["round"]))
        machine.link.send({"welcome": True})
        self._machines.append(machine)

    def _forget(self, machine: Machine) -> None:
        machine.link.socket.close()
        self._machines = [each for each in self._machines if each is not machine]
        self._strangers = [each for each in self._strangers if each is not machine]

    def _names(self) -> str:
        return ", ".join(machine.name for machine in self._machines) or "none"

    def _tell(self, message: dict[str, Any], machines: list[Machine] | None = None) -> None:
        for machine in self._machines if machines is None else machines:
            machine.link.send(message)
