"""A live network as a graph that Paddle saves: for evaluation, for a teacher, for an export."""

from pathlib import Path
from typing import TYPE_CHECKING

from ppcls_lite.environment import load_paddle

if TYPE_CHECKING:
    import paddle

INPUT_NAME = "input"
GRAPH_BYTES = 2_000_000  # of the largest network's .json, and room to spare


class StaticGraph:
    """A live network as a graph that can be saved again and again, with the weights of the moment.

    The network itself stays as it is, so a training run can save between two epochs. Tracing takes
    half a second and leaves memory with Paddle each time; saving once more takes a tenth of a
    second and leaves nothing.

    Args:
        model: images [N, 3, H, W] float32 to logits [N, K].
        image_size: H and W, in pixels.
        activation: softmax or sigmoid to append, so that the outputs are probabilities; "".
        batch: the only N that the graph takes; None: any.
    """

    def __init__(
        self,
        model: "paddle.nn.Layer",
        image_size: int,
        activation: str = "",
        batch: int | None = None,
    ) -> None:
        paddle = load_paddle()
        from ppcls_lite.arch.sigmoid import Sigmoid  # imports paddle, as below

        tails = {"softmax": paddle.nn.Softmax(axis=-1), "sigmoid": Sigmoid()}
        tail = tails[activation] if activation else paddle.nn.Identity()
        # to_static replaces `forward` of the layer it is given: give it one of our own.
        self._wrapper = _as_it_is(model, tail)
        spec = paddle.static.InputSpec([batch, 3, image_size, image_size], "float32", INPUT_NAME)
        self._graph = paddle.jit.to_static(self._wrapper, input_spec=[spec], full_graph=True)

    @property
    def size(self) -> int:
        """Bytes of the files, roughly: four a value, and as much room for the graph as ever."""
        return 4 * sum(int(v.size) for v in self._wrapper.state_dict().values()) + GRAPH_BYTES

    def save(self, prefix: Path) -> None:
        """Writes `prefix.json` and `prefix.pdiparams`, in evaluation mode.

        In a process started with FLAGS_enable_pir_api=0 the same call writes `prefix.pdmodel`,
        `.pdiparams` and `.pdiparams.info`.
        """
        from ppcls_lite.arch.layers import evaluation_mode  # imports paddle, as above

        with evaluation_mode(self._wrapper):
            load_paddle().jit.save(self._graph, str(prefix))


def _as_it_is(model: "paddle.nn.Layer", tail: "paddle.nn.Layer") -> "paddle.nn.Layer":
    """Joins two layers so that to_static runs them, but does not rewrite their source.

    That took five sixths of the time, and is of no use here: no `if` of the networks asks for the
    values of a tensor.
    """
    import paddle

    class Whole(paddle.nn.Sequential):
        def forward(self, images: paddle.Tensor) -> paddle.Tensor:
            return self.run(images)

    whole = Whole(model, tail)
    whole.run = paddle.jit.not_to_static(lambda images: tail(model(images)))
    return whole
