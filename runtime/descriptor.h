// A file descriptor that closes itself.
#pragma once

#include <unistd.h>

#include <utility>

namespace ember {

class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}  // below 0: of no file, as a call that failed gives it
  Descriptor(Descriptor&& other) noexcept : value_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~Descriptor() {
    if (is_open()) ::close(value_);
  }

  bool is_open() const { return value_ >= 0; }
  int get() const { return value_; }
  // From now on the caller's to close.
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

}  // namespace ember
