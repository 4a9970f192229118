// What bench_kernels says of a measurement: a line of a table, and an object of the results file.
#pragma once

#include <string>

#include "bench/cases.h"

namespace ember {

// Medians over the repetitions, and how they compare with the peaks.
struct Summary {
  double seconds = 0;
  double variation = 0;  // of the repetitions, as bench/statistics.h has it
  double bytes_per_second = 0, flop_per_second = 0;
  double copy_percent = 0, product_percent = 0;  // of the peaks; 0 where those were not measured
};

// The case must have been run.
Summary summarize(const Case& measured, const Peaks& peaks);

// Both end in a newline.
std::string table_head();
std::string table_line(const Case& measured, const Peaks& peaks);

std::string as_json(const Case& measured, const Peaks& peaks);

// "1.23 us", three digits.
std::string time_text(double seconds);
// "2.5%"; "-" where there is none.
std::string variation_text(double variation);

}  // namespace ember
