"""The end of an exported network with several labels a picture."""

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class Sigmoid(nn.Layer):
    """Differs from Paddle's own: 3.3 cannot write that into the legacy format (`.pdmodel`)."""

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> the same shape, 0 to 1."""
        if paddle.framework.in_dynamic_or_pir_mode():
            return F.sigmoid(x)
        helper = paddle.base.layer_helper.LayerHelper("sigmoid")
        out = helper.create_variable_for_type_inference(x.dtype)
        helper.append_op(type="sigmoid", inputs={"X": [x]}, outputs={"Out": [out]})
        return out
