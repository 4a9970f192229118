"""Who takes part in which comparison, and by which command."""

from dataclasses import dataclass, field
from functools import partial
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

    def __str__(self):
        return f"{self.name} {self.precision}"


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


def peer_of(inputs, given, name, precision, words, **environment):
    """`words` are a script and its own flags, `given` those of every peer of the task. tokenizers has huge pages too,
    though Ember asks for none where it tokenises: a difference in conditions is to be in the peer's favour."""
    script, *flags = words.split()
    given = given if precision == "ids" else [*given, "--precision", precision]
    return Engine(name, precision, [inputs.python, str(PEERS / script), *given, "--worker", *flags],
                  environment=HUGE_PAGES | environment)


def training(inputs):
    """torch.compile wins in bf16 alone; in fp32 it took 12 to 16% longer (docs/performance_cpu.md)."""
    given = ["--model", str(inputs.model), "--data", str(inputs.data), "--threads", str(inputs.training_threads)]
    peer = partial(peer_of, inputs, given)

    def ember(precision):
        flags = ["--epochs", "2", "--device", "cpu", "--precision", precision, "--keep", "1", "--quiet"]
        return Engine("Ember", precision, [str(inputs.build / "train" / "train"), *given, *flags], Train)

    return [ember("fp32"),
            peer("Trainer, padded to 128", "fp32", "hf_trainer.py --padding 128"),
            peer("Trainer, dynamic padding", "fp32", "hf_trainer.py --padding longest"),
            peer("PyTorch, dynamic padding", "fp32", "train_torch.py"),
            peer("PyTorch, packed", "fp32", "train_torch.py --layout packed"),
            ember("bf16"),
            peer("PyTorch, dynamic padding", "bf16", "train_torch.py"),
            peer("PyTorch, dynamic padding, compiled", "bf16", "train_torch.py --compile"),
            peer("PyTorch, packed", "bf16", "train_torch.py --layout packed"),
            peer("PyTorch, packed, compiled", "bf16", "train_torch.py --layout packed --compile")]


def cuda_training(inputs):
    """Ember trains in fp16 there; PyTorch in fp32 is what the losses are held against."""
    given = ["--model", str(inputs.model), "--data", str(inputs.data), "--threads", str(inputs.training_threads),
             "--device", "cuda"]
    peer = partial(peer_of, inputs, given)
    ember = [str(inputs.build / "train" / "train"), *given, "--epochs", "2", "--precision", "fp16", "--keep", "1",
             "--quiet"]
    return [Engine("Ember", "fp16", ember, Train),
            peer("PyTorch, dynamic padding", "fp32", "train_torch.py"),
            peer("Trainer, padded to 128", "fp16", "hf_trainer.py --padding 128"),
            peer("Trainer, dynamic padding", "fp16", "hf_trainer.py --padding longest"),
            peer("PyTorch, dynamic padding", "fp16", "train_torch.py"),
            peer("PyTorch, packed", "fp16", "train_torch.py --layout packed"),
            peer("PyTorch, in CUDA graphs", "fp16", "train_torch.py --layout bucketed --graph"),
            peer("PyTorch, dynamic padding", "bf16", "train_torch.py"),
            peer("PyTorch, packed", "bf16", "train_torch.py --layout packed"),
            peer("PyTorch, in CUDA graphs", "bf16", "train_torch.py --layout bucketed --graph"),
            peer("PyTorch, dynamic padding, compiled", "fp16", "train_torch.py --compile")]


def inference(inputs):
    given = ["--model", str(inputs.model), "--texts", str(inputs.texts), "--threads", str(inputs.inference_threads)]
    peer = partial(peer_of, inputs, given)

    def ember(precision):
        return Engine("Ember", precision, [str(inputs.build / "bench" / "bench_texts"), "--task", "inference", *given,
                                           "--precision", precision])

    return [ember("fp32"),
            peer("PyTorch", "fp32", "infer.py --engine torch"),
            peer("PyTorch, compiled", "fp32", "infer.py --engine torch --compile"),
            peer("ONNX Runtime", "fp32", "infer.py --engine onnxruntime"),
            peer("ONNX Runtime, only [CLS] in the last layer", "fp32", "infer.py --engine onnxruntime --only-cls"),
            peer("CTranslate2", "fp32", "infer.py --engine ctranslate2", CT2_USE_MKL=None),
            peer("CTranslate2, MKL", "fp32", "infer.py --engine ctranslate2", CT2_USE_MKL="1"),
            ember("bf16"),
            peer("PyTorch", "bf16", "infer.py --engine torch"),
            peer("PyTorch, compiled", "bf16", "infer.py --engine torch --compile"),
            ember("int8"),
            peer("ONNX Runtime", "int8", "infer.py --engine onnxruntime"),
            peer("ONNX Runtime, only [CLS] in the last layer", "int8", "infer.py --engine onnxruntime --only-cls"),
            peer("CTranslate2", "int8", "infer.py --engine ctranslate2", CT2_USE_MKL=None)]


def tokenisation(inputs):
    given = ["--model", str(inputs.model), "--texts", str(inputs.texts), "--threads", "1"]
    return [Engine("Ember", "ids", [str(inputs.build / "bench" / "bench_texts"), "--task", "tokenisation", *given]),
            peer_of(inputs, given, "tokenizers", "ids", "tokenization.py")]


# In the order in which they enter and stand in the table. Of each precision that Ember has it is the first: where Ember
# is refused it, the peers after it are spared.
ENGINES = {"training": training, CUDA_TRAINING: cuda_training, "inference": inference, "tokenisation": tokenisation}
