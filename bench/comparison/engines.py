"""Who takes part in which comparison, and by which command."""

from dataclasses import dataclass, field
from pathlib import Path

from worker import Train, Worker

PEERS = Path(__file__).resolve().parent.parent / "peers"
TASKS = ("training", "inference", "tokenisation")  # on the CPU
CUDA_TRAINING = "training on CUDA"
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}  # Ember asks for them itself


@dataclass
class Engine:
    """`name` and `precision` make its row; `kind` is what runs the command."""
    name: str
    precision: str
    command: list
    kind: type = Worker
    environment: dict = field(default_factory=dict)


@dataclass
class Inputs:
    """What all engines of one comparison are given."""
    build: Path
    model: Path
    data: Path  # folder with the rows of training and of dev
    texts: Path  # texts of test, one a line
    python: str
    training_threads: int
    inference_threads: int


def training(inputs):
    """torch.compile wins in bf16 alone; in fp32 it took 12 to 16% longer (docs/performance_cpu.md)."""
    threads = ["--threads", str(inputs.training_threads)]
    model = ["--model", str(inputs.model), "--data", str(inputs.data)]

    def ember(precision):
        flags = ["--epochs", "2", "--device", "cpu", "--precision", precision, "--keep", "1", "--quiet"]
        return Engine("Ember", precision, [str(inputs.build / "train" / "train"), *model, *threads, *flags], Train)

    def peer(name, precision, script, *flags):
        return Engine(name, precision, [inputs.python, str(PEERS / script), *model, *threads, "--precision", precision,
                                        "--worker", *flags], environment=HUGE_PAGES)

    return [ember("fp32"), peer("Trainer, padded to 128", "fp32", "hf_trainer.py", "--padding", "128"),
            peer("Trainer, dynamic padding", "fp32", "hf_trainer.py", "--padding", "longest"),
            peer("PyTorch, dynamic padding", "fp32", "train_torch.py"),
            peer("PyTorch, packed", "fp32", "train_torch.py", "--layout", "packed"),
            ember("bf16"), peer("PyTorch, dynamic padding", "bf16", "train_torch.py"),
            peer("PyTorch, dynamic padding, compiled", "bf16", "train_torch.py", "--compile"),
            peer("PyTorch, packed", "bf16", "train_torch.py", "--layout", "packed"),
            peer("PyTorch, packed, compiled", "bf16", "train_torch.py", "--layout", "packed", "--compile")]


def cuda_training(inputs):
    """Ember trains in fp16 there; PyTorch in fp32 is what the losses are held against."""
    threads = ["--threads", str(inputs.training_threads)]
    model = ["--model", str(inputs.model), "--data", str(inputs.data), *threads, "--device", "cuda"]
    ember = [str(inputs.build / "train" / "train"), *model, "--epochs", "2", "--precision", "fp16", "--keep", "1",
             "--quiet"]

    def peer(name, precision, script, *flags):
        return Engine(name, precision, [inputs.python, str(PEERS / script), *model, "--precision", precision,
                                        "--worker", *flags], environment=HUGE_PAGES)

    return [Engine("Ember", "fp16", ember, Train), peer("PyTorch, dynamic padding", "fp32", "train_torch.py"),
            peer("Trainer, padded to 128", "fp16", "hf_trainer.py", "--padding", "128"),
            peer("Trainer, dynamic padding", "fp16", "hf_trainer.py", "--padding", "longest"),
            peer("PyTorch, dynamic padding", "fp16", "train_torch.py"),
            peer("PyTorch, packed", "fp16", "train_torch.py", "--layout", "packed"),
            peer("PyTorch, dynamic padding", "bf16", "train_torch.py"),
            peer("PyTorch, packed", "bf16", "train_torch.py", "--layout", "packed"),
            peer("PyTorch, dynamic padding, compiled", "fp16", "train_torch.py", "--compile")]


def inference(inputs):
    flags = ["--model", str(inputs.model), "--texts", str(inputs.texts), "--threads", str(inputs.inference_threads)]

    def ember(precision):
        return Engine("Ember", precision, [str(inputs.build / "bench" / "bench_texts"), "--task", "inference", *flags,
                                           "--precision", precision])

    def peer(name, precision, engine, *more, **environment):
        command = [inputs.python, str(PEERS / "infer.py"), "--engine", engine, "--precision", precision, "--worker"]
        return Engine(name, precision, [*command, *flags, *more], environment=HUGE_PAGES | environment)

    return [ember("fp32"), peer("PyTorch", "fp32", "torch"), peer("PyTorch, compiled", "fp32", "torch", "--compile"),
            peer("ONNX Runtime", "fp32", "onnxruntime"),
            peer("ONNX Runtime, only [CLS] in the last layer", "fp32", "onnxruntime", "--only-cls"),
            peer("CTranslate2", "fp32", "ctranslate2"),
            peer("CTranslate2, MKL", "fp32", "ctranslate2", CT2_USE_MKL="1"),
            ember("bf16"), peer("PyTorch", "bf16", "torch"),
            peer("PyTorch, compiled", "bf16", "torch", "--compile"),
            ember("int8"), peer("ONNX Runtime", "int8", "onnxruntime"),
            peer("ONNX Runtime, only [CLS] in the last layer", "int8", "onnxruntime", "--only-cls"),
            peer("CTranslate2", "int8", "ctranslate2")]


def tokenisation(inputs):
    flags = ["--model", str(inputs.model), "--texts", str(inputs.texts), "--threads", "1"]
    return [Engine("Ember", "ids", [str(inputs.build / "bench" / "bench_texts"), "--task", "tokenisation", *flags]),
            Engine("tokenizers", "ids", [inputs.python, str(PEERS / "tokenization.py"), *flags, "--worker"])]


ENGINES = {"training": training, CUDA_TRAINING: cuda_training, "inference": inference, "tokenisation": tokenisation}
