"""Writes checkpoints.json: per file of a folder of checkpoints, what PyTorch or safetensors reads from it, as type,
shape and CRC-32 of each tensor's elements; null where they refuse the file. Needs PyTorch (2.x) and safetensors.

    python3 checkpoints.py DIRECTORY
"""

import json
import pathlib
import sys
import zlib

import torch
from safetensors.torch import load_file

NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
         torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


def tensors(value):
    for key in "state_dict", "model":
        if isinstance(value.get(key), dict):
            return tensors(value[key])
    return {name: tensor for name, tensor in value.items() if isinstance(tensor, torch.Tensor)}


def describe(tensor):
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return [NAMES[tensor.dtype], list(tensor.shape), zlib.crc32(data)]


def read(path):
    try:
        whole = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        print(f"{path.name}: {error!s:.80}")
        return None
    return {name: describe(tensor) for name, tensor in sorted(tensors(whole).items())}


folder = pathlib.Path(sys.argv[1])
files = sorted(path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".safetensors", ".tar"))
result = {str(path.relative_to(folder)): read(path) for path in files}
lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in result.items())
pathlib.Path(__file__).with_name("checkpoints.json").write_text("{" + lines + "}\n")
