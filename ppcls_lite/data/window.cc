// The part of a JPEG that a crop needs, decoded and resized without ever holding the whole picture.
//
// libjpeg-turbo decodes, this file resizes. A row goes through one of two ways:
//
//   across first:  decoded row -> horizontal sums -> kept;  all rows there: vertical sums -> result
//   down first:    decoded row -> kept;  all rows there: vertical sums -> horizontal sums -> result
//
// Rows below the crop are never decoded; rows above it and columns beside it are read (Huffman
// codes cannot be jumped over) but not transformed, upsampled or converted.
//
// The arithmetic is in resample.h.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include <jpeglib.h>

#include "resample.h"

#ifndef JCS_EXTENSIONS
#error "libjpeg-turbo is needed, this is another libjpeg"
#endif

namespace {

constexpr int kMargin =
    16;  // columns; chroma is interpolated between neighbours, but not at an edge

// libjpeg reports errors by a call that must not return; a longjmp crosses only its own C frames.
struct Failure {
  jpeg_error_mgr manager;  // first: libjpeg hands back a pointer to it
  std::jmp_buf back;
};

void leave(j_common_ptr jpeg) { std::longjmp(reinterpret_cast<Failure*>(jpeg->err)->back, 1); }

void leave_at_warning(j_common_ptr jpeg, int level) {
  if (level < 0) leave(jpeg);  // damaged data; the other levels are traces
}

// As passed from Python; all lengths in pixels.
struct Window {
  const uint8_t* data;
  size_t bytes;
  int32_t box[4];     // left, top, right, bottom of what is cut out of the picture
  int32_t size[2];    // width, height that this is resized to
  int32_t window[4];  // left, top, right, bottom of the part of that which is wanted
  int32_t is_cubic;
  int32_t down_first;
  double spare;  // 0: exact. Else decode a half, a quarter or an eighth of the size while the box
                 // keeps `spare` times the pixels it is resized to, in both directions
  uint8_t* out;  // RGB, height x width x 3 of the window
};

// What an error of libjpeg must not lose: it lives outside of the function that errors jump back
// to.
struct Work {
  jpeg_decompress_struct jpeg;
  Failure failure;
  Axis across, down;
  int left = 0, top = 0;  // of the box, in the decoded picture
  std::vector<uint8_t> row, kept;
  std::vector<int32_t> sums;
};

// Sets up libjpeg and the two axes for the part that is asked for; returns the first decoded
// column.
int start(const Window& ask, Work& work) {
  jpeg_decompress_struct& jpeg = work.jpeg;
  jpeg.out_color_space = JCS_EXT_RGBX;
  jpeg.scale_num = jpeg.scale_denom = 8;
  if (ask.spare > 0) {
    jpeg.do_fancy_upsampling = FALSE;
    const double across = ask.size[0] * ask.spare, down = ask.size[1] * ask.spare;
    const int w = ask.box[2] - ask.box[0], h = ask.box[3] - ask.box[1];
    while (jpeg.scale_num > 1 && w * jpeg.scale_num / 16.0 >= across &&
           h * jpeg.scale_num / 16.0 >= down)
      jpeg.scale_num /= 2;
  }
  jpeg_start_decompress(&jpeg);
  const double fx = static_cast<double>(jpeg.output_width) / jpeg.image_width;
  const double fy = static_cast<double>(jpeg.output_height) / jpeg.image_height;
  work.left = static_cast<int>(ask.box[0] * fx);
  work.top = static_cast<int>(ask.box[1] * fy);
  const int right =
      std::min(static_cast<int>(std::ceil(ask.box[2] * fx)), static_cast<int>(jpeg.output_width));
  const int bottom =
      std::min(static_cast<int>(std::ceil(ask.box[3] * fy)), static_cast<int>(jpeg.output_height));
  work.across.prepare(right - work.left, ask.box[0] * fx - work.left, ask.box[2] * fx - work.left,
                      ask.size[0], ask.window[0], ask.window[2], ask.is_cubic);
  split_weights(work.across);
  work.down.prepare(bottom - work.top, ask.box[1] * fy - work.top, ask.box[3] * fy - work.top,
                    ask.size[1], ask.window[1], ask.window[3], ask.is_cubic);
  const int first = std::max(work.left + work.across.begin() - kMargin, 0);
  const int last =
      std::min(work.left + work.across.end() + kMargin, static_cast<int>(jpeg.output_width));
  JDIMENSION offset = first, width = last - first;
  if (width < jpeg.output_width)
    jpeg_crop_scanline(&jpeg, &offset, &width);  // widens both to whole blocks
  return static_cast<int>(offset);
}

int decode(const Window& ask, Work& work) {
  jpeg_decompress_struct& jpeg = work.jpeg;
  if (setjmp(work.failure.back)) return 0;
  jpeg_mem_src(&jpeg, ask.data, ask.bytes);
  jpeg_read_header(&jpeg, TRUE);
  if (jpeg.jpeg_color_space != JCS_YCbCr && jpeg.jpeg_color_space != JCS_GRAYSCALE) return 0;
  const int offset = start(ask, work);
  const int first = work.top + work.down.begin(), rows = work.down.end() - work.down.begin();
  const int w = ask.window[2] - ask.window[0], h = ask.window[3] - ask.window[1];
  const int n =
      ask.down_first ? 4 * static_cast<int>(jpeg.output_width) : 3 * w;  // bytes of a kept row
  const size_t box = 4 * static_cast<size_t>(work.left - offset);  // where the box begins in a row
  work.row.resize(4 * static_cast<size_t>(jpeg.output_width) + kSlack);
  work.kept.resize(static_cast<size_t>(rows) * n);
  work.sums.resize(n);
  if (first > 0) jpeg_skip_scanlines(&jpeg, first);
  for (int y = 0; y < rows; ++y) {
    uint8_t* kept = &work.kept[static_cast<size_t>(y) * n];
    JSAMPROW row = ask.down_first ? kept : work.row.data();
    jpeg_read_scanlines(&jpeg, &row, 1);
    if (!ask.down_first) resize_row(work.across, row + box, kept);
  }
  for (int i = 0; i < h; ++i) {
    uint8_t* out = ask.out + static_cast<size_t>(i) * 3 * w;
    resize_down(work.down, i, work.kept.data(), n, work.sums.data(),
                ask.down_first ? work.row.data() : out);
    if (ask.down_first) resize_row(work.across, work.row.data() + box, out);
  }
  return 1;
}

}  // namespace

// Returns 1, or 0 when this is no grey or YCbCr JPEG or libjpeg is not content with its data.
extern "C" int decode_window(const Window* ask) {
  Work work;
  work.jpeg.err = jpeg_std_error(&work.failure.manager);
  work.failure.manager.error_exit = leave;
  work.failure.manager.emit_message = leave_at_warning;
  jpeg_create_decompress(&work.jpeg);
  const int done = decode(*ask, work);
  jpeg_destroy_decompress(&work.jpeg);
  return done;
}
