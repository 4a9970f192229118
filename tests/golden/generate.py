#!/usr/bin/env python3
"""Writes the fixtures of golden_test.cpp: what Hugging Face's BertForSequenceClassification computes on small configs.

    generate.py [OUT]        (OUT: this folder)

For each case NAME.json is the config.json and NAME.safetensors holds
  weights.*     the starting weights under their Hugging Face names, F16: they are drawn so that F16 is exact
  token_ids     I32, all sequences of all batches end to end; lengths I32, of each of them
  sequences     I32, the number of them in each batch; targets U8, a row for each
  logits, loss, gradients.*   of batch 0 at the starting weights, dropout off
  losses, norms               of each step's batch before its update: loss and L2 norm of all gradients before clipping
  trained.*     the weights after one AdamW step on each batch
  optimizer     F64: learning rate, weight decay, norm to clip at
Optimizer: torch.optim.AdamW (betas 0.9/0.999, eps 1e-8), decay on all but biases and LayerNorm, clip_grad_norm_, linear
decay of the learning rate to 0 over the batches. The files are the same, byte for byte, run after run.

The reference is exact to the last bits of F32: the float32 weights are evaluated and trained in float64 and the results
rounded once. Batches are padded and masked, as Hugging Face wants them; that unpadded sequences, one by one, give the
same is asserted here. Biases and LayerNorm parameters start away from 0 and 1, so that leaving one out shows; weights
are large enough that attention is far from uniform.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

STEPS = 20


@dataclass
class Case:
    name: str
    hidden: int
    heads: int
    ffn: int
    layers: int
    labels: int
    vocabulary: int = 44
    positions: int = 33
    types: int = 2
    eps: float = 1e-12
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    max_norm: float = 1.0
    classifier_scale: float = 0.3
    seed: int = 1
    padding_inside: bool = False  # the padding id also occurs as a real, unmasked token


CASES = [
    Case("heads2_dim26_layers3", hidden=52, heads=2, ffn=61, layers=3, labels=28, classifier_scale=0.6, seed=6),
    Case("heads2_dim32_layers1", hidden=64, heads=2, ffn=48, layers=1, labels=5, max_norm=8.0,
         padding_inside=True),
    Case("heads1_dim64_layers1", hidden=64, heads=1, ffn=72, layers=1, labels=28, positions=40, classifier_scale=0.2,
         seed=7),
    Case("heads3_dim26_layers1", hidden=78, heads=3, ffn=30, layers=1, labels=5, vocabulary=31, positions=17, types=1,
         eps=1e-3, learning_rate=5e-3, weight_decay=0.1, classifier_scale=0.6, seed=10),
]


def config_of(case):
    names = [f"emotion_{i}" for i in range(case.labels)]
    return {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": case.vocabulary,
            "hidden_size": case.hidden, "num_hidden_layers": case.layers, "num_attention_heads": case.heads,
            "intermediate_size": case.ffn, "max_position_embeddings": case.positions, "type_vocab_size": case.types,
            "layer_norm_eps": case.eps, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02, "pad_token_id": 0,
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)}, "problem_type": "multi_label_classification"}


def draw_weights(model, case, generator):
    for name, parameter in model.named_parameters():
        value = torch.randn(parameter.shape, generator=generator)
        if name.endswith("LayerNorm.weight"):
            value = 1 + 0.2 * value
        elif name.endswith(".bias"):
            value = 0.2 * value
        elif name == "classifier.weight":
            value = case.classifier_scale * value
        elif "embeddings" in name:
            value = 0.5 * value
        else:
            value = value * parameter.shape[1] ** -0.5
        parameter.data = value.half().double()


def draw_batches(case, generator):
    """Batch 0 has sequences of 1 token and of all positions; the others have 1 to 7 sequences of any length."""
    batches = []
    for step in range(STEPS):
        if step == 0:
            lengths = [3, case.positions, 1, 2, case.positions // 2, 8]
        else:
            count = 1 + int(torch.randint(7, (), generator=generator))
            lengths = (1 + torch.randint(case.positions, (count,), generator=generator)).tolist()
        first = 0 if case.padding_inside else 1
        # The upper quarter of the vocabulary appears in the even steps only, and its last two ids never, so that
        # rows are left alone for a while, or for good.
        last = case.vocabulary - 2 if step % 2 == 0 else case.vocabulary * 3 // 4
        tokens = [torch.randint(first, last, (n,), generator=generator) for n in lengths]
        targets = torch.randint(0, 4, (len(lengths), case.labels), generator=generator) == 0
        batches.append((tokens, targets.double()))
    assert any(0 in t for tokens, _ in batches for t in tokens) == case.padding_inside
    return batches


def run(model, batch):
    tokens, targets = batch
    ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t in tokens], batch_first=True)
    return model(input_ids=ids, attention_mask=mask, labels=targets)


def assert_padding_is_neutral(model, batch, logits):
    for i, tokens in enumerate(batch[0]):
        alone = model(input_ids=tokens[None], attention_mask=torch.ones_like(tokens)[None]).logits[0]
        assert torch.allclose(alone, logits[i], rtol=0, atol=1e-12), f"sequence {i} differs when unpadded"


def train(model, case, batches):
    plain = [n for n, _ in model.named_parameters() if n.endswith(".bias") or "LayerNorm" in n]
    groups = [{"params": [p for n, p in model.named_parameters() if n not in plain], "weight_decay": case.weight_decay},
              {"params": [p for n, p in model.named_parameters() if n in plain], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=case.learning_rate, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, len(batches))
    losses, norms = [], []
    for batch in batches:
        optimizer.zero_grad()
        loss = run(model, batch).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), case.max_norm))
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return torch.stack(losses), torch.stack(norms)


def worst_change_by_rounding(model, case, batches, tensors, generator):
    """How far gradients that err like a float32 computation's, by 5e-7 of their root mean square, move a trained tensor
    away, relative in L2; the worst of a few runs."""
    def disturb(gradient):
        noise = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
        return gradient + 5e-7 * gradient.square().mean().sqrt() * noise * (gradient != 0)

    for parameter in model.parameters():
        parameter.register_hook(disturb)
    worst = 0.0
    for _ in range(4):
        model.load_state_dict({n: tensors[f"weights.{n}"] for n, _ in model.named_parameters()})
        train(model, case, batches)
        for name, parameter in model.named_parameters():
            expected = tensors[f"trained.{name}"].double()
            if not name.endswith(".key.bias"):  # its true gradient is zero: Adam amplifies any noise
                worst = max(worst, ((parameter.detach() - expected).norm() / expected.norm()).item())
    return worst


def snapshot(prefix, named, dtype=torch.float32):
    return {f"{prefix}.{name}": value.detach().to(dtype).contiguous().clone() for name, value in named}


def generate(case, out):
    generator = torch.Generator().manual_seed(case.seed)
    config = config_of(case)
    model = BertForSequenceClassification(BertConfig(**config, attn_implementation="eager")).double().eval()
    draw_weights(model, case, generator)
    batches = draw_batches(case, generator)
    tensors = snapshot("weights", model.named_parameters(), torch.float16)

    result = run(model, batches[0])
    assert_padding_is_neutral(model, batches[0], result.logits)
    result.loss.backward()
    assert not model.bert.embeddings.word_embeddings.weight.grad[0].any()
    tensors |= snapshot("gradients", ((n, p.grad) for n, p in model.named_parameters()))
    losses, norms = train(model, case, batches)
    tensors |= snapshot("trained", model.named_parameters())
    sequences = [t for tokens, _ in batches for t in tokens]
    tensors |= {"logits": result.logits.detach().float(), "loss": result.loss.detach().float().reshape(1),
                "optimizer": torch.tensor([case.learning_rate, case.weight_decay, case.max_norm], dtype=torch.float64),
                "losses": losses.float(), "norms": norms.float(),
                "token_ids": torch.cat(sequences).int(),
                "lengths": torch.tensor([len(t) for t in sequences], dtype=torch.int32),
                "sequences": torch.tensor([len(tokens) for tokens, _ in batches], dtype=torch.int32),
                "targets": torch.cat([targets for _, targets in batches]).to(torch.uint8)}
    (out / f"{case.name}.json").write_text(json.dumps(config, indent=1) + "\n")
    # Where a gradient happens to fall within rounding of zero, Adam amplifies noise too: such a seed is a bad fixture.
    worst = worst_change_by_rounding(model, case, batches, tensors, generator)
    assert worst < 2e-6, f"{case.name}: rounding moves a trained tensor by {worst:.1e}; take another seed"
    path = out / f"{case.name}.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    print(f"{case.name}: {sum(p.numel() for p in model.parameters())} parameters, loss {losses[0]:.4f} -> "
          f"{losses[-1]:.4f}, gradient norms {norms.min():.3f} to {norms.max():.3f}, rounding {worst:.1e}")
    return norms > case.max_norm


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    clipped = torch.stack([generate(case, out) for case in CASES]).double().mean(dim=1)
    assert clipped.max() == 1 and clipped.min() == 0 and ((clipped > 0) & (clipped < 1)).any(), \
        "clipping must act at every step of one case, at some of another and at none of a third"


if __name__ == "__main__":
    main()
