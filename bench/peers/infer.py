#!/usr/bin/env python3
"""Inference by others: throughput on a file of texts and median latency of one text, tokenisation included.

    infer.py --engine torch|onnxruntime|ctranslate2 --model MODEL --texts FILE [--precision fp32|bf16|fp16|int8]
             [--compile] [--only-cls] [--threads 1] [--device cpu|cuda] [--rounds 5]

Every engine starts from the folder that Ember reads and gets its best case: texts sorted by length before they are
batched, the fastest of several batch sizes, and where there are several ways to run the model (ONNX Runtime's graph as
exported, with GELU fused, or with attention and the residual's LayerNorm too), the fastest by measurement. Precisions:
torch fp32, bf16 and fp16 (weights as well); ONNX Runtime fp32, int8 (weights by channel, activations quantised as they
come); CTranslate2 fp32, int8. What CTranslate2 multiplies with is its own choice; CT2_USE_MKL=1 in the environment
makes it MKL. `--only-cls` computes the last layer for [CLS] alone, as Ember does, which is all that the classifier
reads; no stock model does it.
"""

import contextlib
import os
import sys
import tempfile
import warnings
from pathlib import Path

import common

BATCH_SIZES = (4, 8, 16, 32, 64)
TUNING_TEXTS = 128
PACKAGES = {"torch": ["torch", "transformers"], "onnxruntime": ["onnxruntime", "onnx", "torch", "transformers"],
            "ctranslate2": ["ctranslate2", "torch", "transformers"]}
PRECISIONS = {"torch": ["fp32", "bf16", "fp16"], "onnxruntime": ["fp32", "int8"], "ctranslate2": ["fp32", "int8"]}


def arguments():
    parser = common.parser("Inference on a file of texts, one a line.")
    parser.add_argument("--engine", choices=sorted(PACKAGES), required=True)
    parser.add_argument("--texts", type=common.file, required=True)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16", "int8"], default="fp32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--only-cls", action="store_true", help="the last layer for [CLS] alone")
    args = parser.parse_args()
    if args.precision not in PRECISIONS[args.engine]:
        parser.error(f"--precision {args.precision}: {args.engine} is run here in {', '.join(PRECISIONS[args.engine])}")
    if args.device == "cuda" and args.engine == "ctranslate2":
        parser.error("--device cuda: ctranslate2 is compared on the CPU only")
    if args.only_cls and args.engine != "onnxruntime":
        parser.error(f"--only-cls: {args.engine} is compared as it comes; onnxruntime's graph can be changed so")
    return args


def load(args, **options):
    from transformers import AutoModelForSequenceClassification
    model = AutoModelForSequenceClassification.from_pretrained(args.model, **options).eval()
    if args.only_cls:
        from last_layer import for_cls_alone
        for_cls_alone(model)
    return model


class Torch:
    """transformers' own model with scaled dot product attention."""

    def __init__(self, args):
        import torch
        torch.set_num_threads(args.threads)
        torch.set_flush_denormal(True)
        types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        self.torch, self.device = torch, args.device
        self.model = load(args, attn_implementation="sdpa").to(args.device, types[args.precision])
        if args.compile:
            torch._inductor.config.freezing = True
            self.model = torch.compile(self.model, dynamic=True)
        self.variants = [None]

    def logits(self, ids, _variant):
        torch = self.torch
        with torch.inference_mode():
            ids, mask = (torch.tensor(x, device=self.device) for x in common.padded(ids))
            return self.model(input_ids=ids, attention_mask=mask).logits.float().cpu().numpy()


class OnnxRuntime:
    """The graph of torch.onnx, as it comes and with some or all of ONNX Runtime's own fusions for BERT."""

    def __init__(self, args):
        import onnxruntime
        self.onnxruntime, self.args = onnxruntime, args
        if args.device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise SystemExit("onnxruntime: has no CUDA provider here")
        onnxruntime.set_default_logger_severity(3)
        with tempfile.TemporaryDirectory() as folder:
            files = self.files(Path(folder))
            self.variants = [self.session(path) for path in files]

    def files(self, folder):
        plain = folder / "plain.onnx"
        model = load(self.args, attn_implementation="eager")
        export(model, plain)
        graphs = [plain, fused(plain, model.config, folder / "gelu fused.onnx", enable_attention=False,
                               enable_skip_layer_norm=False, enable_bias_skip_layer_norm=False),
                  fused(plain, model.config, folder / "fused.onnx")]
        if self.args.precision == "fp32":
            return graphs
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
        files = []
        for path in graphs:
            files.append(path.with_suffix(".int8.onnx"))
            quantize_dynamic(path, files[-1], op_types_to_quantize=["MatMul", "Attention", "Gemm"], per_channel=True,
                             weight_type=QuantType.QInt8, extra_options={"MatMulConstBOnly": True,
                                                                        "DefaultTensorType": onnx.TensorProto.FLOAT})
        return files

    def session(self, path):
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.args.threads
        options.inter_op_num_threads = 1
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[self.args.device]
        session = self.onnxruntime.InferenceSession(str(path), options, providers=[provider])
        return path.stem, session

    def logits(self, ids, variant):
        import numpy as np
        ids, mask = (np.array(x, dtype=np.int64) for x in common.padded(ids))
        return variant[1].run(None, {"input_ids": ids, "attention_mask": mask})[0]


def export(model, path):
    """By tracing: its graph is the one that ONNX Runtime's fusions know."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    ids = torch.ones(2, 16, dtype=torch.long)
    axes = {name: {0: "texts", 1: "tokens"} for name in ("input_ids", "attention_mask")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Logits(), (ids, torch.ones_like(ids)), str(path), input_names=list(axes),
                          output_names=["logits"], dynamic_axes=axes | {"logits": {0: "texts"}}, opset_version=17,
                          dynamo=False)


def fused(source, config, target, **switches):
    """The graph with ONNX Runtime's fusions for BERT, but for those that are switched off."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions
    options = FusionOptions("bert")
    for name, value in switches.items():
        setattr(options, name, value)
    with contextlib.redirect_stdout(sys.stderr):  # it prints, and standard output is for answers
        optimizer.optimize_model(str(source), model_type="bert", num_heads=config.num_attention_heads,
                                 hidden_size=config.hidden_size, opt_level=0,
                                 optimization_options=options).save_model_to_file(str(target))
    return target


class CTranslate2:
    """Its encoder gives the pooler's output; the classifier, 28 rows, is one product in numpy."""

    def __init__(self, args):
        import ctranslate2
        self.ctranslate2 = ctranslate2
        classifier = load(args).classifier
        self.weight, self.bias = (x.detach().numpy() for x in (classifier.weight.T.contiguous(), classifier.bias))
        with tempfile.TemporaryDirectory() as folder:
            ctranslate2.converters.TransformersConverter(str(args.model)).convert(folder, force=True)
            self.encoder = ctranslate2.Encoder(folder, device="cpu", intra_threads=args.threads, inter_threads=1,
                                               compute_type={"fp32": "float32", "int8": "int8_float32"}[args.precision])
        self.variants = [None]

    def logits(self, ids, _variant):
        import numpy as np
        return np.array(self.encoder.forward_batch(ids).pooler_output) @ self.weight + self.bias


class Predictor:
    """Texts to logits with an engine's fastest batch size and variant."""

    def __init__(self, engine, tokenizer, texts):
        self.engine, self.tokenizer = engine, tokenizer
        tuning = texts[:TUNING_TEXTS]
        self.many = common.fastest([(size, variant) for variant in engine.variants for size in BATCH_SIZES],
                                   lambda choice: self.predict(tuning, *choice), repetitions=2)
        self.one = common.fastest(engine.variants, lambda variant: [self.predict([text], 1, variant)
                                                                    for text in tuning[:16]])

    def predict(self, texts, size, variant):
        import numpy as np
        ids = common.encode(self.tokenizer, texts)
        result = None
        for indices in common.by_length(ids, size):
            logits = self.engine.logits([ids[i] for i in indices], variant)
            if result is None:
                result = np.empty((len(texts), logits.shape[1]), dtype=np.float32)
            result[indices] = logits
        return result

    def __call__(self, texts):
        return self.predict(texts, *self.many) if len(texts) > 1 else self.predict(texts, 1, self.one)

    def variant(self):
        name = f"{self.many[1][0].split('.')[0]}, " if self.many[1] else ""
        return f"{name}batches of {self.many[0]}"


def main():
    args = arguments()
    common.set_threads(args.threads)
    common.require(*PACKAGES[args.engine])
    if args.engine == "torch":
        common.require_device(args.device)
    warnings.filterwarnings("ignore")
    engine = {"torch": Torch, "onnxruntime": OnnxRuntime, "ctranslate2": CTranslate2}[args.engine](args)
    texts = common.lines(args.texts)
    predictor = Predictor(engine, common.load_tokenizer(args.model), texts)

    def check(path):
        path.write_bytes(predictor(texts).tobytes())
        return {}

    compiled = (", only [CLS]" if args.only_cls else "") + (", compiled" if args.compile else "")
    mkl = ", MKL" if args.engine == "ctranslate2" and os.environ.get("CT2_USE_MKL") == "1" else ""
    facts = {"engine": args.engine, "precision": args.precision, "threads": args.threads, "device": args.device,
             "variant": predictor.variant() + compiled + mkl, **common.versions(PACKAGES[args.engine][0])}
    common.serve(args, facts, lambda: common.time_inference(predictor, texts), check)


if __name__ == "__main__":
    main()
