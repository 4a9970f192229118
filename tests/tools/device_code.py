"""Reads the device code inside an object file or library: which instructions each CUDA kernel has, for each architecture.

CUDA's device code is an ELF file (machine 190) inside the host's; a kernel is its section .text.<name>. From Volta on an
instruction has 128 bits, and the low 12 of them say what it does, whatever its operands. The numbers below were read off
kernels whose instructions are known.
"""
import collections
import struct

CUDA_MACHINE = 190
HMMA = 0x23C  # fp16 product on tensor cores (Turing and later)
LDSM = 0x83B  # ldmatrix
LDL = 0x983  # load from local memory
STL = 0x387  # store to local memory


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
    """(name, bytes) of each section of the ELF image at `start`."""
    table = start + struct.unpack_from("<Q", data, start + 40)[0]
    count, names_index = struct.unpack_from("<HH", data, start + 60)
    headers = [struct.unpack_from("<IIQQQQ", data, table + 64 * i) for i in range(count)]
    names = start + headers[names_index][4]
    for name, _, _, _, offset, size in headers:
        begin = names + name
        yield data[begin : data.index(b"\0", begin)].decode(), data[start + offset : start + offset + size]


def kernels(data):
    """{(architecture, kernel): Counter of instructions}."""
    found = {}
    for start, architecture in device_images(data):
        for name, code in sections(data, start):
            if name.startswith(".text."):
                words = struct.iter_unpack("<QQ", code[: len(code) // 16 * 16])
                found[architecture, name[len(".text.") :]] = collections.Counter(low & 0xFFF for low, _ in words)
    return found
