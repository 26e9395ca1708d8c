// The C interface: a function for each piece and direction. abi.py reads the structs, README.md has
// a reading order.
#include <chrono>

#include "dense.h"
#include "ends.h"
#include "stage_depthwise.h"
#include "stage_output.h"
#include "stage_project.h"

namespace {

// Where each stage of the calls notes when it ended, in nanoseconds; null: nowhere.
int64_t* stage_ends = nullptr;

void stage_done() {
  if (!stage_ends) return;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  *stage_ends++ = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace

// Has the stages of the calls that follow note when they ended, behind the time it is now; to be
// called by the thread that makes the calls. `benchmark train --profile` does.
extern "C" void mobile_watch_stages(int64_t* ends) {
  stage_ends = ends;
  stage_done();
}

extern "C" void mobile_block_forward(const mobile::Block* block) {
  using namespace mobile;
  const Block& b = *block;
  Affine expand;
  if (b.expand_weight) {
    pointwise_stage(b.x, b.expand_weight, b.images * b.pixels(), b.in_channels, b.expanded,
                    b.threads, b.expand_bn, b.expand_z);
    expand = Affine(b.expand_bn, b.expanded);
    stage_done();
  }
  depthwise_stage(b, expand);
  stage_done();
  project_stage(b, Affine(b.depthwise_bn, b.expanded));
  stage_done();
  output_stage(b);
  stage_done();
}

extern "C" void mobile_block_backward(const mobile::Block* block) {
  using namespace mobile;
  const Block& b = *block;
  const Affine expand = b.expand_weight ? Affine(b.expand_bn, b.expanded) : Affine();
  const Linear project = output_stage_backward(b);
  stage_done();
  const Linear depthwise = project_stage_backward(b, Affine(b.depthwise_bn, b.expanded), project);
  stage_done();
  const Linear expanded = depthwise_stage_backward(b, expand, depthwise);
  stage_done();
  if (!b.expand_weight) return;
  pointwise_stage_backward(b.x, b.expand_weight, b.expand_z, b.d_expand_y, expanded,
                           b.images * b.pixels(), b.in_channels, b.expanded, b.threads,
                           b.shortcut ? b.dy : nullptr, b.d_expand_weight, b.dx);
  stage_done();
}

extern "C" void mobile_stem_forward(const mobile::Stem* stem) {
  using namespace mobile;
  const Stem& s = *stem;
  stem_convolution(s);
  stage_done();
  const Affine affine(s.bn, s.out_channels);
  parallel(s.threads, [&](Index share) {
    const Range range = share_of(s.images * s.out_pixels(), s.threads, share);
    const Index at = range.begin * s.out_channels;
    normalise(s.z + at, range.end - range.begin, s.out_channels, affine, s.activation, s.y + at);
  });
  stage_done();
}

extern "C" void mobile_stem_backward(const mobile::Stem* stem) {
  using namespace mobile;
  const Linear linear = stem_activation_backward(*stem, Affine(stem->bn, stem->out_channels));
  stage_done();
  if (stem->d_weight) stem_weight_gradient(*stem, linear);
  stage_done();
}

extern "C" void mobile_head_forward(const mobile::Head* head) {
  using namespace mobile;
  const Head& h = *head;
  pointwise_stage(h.x, h.weight, h.images * h.pixels, h.in_channels, h.out_channels, h.threads,
                  h.bn, h.z);
  stage_done();
  head_pooling(h);
  stage_done();
}

extern "C" void mobile_head_backward(const mobile::Head* head) {
  using namespace mobile;
  const Head& h = *head;
  const Linear linear = head_pooling_backward(h);
  stage_done();
  pointwise_stage_backward(h.x, h.weight, h.z, h.d_y, linear, h.images * h.pixels, h.in_channels,
                           h.out_channels, h.threads, nullptr, h.d_weight, h.dx);
  stage_done();
}

extern "C" void mobile_dense_forward(const mobile::Dense* dense) {
  dense_forward(*dense);
  stage_done();
}

extern "C" void mobile_dense_backward(const mobile::Dense* dense) {
  dense_backward(*dense);
  stage_done();
}

extern "C" void mobile_set_gemm(mobile::Gemm gemm, int (*get_threads)(), void (*set_threads)(int)) {
  mobile::gemm = gemm;
  mobile::product_threads = {get_threads, set_threads};
}

// Whether 1x1 convolutions multiply bfloat16, and do not only keep it.
extern "C" int mobile_multiplies_bf16() { return mobile::kPacks; }
