"""Whole networks of ours as TFLite files of TensorFlow's converters, by the format's own schema."""

import numpy as np
import paddle

from ppcls_lite.arch.flavours import PAPER_GATE
from ppcls_lite.arch.layers import InvertedResidual
from ppcls_lite.arch.units import units
from ppcls_lite.deploy.tflite_writer import NONE, RELU, RELU6, Writer


class NetworkFile:
    """One of our networks as a TFLite file: batch norm folded, channels last.

    Args:
        precision: "float32", "float16" (constants behind DEQUANTIZE), "int8" (weights per channel,
            the rest float32), "uint8" (everything; ranges of what is computed are made up).
        size: of the pictures.
        folds_three: hard sigmoid's + 3 is in the bias, as TensorFlow 2's converter writes it; else
            an operator adds it, as in TF-slim's files.
        swish: "HARD_SWISH", or "spelt" out in ADD, MUL and MUL.
        pad: TensorFlow's "SAME", or a "PAD" operator with the network's own numbers before VALID.
        background: a class more, before the others.
        end: the last layer's role; "hidden" and "last" leave out what comes after.
        scaling: mean and std of pictures, which then have values from 0 to 1, or None.
    """

    def __init__(self, model: paddle.nn.Layer, precision="float32", *, size=224, folds_three=True,
                 swish="HARD_SWISH", pad="SAME", background=False, end="classifier", scaling=None
                 ) -> None:  # fmt: skip
        self.model, self.precision, self.folds_three, self.swish = (
            model,
            precision,
            folds_three,
            swish,
        )
        self.pad, self.background = pad, background
        self.writer = Writer()
        # What the file holds, for the reader to find: float32 by (name of our tensor).
        self.expected: dict[str, np.ndarray] = {}
        model.eval()
        self.layers = dict(model.named_sublayers())
        self.blocks = [x for x in self.layers.values() if isinstance(x, InvertedResidual)]
        if precision == "uint8":
            self.image = self.writer.tensor([1, size, size, 3], "uint8", scale=1 / 127, zero=128)
        else:
            self.image = self.writer.tensor([1, size, size, 3])
        x = self.image
        if scaling:
            mean, std = (np.float32(values) for values in scaling)
            x = self._elementwise("MUL", x, 1 / std)
            x = self._elementwise("SUB", x, mean / std)
        found = units(model)
        for unit, after in zip(found, [*found[1:], None], strict=True):
            if unit.part == 0:
                norm = self.layers[after.ours] if after and after.part else None
                x = self._layer(x, unit, norm)
                if unit.role == end:
                    break
        self.output = x

    def bytes(self) -> bytes:
        return self.writer.file([self.image], [self.output])

    def _layer(self, x: int, unit, norm) -> int:
        place = unit.block.index - self.model.plain_blocks[0] if unit.block else -1
        block = self.blocks[place] if place >= 0 else None
        act = block.act if block else self.model.table.act
        layer = self.layers[unit.ours]
        if unit.role == "expand" or (unit.role == "depthwise" and not unit.block.expands):
            self.block_input = x
        if unit.role == "reduce":
            self.gated = x
        if unit.role in ("reduce", "hidden") or (
            unit.role == "classifier" and self.writer.tensors[x]["shape"][1] > 1
        ):
            x = self._pooled(x)
        weight = layer.weight.numpy().astype(np.float64)
        bias = np.zeros(1) if layer.bias is None else layer.bias.numpy().astype(np.float64)
        if unit.role in ("hidden", "classifier"):
            weight = weight.T[:, :, None, None]
        if norm is not None:
            gain = norm.weight.numpy() / np.sqrt(norm._variance.numpy() + norm._epsilon)
            weight = weight * gain[:, None, None, None]
            bias = norm.bias.numpy() - norm._mean.numpy() * gain
        bias = np.broadcast_to(bias, weight.shape[:1]).astype(np.float64)
        if unit.role == "classifier" and self.background:
            weight, bias = np.concatenate([weight[:1] * 0, weight]), np.append(9.0, bias)
        linear = unit.role in ("project", "restore", "classifier")
        act = "" if linear else self._gate_act(act) if unit.role == "reduce" else act
        x = self._conv(x, layer, weight, bias, act, unit, norm)
        if unit.role == "restore":
            return self._gate(x)
        if unit.role == "project" and block and block.shortcut:
            return self._elementwise("ADD", x, self.block_input)
        return x

    def _conv(self, x, layer, weight, bias, act, unit, norm) -> int:
        strides = getattr(layer, "_stride", [1, 1])
        deep = getattr(layer, "_groups", 1) > 1
        given = self.writer.tensors[x]["shape"]
        folds = unit.role == "restore" and self.folds_three and self._is_hard()
        if folds:
            bias = bias + 3
        ordered = weight.transpose(1, 2, 3, 0) if deep else weight.transpose(0, 2, 3, 1)
        kernel = self._weights(ordered.astype(np.float32), 3 if deep else 0)
        bias_at, bias = self._biases(bias.astype(np.float32), x)
        bias = bias - np.float32(3) if folds else bias
        self._expect(unit, norm, bias)
        padding = getattr(layer, "_padding", 0)
        same = padding == "SAME" or padding == 0
        if not same:
            rows = [[0, 0], [padding] * 2, [padding] * 2, [0, 0]]
            shape = [1, given[1] + 2 * padding, given[2] + 2 * padding, given[3]]
            x = self.writer.op("PAD", [x, self.writer.constant(np.int32(rows))], self._made(shape))
        size = [-(-length // step) for length, step in zip(given[1:3], strides, strict=True)]
        made = self._made([1, *size, len(weight)], begins_at_0=act in ("RE", "R6"))
        fused = {"RE": RELU, "R6": RELU6}.get(act, NONE)
        if self.precision == "uint8":
            fused = NONE  # the range says it
        elif folds:
            fused = RELU6
        options = {"Padding": int(not same), "StrideH": strides[0], "StrideW": strides[1],
                   "DilationHFactor": 1, "DilationWFactor": 1,
                   "FusedActivationFunction": fused}  # fmt: skip
        if deep:
            options["DepthMultiplier"] = 1
        kind = "DEPTHWISE_CONV_2D" if deep else "CONV_2D"
        x = self.writer.op(kind, [x, kernel, bias_at], made, **options)
        return self._hard_swish(x) if act == "HS" else x

    def _weights(self, values: np.ndarray, axis: int) -> int:
        """Writes weights in the file's precision and keeps what they stand for in `self.last`."""
        w = self.writer
        if self.precision == "float16":
            half = values.astype(np.float16)
            self.last = half.astype(np.float32)
            return w.op("DEQUANTIZE", [w.constant(half)], w.tensor(values.shape))
        if self.precision == "int8":
            others = tuple(i for i in range(4) if i != axis)
            scale = np.maximum(np.abs(values).max(others), 1e-6).astype(np.float32) / np.float32(
                127
            )
            shape = [-1 if i == axis else 1 for i in range(4)]
            levels = np.round(values / scale.reshape(shape)).astype(np.int8)
            self.last = levels.astype(np.float32) * scale.reshape(shape)
            return w.constant(levels, scale=scale, zero=np.zeros(len(scale)), axis=axis)
        if self.precision == "uint8":
            low, high = min(values.min(), 0), max(values.max(), 1e-6)
            scale = np.float32((high - low) / 255)
            zero = int(np.round(-low / scale))
            levels = np.clip(np.round(values / scale) + zero, 0, 255).astype(np.uint8)
            self.last = (levels.astype(np.float32) - np.float32(zero)) * scale
            self.weight_scale = scale
            return w.constant(levels, scale=scale, zero=zero)
        self.last = values
        return w.constant(values)

    def _biases(self, values: np.ndarray, x: int) -> tuple[int, np.ndarray]:
        w = self.writer
        if self.precision == "float16":
            half = values.astype(np.float16)
            at = w.op("DEQUANTIZE", [w.constant(half)], w.tensor(values.shape))
            return at, half.astype(np.float32)
        if self.precision == "uint8":
            scale = np.float32(self.weight_scale * np.float32(w.tensors[x]["scale"]))
            levels = np.round(values / scale).astype(np.int32)
            stands_for = (levels.astype(np.float64) * np.float64(scale)).astype(np.float32)
            return w.constant(levels, scale=scale, zero=0), stands_for
        return w.constant(values), values

    def _expect(self, unit, norm, bias: np.ndarray) -> None:
        """Keeps what our tensors should be once the file is read."""
        deep, weight = unit.role == "depthwise", self.last
        weight = weight.transpose(3, 0, 1, 2) if deep else weight.transpose(0, 3, 1, 2)
        if unit.role == "classifier" and self.background:
            weight, bias = weight[1:], bias[1:]
        if unit.role in ("hidden", "classifier"):
            weight = weight[:, :, 0, 0].T
        self.expected[f"{unit.ours}.weight"] = weight
        if norm is None and self.layers[unit.ours].bias is not None:
            self.expected[f"{unit.ours}.bias"] = bias
        if norm is not None:
            name = next(name for name, layer in self.layers.items() if layer is norm)
            self.expected[f"{name}.bias"] = bias

    def _made(self, shape, begins_at_0=False) -> int:
        """A tensor that an operator computes."""
        if self.precision != "uint8":
            return self.writer.tensor(shape)
        return self.writer.tensor(shape, "uint8", scale=0.05, zero=0 if begins_at_0 else 128)

    def _number(self, value) -> int:
        values = np.asarray(value, np.float32)
        if self.precision != "uint8":
            return self.writer.constant(values)
        return self.writer.constant(np.uint8(255), scale=np.float32(values / 255), zero=0)

    def _elementwise(self, kind: str, x: int, other, fused=NONE) -> int:
        other = other if isinstance(other, int) else self._number(other)
        shape = self.writer.tensors[x]["shape"]
        options = {} if kind == "MINIMUM" else {"FusedActivationFunction": fused}
        return self.writer.op(kind, [x, other], self._made(shape), **options)

    def _hard_swish(self, x: int) -> int:
        if self.swish == "HARD_SWISH":
            return self.writer.op("HARD_SWISH", [x], self._made(self.writer.tensors[x]["shape"]))
        gate = self._elementwise("ADD", x, np.float32(3), RELU6)
        return self._elementwise("MUL", self._elementwise("MUL", x, gate), np.float32(1 / 6))

    def _gate_act(self, act: str) -> str:
        return act if self.model.flavour.se_block_act else "RE"

    def _is_hard(self) -> bool:
        return self.model.flavour.se_gate == PAPER_GATE

    def _gate(self, x: int) -> int:
        if not self._is_hard():
            gate = self.writer.op("LOGISTIC", [x], self._made(self.writer.tensors[x]["shape"]))
            return self._scaled(gate)
        if not self.folds_three:
            x = self._elementwise("ADD", x, np.float32(3), RELU6)
        return self._scaled(self._elementwise("MUL", x, np.float32(1 / 6)))

    def _scaled(self, gate: int) -> int:
        made = self._made(self.writer.tensors[self.gated]["shape"])
        return self.writer.op("MUL", [self.gated, gate], made, FusedActivationFunction=NONE)

    def _pooled(self, x: int) -> int:
        axes = self.writer.constant(np.int32([1, 2]))
        made = self._made([1, 1, 1, self.writer.tensors[x]["shape"][-1]])
        return self.writer.op("MEAN", [x, axes], made, KeepDims=True)
