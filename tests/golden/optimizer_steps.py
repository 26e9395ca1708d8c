"""What both sides of the ten training steps by every optimizer have in common."""

STEPS, STEPS_PER_EPOCH = 10, 5
WIDTH, HEAD_FACTOR, WEIGHT_DECAY = 0.5, 3.0, 0.0625
EMA = {"decay": 0.99, "steps": 2, "epochs": 4, "warmup_epochs": 1}
RATES = {
    "sgd": 2**-6, "nesterov": 2**-6, "rmsprop": 2**-11, "rmsprop_tf": 2**-7, "adam": 2**-10,
    "adamw": 2**-10, "lamb": 2**-9,
}  # fmt: skip


def rate(opt: str, step: int) -> float:
    """The rate falls in the middle, which shows whether it stands inside the momentum."""
    return RATES[opt] / (1 if step < STEPS // 2 else 4)
