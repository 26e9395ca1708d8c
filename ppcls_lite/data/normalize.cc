// Pixels to the numbers a model reads, in one pass over the memory; numpy takes three.
//
// The order of the operations is torch's, so that the values are equal to the last bit. Compile
// with -ffp-contract=off: a fused multiply-add rounds once less.

#include <cstddef>
#include <cstdint>

// images [N, pixels, 3] -> out [N, 3, pixels]; mean and std of each channel, for values in 0..1.
extern "C" void normalize(const uint8_t* images, size_t count, size_t pixels, const float* mean,
                          const float* std, float* out) {
  for (size_t n = 0; n < count; ++n, images += 3 * pixels)
    for (int channel = 0; channel < 3; ++channel, out += pixels) {
      const float centre = mean[channel], scale = std[channel];
      for (size_t i = 0; i < pixels; ++i)
        out[i] = (images[3 * i + channel] / 255.0f - centre) / scale;
    }
}
