"""Protobuf of unknown origin, looked through before a library unpacks it.

Lengths, nesting and counts only: what a message means is for the library that reads it. Source of
the format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

DEEPEST = 64  # messages in each other; protobuf's own readers stop at 100
FIXED = {1: 8, 5: 4}  # bytes of a value by wire type

# The fields that hold messages, and their own such fields.
Schema = dict[int, "Schema"]


class WireError(ValueError):
    """It is no protobuf message, or no sensible one."""


def check_wire(data: bytes, schema: Schema, most: int) -> set[int]:
    """Looks through a message and returns the numbers of its own fields that hold bytes.

    Args:
        data: the message.
        schema: which fields hold messages.
        most: fields that it may have in all, those of messages inside it included; a message takes
            some hundred bytes once it is unpacked, and may be two bytes long.

    Raises:
        WireError: the bytes are no message of this schema.
    """
    view = memoryview(data)
    waiting = [(0, len(view), schema, 1)]  # messages still to be looked through
    count = 0
    found: set[int] = set()
    while waiting:
        place, end, fields, depth = waiting.pop()
        if depth > DEEPEST:
            raise WireError(f"more than {DEEPEST} messages in each other")
        while place < end:
            count += 1
            if count > most:
                raise WireError(f"more than {most:,} fields")
            tag, place = _varint(view, place, end)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise WireError(f"byte {place}: a field with the number 0")
            if kind == 0:
                _, place = _varint(view, place, end)
            elif kind in FIXED:
                place += FIXED[kind]
            elif kind == 2:
                length, start = _varint(view, place, end)
                place = start + length
                if depth == 1:
                    found.add(number)
                if number in fields and place <= end:
                    waiting.append((start, place, fields[number], depth + 1))
            else:
                raise WireError(f"byte {place}: wire type {kind}; allowed: 0, 1, 2, 5")
            if place > end:
                raise WireError(f"field {number} ends at byte {place:,}, its message at {end:,}")
    return found


def _varint(view: memoryview, place: int, end: int) -> tuple[int, int]:
    """Returns a number of 1 to 10 bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise WireError(f"a number is cut off at byte {end:,}")
        byte = view[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise WireError(f"byte {place:,}: a number of more than 10 bytes")
