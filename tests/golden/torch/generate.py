"""Writes small.zip.bin and small.legacy.bin, what torch.save makes of a few awkward tensors. Needs PyTorch (2.x).

    python3 generate.py [DIRECTORY]
"""

import pathlib
import sys
from collections import OrderedDict

import torch

base = torch.arange(24, dtype=torch.float32).reshape(4, 6) - 3.5
state = OrderedDict(
    whole=base,
    part=base[1:3],  # shares base's storage, from an offset
    turned=base.t(),
    column=base[:, 2],
    stretched=base[2:3].expand(3, 6),
    parameter=torch.nn.Parameter(base[3]),
    scalar=torch.tensor(7.5),
    empty=torch.zeros(0, 3),
    half=torch.tensor([1.5, -2.25], dtype=torch.float16),
    brain=torch.tensor([1.5, -2.5], dtype=torch.bfloat16),
    double=torch.tensor([0.1], dtype=torch.float64),
    ids=torch.tensor([[-1, 2 ** 40]]),
    int=torch.tensor([-5], dtype=torch.int32),
    short=torch.tensor([-6], dtype=torch.int16),
    char=torch.tensor([-7], dtype=torch.int8),
    byte=torch.tensor([200], dtype=torch.uint8),
    flag=torch.tensor([True, False]),
)
state._metadata = OrderedDict([("", {"version": 1})])
folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
checkpoint = {"epoch": 3, "state_dict": state, "rate": 0.5, "big": 2 ** 80}
torch.save(checkpoint, folder / "small.zip.bin")
torch.save(checkpoint, folder / "small.legacy.bin", _use_new_zipfile_serialization=False)
