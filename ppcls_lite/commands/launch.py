"""`launch`: train.py in several processes, on one machine or more, started again when one dies."""

import importlib.metadata
import platform
import socket
from pathlib import Path

from ppcls_lite import cli
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.launch.agent import Agent
from ppcls_lite.launch.coordinator import Coordinator
from ppcls_lite.launch.network import interface_of, interfaces, own_address
from ppcls_lite.launch.processes import adopt_orphans, private_folder
from ppcls_lite.launch.settings import LaunchConfig
from ppcls_lite.program import CHECKOUT, command
from ppcls_lite.version import __version__


def run(config: LaunchConfig) -> int:
    """Trains on all machines; returns the exit status, which is the training's own."""
    again = going_on(training(config))
    adopt_orphans()
    log_dir = private_folder(Path(config.log_dir))
    host, _, port = (config.master or "127.0.0.1:0").rpartition(":")
    host = resolved(host)
    address = config.host or own_address(host)
    interface = interface_of(address)
    server = listening(host, int(port))
    coordinator = None
    if server:
        host, port = server.getsockname()[:2]
        coordinator = Coordinator(config, server, address)
        coordinator.start()
    agent = Agent(
        config, (host, int(port)), address, interface, log_dir, again, facts(config), bool(server)
    )
    status = agent.run()
    if coordinator:
        coordinator.join(timeout=10)  # it may still be telling the others
    return status


def training(config: LaunchConfig) -> TrainConfig:
    """Returns the settings of the training to start.

    Raises:
        UserError: the command is not train.py, or its flags are wrong.
    """
    script = Path(config.command[0]) if config.command else Path()
    if script.resolve() != CHECKOUT / "train.py":
        raise UserError(
            f"what to start is {config.command[0] if config.command else 'missing'}",
            command("launch", "--nproc-per-node", 2, "train.py", "--data-path", "my_pictures"),
        )
    return cli.parse(TrainConfig, list(config.command[1:]), "train.py")


def going_on(config: TrainConfig) -> list[str]:
    """Returns the flags that make the same command go on with what it has saved."""
    flags = ["--resume", "auto"]
    if config.resume not in (None, "auto") and not config.given("output_dir"):
        flags += ["--output-dir", str(Path(config.resume or "").parent)]
    if config.start_epoch:
        flags += ["--start-epoch", "0"]  # the checkpoint knows better
    return flags


def facts(config: LaunchConfig) -> dict[str, str]:
    """Returns what has to be the same on every machine before anything starts there.

    Settings, pictures and checkpoints are compared by the training itself.
    """
    known = {"ppcls_lite": __version__, "python": platform.python_version()}
    for package in ("paddlepaddle", "paddlepaddle-gpu"):
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    for name in ("nodes", "min_nodes", "restarts", "node_timeout"):
        known["--" + name.replace("_", "-")] = str(getattr(config, name))
    return known


def resolved(host: str) -> str:
    """Returns the IPv4 address of a host.

    Raises:
        UserError: nobody knows the name.
    """
    try:
        return socket.gethostbyname(host)
    except OSError:
        raise UserError(f"--master: no machine {host} is known", "give its address") from None


def listening(host: str, port: int) -> socket.socket | None:
    """Returns a socket that listens at the master's address, None on the other machines."""
    if host not in interfaces().values():
        return None
    try:
        return socket.create_server((host, port), backlog=64)
    except OSError:
        return None  # the coordinator runs here already, in another process
