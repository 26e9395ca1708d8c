"""A listening port that lets nobody else in, and a process that ends with its parent."""

import ctypes
import logging
import os
import signal
import socket
import struct
import sys
import time

LOG = logging.getLogger("ppcls_lite.serving")
# Seconds that clients have for the request they are about to send: over a connection that was
# accepted just now, or that stayed open after their last one.
LAST_CALL = 2.0
SO_ATTACH_FILTER = 26  # of Linux; socket has no name for it
PR_SET_PDEATHSIG = 1


def refuse_newcomers(port: socket.socket) -> None:
    """Lets nobody else connect to a listening port; who has connected is still accepted.

    Closing the port instead would reset connections that no worker has accepted yet. A socket
    filter drops the first packet (SYN without ACK) of any other; its client tries again after a
    second, and is refused when the port is closed by then.
    """
    if not sys.platform.startswith("linux"):
        return
    # Load the flags of the TCP header, mask SYN and ACK; SYN alone: keep 0 bytes, else all.
    program = [(0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 2), (6, 0, 0, 0), (6, 0, 0, ~0)]
    code = b"".join(struct.pack("HBBI", *step[:3], step[3] & 0xFFFFFFFF) for step in program)
    buffer = ctypes.create_string_buffer(code)
    try:
        port.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER,
            struct.pack("HL", len(program), ctypes.addressof(buffer)),
        )  # fmt: skip
    except OSError as error:  # a kernel without filters: the port is closed a little later
        LOG.warning("clients that connect now may be cut off: %s", error)


def has_queue(port: socket.socket) -> bool:
    """Tells whether somebody has connected to a listening port and is not accepted yet."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        info = port.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return False
    return bool(struct.unpack_from("I", info, 24)[0])  # tcpi_unacked: of a listener, its queue


def wait_until_accepted(port: socket.socket) -> None:
    """Returns when the workers have accepted everybody, or after `LAST_CALL` seconds."""
    end = time.monotonic() + LAST_CALL
    while has_queue(port) and time.monotonic() < end:
        time.sleep(0.02)


def end_with_parent(parent: int) -> None:
    """Makes the system kill this process when the parent ends, whatever this one does then.

    Raises:
        SystemExit: it has ended already.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
