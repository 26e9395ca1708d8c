"""This machine's addresses, whatever its host name resolves to."""

import contextlib
import fcntl
import socket
import struct

from ppcls_lite.errors import UserError

SIOCGIFADDR = 0x8915  # of Linux: the IPv4 address of an interface


def interfaces() -> dict[str, str]:
    """Returns the IPv4 address of each network interface, {name: address}."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # one without an address
                request = struct.pack("256s", name.encode())
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def own_address(master: str) -> str:
    """Returns the address of this machine that the way to the master starts from.

    Raises:
        UserError: there is no way.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((master, 9))  # sends nothing; the kernel chooses the way
            return str(probe.getsockname()[0])
    except OSError as error:
        raise UserError(
            f"--master {master}: no way there ({error.strerror or error})",
            "give --master the address that `ip -4 addr` prints there, or --host your own",
        ) from None


def interface_of(address: str) -> str:
    """Returns the name of the network interface that has an address.

    Raises:
        UserError: none has.
    """
    known = interfaces()
    for name, own in known.items():
        if own == address:
            return name
    listed = ", ".join(f"{own} ({name})" for name, own in known.items())
    raise UserError(
        f"--host {address} is not an address of this machine", f"give --host one of {listed}"
    )


def free_port(address: str) -> int:
    """Returns a port of an address that nobody listens at now."""
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])
