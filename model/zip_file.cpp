#include "model/zip_file.h"

#include <zip.h>

#include <utility>

#include "runtime/error.h"

namespace ember {
namespace {

std::string text_of(zip_error_t& error) {
  const bool repeated = zip_error_code_zip(&error) == ZIP_ER_EXISTS;  // libzip's text fits files that are written
  std::string text = repeated ? "an entry stands there twice" : zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

zip_t* open_archive(std::span<const std::byte> bytes, const std::string& file) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
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
    : file_(std::move(file)), archive_(open_archive(bytes, file_), zip_discard) {
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

std::vector<std::byte> ZipFile::read(const std::string& name) const {
  const std::string where = fmt::format("{}: zip entry {}", file_, printable(name));
  const auto found = entries_.find(name);
  check(found != entries_.end(), "{}: is missing", where);
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> entry(zip_fopen_index(archive_.get(), found->second.index, 0),
                                                                zip_fclose);
  check(entry != nullptr, "{}: cannot be read: {}", where, zip_strerror(archive_.get()));
  std::vector<std::byte> bytes(found->second.size);
  std::size_t done = 0;
  // The read that finds the end is the one that compares the CRC.
  for (std::byte end{};;) {
    const bool full = done == bytes.size();
    const zip_int64_t got = zip_fread(entry.get(), full ? &end : bytes.data() + done, full ? 1 : bytes.size() - done);
    check(got >= 0, "{}: cannot be read: {}", where, zip_file_strerror(entry.get()));
    check(got == 0 || !full, "{}: has more bytes than the {} that its record says", where, bytes.size());
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  check(done == bytes.size(), "{}: cut short, {} of {} bytes are there", where, done, bytes.size());
  return bytes;
}

}  // namespace ember
