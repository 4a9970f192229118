#include "model/zip_file.h"

#include <zip.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/error.h"

namespace ember {

// The bytes as libzip reads them. It tells nobody where an entry's data are, so the source remembers where it read.
struct ZipFile::Source {
  std::span<const std::byte> bytes;
  // What it may read to open the archive; libzip keeps several times that for the directory.
  std::uint64_t left = std::uint64_t{8} << 20;
  std::uint64_t position = 0;
  std::optional<std::uint64_t> first_read;  // where the first read since it was reset began
  zip_error_t error{};

  static zip_int64_t call(void* self, void* data, zip_uint64_t length, zip_source_cmd_t command) {
    return static_cast<Source*>(self)->answer(data, length, command);
  }

  zip_int64_t answer(void* data, zip_uint64_t length, zip_source_cmd_t command) {
    switch (command) {
      case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT,
                                              ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL, -1);
      case ZIP_SOURCE_STAT: {
        auto* stat = static_cast<zip_stat_t*>(data);
        zip_stat_init(stat);
        stat->size = bytes.size();
        stat->valid = ZIP_STAT_SIZE;
        return sizeof(zip_stat_t);
      }
      case ZIP_SOURCE_OPEN:
        position = 0;
        return 0;
      case ZIP_SOURCE_READ: {
        const auto count = std::min<std::uint64_t>(length, bytes.size() - position);
        if (count > left) {
          zip_error_set(&error, ZIP_ER_MEMORY, 0);
          return -1;
        }
        left -= count;
        if (count > 0) std::memcpy(data, bytes.data() + position, count);
        if (!first_read) first_read = position;
        position += count;
        return static_cast<zip_int64_t>(count);
      }
      case ZIP_SOURCE_SEEK: {
        const zip_int64_t target = zip_source_seek_compute_offset(position, bytes.size(), data, length, &error);
        if (target < 0) return -1;
        position = static_cast<std::uint64_t>(target);
        return 0;
      }
      case ZIP_SOURCE_TELL:
        return static_cast<zip_int64_t>(position);
      case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&error, data, length);
      case ZIP_SOURCE_CLOSE:
      case ZIP_SOURCE_FREE:
        return 0;
      default:
        zip_error_set(&error, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
  }
};

namespace {

std::string text_of(zip_error_t& error) {
  std::string text = zip_error_strerror(&error);
  // Texts of libzip's that do not fit here.
  if (zip_error_code_zip(&error) == ZIP_ER_EXISTS) text = "an entry stands there twice";
  if (zip_error_code_zip(&error) == ZIP_ER_MEMORY) text = "its directory is larger than that of any checkpoint";
  zip_error_fini(&error);
  return text;
}

zip_t* open_archive(zip_source_callback call, void* state, const std::string& file) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_function_create(call, state, &error);
  zip_t* archive = source == nullptr ? nullptr : zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error);
  if (archive == nullptr) {
    zip_source_free(source);
    fail("{}: not a sound zip file: {}", file, text_of(error));
  }
  zip_error_fini(&error);
  return archive;
}

}  // namespace

ZipFile::ZipFile(std::span<const std::byte> bytes, std::string file)
    : file_(std::move(file)), source_(std::make_unique<Source>()), archive_(nullptr, zip_discard) {
  source_->bytes = bytes;
  archive_.reset(open_archive(Source::call, source_.get(), file_));
  source_->left = ~std::uint64_t{0};
  constexpr zip_uint64_t kNeeded =
      ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  std::uint64_t left = bytes.size();
  const zip_int64_t count = zip_get_num_entries(archive_.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t info;
    const auto index = static_cast<zip_uint64_t>(i);
    const bool known = zip_stat_index(archive_.get(), index, 0, &info) == 0 && (info.valid & kNeeded) == kNeeded;
    check(known, "{}: zip entry {} cannot be read: {}", file_, i, zip_strerror(archive_.get()));
    const std::string where = fmt::format("{}: zip entry {}", file_, printable(info.name));
    check(info.encryption_method == ZIP_EM_NONE, "{}: is encrypted", where);
    check(info.comp_method == ZIP_CM_STORE && info.size == info.comp_size,
          "{}: is compressed, torch.save stores entries as they are", where);
    check(info.size <= left, "{}: has {} bytes, more than the file has room for", where, info.size);
    left -= info.size;
    check(entries_.emplace(info.name, Entry{index, info.size}).second, "{}: stands there twice", where);
  }
}

ZipFile::~ZipFile() = default;

std::span<const std::byte> ZipFile::view(const std::string& name) const {
  return read(name, false);
}

std::span<const std::byte> ZipFile::read(const std::string& name) const {
  return read(name, true);
}

// Where libzip's reads begin is the view; the whole entry must lie there in one run.
std::span<const std::byte> ZipFile::read(const std::string& name, bool whole) const {
  const std::string where = fmt::format("{}: zip entry {}", file_, printable(name));
  const auto found = entries_.find(name);
  check(found != entries_.end(), "{}: is missing", where);
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> entry(zip_fopen_index(archive_.get(), found->second.index, 0),
                                                                zip_fclose);
  check(entry != nullptr, "{}: cannot be read: {}", where, zip_strerror(archive_.get()));
  const std::uint64_t size = found->second.size;
  std::uint64_t begin = 0, done = 0;
  std::vector<std::byte> block(whole ? std::size_t{1} << 17 : 1);
  // The read that finds the end is the one that compares the CRC.
  while (whole || (done == 0 && size > 0)) {
    source_->first_read.reset();
    const zip_int64_t got = zip_fread(entry.get(), block.data(), block.size());
    check(got >= 0, "{}: cannot be read: {}", where, zip_file_strerror(entry.get()));
    if (got == 0) break;
    if (done == 0) begin = source_->first_read.value_or(0);
    const bool in_one_run = source_->first_read == begin + done;
    check(in_one_run, "{}: cannot be found in the file", where);
    done += static_cast<std::uint64_t>(got);
    check(done <= size, "{}: has more bytes than the {} that its record says", where, size);
  }
  check(done == size || !whole, "{}: cut short, {} of {} bytes are there", where, done, size);
  const bool inside = begin <= source_->bytes.size() && size <= source_->bytes.size() - begin;
  check(inside, "{}: {} bytes from {} are beyond the file's end", where, size, begin);
  return source_->bytes.subspan(begin, size);
}

}  // namespace ember
