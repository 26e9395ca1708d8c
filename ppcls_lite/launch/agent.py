"""Every machine's part: it starts the processes when it is told to, and says how they ended."""

import os
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppcls_lite.engine.ranks import Link
from ppcls_lite.launch.processes import Processes
from ppcls_lite.launch.settings import LOST, LaunchConfig

TICK = 0.3  # seconds between two looks at the processes


class Agent:
    """Runs this machine's processes for a coordinator.

    Args:
        config: the settings.
        master: where the coordinator listens.
        address: of this machine.
        interface: its network interface.
        log_dir: of the processes' output.
        again: what to add to the command when it goes on with what an earlier round has saved.
        facts: what all machines need to have alike.
        is_first: whether the coordinator runs in this process.
    """

    def __init__(
        self, config: LaunchConfig, master: tuple[str, int], address: str, interface: str,
        log_dir: Path, again: Sequence[str], facts: dict[str, Any], is_first: bool,
    ) -> None:  # fmt: skip
        self._config = config
        self._master, self._address = master, address
        self._interface, self._log_dir, self._again = interface, log_dir, again
        self._facts, self._is_first = facts, is_first
        self._round = 0
        self._link: Link | None = None
        self._processes: Processes | None = None
        self._signal = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        if self._signal == number == signal.SIGINT:
            raise KeyboardInterrupt  # the second one ends everything at once
        self._signal = number

    def run(self) -> int:
        """Works until the coordinator ends it; returns the exit status."""
        try:
            while True:
                self._link = self._link or self._connect()
                if self._link is None:
                    return 128 + self._signal if self._signal else LOST
                status = self._look(self._link)
                if status is not None:
                    return status
        finally:
            if self._processes:
                self._processes.kill()

    def _connect(self) -> Link | None:
        """Finds the coordinator, again if need be; returns None when it is not there in time."""
        deadline, said = time.monotonic() + self._config.node_timeout, False
        host, port = self._master
        while time.monotonic() < deadline and not self._signal:
            try:
                link = Link(socket.create_connection(self._master, timeout=5))
                name = f"{socket.gethostname()} ({self._address})"
                link.send({
                    "hello": name, "facts": self._facts, "round": self._round,
                    "first": self._is_first,
                })  # fmt: skip
                answer: dict[str, Any] | None = {}
                while answer == {}:
                    answer = link.read()
                if answer and "end" not in answer:
                    link.socket.settimeout(None)
                    return link
                link.socket.close()  # full, perhaps with the one whose place this machine takes
            except (OSError, ValueError):
                pass
            if not said:
                say(f"waiting for the first machine at {host}:{port} (--master)")
                said = True
            time.sleep(1)
        if not self._signal:
            say(f"no launch.py answers at {host}:{port} (--master)\n  next: start the same command"
                " there, with the same --master; a firewall may have to open the port")  # fmt: skip
        return None

    def _look(self, link: Link) -> int | None:
        """Does what is due within a tick; returns the exit status when all is over."""
        if link.has_more or select.select([link.socket], [], [], TICK)[0]:
            message = link.read()
            if message is None:
                self._lose_coordinator()
                return None
            if "end" in message:
                return self._end(message)
            self._answer(message)
        if self._signal:
            if self._processes is None:
                link.send({"ended": 128 + self._signal, "asked": True})
                return 128 + self._signal
            self._processes.stop()
        if self._processes and (status := self._processes.ended()) is not None:
            asked = bool(self._signal)
            link.send({
                "ended": 128 + self._signal if asked else status, "asked": asked,
                "reason": self._processes.reason()[:2000] if status else "",
            })  # fmt: skip
            self._clear()
        return None

    def _answer(self, message: dict[str, Any]) -> None:
        if "start" in message:
            self._start(message)
        elif "stop" in message:
            say(str(message["stop"]))
            if self._processes:
                self._processes.stop()
        elif "say" in message:
            say(str(message["say"]))

    def _start(self, message: dict[str, Any]) -> None:
        """Starts Paddle's launcher; from the second round on it goes on from a checkpoint."""
        config, nodes = self._config, int(message["nodes"])
        again = self._again if int(message["start"]) > 1 else ()
        self._round = int(message["start"])
        arguments = [
            "--log_dir", str(self._log_dir), "--log_level", "ERROR", "--host", self._address,
            "--nnodes", str(nodes),
        ]  # fmt: skip
        if nodes > 1:
            arguments += ["--master", str(message["master"]), "--rank", str(int(message["rank"]))]
        if config.nproc_per_node:
            arguments += ["--nproc_per_node", str(config.nproc_per_node)]
        if config.devices:
            arguments += ["--devices", config.devices]
        environment = {
            "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME") or self._interface,
            "PPCLS_LITE_SHARE": f"{nodes}/{config.nodes}",
        }
        arguments += [*config.command, *again]
        self._processes = Processes(arguments, self._log_dir, environment)

    def _end(self, message: dict[str, Any]) -> int:
        if message["end"]:
            say(str(message["end"]))
        self._wait_for_processes()
        return int(message["status"])

    def _lose_coordinator(self) -> None:
        say("the first machine is gone; stopping here and waiting for it")
        self._wait_for_processes()
        self._link = None

    def _wait_for_processes(self) -> None:
        if self._processes:
            self._processes.stop()
            while self._processes.ended() is None:
                time.sleep(TICK)
            self._clear()

    def _clear(self) -> None:
        if self._processes:
            self._processes.kill()
        self._processes = None


def say(text: str) -> None:
    """Prints what happens to the whole of the training."""
    print(f"launch.py: {text}", file=sys.stderr, flush=True)
