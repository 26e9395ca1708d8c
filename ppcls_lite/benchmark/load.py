"""Many clients of one HTTP server, each sending a request as soon as the last one is answered."""

import socket
import threading
import time
from collections.abc import Sequence


def request_bytes(host: str, path: str, body: bytes) -> bytes:
    """Returns a POST request of JSON, ready to be sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def drive(
    port: int, requests: Sequence[bytes], clients: int, seconds: float
) -> tuple[list[float], int, float]:
    """Sends requests for a while.

    Args:
        port: of a server on this machine.
        requests: taken in turns.
        clients: connections, each kept open.
        seconds: how long; requests under way are waited for.

    Returns:
        Seconds of every answered request, the number of failed ones, and how long it took.
    """
    times: list[list[float]] = [[] for _ in range(clients)]
    failed = [0] * clients
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection: socket.socket | None = None
        turn = number
        while time.perf_counter() < end:
            begin = time.perf_counter()
            try:
                if connection is None:
                    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(requests[turn % len(requests)])
                ok = read_answer(connection)
            except OSError:
                ok, connection = False, None
            if ok:
                times[number].append(time.perf_counter() - begin)
            else:
                failed[number] += 1
            turn += clients

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for part in times for one in part], sum(failed), time.perf_counter() - begin


def read_answer(connection: socket.socket) -> bool:
    """Reads one answer; tells whether it is one: Paddle Serving's failures have status 200, too.

    Raises:
        OSError: the connection was closed before its end, or it does not say its length.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if not lengths:
        raise OSError("the answer does not say its length")
    length = int(lengths[0].partition(b":")[2])
    while len(body) < length:
        body += _some(connection)
    return head.startswith(b"HTTP/1.1 200") and b'"err_no":0' in body.replace(b" ", b"")


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise OSError("the connection was closed")
    return data
