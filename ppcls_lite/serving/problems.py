"""What a client is told when its request cannot be answered."""

from dataclasses import dataclass

from ppcls_lite.errors import shortened

LONGEST = 600  # letters of a message: it may quote what the client sent


@dataclass(frozen=True)
class Problem:
    """A kind of failure.

    Attributes:
        status: of HTTP.
        err_no: of Paddle Serving's pipeline: 3xxx service, 5xxx input, 6xxx time, 9xxx inference.
        grpc: name of gRPC's status code.
        retry: seconds after which the same request may succeed; 0 when it never will.
    """

    status: int
    err_no: int
    grpc: str
    retry: int = 0


# The keys are also the label `kind` of the metric ppcls_errors_total.
PROBLEMS = {
    "bad_body": Problem(400, 5000, "INVALID_ARGUMENT"),
    "bad_picture": Problem(400, 5000, "INVALID_ARGUMENT"),
    "bad_tensor": Problem(400, 5000, "INVALID_ARGUMENT"),
    "no_key": Problem(401, 5000, "UNAUTHENTICATED"),
    "not_found": Problem(404, 3002, "NOT_FOUND"),
    "wrong_method": Problem(405, 5000, "UNIMPLEMENTED"),
    "slow_upload": Problem(408, 6000, "DEADLINE_EXCEEDED"),
    "too_large": Problem(413, 5000, "RESOURCE_EXHAUSTED"),
    "bad_encoding": Problem(415, 5000, "INVALID_ARGUMENT"),
    "overloaded": Problem(429, 3001, "RESOURCE_EXHAUSTED", retry=1),
    "internal": Problem(500, 10000, "INTERNAL"),
    "timeout": Problem(503, 6000, "DEADLINE_EXCEEDED", retry=1),
}


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        kind: a key of PROBLEMS.
        message: what was received and what is allowed; cut when it is long.
    """

    def __init__(self, kind: str, message: str) -> None:
        self.message = shortened(message, LONGEST)
        super().__init__(self.message)
        self.kind = kind
        self.problem = PROBLEMS[kind]
