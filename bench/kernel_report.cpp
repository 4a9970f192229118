#include "bench/kernel_report.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "bench/statistics.h"

namespace ember {
namespace {

constexpr const char* kRow = "{:<58} {:>9} {:>6} {:>8} {:>9} {:>7} {:>9}\n";

std::string percent(double value) {
  return value > 0 ? fmt::format("{:.0f}%", value) : "-";
}
std::string rate(double per_second) {
  return per_second > 0 ? fmt::format("{:.1f}", per_second * 1e-9) : "-";
}

// Medians over the repetitions, and how they compare with the peaks.
struct Summary {
  double seconds = 0;
  double variation = 0;  // of the repetitions, as bench/statistics.h has it
  double bytes_per_second = 0, flop_per_second = 0;
  double copy_percent = 0, product_percent = 0;  // of the peaks; no numbers where those were not measured
};

Summary summarize(const Case& measured, const Peaks& peaks) {
  Summary s;
  s.seconds = median(measured.seconds);
  s.variation = variation(measured.seconds);
  s.bytes_per_second = measured.work.bytes / s.seconds;
  s.flop_per_second = measured.work.flop / s.seconds;
  s.copy_percent = 100 * s.bytes_per_second / peaks.bytes_per_second;
  s.product_percent = 100 * s.flop_per_second / peaks.flop_per_second;
  return s;
}

}  // namespace

std::string time_text(double seconds) {
  constexpr struct {
    double factor;
    const char* unit;
  } kUnits[] = {{1e9, "ns"}, {1e6, "us"}, {1e3, "ms"}, {1, "s"}};
  for (const auto& [factor, unit] : kUnits)
    if (seconds * factor < 999.5 || factor == 1) return fmt::format("{:.3g} {}", seconds * factor, unit);
  return {};
}

std::string variation_text(double variation) {
  return std::isnan(variation) ? "-" : fmt::format("{:.1f}%", 100 * variation);
}

std::string table_head() {
  return fmt::format(kRow, "benchmark", "time", "cv", "GB/s", "GFLOP/s", "% copy", "% product");
}

std::string table_line(const Case& measured, const Peaks& peaks) {
  const Summary s = summarize(measured, peaks);
  return fmt::format(kRow, measured.name(), time_text(s.seconds), variation_text(s.variation), rate(s.bytes_per_second),
                     rate(s.flop_per_second), percent(s.copy_percent), percent(s.product_percent));
}

std::string as_json(const Case& measured, const Peaks& peaks) {
  const Summary s = summarize(measured, peaks);
  nlohmann::ordered_json json{{"name", measured.name()}, {"operation", measured.operation}};
  if (!measured.is_peak()) {
    json["model"] = measured.model;
    json["tokens"] = measured.tokens;
    json["cache"] = measured.cache == Cache::warm ? "warm" : "cold";
  }
  json["backend"] = measured.backend->name();
  json["seconds"] = s.seconds;
  json["cv"] = s.variation;
  json["repetitions"] = measured.seconds;
  json["bytes"] = measured.work.bytes;
  json["flop"] = measured.work.flop;
  json["bytes_per_second"] = s.bytes_per_second;
  json["flop_per_second"] = s.flop_per_second;
  json["copy_percent"] = s.copy_percent;  // what is no number becomes null
  json["product_percent"] = s.product_percent;
  return json.dump();
}

}  // namespace ember
