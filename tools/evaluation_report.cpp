#include "evaluation_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace ember {
namespace {

using Json = nlohmann::ordered_json;

std::string scores_line(const std::string& name, std::size_t width, const PrecisionRecallF1& score) {
  return fmt::format("{:<{}}  {:>9.4f}  {:>6.4f}  {:>6.4f}", name, width, score.precision, score.recall, score.f1);
}

std::string sweep_table(const std::vector<SweepPoint>& points) {
  std::string out = "\nthreshold  f1-micro  f1-macro  subset accuracy\n";
  for (const SweepPoint& point : points)
    out += fmt::format("{:>9.2f}  {:>8.4f}  {:>8.4f}  {:>15.4f}\n", point.threshold, point.f1_micro, point.f1_macro,
                       point.subset_accuracy);
  const SweepPoint& best = best_micro(points);
  return out + fmt::format("best: threshold {:.2f} with F1-micro {:.4f}, F1-macro {:.4f}, subset accuracy {:.4f}\n",
                           best.threshold, best.f1_micro, best.f1_macro, best.subset_accuracy);
}

// What int8 is worse by, above zero, or better.
struct Costs {
  explicit Costs(const EvaluationReport& report)
      : loss(report.loss - report.fp32->loss),
        micro(report.fp32->metrics.micro.f1 - report.metrics.micro.f1),
        macro(report.fp32->metrics.macro.f1 - report.metrics.macro.f1),
        accuracy(report.fp32->metrics.subset_accuracy - report.metrics.subset_accuracy) {}
  double loss, micro, macro, accuracy;
};

std::string costs_table(const EvaluationReport& report) {
  const Metrics &int8 = report.metrics, &fp32 = report.fp32->metrics;
  const Costs costs(report);
  const auto line = [](const char* name, double exact, double quantised, double cost) {
    return fmt::format("{:<15}  {:>8.5f}  {:>8.5f}  {:>10.5f}\n", name, exact, quantised, cost);
  };
  return fmt::format("\n{:<15}  {:>8}  {:>8}  {:>10}\n", "", "fp32", "int8", "int8 costs") +
         line("loss", report.fp32->loss, report.loss, costs.loss) +
         line("F1-micro", fp32.micro.f1, int8.micro.f1, costs.micro) +
         line("F1-macro", fp32.macro.f1, int8.macro.f1, costs.macro) +
         line("subset accuracy", fp32.subset_accuracy, int8.subset_accuracy, costs.accuracy);
}

Json json_of(const PrecisionRecallF1& score) {
  return {{"precision", score.precision}, {"recall", score.recall}, {"f1", score.f1}};
}

Json json_of(const SweepPoint& point) {
  return {{"threshold", point.threshold},
          {"f1_micro", point.f1_micro},
          {"f1_macro", point.f1_macro},
          {"subset_accuracy", point.subset_accuracy}};
}

}  // namespace

std::string as_text(const EvaluationReport& report) {
  const Metrics& metrics = report.metrics;
  std::string out;
  const auto line = [&out](const char* name, const std::string& value) {
    out += fmt::format("{:<26}  {}\n", name, value);
  };
  line("model", fmt::format("{}, in {}", report.model, report.computed_in));
  line("data", fmt::format("{}, {} rows", report.data, report.rows.rows));
  line("loss", fmt::format("{:.5f}", report.loss));
  line("expected calibration error", fmt::format("{:.5f}", report.calibration_error));
  line("threshold", fmt::format("{}", metrics.threshold));
  line("subset accuracy", fmt::format("{:.4f}", metrics.subset_accuracy));
  out += '\n';
  std::size_t width = 8;
  for (const std::string& name : report.labels.names()) width = std::max(width, name.size());
  out += fmt::format("{:<{}}  precision  recall      f1  support\n", "", width);
  out += scores_line("micro", width, metrics.micro) + '\n';
  out += scores_line("macro", width, metrics.macro) + '\n';
  out += scores_line("weighted", width, metrics.weighted) + "\n\n";
  for (std::size_t k = 0; k < metrics.labels.size(); ++k)
    out += fmt::format("{}  {:>7}\n", scores_line(report.labels.names()[k], width, metrics.labels[k].score),
                       metrics.labels[k].support);
  if (!report.sweep.empty()) out += sweep_table(report.sweep);
  if (report.fp32) out += costs_table(report);
  return out;
}

std::string as_json(const EvaluationReport& report) {
  const Metrics& metrics = report.metrics;
  Json json = {{"model", report.model},
               {"computed_in", report.computed_in},
               {"data", report.data},
               {"split", report.split},
               {"rows", report.rows.rows},
               {"skipped_rows", report.rows.skipped},
               {"invalid_utf8_rows", report.rows.invalid_utf8},
               {"threshold", metrics.threshold},
               {"loss", report.loss},
               {"expected_calibration_error", report.calibration_error},
               {"subset_accuracy", metrics.subset_accuracy},
               {"micro", json_of(metrics.micro)},
               {"macro", json_of(metrics.macro)},
               {"weighted", json_of(metrics.weighted)},
               {"labels", Json::array()}};
  for (std::size_t k = 0; k < metrics.labels.size(); ++k) {
    Json label = {{"label", report.labels.names()[k]}};
    label.update(json_of(metrics.labels[k].score));
    label["support"] = metrics.labels[k].support;
    json["labels"].push_back(std::move(label));
  }
  if (!report.sweep.empty()) {
    for (const SweepPoint& point : report.sweep) json["sweep"].push_back(json_of(point));
    json["best"] = json_of(best_micro(report.sweep));
  }
  if (report.fp32) {
    const Metrics& fp32 = report.fp32->metrics;
    const Costs costs(report);
    json["fp32"] = {{"loss", report.fp32->loss},
                    {"subset_accuracy", fp32.subset_accuracy},
                    {"micro", json_of(fp32.micro)},
                    {"macro", json_of(fp32.macro)},
                    {"weighted", json_of(fp32.weighted)}};
    json["int8_costs"] = {{"loss", costs.loss},
                          {"f1_micro", costs.micro},
                          {"f1_macro", costs.macro},
                          {"subset_accuracy", costs.accuracy}};
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace ember
