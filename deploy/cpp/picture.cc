#include "picture.h"

#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include <jerror.h>
#include <jpeglib.h>
#include <libexif/exif-data.h>
#include <png.h>

#include "resample.h"

namespace {

using Bytes = std::vector<uint8_t>;

// 1 to 8 of a block that begins with "Exif\0\0" (EXIF 2.32, table 6); 1 when it says nothing.
int orientation_of(const uint8_t* block, size_t bytes) {
  std::unique_ptr<ExifData, void (*)(ExifData*)> exif(
      exif_data_new_from_data(block, static_cast<unsigned>(bytes)), exif_data_unref);
  ExifEntry* entry =
      exif ? exif_content_get_entry(exif->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION) : nullptr;
  if (!entry || entry->format != EXIF_FORMAT_SHORT || entry->size < 2) return 1;
  const int value = exif_get_short(entry->data, exif_data_get_byte_order(exif.get()));
  return value >= 1 && value <= 8 ? value : 1;
}

// libjpeg and libpng report errors by a call that must not return; the longjmp crosses C frames
// only.
struct JpegFailure {
  jpeg_error_mgr manager;  // first: libjpeg hands back a pointer to it
  std::jmp_buf back;
  char text[JMSG_LENGTH_MAX];
};

void jpeg_leave(j_common_ptr jpeg) {
  auto* failure = reinterpret_cast<JpegFailure*>(jpeg->err);
  jpeg->err->format_message(jpeg, failure->text);
  std::longjmp(failure->back, 1);
}

// Like Pillow: damage within the data is drawn as well as it goes, missing data is an error.
void jpeg_message(j_common_ptr jpeg, int level) {
  if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) jpeg_leave(jpeg);
}

bool decode_jpeg(jpeg_decompress_struct& jpeg, JpegFailure& failure, const Bytes& data,
                 Picture& picture, int& orientation) {
  if (setjmp(failure.back)) return false;
  jpeg_mem_src(&jpeg, data.data(), data.size());
  jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(&jpeg, TRUE);
  if (jpeg.num_components == 4) {
    std::strcpy(failure.text, "is a CMYK image; save it as RGB");
    return false;
  }
  for (jpeg_saved_marker_ptr marker = jpeg.marker_list; marker; marker = marker->next)
    if (marker->data_length > 6 && !std::memcmp(marker->data, "Exif\0\0", 6))
      orientation = orientation_of(marker->data, marker->data_length);
  jpeg.out_color_space = JCS_EXT_RGBX;
  jpeg_start_decompress(&jpeg);
  picture.allocate(static_cast<int>(jpeg.output_width), static_cast<int>(jpeg.output_height));
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = picture.row(static_cast<int>(jpeg.output_scanline));
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  return true;
}

Picture read_jpeg(const Bytes& data, int& orientation) {
  jpeg_decompress_struct jpeg;
  JpegFailure failure;
  Picture picture;
  jpeg.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = jpeg_leave;
  failure.manager.emit_message = jpeg_message;
  jpeg_create_decompress(&jpeg);
  const bool done = decode_jpeg(jpeg, failure, data, picture, orientation);
  jpeg_destroy_decompress(&jpeg);
  if (!done) throw PictureError(failure.text);
  return picture;
}

struct PngSource {
  const Bytes& data;
  size_t position;
  std::string error;
};

void png_take(png_structp png, png_bytep out, size_t count) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (source->data.size() - source->position < count) png_error(png, "the file is truncated");
  std::memcpy(out, &source->data[source->position], count);
  source->position += count;
}

void png_leave(png_structp png, png_const_charp text) {
  static_cast<PngSource*>(png_get_error_ptr(png))->error = text;
  png_longjmp(png, 1);
}

// Grey of 16 bits, big-endian -> the upper 8 of the bits in use: `eight_bits` of data/decode.py.
void keep_bits_in_use(const Bytes& deep, Picture& picture) {
  const size_t pixels = static_cast<size_t>(picture.width) * picture.height;
  const auto value = [&](size_t i) { return deep[2 * i] << 8 | deep[2 * i + 1]; };
  int high = 0;
  for (size_t i = 0; i < pixels; ++i) high = std::max(high, value(i));
  const int shift = high < 1 << 8 ? 0 : high < 1 << 12 ? 4 : 8;
  for (size_t i = 0; i < pixels; ++i) std::memset(&picture.rgbx[4 * i], value(i) >> shift, 3);
}

bool is_nearly_black(const Picture& picture) {
  const size_t bytes = static_cast<size_t>(picture.width) * picture.height * 4;
  return std::all_of(picture.rgbx.begin(), picture.rgbx.begin() + bytes,
                     [](uint8_t value) { return value < 16; });
}

// `deep` gets the pixels of 16-bit grey, whose rows `picture` cannot hold; for others it stays
// empty.
bool decode_png(png_structp png, png_infop info, Picture& picture, std::vector<png_bytep>& rows,
                Bytes& deep, int& orientation) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_read_info(png, info);
  const bool is_deep_grey =
      png_get_bit_depth(png, info) == 16 && png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY;
  if (!is_deep_grey) {
    png_set_expand(png);  // palettes, 1, 2 and 4 bits
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_filler(png, 0, PNG_FILLER_AFTER);
  }
  png_set_interlace_handling(png);
  picture.allocate(static_cast<int>(png_get_image_width(png, info)),
                   static_cast<int>(png_get_image_height(png, info)));
  if (is_deep_grey) deep.resize(static_cast<size_t>(picture.width) * picture.height * 2);
  rows.resize(picture.height);
  for (int y = 0; y < picture.height; ++y)
    rows[y] = is_deep_grey ? &deep[static_cast<size_t>(y) * picture.width * 2] : picture.row(y);
  png_read_update_info(png, info);
  png_read_image(png, rows.data());
  png_read_end(png, info);
  png_uint_32 bytes = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png, info, &bytes, &exif)) {
    Bytes block(6 + bytes);
    std::memcpy(block.data(), "Exif\0\0", 6);
    std::memcpy(block.data() + 6, exif, bytes);
    orientation = orientation_of(block.data(), block.size());
  }
  return true;
}

Picture read_png(const Bytes& data, int& orientation) {
  PngSource source{data, 0, "not enough memory"};
  Picture picture;
  std::vector<png_bytep> rows;
  Bytes deep;
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, png_leave,
                                           [](png_structp, png_const_charp) {});
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  bool done = false;
  if (info) {
    png_set_read_fn(png, &source, png_take);
    done = decode_png(png, info, picture, rows, deep, orientation);
  }
  const bool has_deep_colours =
      deep.empty() && data.size() > 24 && data[24] == 16;  // IHDR's bit depth
  png_destroy_read_struct(&png, &info, nullptr);
  if (!done) throw PictureError("cannot be decoded: " + source.error);
  if (!deep.empty()) keep_bits_in_use(deep, picture);
  if (has_deep_colours && is_nearly_black(picture))
    throw PictureError(
        "cannot be decoded: 16-bit colours that use the lower 12 bits only, of which 8-bit "
        "decoding leaves nothing; save it with 8 bits");
  return picture;
}

Picture upright(const Picture& stored, int orientation) {
  const bool turned = orientation >= 5;
  Picture out;
  out.allocate(turned ? stored.height : stored.width, turned ? stored.width : stored.height);
  // Which stored edge is shown at the top (EXIF 2.32, table 6): counted from the far end or not.
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const int u = turned ? y : x, v = turned ? x : y;
      const int column = flip_x ? stored.width - 1 - u : u,
                row = flip_y ? stored.height - 1 - v : v;
      std::memcpy(out.row(y) + 4 * x, stored.row(row) + 4 * static_cast<size_t>(column), 4);
    }
  }
  return out;
}

}  // namespace

void Picture::allocate(int new_width, int new_height) {
  width = new_width;
  height = new_height;
  rgbx.resize(static_cast<size_t>(width) * height * 4 + kSlack);
}

Picture read_picture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw PictureError(std::strerror(errno));
  const Bytes data{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (data.empty()) throw PictureError("is empty (0 bytes)");
  int orientation = 1;
  Picture picture;
  if (data.size() > 2 && data[0] == 0xff && data[1] == 0xd8)
    picture = read_jpeg(data, orientation);
  else if (data.size() > 8 && !png_sig_cmp(data.data(), 0, 8))
    picture = read_png(data, orientation);
  else
    throw PictureError("is neither a JPEG nor a PNG, which is what this program decodes");
  return orientation == 1 ? picture : upright(picture, orientation);
}
