// Calls every function of the kernels with odd sizes, each array as large as it has to be and no
// larger, and prints what comes out. Under sanitizers nothing may be reported; another compiler,
// CPU or vector width has to print the same numbers within rounding (test_kernels_native.py).
// Arguments: `plain` prints instead how far each array of the blocks is off plain.h's; `smooth` has
// hard-swish in the place of every activation.
#include <signal.h>

#include <cstdio>
#include <string_view>

#include "kernels.cc"
#include "kernels_arrays.h"
#include "plain.h"

using namespace mobile;

namespace {

// Stands for oneDNN's number of threads, a value of each thread's own.
thread_local int gemm_threads = 3;

// Where oneDNN multiplies no signal may arrive, and nothing is left of that afterwards.
void check_thread(bool multiplies) {
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  bool right = gemm_threads == (multiplies ? 1 : 3) && !sigismember(&blocked, SIGSEGV);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGPROF, SIGWINCH, SIGCHLD, SIGRTMAX})
    right = right && sigismember(&blocked, number) == multiplies;
  if (right) return;
  std::fprintf(stderr, "signals or threads are wrong %s a product\n", multiplies ? "in" : "after");
  std::abort();
}

int plain_gemm(char ta, char tb, Index m, Index n, Index k, float alpha, const float* a, Index lda,
               const float* b, Index ldb, float beta, float* c, Index ldc) {
  check_thread(true);
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      double sum = 0;
      for (Index l = 0; l < k; ++l)
        sum += double(ta == 'T' ? a[l * lda + i] : a[i * lda + l]) *
               (tb == 'T' ? b[j * ldb + l] : b[l * ldb + j]);
      float& out = c[i * ldc + j];
      out = float(alpha * sum + (beta == 0 ? 0 : beta * out));
    }
  return 0;
}

// The results of a call, which has to leave the thread as it was.
void print(const Arrays& arrays) {
  check_thread(false);
  arrays.print();
}

bool compare = false;  // with plain.h, instead of printing results
bool smooth = false;

struct Case {
  Index images, height, width, in, expanded, out, kernel, stride, activation, threads;
  char se;  // 'n'one, 'h'ard sigmoid, 's'igmoid, 'f'irst: the gate comes before the activation
  bool expands, shortcut, frozen, same;
};

Index activation(Index chosen) { return smooth ? Index(kHardSwish) : chosen; }

void squeeze_excite(Arrays& arrays, SqueezeExcite& se, const Case& t) {
  const Index s = t.expanded / 4 + 1, e = t.expanded, n = t.images;
  se.squeezed = s;
  se.activation = activation(t.se == 's' ? t.activation : Index(kRelu));
  se.gate_kind = t.se == 's' ? kSigmoid : kHardSigmoid;
  se.first = t.se == 'f';
  se.slope = 0.2;
  se.reduce_weight = arrays.input(s * e);
  se.restore_weight = arrays.input(e * s);
  if (t.se != 'f') se.reduce_bias = arrays.input(s), se.restore_bias = arrays.input(e);
  se.pooled = arrays.output("", n * e);
  se.hidden_y = arrays.output("", n * s);
  se.hidden = arrays.output("", n * s);
  se.gate_y = arrays.output("", n * e);
  se.gate = arrays.output("gate", n * e);
  se.d_hidden_y = arrays.output("", n * s);
  se.d_gate_y = arrays.output("", n * e);
  if (t.frozen) return;
  se.d_reduce_weight = arrays.output("d_reduce", s * e);
  se.d_restore_weight = arrays.output("d_restore", e * s);
  if (t.se == 'f') return;
  se.d_reduce_bias = arrays.output("d_reduce_bias", s);
  se.d_restore_bias = arrays.output("d_restore_bias", e);
}

Index out_of(Index size, Index before, const Case& t) {
  return t.same ? (size + t.stride - 1) / t.stride : (size + 2 * before - t.kernel) / t.stride + 1;
}

Index padding(Index size, const Case& t) {
  if (!t.same) return t.kernel / 2;
  return std::max<Index>(((size + t.stride - 1) / t.stride - 1) * t.stride + t.kernel - size, 0) /
         2;
}

void block(Arrays& arrays, const Case& t, bool plain) {
  Block b{};
  PlainBlock p(b);
  b.threads = t.threads, b.images = t.images, b.height = t.height, b.width = t.width;
  b.in_channels = t.in, b.expanded = t.expanded, b.out_channels = t.out;
  b.kernel = t.kernel, b.stride = t.stride;
  b.pad_top = padding(t.height, t), b.pad_left = padding(t.width, t);
  b.out_height = out_of(t.height, b.pad_top, t), b.out_width = out_of(t.width, b.pad_left, t);
  b.activation = activation(t.activation), b.shortcut = t.shortcut;
  const Index in = t.images * t.height * t.width, out = t.images * b.out_pixels();
  const bool trained = !t.frozen;
  b.x = arrays.input(in * t.in);
  if (t.expands) {
    b.expand_weight = arrays.input(t.expanded * t.in);
    b.expand_bn = arrays.batch_norm("expand_bn", t.expanded, t.frozen, trained);
    b.expand_z = arrays.stored(in * t.expanded);
    b.d_expand_y = arrays.stored(in * t.expanded);
    if (trained) b.d_expand_weight = arrays.output("d_expand", t.expanded * t.in);
  }
  const Index taps = t.kernel * t.kernel;
  b.depthwise_weight = arrays.input(t.expanded * taps);
  b.project_weight = arrays.input(t.out * t.expanded);
  b.depthwise_bn = arrays.batch_norm("depthwise_bn", t.expanded, t.frozen, trained);
  b.project_bn = arrays.batch_norm("project_bn", t.out, t.frozen, trained);
  if (t.se != 'n') squeeze_excite(arrays, b.se, t);
  b.depthwise_z = arrays.stored(out * t.expanded);
  b.project_z = arrays.stored(out * t.out);
  b.y = arrays.output("y", out * t.out);
  plain ? p.forward() : mobile_block_forward(&b);
  b.dy = arrays.input(out * t.out);
  b.dx = arrays.output("dx", in * t.in);
  b.d_depthwise_y = arrays.stored(out * t.expanded);
  if (trained) {
    b.d_depthwise_weight = arrays.output("d_depthwise", t.expanded * taps);
    b.d_project_weight = arrays.output("d_project", t.out * t.expanded);
  }
  plain ? p.backward() : mobile_block_backward(&b);
}

void block(const char* name, const Case& t) {
  Arrays arrays(name), right(name);
  block(arrays, t, false);
  if (!compare) return print(arrays);
  block(right, t, true);
  arrays.print_errors(right);
}

void stem(const char* name, const Case& t) {
  Arrays arrays(name);
  Stem s{};
  s.threads = t.threads, s.images = t.images, s.height = t.height, s.width = t.width;
  s.in_channels = t.in, s.out_channels = t.out, s.kernel = t.kernel, s.stride = t.stride;
  s.pad_top = padding(t.height, t), s.pad_left = padding(t.width, t);
  s.out_height = out_of(t.height, s.pad_top, t), s.out_width = out_of(t.width, s.pad_left, t);
  s.activation = activation(t.activation);
  const Index out = t.images * s.out_pixels() * t.out;
  s.x = arrays.input(t.images * t.in * t.height * t.width);
  s.weight = arrays.input(t.out * s.taps());
  s.bn = arrays.batch_norm("bn", t.out, t.frozen, !t.frozen);
  s.z = arrays.stored(out);
  s.y = arrays.output("y", out);
  mobile_stem_forward(&s);
  s.dy = arrays.input(out);
  s.d_y = arrays.stored(out);
  if (!t.frozen) s.d_weight = arrays.output("d_weight", t.out * s.taps());
  mobile_stem_backward(&s);
  print(arrays);
}

void head(const char* name, const Case& t) {
  Arrays arrays(name);
  Head h{};
  h.threads = t.threads, h.images = t.images, h.pixels = t.height * t.width;
  h.in_channels = t.in, h.out_channels = t.out, h.activation = activation(t.activation);
  const Index rows = t.images * h.pixels;
  h.x = arrays.input(rows * t.in);
  h.weight = arrays.input(t.out * t.in);
  h.bn = arrays.batch_norm("bn", t.out, t.frozen, !t.frozen);
  h.z = arrays.stored(rows * t.out);
  h.y = arrays.output("y", t.images * t.out);
  mobile_head_forward(&h);
  h.dy = arrays.input(t.images * t.out);
  h.d_y = arrays.stored(rows * t.out);
  h.dx = arrays.output("dx", rows * t.in);
  if (!t.frozen) h.d_weight = arrays.output("d_weight", t.out * t.in);
  mobile_head_backward(&h);
  print(arrays);
}

void dense(const char* name, Index rows, Index in, Index out, Index threads, bool trained) {
  Arrays arrays(name);
  Dense d{};
  d.threads = threads, d.rows = rows, d.in = in, d.out = out;
  d.x = arrays.input(rows * in);
  d.weight = arrays.input(in * out);
  if (trained) d.bias = arrays.input(out);
  d.y = arrays.output("y", rows * out);
  mobile_dense_forward(&d);
  d.dy = arrays.input(rows * out);
  d.dx = arrays.output("dx", rows * in);
  if (trained) {
    d.d_weight = arrays.output("d_weight", in * out);
    d.d_bias = arrays.output("d_bias", out);
  }
  mobile_dense_backward(&d);
  print(arrays);
}

}  // namespace

int main(int arguments, char** values) {
  const std::string_view mode = arguments > 1 ? values[1] : "";
  compare = mode == "plain";
  smooth = mode == "smooth";
  mobile_set_gemm(plain_gemm, [] { return gemm_threads; }, [](int n) { gemm_threads = n; });
  // clang-format off
  //               N  H   W  in  exp out k  s  activation  threads se  exp shortcut frozen SAME
  block("plain",  {3, 9, 14, 5,  45, 7,  3, 2, kRelu,      2, 'n', true, false, false, false});
  block("deep",   {2, 7,  5, 13, 29, 13, 5, 1, kHardSwish, 3, 'h', true, true,  false, false});
  block("seven",  {2, 13, 8, 6,  19, 6,  7, 1, kRelu6,     2, 's', true, true,  false, false});
  block("seven2", {3, 8, 13, 6,  19, 9,  7, 2, kRelu,      1, 'n', true, false, false, true});
  block("five2",  {3, 10, 7, 3,  35, 9,  5, 2, kHardSwish, 2, 'f', true, false, false, true});
  block("same",   {2, 6, 11, 8,  24, 8,  3, 2, kRelu6,     2, 'n', true, false, false, true});
  block("thin",   {3, 5,  9, 17, 17, 17, 3, 1, kRelu,      2, 'h', false, true, false, false});
  block("thin2",  {3, 9,  5, 17, 17, 5,  3, 2, kRelu,      4, 'n', false, false, false, false});
  block("one",    {5, 1,  1, 3,  11, 3,  5, 1, kHardSwish, 3, 'h', true, true,  false, false});
  block("single", {1, 17, 16, 4, 16, 4,  5, 1, kRelu,      3, 's', true, true,  false, false});
  block("frozen", {2, 7,  7, 5,  21, 5,  3, 1, kHardSwish, 2, 'h', true, true,  true,  false});
  block("long",   {1, 40, 30, 2, 9,  3,  3, 1, kRelu,      2, 'n', true, false, false, false});
  if (compare) return 0;
  stem("stem",    {3, 15, 22, 3, 0,  21, 3, 2, kHardSwish, 2, 'n', false, false, false, false});
  stem("stem1",   {2, 9,  7, 3,  0,  16, 3, 1, kRelu,      3, 'n', false, false, false, false});
  stem("stem-s",  {2, 16, 9, 3,  0,  13, 3, 2, kRelu6,     2, 'n', false, false, false, true});
  stem("stem-f",  {2, 9,  9, 1,  0,  9,  5, 2, kRelu,      2, 'n', false, false, true,  false});
  head("head",    {5, 3,  3, 13, 0,  37, 1, 1, kHardSwish, 2, 'n', false, false, false, false});
  head("head1",   {7, 1,  1, 8,  0,  24, 1, 1, kRelu,      3, 'n', false, false, false, false});
  head("head-f",  {2, 4,  3, 8,  0,  11, 1, 1, kRelu6,     1, 'n', false, false, true,  false});
  // clang-format on
  dense("dense", 5, 19, 37, 2, true);
  dense("dense-f", 3, 7, 2, 4, false);  // fewer columns than threads
}
