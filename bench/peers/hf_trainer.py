#!/usr/bin/env python3
"""Fine-tunes with Hugging Face's Trainer by the recipe of Ember's `--preset reference`, to compare the two.

    hf_trainer.py --model DIR --data DIR --out DIR [--epochs 4] [--threads N] [--padding longest|128]
                  [--precision fp32|bf16|fp16] [--device cpu|cuda] [--max-steps N] [--seed 42]
    hf_trainer.py --model DIR --data DIR --rounds 5 [--threads N] [--padding ...] [--precision ...] [--device ...]

`--model` is a Hugging Face directory (bench/peers/minilm_directory.py writes one), `--data` holds train.tsv, dev.tsv,
test.tsv and labels.txt of GoEmotions. The recipe: batch 16, AdamW (2e-5, decay 0.01 on all but biases and LayerNorm),
linear decay to 0 without warm-up, clipping at 1, dropout as in config.json, texts CSV-unquoted and cut at 128 tokens.
`--padding longest` pads a batch to its longest text: the same mathematics as 128 at a fraction of the work, hence the
fairer opponent in speed. `--max-steps` shortens the schedule too, as it does in the Trainer.

Progress goes to stderr; the last line of stdout is JSON: dev figures of every epoch, dev and test figures of the best
epoch (by F1-micro at 0.5, as the recipe says), and training examples/s (evaluation excluded). OUT receives the model,
result.json, and predictions.npz: dev_logits, dev_targets, test_logits, test_targets in the files' order.

With `--rounds` (or `--worker`, see common.py) nothing is evaluated or written and only speed is measured: a round is
one epoch over train.tsv from the model's weights; a check is two epochs and the loss on dev.tsv.
Needs bench/peers/requirements.txt.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import common


def arguments():
    parser = common.OneLine(description="Hugging Face's Trainer by Ember's reference recipe.")
    parser.add_argument("--model", type=common.folder, required=True)
    parser.add_argument("--data", type=common.folder, required=True)
    parser.add_argument("--out", type=Path, help="required unless only speed is measured")
    parser.add_argument("--epochs", type=common.number(1, 1000), default=4)
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--padding", choices=["longest", "128"], default="longest")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=common.number(0, 1024), default=0, help="0: PyTorch's choice")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rounds", type=common.number(0, 1000), default=0, help="measure speed alone, this often")
    parser.add_argument("--worker", action="store_true", help="measure speed alone, as standard input asks")
    args = parser.parse_args()
    if not (args.out or args.rounds or args.worker):
        parser.error("--out: give a folder, or --rounds to measure speed alone")
    return args


ARGS = arguments()
if ARGS.threads > 0:
    common.set_threads(ARGS.threads)
os.environ["TOKENIZERS_PARALLELISM"] = "false"
SPEED_ALONE = ARGS.worker or ARGS.rounds > 0
common.require("torch", "transformers", "accelerate", *([] if SPEED_ALONE else ["sklearn"]))
common.require_device(ARGS.device)

import numpy as np
import torch
import transformers
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, PrinterCallback, Trainer, TrainerCallback,
                          TrainingArguments)

THRESHOLDS = [i / 100 for i in range(5, 96, 5)]


def load_model():
    """In fp32, as Ember keeps them, whatever the file has."""
    return AutoModelForSequenceClassification.from_pretrained(ARGS.model, dtype=torch.float32)


def collate(examples):
    ids, mask = common.padded([e["input_ids"] for e in examples], common.MAX_LENGTH if ARGS.padding == "128" else 0)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask),
            "labels": torch.tensor([e["labels"] for e in examples])}


def loss_of(logits, targets):
    x = logits.astype(np.float64)
    return float(np.mean(np.maximum(x, 0) - x * targets + np.log1p(np.exp(-np.abs(x)))))


def figures(logits, targets):
    from sklearn.metrics import accuracy_score, f1_score
    x = logits.astype(np.float64)
    probabilities = 1 / (1 + np.exp(-x))
    truth = targets.astype(bool)
    at_half = probabilities >= 0.5
    sweep = {t: float(f1_score(truth, probabilities >= t, average="micro", zero_division=0)) for t in THRESHOLDS}
    best = max(sweep, key=sweep.get)
    return {"loss": loss_of(logits, targets),
            "f1_micro": sweep[0.5],
            "f1_macro": float(f1_score(truth, at_half, average="macro", zero_division=0)),
            "subset_accuracy": float(accuracy_score(truth, at_half)),
            "best_threshold": best,
            "f1_micro_at_best": sweep[best],
            "f1_macro_at_best": float(f1_score(truth, probabilities >= best, average="macro", zero_division=0))}


class Progress(TrainerCallback):
    """Times training without evaluation and reports to stderr."""

    def __init__(self):
        self.seconds = 0.0
        self.epochs = []

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.began = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        if ARGS.device == "cuda":
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - self.began

    def on_log(self, args, state, control, logs=None, **kwargs):
        values = " ".join(f"{k} {v:.6g}" for k, v in logs.items() if isinstance(v, (int, float)))
        elapsed = time.perf_counter() - self.began
        print(f"step {state.global_step}/{state.max_steps} epoch-seconds {elapsed:.0f} {values}", file=sys.stderr,
              flush=True)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.epochs.append({"epoch": state.epoch, "step": state.global_step,
                            **{k.removeprefix("eval_"): v for k, v in metrics.items()}})


def training_arguments(**changes):
    return TrainingArguments(**dict(
        output_dir=str(ARGS.out), num_train_epochs=ARGS.epochs, max_steps=ARGS.max_steps,
        per_device_train_batch_size=common.BATCH_SIZE, per_device_eval_batch_size=64, learning_rate=2e-5,
        lr_scheduler_type="linear", warmup_steps=0, optim="adamw_torch_fused", weight_decay=0.01, adam_beta1=0.9,
        adam_beta2=0.999, adam_epsilon=1e-8, max_grad_norm=1.0, seed=ARGS.seed, bf16=ARGS.precision == "bf16",
        fp16=ARGS.precision == "fp16", use_cpu=ARGS.device == "cpu", eval_strategy="epoch", save_strategy="epoch",
        save_total_limit=1, save_only_model=True, load_best_model_at_end=True, metric_for_best_model="f1_micro",
        greater_is_better=True, logging_steps=50, disable_tqdm=True, report_to="none", remove_unused_columns=False,
        dataloader_num_workers=0) | changes)


class Speed:
    """Epochs of the Trainer without evaluation and saving, each time from the model's weights."""

    def __init__(self, folder):
        self.folder = folder
        self.model = load_model()
        self.start = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        tokenizer = common.load_tokenizer(ARGS.model)
        self.train, self.dev = (common.examples(ARGS.data / name, tokenizer, self.model.config.num_labels)
                                for name in ("train.tsv", "dev.tsv"))

    def trained(self, epochs):
        self.model.load_state_dict(self.start)
        progress = Progress()
        quiet = {"eval_strategy": "no", "save_strategy": "no", "logging_strategy": "no",
                 "load_best_model_at_end": False}
        trainer = Trainer(model=self.model, data_collator=collate, train_dataset=self.train, callbacks=[progress],
                          args=training_arguments(output_dir=self.folder, num_train_epochs=epochs, **quiet))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return trainer, progress.seconds

    def round(self):
        return {"examples_per_second": len(self.train) / self.trained(1)[1]}

    def check(self, _path):
        trainer, _ = self.trained(2)
        predictions = trainer.predict(self.dev)
        return {"loss": loss_of(predictions.predictions, predictions.label_ids)}


def measure_speed():
    with tempfile.TemporaryDirectory() as folder:
        speed = Speed(folder)
        facts = {"engine": "transformers.Trainer", "precision": ARGS.precision, "threads": torch.get_num_threads(),
                 "device": ARGS.device, "variant": f"padded to {ARGS.padding}",
                 **common.versions("transformers", "torch")}
        common.serve(ARGS, facts, speed.round, speed.check)


def main():
    common.keep_freed_memory()
    torch.set_flush_denormal(True)
    if ARGS.threads > 0:
        torch.set_num_threads(ARGS.threads)
    if SPEED_ALONE:
        return measure_speed()
    model = load_model()
    tokenizer = AutoTokenizer.from_pretrained(ARGS.model)
    encoder = common.load_tokenizer(ARGS.model)
    splits = {name: common.examples(ARGS.data / f"{name}.tsv", encoder, model.config.num_labels)
              for name in ("train", "dev", "test")}
    progress = Progress()
    trainer = Trainer(model=model, args=training_arguments(), train_dataset=splits["train"],
                      eval_dataset=splits["dev"], data_collator=collate, callbacks=[progress],
                      compute_metrics=lambda p: {k: v for k, v in figures(p.predictions, p.label_ids).items()
                                                 if k != "loss"})
    trainer.remove_callback(PrinterCallback)
    trained = trainer.train()
    epochs = list(progress.epochs)

    predictions = {name: trainer.predict(splits[name], metric_key_prefix=name) for name in ("dev", "test")}
    steps = trainer.state.global_step
    result = {"peer": "transformers.Trainer", "transformers": transformers.__version__, "torch": torch.__version__,
              "model": str(ARGS.model), "device": ARGS.device, "precision": ARGS.precision, "padding": ARGS.padding,
              "threads": torch.get_num_threads(), "seed": ARGS.seed, "steps": steps,
              "train_loss": trained.training_loss, "train_seconds": progress.seconds,
              "examples_per_second": len(splits["train"]) * trainer.state.epoch / progress.seconds,
              "dev_epochs": epochs,
              **{name: figures(p.predictions, p.label_ids) for name, p in predictions.items()}}
    trainer.save_model(str(ARGS.out))
    tokenizer.save_pretrained(ARGS.out)
    np.savez_compressed(ARGS.out / "predictions.npz",
                        **{f"{name}_logits": p.predictions for name, p in predictions.items()},
                        **{f"{name}_targets": p.label_ids for name, p in predictions.items()})
    line = json.dumps(result)
    (ARGS.out / "result.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
