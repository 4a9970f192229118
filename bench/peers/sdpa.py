#!/usr/bin/env python3
"""PyTorch's scaled dot product attention, forward and backward, on the texts of bench_kernels' 308 tokens.

    sdpa.py [--precision fp32|bf16|fp16] [--threads 1] [--device cpu|cuda] [--rounds 9]

To be held against `bench_kernels --benchmark_filter='^attention_(forward|backward)/tinybert/308/warm'`: 12 heads of 26
dims, dropout 0.1, the batch padded to its longest text. PyTorch has fast kernels for head dims that are multiples of 8,
so heads padded with zeros to 32 are measured too, which gives the same; what the padding itself would take is not
counted. Without a mask tokens attend to padding as well, which is another result and the bound of what it could reach.
On a GPU the calls of a round are one CUDA graph, so that the host's launches do not count (not tried on one). One line
of JSON for each, microseconds.
"""

import statistics

import common

LENGTHS = (19, 8, 25, 15, 36, 21, 11, 28, 17, 7, 24, 14, 32, 20, 9, 22)  # bench/shapes.cpp, lengths_of_tokens(308)
HEADS, HEAD_DIM, DROPOUT = 12, 26, 0.1


def arguments():
    parser = common.OneLine(description="PyTorch's scaled dot product attention.", allow_abbrev=False)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--threads", type=common.number(1, 1024), default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=common.number(1, 1000), default=9)
    return parser.parse_args()


ARGS = arguments()
common.set_threads(ARGS.threads)
common.require("torch")
common.require_device(ARGS.device)

import torch
from torch.nn import functional


class Attention:
    """Calls for one head dim, with a mask of what is padding or without."""

    def __init__(self, head_dim, masked):
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[ARGS.precision]
        shape = len(LENGTHS), HEADS, max(LENGTHS), head_dim
        self.operands = [torch.randn(shape, device=ARGS.device).to(kind).requires_grad_() for _ in range(3)]
        for operand in self.operands:
            operand.data[..., HEAD_DIM:] = 0
        self.gradient = torch.randn(shape, device=ARGS.device).to(kind)
        lengths = torch.tensor(LENGTHS, device=ARGS.device)
        of_text = torch.arange(max(LENGTHS), device=ARGS.device) < lengths[:, None]
        self.mask = of_text[:, None, None] if masked else None

    def forward(self):
        return functional.scaled_dot_product_attention(*self.operands, attn_mask=self.mask, dropout_p=DROPOUT,
                                                       scale=HEAD_DIM ** -0.5)

    def both(self):
        return torch.autograd.grad(self.forward(), self.operands, self.gradient)


def recorded(call):
    """A CUDA graph of the calls. Recording wants them to have run on another stream before; and a replay first sets the
    state of dropout's generator, so that it takes many calls for that not to count."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    def replay():
        graph.replay()
        torch.cuda.synchronize()
    return replay


def microseconds(call):
    """Of one call, the median of the rounds."""
    calls = 200 if ARGS.device == "cuda" else 20

    def several():
        for _ in range(calls):
            call()

    run = recorded(several) if ARGS.device == "cuda" else several
    run()
    return 1e6 / calls * statistics.median(common.seconds(run) for _ in range(ARGS.rounds))


def main():
    torch.set_num_threads(ARGS.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    common.answer({"engine": "torch", "precision": ARGS.precision, "threads": ARGS.threads, "device": ARGS.device,
                   "rounds": ARGS.rounds, **common.versions("torch")})
    for head_dim, masked in (HEAD_DIM, True), (32, True), (32, False):
        attention = Attention(head_dim, masked)
        common.answer({"head_dim": head_dim, "masked": masked, "forward_us": round(microseconds(attention.forward), 1),
                       "both_us": round(microseconds(attention.both), 1)})


if __name__ == "__main__":
    main()
