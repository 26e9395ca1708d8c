// The part of a JPEG that a crop needs, decoded and resized without ever holding the whole picture.
//
// libjpeg-turbo decodes, this file resizes. A row goes through one of two ways:
//
//   across first:  decoded row -> horizontal sums -> kept;  all rows there: vertical sums -> result
//   down first:    decoded row -> kept;  all rows there: vertical sums -> horizontal sums -> result
//
// Rows below the crop are never decoded; rows above it and columns beside it are read (Huffman codes
// cannot be jumped over) but not transformed, upsampled or converted.
//
// The arithmetic is Pillow's, so that the pixels are: weights of a triangle or a cubic, computed in
// double precision and rounded to 22 bits behind the point; sums in 32-bit integers; 8 bits after
// each direction. Compile with -ffp-contract=off: a fused multiply-add rounds once less, and then
// some weights differ in their last bit.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include <jpeglib.h>

#ifndef JCS_EXTENSIONS
#error "libjpeg-turbo is needed, this is another libjpeg"
#endif

#ifdef __SSE4_1__
#include <immintrin.h>
#endif

namespace {

constexpr int BITS = 22;  // behind a weight's point: 8 bits of pixel, 22, a sign, one to overshoot
constexpr int HALF = 1 << (BITS - 1);
constexpr int MARGIN = 16;  // columns; chroma is interpolated between neighbours, but not at an edge

typedef int32_t Lanes __attribute__((vector_size(16)));  // one pixel: R, G, B, unused

Lanes widen(const uint8_t* pixel) {
#ifdef __SSE4_1__
    int32_t bytes;
    std::memcpy(&bytes, pixel, 4);
    return (Lanes)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes));
#else
    return Lanes{pixel[0], pixel[1], pixel[2], pixel[3]};
#endif
}

double triangle(double x) {
    x = std::fabs(x);
    return x < 1 ? 1 - x : 0;
}

double cubic(double x) {  // Keys 1981, equation 4, with a = -1/2
    const double a = -0.5;
    x = std::fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

// One direction of a resize: out[i] = sum over t < count[i] of weight[i * taps + t] * in[first[i] + t]
struct Axis {
    int taps = 0;
    std::vector<int> first, count;
    std::vector<int32_t> weight;

    int begin() const { return first.front(); }
    int end() const { return first.back() + count.back(); }

    // Outputs from..to-1 of `size`, which together show the stretch start..stop of 0..length.
    void prepare(int length, double start, double stop, int size, int from, int to, bool is_cubic) {
        const double scale = (stop - start) / size;
        const double stretch = scale < 1 ? 1 : scale;  // wider than the filter: antialiasing
        const double reach = (is_cubic ? 2.0 : 1.0) * stretch, inverse = 1.0 / stretch;
        taps = static_cast<int>(std::ceil(reach)) * 2 + 1;
        first.resize(to - from);
        count.resize(to - from);
        weight.assign(static_cast<size_t>(to - from) * taps, 0);
        std::vector<double> exact(taps);
        for (int i = 0; i < to - from; i++) {
            const double centre = start + (from + i + 0.5) * scale;
            const int low = std::max(static_cast<int>(centre - reach + 0.5), 0);
            const int high = std::min(static_cast<int>(centre + reach + 0.5), length);
            first[i] = low;
            count[i] = high - low;
            double sum = 0;
            for (int t = 0; t < high - low; t++) {
                const double x = (t + low - centre + 0.5) * inverse;
                sum += exact[t] = is_cubic ? cubic(x) : triangle(x);
            }
            for (int t = 0; t < high - low; t++) {
                const double w = (sum != 0 ? exact[t] / sum : exact[t]) * (1 << BITS);
                weight[static_cast<size_t>(i) * taps + t] = static_cast<int32_t>(w < 0 ? w - 0.5 : w + 0.5);
            }
        }
    }
};

// A row of RGBx pixels -> RGB pixels, as many as the axis has.
void resize_row(const Axis& axis, const uint8_t* row, uint8_t* out) {
    const int n = static_cast<int>(axis.first.size());
    for (int i = 0; i < n; i++) {
        const int32_t* weight = &axis.weight[static_cast<size_t>(i) * axis.taps];
        const uint8_t* in = row + 4 * static_cast<size_t>(axis.first[i]);
        Lanes sum = {HALF, HALF, HALF, 0};
        for (int t = 0; t < axis.count[i]; t++) sum += widen(in + 4 * t) * weight[t];
        sum >>= BITS;
        sum &= ~(sum >> 31);  // below 0: 0
        const Lanes over = sum > 255;
        sum = (sum & ~over) | (over & 255);
        for (int c = 0; c < 3; c++) out[3 * i + c] = static_cast<uint8_t>(sum[c]);
    }
}

// Rows of n bytes -> row i of the result. `sums` has room for n.
void resize_down(const Axis& axis, int i, const uint8_t* rows, int n, int32_t* __restrict sums,
                 uint8_t* __restrict out) {
    for (int x = 0; x < n; x++) sums[x] = HALF;
    for (int t = 0; t < axis.count[i]; t++) {
        const int32_t weight = axis.weight[static_cast<size_t>(i) * axis.taps + t];
        const uint8_t* __restrict row = rows + static_cast<size_t>(axis.first[i] - axis.begin() + t) * n;
        for (int x = 0; x < n; x++) sums[x] += weight * row[x];
    }
    for (int x = 0; x < n; x++) {
        const int32_t sum = sums[x] >> BITS;
        out[x] = static_cast<uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

// libjpeg reports errors by a call that must not return; a longjmp crosses only its own C frames.
struct Failure {
    jpeg_error_mgr manager;  // first: libjpeg hands back a pointer to it
    std::jmp_buf back;
};

void leave(j_common_ptr jpeg) {
    std::longjmp(reinterpret_cast<Failure*>(jpeg->err)->back, 1);
}

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

// What an error of libjpeg must not lose: it lives outside of the function that errors jump back to.
struct Work {
    jpeg_decompress_struct jpeg;
    Failure failure;
    Axis across, down;
    int left = 0, top = 0;  // of the box, in the decoded picture
    std::vector<uint8_t> row, kept;
    std::vector<int32_t> sums;
};

// Sets up libjpeg and the two axes for the part that is asked for; returns the first decoded column.
int start(const Window& ask, Work& work) {
    jpeg_decompress_struct& jpeg = work.jpeg;
    jpeg.out_color_space = JCS_EXT_RGBX;
    jpeg.scale_num = jpeg.scale_denom = 8;
    if (ask.spare > 0) {
        jpeg.do_fancy_upsampling = FALSE;
        const double across = ask.size[0] * ask.spare, down = ask.size[1] * ask.spare;
        const int w = ask.box[2] - ask.box[0], h = ask.box[3] - ask.box[1];
        while (jpeg.scale_num > 1 && w * jpeg.scale_num / 16.0 >= across && h * jpeg.scale_num / 16.0 >= down)
            jpeg.scale_num /= 2;
    }
    jpeg_start_decompress(&jpeg);
    const double fx = static_cast<double>(jpeg.output_width) / jpeg.image_width;
    const double fy = static_cast<double>(jpeg.output_height) / jpeg.image_height;
    work.left = static_cast<int>(ask.box[0] * fx);
    work.top = static_cast<int>(ask.box[1] * fy);
    const int right = std::min(static_cast<int>(std::ceil(ask.box[2] * fx)), static_cast<int>(jpeg.output_width));
    const int bottom = std::min(static_cast<int>(std::ceil(ask.box[3] * fy)), static_cast<int>(jpeg.output_height));
    work.across.prepare(right - work.left, ask.box[0] * fx - work.left, ask.box[2] * fx - work.left,
                        ask.size[0], ask.window[0], ask.window[2], ask.is_cubic);
    work.down.prepare(bottom - work.top, ask.box[1] * fy - work.top, ask.box[3] * fy - work.top,
                      ask.size[1], ask.window[1], ask.window[3], ask.is_cubic);
    const int first = std::max(work.left + work.across.begin() - MARGIN, 0);
    const int last = std::min(work.left + work.across.end() + MARGIN, static_cast<int>(jpeg.output_width));
    JDIMENSION offset = first, width = last - first;
    if (width < jpeg.output_width) jpeg_crop_scanline(&jpeg, &offset, &width);  // widens both to whole blocks
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
    const int n = ask.down_first ? 4 * static_cast<int>(jpeg.output_width) : 3 * w;  // bytes of a kept row
    const size_t box = 4 * static_cast<size_t>(work.left - offset);  // where the box begins in a row
    work.row.resize(4 * static_cast<size_t>(jpeg.output_width));
    work.kept.resize(static_cast<size_t>(rows) * n);
    work.sums.resize(n);
    if (first > 0) jpeg_skip_scanlines(&jpeg, first);
    for (int y = 0; y < rows; y++) {
        uint8_t* kept = &work.kept[static_cast<size_t>(y) * n];
        JSAMPROW row = ask.down_first ? kept : work.row.data();
        jpeg_read_scanlines(&jpeg, &row, 1);
        if (!ask.down_first) resize_row(work.across, row + box, kept);
    }
    for (int i = 0; i < h; i++) {
        uint8_t* out = ask.out + static_cast<size_t>(i) * 3 * w;
        resize_down(work.down, i, work.kept.data(), n, work.sums.data(), ask.down_first ? work.row.data() : out);
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
