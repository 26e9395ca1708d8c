"""RMSprop by its two other rules.

    torch           s = a s + (1 - a) g^2    v = m v + g / (sqrt(s) + eps)       w = w - lr v
    TensorFlow      s = a s + (1 - a) g^2    v = m v + lr g / sqrt(s + eps)      w = w - v
    Paddle          TensorFlow's

The mean square s starts at 0 in torch and Paddle, at 1 in TensorFlow. The rate stands inside the
momentum v in the second form, so that v remembers past rates when the rate falls.
"""

from typing import Any

import paddle


class TorchRMSProp(paddle.optimizer.RMSProp):
    """torch.optim.RMSprop, not centred."""

    def _append_optimize_op(self, block: Any, param_and_grad: Any) -> None:
        if isinstance(param_and_grad, dict):
            param_and_grad = self._update_param_group(param_and_grad)
        parameter, gradient = param_and_grad
        mean_square = self._get_accumulator(self._mean_square_acc_str, parameter)
        momentum = self._get_accumulator(self._momentum_acc_str, parameter)
        mean_square.scale_(self._rho).add_((gradient * gradient).scale_(1 - self._rho))
        step = gradient / (mean_square.sqrt() + self._epsilon)
        momentum.scale_(self._momentum).add_(step)
        rate = self.get_lr() * parameter.optimize_attr["learning_rate"]
        parameter.subtract_(momentum.scale(rate))


class TensorFlowRMSProp(paddle.optimizer.RMSProp):
    """tf.compat.v1.train.RMSPropOptimizer, which is timm's RMSpropTF and MindSpore's RMSProp."""

    def _add_accumulator(
        self,
        name: str,
        param: paddle.Tensor,
        dtype: Any = None,
        fill_value: float = 0.0,
        **rest: Any,
    ) -> paddle.Tensor:
        start = 1.0 if name == self._mean_square_acc_str else fill_value
        return super()._add_accumulator(name, param, dtype, start, **rest)
