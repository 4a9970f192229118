#include "bench/kernel_methods.h"

#include <regex>
#include <stdexcept>

namespace ember {

std::vector<std::string> kernel_methods(std::string_view header) {
  const std::size_t begin = header.find("class Kernels {");
  if (begin == std::string_view::npos) throw std::logic_error("no class Kernels in the header");
  std::string text(header.substr(begin, header.find("\n};", begin) - begin));
  text = std::regex_replace(text, std::regex("//[^\n]*"), "");
  // virtual <type> <name>(
  static const std::regex method(R"(\bvirtual\s+[\w:<>&*,\s]*?([a-z]\w*)\s*\()");
  std::vector<std::string> names;
  for (std::sregex_iterator match(text.begin(), text.end(), method), end; match != end; ++match)
    names.push_back((*match)[1]);
  return names;
}

const std::set<std::string>& methods_without_benchmark() {
  static const std::set<std::string> names{
      "device_name",
      "activation_type",
      "product_type",
      "on_host",
      "tokens_at_once",
      "most_head_columns",
      "defers_gradients",  // what the device is
      "allocate",
      "upload",
      "download",
      "make_readback",  // its memory
      "record",         // how work is given to it
      "batch_shape",    // arithmetic of the host
      "choices",
      "use_choices",       // what was chosen by measurement
      "finish_gradients",  // within every backward
      "start_gradients",   // the same, begun earlier
      "defers_updates",
      "await_updates",  // within start_updates
      "freeze",
      "thaw",  // once when a model is loaded; what they are for is linear_forward:frozen_*
  };
  return names;
}

std::vector<std::string> methods_not_measured(std::string_view header, const std::set<std::string>& measured) {
  std::vector<std::string> missing;
  for (const std::string& name : kernel_methods(header))
    if (!measured.contains(name) && !methods_without_benchmark().contains(name)) missing.push_back(name);
  return missing;
}

}  // namespace ember
