"""What stands around a layer of a TFLite file: its activation, padding, gate, shortcut, scaling."""

import numpy as np

from ppcls_lite.weights.raw import Damaged
from ppcls_lite.weights.tflite_graph import Graph, Op

# Operators that hand on the values they get.
PASSIVE = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "QUANTIZE", "DEQUANTIZE")
_CLAMPS = ("RELU", "RELU6", "MINIMUM", "MAXIMUM", "QUANTIZE")
_FUSED = {0: "", 1: "RE", 3: "R6"}  # of ActivationFunctionType
_ACTIVATIONS = {"RELU": "RE", "RELU6": "R6", "HARD_SWISH": "HS"}
_OTHERS = ("LOGISTIC", "TANH", "ELU", "PRELU", "LEAKY_RELU", "GELU", "RELU_N1_TO_1", "RELU_0_TO_1",
           "MINIMUM", "MAXIMUM", "CUSTOM")  # fmt: skip
_ARITHMETIC = ("ADD", "SUB", "MUL", "DIV")
_SMALLEST = {"uint8": 0, "int8": -128}
Three = tuple[float, float, float]
_SAME, _VALID = 0, 1  # of Padding
_FAR = 8  # operators between a layer and what belongs to it, at most


def activation(graph: Graph, op: Op) -> str:
    """The non-linearity after a layer, as `Layer.activation` has it."""
    fused = _FUSED.get(op.options["activation"], "?")
    users = graph.users(op)
    kinds = {user.kind for user in users}
    if fused:
        return fused
    if len(users) == 1 and users[0].kind in _ACTIVATIONS:
        return _ACTIVATIONS[users[0].kind]
    # x * relu6(x + 3) / 6, as converters without HARD_SWISH write it.
    if kinds == {"ADD", "MUL"} and any(_by_number(graph, user, "ADD", 3) for user in users):
        return "HS"
    changed = any(_constant(graph, user) is not None for user in users)
    if changed or kinds & {*_ACTIVATIONS, *_OTHERS}:
        return "?"
    made = graph.tensors[op.outputs[0]]
    ends_at_0 = made.zero.size == 1 and made.zero[0] == _SMALLEST.get(made.dtype)
    return "clamp" if ends_at_0 else ""


def gate(graph: Graph, op: Op) -> tuple[str, bool]:
    """How squeeze-excite's second layer becomes a gate, and whether its bias holds the + 3.

    Returns:
        "hard" for relu6(x + 3) / 6, "sigmoid" or "?". TF-slim's files add the 3 after the layer;
        TensorFlow 2's converter, which made TF-Hub's and MediaPipe's, adds it to the bias.
    """
    users = graph.users(op)
    if len(users) == 1 and users[0].kind == "LOGISTIC":
        return "sigmoid", False
    adds = len(users) == 1 and _by_number(graph, users[0], "ADD", 3)
    if adds:
        users = graph.users(users[0])
    for _ in range(_FAR):  # the clamp is fused, the range of quantised values, or one of these
        if len(users) == 1 and users[0].kind in _CLAMPS:
            users = graph.users(users[0])
    if len(users) == 1 and (
        _by_number(graph, users[0], "MUL", 1 / 6) or _by_number(graph, users[0], "DIV", 6)
    ):
        return "hard", not adds
    return "?", False


def is_pooled(graph: Graph, op: Op) -> bool:
    """Tells whether a layer reads the mean over a whole picture."""
    before = graph.producer(op.inputs[0])
    for _ in range(_FAR):
        if before is not None and before.kind in PASSIVE:
            before = graph.producer(before.inputs[0])
    return before is not None and before.kind in ("MEAN", "AVERAGE_POOL_2D")


def is_shortcut(graph: Graph, op: Op) -> bool:
    """Tells whether what was there before is added to a layer's output."""
    for user in graph.users(op):
        if user.kind == "ADD" and len(user.inputs) == 2 and _constant(graph, user) is None:
            # The next block may add this layer's output to its own, which comes later.
            first, second = (graph.producer(index) for index in user.inputs)
            if (first or second) and op == max(filter(None, (first, second)), key=_number):
                return True
    return False


def paddings(
    graph: Graph,
    op: Op,
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[tuple[int, ...], tuple[int, ...]] | tuple[None, None]:
    """Rows above and below, columns left and right: those of a layer, and those that SAME gives at
    its size; None where the file does not tell the size."""
    source, pads = op.inputs[0], [0, 0, 0, 0]
    before = graph.producer(source)
    if before is not None and before.kind == "PAD" and len(before.inputs) > 1:
        told = graph.value(before.inputs[1])
        if told is None or told.shape != (4, 2):
            return None, None
        pads = [int(n) for n in told[1:3].reshape(4)]
        source = before.inputs[0]
    size = graph.tensors[source].shape
    if len(size) != 4 or min(size[1:3]) < 1:
        return None, None
    same = _same(size[1:3], kernel, stride, dilation)
    if op.options.get("padding", _VALID) == _SAME:
        padded = size[1] + pads[0] + pads[1], size[2] + pads[2] + pads[3]
        more = _same(padded, kernel, stride, dilation)
        pads = [own + added for own, added in zip(pads, more, strict=True)]
    return tuple(pads), same


def _same(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, ...]:
    pads = []
    for length, taps, step, hole in zip(size, kernel, stride, dilation, strict=True):
        reach = (-(-length // step) - 1) * step + hole * (taps - 1) + 1
        total = max(reach - length, 0)
        pads += [total // 2, total - total // 2]
    return tuple(pads)


def input_scaling(graph: Graph, stem: Op) -> tuple[Three, Three] | tuple[None, None]:
    """Mean and std [3] of pixels / 255, from quantised inputs and from the arithmetic before the
    first layer; None where there is neither, or something else."""
    source, arithmetic = stem.inputs[0], []
    for _ in range(_FAR):
        op = graph.producer(source)
        if op is None:
            break
        if op.kind in _ARITHMETIC and len(op.inputs) == 2:
            number = graph.value(op.inputs[1])
            if number is None or number.size not in (1, 3):
                return None, None
            arithmetic.append((op.kind, number.astype(np.float64).reshape(-1)))
        elif op.kind not in (*PASSIVE, "PAD"):
            return None, None
        source = op.inputs[0]
    if source not in graph.inputs:
        return None, None
    gain, offset = np.ones(3), np.zeros(3)
    given = graph.tensors[source]
    quantised = given.dtype in _SMALLEST and given.scale.size == 1 and given.zero.size == 1
    if quantised:
        gain = 255.0 * given.scale.astype(np.float64) * gain
        offset += float(given.scale[0]) * (_SMALLEST[given.dtype] - int(given.zero[0]))
    elif not arithmetic:
        return None, None
    with np.errstate(all="ignore"):
        for kind, number in reversed(arithmetic):
            if kind in ("MUL", "DIV"):
                factor = number if kind == "MUL" else 1 / number
                gain, offset = gain * factor, offset * factor
            else:
                offset = offset + (number if kind == "ADD" else -number)
        if not quantised and gain.max() < 0.1:  # made for pixels from 0 to 255
            gain = gain * 255
        mean, std = -offset / gain, 1 / gain
    if not (np.abs(mean) < 10).all() or not ((std > 1e-3) & (std < 10)).all():
        return None, None
    # Eight bits have steps of 0.004: zero point 128 and scale 1 / 127 are made of 0.5 and 0.5.
    digits = 2 if quantised and not arithmetic else 4
    return _three(np.round(mean, digits)), _three(np.round(std, digits))


def _three(array: np.ndarray) -> Three:
    return float(array[0]), float(array[1]), float(array[2])


def _number(op: Op) -> int:
    return op.number


def _constant(graph: Graph, op: Op) -> np.ndarray | None:
    """The constant of an arithmetic operator that has one."""
    if op.kind not in _ARITHMETIC or len(op.inputs) != 2:
        return None
    first, second = (graph.value(index) for index in op.inputs)
    return second if second is not None else first


def _by_number(graph: Graph, op: Op, kind: str, number: float) -> bool:
    """Tells whether an operator is arithmetic with this number, which may have been quantised."""
    constant = _constant(graph, op) if op.kind == kind else None
    if constant is None or constant.size != 1:
        return False
    return abs(float(constant.reshape(-1)[0]) / number - 1) < 0.01


def check_steps(op: Op) -> None:
    """Raises Damaged for a layer without a step."""
    steps = ("stride_h", "stride_w", "dilation_h", "dilation_w")
    if any(not 1 <= op.options.get(name, 1) <= 64 for name in steps):
        raise Damaged(f"{op} has a stride or a dilation that no layer has")
