// The list of operations as kernels/kernels.h has it, for the test that none lacks a benchmark.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace ember {

// The names of the virtual methods of class Kernels in the text of its header. std::logic_error without that class.
std::vector<std::string> kernel_methods(std::string_view header);

// Methods that compute nothing of a step, hence have no benchmark.
const std::set<std::string>& methods_without_benchmark();

// The methods of `header` that are neither there nor in `measured`.
std::vector<std::string> methods_not_measured(std::string_view header, const std::set<std::string>& measured);

}  // namespace ember
