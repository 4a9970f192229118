"""What the tests of convert_hf share: checkpoints as torch.save would write them, written opcode by opcode with the
standard library alone, and a Case that converts one in a folder of its own.
"""

import json
import os
import shutil
import struct
import subprocess
import tempfile
import zipfile

from refusals import Refusals
from tiny_model import write_model

CONVERT_HF = None  # the program, as the test that runs is told it
TIMEOUT = 120
FILES = ["config.json", "model.safetensors", "special_tokens_map.json", "tokenizer_config.json", "vocab.txt"]


def text(s):
    return b"X" + struct.pack("<I", len(s.encode())) + s.encode()


def integer(n):
    return b"\x8a\x08" + struct.pack("<q", n)


def tuple_of(*items):
    return b"(" + b"".join(items) + b"t"


def tensor(key, shape, elements, legacy):
    storage = [text("storage"), b"ctorch\nFloatStorage\n", text(key), text("cpu"), integer(elements)]
    storage = tuple_of(*storage, *([b"N"] if legacy else [])) + b"Q"
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return (b"ctorch._utils\n_rebuild_tensor_v2\n" +
            tuple_of(storage, integer(0), tuple_of(*map(integer, shape)), tuple_of(*map(integer, strides)), b"\x89",
                     b"ccollections\nOrderedDict\n)R") + b"R")


def state_dict(tensors, legacy):
    entries = b"".join(text(name) + tensor(str(i), shape, len(values), legacy)
                       for i, (name, (shape, values)) in enumerate(tensors.items()))
    return b"ccollections\nOrderedDict\n)R(" + entries + b"u"


def data(tensors):
    return [struct.pack("<%df" % len(values), *values) for _, values in tensors.values()]


def zip_records(tensors, root=None):
    records = {"archive/data.pkl": b"\x80\x02" + (root or state_dict(tensors, False)) + b"."}
    for i, packed in enumerate(data(tensors)):
        records["archive/data/%d" % i] = packed
    records["archive/version"] = b"3\n"
    return records


def write_zip(path, records):
    """`records` is a dict, or pairs where names may repeat."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, content in records.items() if isinstance(records, dict) else records:
            file.writestr(name, content)


def write_legacy(path, tensors):
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    system = b"\x80\x02}(" + text("protocol_version") + integer(1001) + text("little_endian") + b"\x88u."
    keys = b"\x80\x02](" + b"".join(text(str(i)) for i in range(len(tensors))) + b"e."
    with open(path, "wb") as file:
        file.write(magic + b"\x80\x02M\xe9\x03." + system + b"\x80\x02" + state_dict(tensors, True) + b"." + keys)
        for packed in data(tensors):
            file.write(struct.pack("<q", len(packed) // 4) + packed)


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        blob = file.read()
    assert header.pop("__metadata__") == {"format": "pt"}
    return {name: (entry["dtype"], entry["shape"], blob[slice(*entry["data_offsets"])])
            for name, entry in header.items()}


def encoder_only(tensors):
    """As the published TinyBERT has it: no classifier, old LayerNorm names, tensors of its training."""
    for name in list(tensors):
        if name.startswith("classifier."):
            del tensors[name]
        elif "LayerNorm." in name:
            tensors[name.replace(".weight", ".gamma").replace(".bias", ".beta")] = tensors.pop(name)
    tensors["cls.predictions.bias"] = ([3], [1.0, 2.0, 3.0])
    tensors["fit_denses.0.weight"] = ([2, 2], [1.0, 2.0, 3.0, 4.0])


class Case(Refusals):
    def setUp(self):
        self.scratch = tempfile.mkdtemp(prefix="ember convert ")
        self.addCleanup(shutil.rmtree, self.scratch)
        self.source, self.out = self.at("source"), self.at("out")
        self.tensors = {}
        write_model(self.source, change=self.tensors.update)

    def at(self, *names):
        return os.path.join(self.scratch, *names)

    def to_torch(self, form, change=None, config=None):
        """Replaces the source's model.safetensors by pytorch_model.bin."""
        (change or (lambda tensors: None))(self.tensors)
        path = self.at("source", "pytorch_model.bin")
        if form == "zip":
            write_zip(path, zip_records(self.tensors))
        else:
            write_legacy(path, self.tensors)
        os.remove(self.at("source", "model.safetensors"))
        if config:
            with open(self.at("source", "config.json")) as file:
                content = json.load(file)
            config(content)
            with open(self.at("source", "config.json"), "w") as file:
                json.dump(content, file)
        return path

    def run_it(self, *arguments):
        return subprocess.run([CONVERT_HF, *arguments], capture_output=True, timeout=TIMEOUT, text=True)

    def convert(self, *arguments):
        done = self.run_it(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def config(self):
        with open(self.at("out", "config.json")) as file:
            return json.load(file)

    def refused(self, *arguments, contains):
        before = sorted(os.walk(self.scratch))
        done = self.run_it(*arguments)
        self.assert_refused(done, contains, program="convert_hf")
        self.assertEqual(sorted(os.walk(self.scratch)), before, "something was written")

    def assert_converted(self, tensors):
        self.assertEqual(sorted(os.listdir(self.out)), FILES)
        written = read_safetensors(self.at("out", "model.safetensors"))
        self.assertEqual(set(written), set(tensors))
        for (name, (shape, _)), packed in zip(tensors.items(), data(tensors)):
            self.assertEqual(written[name], ("F32", shape, packed), name)
