#include "runtime/cuda/graph.h"

#include "runtime/cuda/check.h"

namespace ember {
namespace {

struct DestroyGraph {
  void operator()(cudaGraph_t graph) const noexcept { report_cuda(cudaGraphDestroy(graph), "releasing a graph"); }
};
using Recording = std::unique_ptr<CUgraph_st, DestroyGraph>;

Recording record(const Stream& stream, const std::function<void()>& work) {
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a graph");
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    // Ends the capture too, whatever it says of it: the first error is the one that counts.
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess) cudaGetLastError();
    const Recording discarded(graph);
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &graph), "recording a graph");
  return Recording(graph);
}

}  // namespace

Graph::Graph(const Stream& stream, const std::function<void()>& work) {
  const Recording recording = record(stream, work);
  cudaGraphExec_t executable = nullptr;
  check_cuda(cudaGraphInstantiate(&executable, recording.get(), 0), "making a graph");
  executable_.reset(executable);
}

void Graph::launch(const Stream& stream) const {
  check_cuda(cudaGraphLaunch(executable_.get(), stream), "launching a graph");
}

void Graph::Destroy::operator()(cudaGraphExec_t graph) const noexcept {
  report_cuda(cudaGraphExecDestroy(graph), "releasing a graph");
}

}  // namespace ember
