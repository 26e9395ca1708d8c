// What a block computes, as its formulas stand: whole arrays, double precision, nothing fused. Read
// it before the kernels, which are held against it by the tests and do not include it.
#pragma once

#include "plain_layers.h"

namespace mobile {

struct PlainBlock {
  explicit PlainBlock(const Block& block) : b(block) {}

  const Block& b;
  Values x, z1, y1, a1, z2, y2, a2, gated, z3;  // Z, batch norm's Y, the activated A
  PlainSqueezeExcite gates{b};

  void forward() {
    const Index e = b.expanded, in = b.images * b.pixels(), out = b.images * b.out_pixels();
    a1 = x = Values(b.x, b.x + in * b.in_channels);
    if (b.expand_weight) {
      z1 = linear(x, b.expand_weight, nullptr, b.in_channels, e);
      y1 = batch_norm(b.expand_bn, z1, e);
      a1 = activation(b.activation, y1);
    }
    z2 = Values(out * e);
    for_depthwise(b, [&](Index o, Index i, Index w) { z2[o] += b.depthwise_weight[w] * a1[i]; });
    y2 = batch_norm(b.depthwise_bn, z2, e);
    a2 = activation(b.first_activation(), y2);
    gated = b.se.squeezed ? gates.forward(a2) : a2;
    z3 = linear(gated, b.project_weight, nullptr, e, b.out_channels);
    Values y = batch_norm(b.project_bn, z3, b.out_channels);
    for (size_t i = 0; b.shortcut && i < y.size(); ++i) y[i] += x[i];
    write(y, b.y);
  }

  void backward() {
    const Index e = b.expanded, in = b.images * b.pixels(), out = b.images * b.out_pixels();
    const Values dy(b.dy, b.dy + out * b.out_channels);
    Values d = batch_norm_backward(b.project_bn, z3, dy, b.out_channels);
    d = linear_backward(d, gated, b.project_weight, e, b.out_channels, b.d_project_weight, nullptr);
    if (b.se.squeezed) d = gates.backward(a2, d);
    d = activation_backward(b.first_activation(), y2, d);
    d = batch_norm_backward(b.depthwise_bn, z2, d, e);
    Values dx(in * e), dw(e * b.kernel * b.kernel);
    for_depthwise(b, [&](Index o, Index i, Index w) {
      dx[i] += b.depthwise_weight[w] * d[o];
      dw[w] += a1[i] * d[o];
    });
    write(dw, b.d_depthwise_weight);
    if (b.expand_weight) {
      d = activation_backward(b.activation, y1, dx);
      d = batch_norm_backward(b.expand_bn, z1, d, e);
      dx = linear_backward(d, x, b.expand_weight, b.in_channels, e, b.d_expand_weight, nullptr);
    }
    for (size_t i = 0; b.shortcut && i < dx.size(); ++i) dx[i] += dy[i];
    write(dx, b.dx);
  }
};

}  // namespace mobile
