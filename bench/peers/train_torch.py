#!/usr/bin/env python3
"""Training with PyTorch at its best, by the recipe of Ember's `--preset reference`: examples a second.

    train_torch.py --model MODEL --data DATA [--precision fp32|bf16|fp16] [--layout padded|packed|bucketed]
                   [--compile] [--graph] [--threads 2] [--device cpu|cuda] [--rounds 5]

Batches of 16, tokenised, collated and on the device before anything is timed; scaled dot product attention; fused
AdamW; gradients set to None; denormals flushed; bf16 and fp16 by autocast over fp32 weights. `--layout padded` is
transformers' model on batches padded to their longest text; `packed` runs the products and LayerNorm on the tokens
alone, pads for attention only and computes the last layer for [CLS] alone, none of which stock transformers does.
`bucketed` is the same on batches padded to a multiple of 8, so that shapes are few, and `--graph` records the whole
step, gradients, clipping and update, as a CUDA graph for each shape, before anything is timed: what is left to the host
are three copies and the learning rate. `--compile` is torch.compile: inductor's C++ on a CPU, max-autotune with CUDA
graphs on a GPU. Neither of these was tried on a GPU.

A round is one epoch over train.tsv from the model's weights. A check is two epochs with linear decay to 0, then the
loss on dev.tsv. Each epoch is shuffled, by --seed.
"""

import random

import common

EPOCHS = 2
LEARNING_RATE = 2e-5


def arguments():
    parser = common.parser("Training with PyTorch at its best.")
    parser.add_argument("--data", type=common.folder, required=True, help="folder with train.tsv and dev.tsv")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--layout", choices=["padded", "packed", "bucketed"], default="padded")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--graph", action="store_true", help="the step as a CUDA graph; bucketed on cuda")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    if args.graph and (args.layout, args.device) != ("bucketed", "cuda"):
        parser.error("--graph: needs --layout bucketed and --device cuda")
    return args


ARGS = arguments()
common.set_threads(ARGS.threads)
common.require("torch", "transformers")
common.require_device(ARGS.device)

import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification


class Packed(torch.nn.Module):
    """BertForSequenceClassification's modules on tokens without padding, or on rows of padded texts: without "rows"."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.heads = model.config.num_attention_heads
        self.attention_dropout = model.config.attention_probs_dropout_prob
        head_dim = model.config.hidden_size // self.heads
        self.scale = head_dim ** -0.5
        self.head_padding = -head_dim % 8 if ARGS.device == "cuda" else 0  # for SDPA's fast kernels

    def forward(self, batch):
        bert = self.model.bert
        x = self.embed(bert.embeddings, batch)
        for layer in bert.encoder.layer[:-1]:
            x = self.after_attention(layer, self.attend(layer.attention.self, x, batch), x)
        last, first = bert.encoder.layer[-1], x[batch["first"]]
        x = self.after_attention(last, self.attend_first(last.attention.self, first, x, batch), first)
        pooled = torch.tanh(bert.pooler.dense(x))
        return self.model.classifier(self.model.dropout(pooled))

    def embed(self, embeddings, batch):
        x = embeddings.word_embeddings(batch["ids"]) + embeddings.token_type_embeddings.weight[0]
        return embeddings.dropout(embeddings.LayerNorm(x + embeddings.position_embeddings(batch["positions"])))

    def after_attention(self, layer, context, x):
        x = layer.attention.output(context, x)
        return layer.output(layer.intermediate(x), x)

    def attend(self, attention, x, batch):
        context = self.context(attention, self.padded(attention.query(x), batch), x, batch).flatten(0, 1)
        return context[batch["rows"]] if "rows" in batch else context

    def attend_first(self, attention, first, x, batch):
        query = self.by_heads(attention.query(first), len(first), 1)
        return self.context(attention, query, x, batch).flatten(0, 1)

    def context(self, attention, query, x, batch):
        y = functional.scaled_dot_product_attention(
            query, self.padded(attention.key(x), batch), self.padded(attention.value(x), batch),
            attn_mask=batch["mask"], dropout_p=self.attention_dropout if self.training else 0.0, scale=self.scale)
        return y[..., :y.shape[3] - self.head_padding].transpose(1, 2).flatten(2)

    def padded(self, y, batch):
        """(texts, heads, width, head dim); `rows` says where each token stands in the padded (texts, width)."""
        texts, width = batch["mask"].shape[0], batch["mask"].shape[3]
        if "rows" in batch:
            y = y.new_zeros(texts * width, y.shape[1]).index_copy(0, batch["rows"], y)
        return self.by_heads(y, texts, width)

    def by_heads(self, y, texts, width):
        y = y.view(texts, width, self.heads, -1).transpose(1, 2)
        return functional.pad(y, (0, self.head_padding)) if self.head_padding else y


class Padded(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(input_ids=batch["ids"], attention_mask=batch["mask"]).logits


def padded_batch(examples):
    ids, mask = (torch.tensor(x) for x in common.padded([e["input_ids"] for e in examples]))
    torch._dynamo.mark_dynamic(ids, 1)
    torch._dynamo.mark_dynamic(mask, 1)
    return {"ids": ids, "mask": mask}


def packed_batch(examples):
    lengths = [len(e["input_ids"]) for e in examples]
    width = max(lengths)
    mask = torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
    positions = torch.cat([torch.arange(length) for length in lengths])
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    return {"ids": torch.tensor([i for e in examples for i in e["input_ids"]]), "positions": positions,
            "rows": mask.flatten().nonzero().flatten(), "first": starts, "mask": mask[:, None, None, :]}


def bucketed_batch(examples):
    width = max(len(e["input_ids"]) for e in examples)
    ids, mask = (torch.tensor(x) for x in common.padded([e["input_ids"] for e in examples], width + -width % 8))
    texts, width = ids.shape
    return {"ids": ids.flatten(), "positions": torch.arange(width).repeat(texts),
            "first": width * torch.arange(texts), "mask": mask.bool()[:, None, None, :]}


def collate(examples):
    batch = {"padded": padded_batch, "packed": packed_batch, "bucketed": bucketed_batch}[ARGS.layout](examples)
    batch["targets"] = torch.tensor([e["labels"] for e in examples])
    return {name: tensor.to(ARGS.device) for name, tensor in batch.items()}


class RecordedStep:
    """`step` for batches of the shape of one, as a CUDA graph. `step` is called a few times before: what it allocates
    once, and what libraries choose at their first call, must not be recorded."""

    def __init__(self, step, batch):
        self.batch = {name: tensor.clone() for name, tensor in batch.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step(self.batch)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            step(self.batch)

    def __call__(self, batch):
        for name in "ids", "mask", "targets":  # the rest depends on the shape alone
            self.batch[name].copy_(batch[name])
        self.graph.replay()


def decayed(name):
    return not (name.endswith(".bias") or "LayerNorm" in name)


class Training:
    def __init__(self):
        model = AutoModelForSequenceClassification.from_pretrained(ARGS.model, dtype=torch.float32,
                                                                   attn_implementation="sdpa")
        self.model = model.to(ARGS.device)
        self.start = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        tokenizer = common.load_tokenizer(ARGS.model)
        self.train, self.dev = (common.examples(ARGS.data / name, tokenizer, model.config.num_labels)
                                for name in ("train.tsv", "dev.tsv"))
        network = (Padded if ARGS.layout == "padded" else Packed)(self.model)
        self.network = self.compiled(network) if ARGS.compile else network
        # A graph reads the learning rate where it was when it was recorded, so there it is a tensor. Elsewhere it is a
        # number: a tensor is rounded to fp32, goes another way through PyTorch, and is no longer what was measured.
        parameters = list(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(
            [{"params": [p for name, p in parameters if decayed(name)], "weight_decay": 0.01},
             {"params": [p for name, p in parameters if not decayed(name)], "weight_decay": 0.0}],
            lr=torch.tensor(LEARNING_RATE, device=ARGS.device) if ARGS.graph else LEARNING_RATE, fused=True,
            capturable=ARGS.graph)
        self.scaler = torch.amp.GradScaler(ARGS.device, enabled=ARGS.precision == "fp16")
        self.recorded = self.record() if ARGS.graph else {}

    def record(self):
        """A step for every shape of a batch, by the mask's."""
        self.model.train()
        recorded = {}
        longest, labels = max(len(e["input_ids"]) for e in self.train), len(self.train[0]["labels"])
        for texts in {len(batch) for batch in common.batches(self.train)}:
            for width in range(8, longest + 8, 8):
                batch = collate([{"input_ids": [0] * width, "labels": [0.0] * labels}] * texts)
                recorded[batch["mask"].shape] = RecordedStep(self.compute, batch)
        return recorded

    def compiled(self, network):
        options = {"mode": "max-autotune"} if ARGS.device == "cuda" else {}
        return torch.compile(network, dynamic=True, **options)

    def reset(self):
        """The model's weights and an optimizer that has seen nothing, in the memory that they have."""
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                tensor.copy_(self.start[name])
        for state in self.optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()

    def autocast(self):
        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return torch.autocast(ARGS.device, types.get(ARGS.precision), enabled=ARGS.precision in types)

    def loss(self, batch):
        with self.autocast():
            logits = self.network(batch)
        return functional.binary_cross_entropy_with_logits(logits.float(), batch["targets"])

    def step(self, batch, learning_rate):
        for group in self.optimizer.param_groups:
            if ARGS.graph:
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate
        self.recorded.get(batch["mask"].shape, self.compute)(batch)

    def compute(self, batch):
        self.scaler.scale(self.loss(batch)).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def epochs(self, count):
        """Seconds of the last of them."""
        self.reset()
        self.model.train()
        order, shuffle, done, elapsed = list(self.train), random.Random(ARGS.seed), 0, 0.0
        total = EPOCHS * len(common.batches(order))
        for _ in range(count):
            shuffle.shuffle(order)
            batches = [collate(examples) for examples in common.batches(order)]
            elapsed = common.seconds(lambda: self.epoch(batches, done, total))
            done += len(batches)
        return elapsed

    def epoch(self, batches, done, total):
        for i, batch in enumerate(batches):
            self.step(batch, LEARNING_RATE * (1 - (done + i) / total))
        if ARGS.device == "cuda":
            torch.cuda.synchronize()

    def round(self):
        return {"examples_per_second": len(self.train) / self.epochs(1)}

    def check(self, _path):
        self.epochs(EPOCHS)
        self.model.eval()
        with torch.no_grad():
            losses = [self.loss(collate(examples)).item() * len(examples) for examples in common.batches(self.dev)]
        return {"loss": sum(losses) / len(self.dev)}


def main():
    common.keep_freed_memory()
    torch.set_num_threads(ARGS.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(ARGS.seed)
    training = Training()
    variant = ARGS.layout + ", compiled" * ARGS.compile + ", in CUDA graphs" * ARGS.graph
    facts = {"engine": "torch", "precision": ARGS.precision, "threads": ARGS.threads, "device": ARGS.device,
             "variant": variant, **common.versions("torch", "transformers")}
    common.serve(ARGS, facts, training.round, training.check)


if __name__ == "__main__":
    main()
