// The inverted residual block: expand 1x1, depthwise, squeeze-excite where asked, project 1x1.
// Three arrays are stored between forward and backward: what each convolution gives (Z), before its
// batch norm. Everything else is made again, tile by tile, by whoever reads it.
#pragma once

#include "depthwise.h"
#include "squeeze_excite.h"

namespace mobile {

// Part of the C interface; abi.py reads the fields from here. All tensors are NHWC, float32 where
// nothing else is said.
struct Block {
  Index threads, images, height, width;
  Index in_channels, expanded, out_channels;
  Index kernel, stride, pad_top, pad_left, out_height, out_width;
  Index activation, shortcut;
  const float* x;                 // [N, H, W, in]
  const float* expand_weight;     // [E, in]; null: the block does not expand, E = in
  const float* depthwise_weight;  // [E, K, K]
  const float* project_weight;    // [out, E]
  BatchNorm expand_bn, depthwise_bn, project_bn;
  SqueezeExcite se;
  Stored* expand_z;     // [N, H, W, E]
  Stored* depthwise_z;  // [N, Ho, Wo, E]
  Stored* project_z;    // [N, Ho, Wo, out]
  float* y;             // [N, Ho, Wo, out]
  // Backward only. Gradients that are null are not computed.
  const float* dy;  // [N, Ho, Wo, out]
  float* dx;
  float *d_expand_weight, *d_depthwise_weight, *d_project_weight;
  Stored* d_expand_y;     // work: [N, H, W, E], gradient behind the batch norm
  Stored* d_depthwise_y;  // work: [N, Ho, Wo, E]

  Index pixels() const { return height * width; }
  Index out_pixels() const { return out_height * out_width; }
  DepthwiseShape depthwise_shape() const {
    return {height, width, expanded, kernel, stride, pad_top, pad_left, out_height, out_width};
  }
  // The activation before and after the gate.
  Index first_activation() const { return gated_first() ? Index(kNone) : activation; }
  Index last_activation() const { return gated_first() ? activation : Index(kNone); }
  bool gated_first() const { return se.squeezed && se.first; }
};

}  // namespace mobile
