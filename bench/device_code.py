#!/usr/bin/env python3
"""Reads the device code inside an object file or library: what each CUDA kernel is made of, for each architecture.

    bench/device_code.py build/kernels/cuda/libember_cuda.a [--sm 75]

prints a table: registers a thread, static shared memory and threads of a block, how many warps then fit on a
multiprocessor, and the instructions of the code by kind (not of a run: loops count once). Nothing has to run, and no
GPU has to be there.

CUDA's device code is an ELF file (machine 190) inside the host's; a kernel is its section .text.<name>. From Volta on
an instruction has 128 bits, and the low 12 of them say what it does, the low 9 whatever the kind of its operands. The
numbers below were read off kernels whose instructions are known.
"""
import collections
import math
import pathlib
import re
import signal
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "comparison"))
from one_line import OneLine

CUDA_MACHINE = 190
HMMA = 0x23C  # fp16 product on tensor cores (Turing and later)
LDL = 0x983  # load from local memory
STL = 0x387  # store to local memory

OPERATION = 0x1FF
KINDS = {
    "tensor": {0x3C},
    "fp32": {0x20, 0x21, 0x23},  # FMUL, FADD, FFMA
    "special": {0x108},  # MUFU: exponentials, reciprocals
    "shared": {0x184, 0x188, 0x3B},  # LDS, STS, LDSM
    "global": {0x181, 0x186},  # LDG, STG
    "shuffle": {0x189},
    "barrier": {0x11D},
}

MAX_THREADS = 0x05  # attribute of .nv.info.<kernel>: __launch_bounds__, as x, y, z
REGISTERS_OF = 0x2F  # attribute of .nv.info: a kernel's symbol and its registers

Kernel = collections.namedtuple("Kernel", "code registers shared threads")
# What a multiprocessor has, the unit in which a block gets shared memory, and what the system takes of it for every
# block, which a kernel's own count includes (by CUDA 13): CUDA C++ Programming Guide, "Technical specifications per
# compute capability"; cuda_occupancy.h of the toolkit.
Limits = collections.namedtuple("Limits", "warps blocks shared shared_at_once reserved")
LIMITS = {
    75: Limits(32, 16, 64 << 10, 256, 0),
    80: Limits(64, 32, 164 << 10, 128, 1024),
    90: Limits(64, 32, 228 << 10, 128, 1024),
}
REGISTERS, REGISTERS_AT_ONCE = 65536, 256  # of a multiprocessor; the unit in which a warp gets them


def device_images(data):
    """The ELF images of device code in `data`, as (offset, architecture)."""
    start = data.find(b"\x7fELF")
    while start >= 0:
        if len(data) >= start + 64 and struct.unpack_from("<H", data, start + 18)[0] == CUDA_MACHINE:
            flags = struct.unpack_from("<I", data, start + 48)[0]
            # CUDA 13 has the architecture in the second byte, earlier ones in the first.
            second = flags >> 8 & 0xFF
            yield start, second if second >= 70 else flags & 0xFF
        start = data.find(b"\x7fELF", start + 4)


def sections(data, start):
    """{name: (bytes, size)} of the sections of the ELF image at `start`; those of no bytes have a size all the same."""
    table = start + struct.unpack_from("<Q", data, start + 40)[0]
    count, names_index = struct.unpack_from("<HH", data, start + 60)
    headers = [struct.unpack_from("<IIQQQQII", data, table + 64 * i) for i in range(count)]
    names = start + headers[names_index][4]
    found = {}
    for name, kind, _, _, offset, size, _, _ in headers:
        begin = names + name
        content = b"" if kind == 8 else data[start + offset : start + offset + size]
        found[data[begin : data.index(b"\0", begin)].decode()] = (content, size)
    return found


def symbols(of_image):
    """The names of an image's symbols."""
    strings = of_image[".strtab"][0]
    at = [entry[0] for entry in struct.iter_unpack("<IBBHQQ", of_image[".symtab"][0])]
    return [strings[begin : strings.index(b"\0", begin)].decode() for begin in at]


def attributes(info):
    """The attributes that have values of their own in a section .nv.info, as (attribute, words)."""
    at = 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if form == 4:
            yield attribute, struct.unpack_from(f"<{size // 4}I", info, at + 4)
            at += size
        at += 4


def resources(data):
    """{(architecture, mangled name): Kernel}."""
    found = {}
    for start, architecture in device_images(data):
        of_image = collections.defaultdict(lambda: (b"", 0), sections(data, start))
        names = symbols(of_image)
        registers = {
            names[words[0]]: words[1]
            for attribute, words in attributes(of_image[".nv.info"][0])
            if attribute == REGISTERS_OF
        }
        for section, (code, _) in list(of_image.items()):
            if not section.startswith(".text."):
                continue
            name = section[len(".text.") :]
            instructions = struct.iter_unpack("<QQ", code[: len(code) // 16 * 16])
            counts = collections.Counter(low & 0xFFF for low, _ in instructions)
            bounds = [
                math.prod(words)
                for attribute, words in attributes(of_image[".nv.info." + name][0])
                if attribute == MAX_THREADS
            ]
            shared = of_image[".nv.shared." + name][1]
            found[architecture, name] = Kernel(counts, registers[name], shared, bounds[0] if bounds else 0)
    return found


def kernels(data):
    """{(architecture, mangled name): Counter of instructions}."""
    return {key: kernel.code for key, kernel in resources(data).items()}


def resident_warps(kernel, limits):
    """Warps on a multiprocessor at once, in blocks as large as they may be."""
    warps = -(-kernel.threads // 32)
    of_warp = -(-kernel.registers * 32 // REGISTERS_AT_ONCE) * REGISTERS_AT_ONCE
    blocks = min(limits.blocks, limits.warps // warps, REGISTERS // (of_warp * warps))
    of_block = -(-max(kernel.shared, limits.reserved) // limits.shared_at_once) * limits.shared_at_once
    if of_block > 0:
        blocks = min(blocks, limits.shared // of_block)
    return blocks * warps


def readable(names):
    """{mangled: name<arguments>}."""
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    noise = re.compile(r"^void |\(anonymous namespace\)::|\w+::|\((int|bool)\)")
    short = lambda text: noise.sub("", text.split(">(")[0]).split("(")[0]
    return {
        name: short(text) + (">" if ">(" in text else "") for name, text in zip(names, plain.splitlines(), strict=True)
    }


def main():
    arguments = OneLine(description=__doc__.splitlines()[0])
    arguments.add_argument("library", type=pathlib.Path)
    arguments.add_argument("--sm", type=int, default=75, choices=sorted(LIMITS))
    options = arguments.parse_args()
    try:
        found = resources(options.library.read_bytes())
    except OSError as error:
        arguments.error(f"{options.library}: {error.strerror}")
    except (struct.error, ValueError, LookupError):
        arguments.error(f"{options.library}: is cut short or damaged, its device code cannot be read")
    mine = {name: kernel for (architecture, name), kernel in found.items() if architecture == options.sm}
    if not mine:
        has = ", ".join(f"sm_{a}" for a in sorted({architecture for architecture, _ in found})) or "no device code"
        arguments.error(f"{options.library}: no code for sm_{options.sm}; it has {has}")
    names = readable(list(mine))
    warps_of = f"warps of {LIMITS[options.sm].warps}"
    head = ["kernel", "registers", "shared", "threads", warps_of, "instructions", *KINDS]
    rows = [head, ["---"] * len(head)]
    for name in sorted(mine, key=names.get):
        kernel = mine[name]
        kinds = [
            sum(count for code, count in kernel.code.items() if code & OPERATION in of_kind)
            for of_kind in KINDS.values()
        ]
        warps = resident_warps(kernel, LIMITS[options.sm]) if kernel.threads else "?"
        resources_of = [kernel.registers, kernel.shared, kernel.threads or "?", warps]
        rows.append([names[name], *resources_of, sum(kernel.code.values()), *kinds])
    try:
        with open(1, "w", closefd=False) as out:
            out.writelines("| " + " | ".join(str(cell) for cell in row) + " |\n" for row in rows)
    except OSError as error:
        arguments.error(f"standard output: {error.strerror}")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # its reader may have seen enough
    main()
