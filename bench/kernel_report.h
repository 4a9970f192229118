// What bench_kernels says of a measurement: a line of a table, and an object of the results file.
#pragma once

#include <string>

#include "bench/cases.h"

namespace ember {

// Both lines end in a newline. The case must have been run.
std::string table_head();
std::string table_line(const Case& measured, const Peaks& peaks);
std::string as_json(const Case& measured, const Peaks& peaks);

// "1.23 us", three digits.
std::string time_text(double seconds);
// "2.5%"; "-" where there is none.
std::string variation_text(double variation);

}  // namespace ember
