"""Runs the built convert_hf on sharded checkpoints, with --dtype, and on what may be wrong around the weights:
python3 convert_hf_shards_test.py CONVERT_HF PREDICT [unittest's arguments].
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import unittest

import convert_hf_case
from convert_hf_case import Case, data, read_safetensors, write_zip, zip_records
from tiny_model import HIDDEN, VOCABULARY, write_model, write_safetensors

PREDICT = None
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


class Sharded(Case):
    def setUp(self):
        super().setUp()
        os.remove(self.at("source", "model.safetensors"))
        names = list(self.tensors)
        self.shards = {FIRST: names[:9], SECOND: names[9:]}
        self.weight_map = {name: shard for shard, names in self.shards.items() for name in names}
        self.write()

    def write(self, text=None):
        for shard, names in self.shards.items():
            write_safetensors(self.at("source", shard), {name: self.tensors[name] for name in names})
        with open(self.at("source", INDEX), "w") as file:
            file.write(text or json.dumps({"metadata": {"total_size": 1}, "weight_map": self.weight_map}))

    def bad(self, contains):
        self.refused(self.source, self.out, contains=contains)

    def test_converts(self):
        self.convert(self.source, self.out)
        self.assert_converted(self.tensors)
        shutil.rmtree(self.out)
        self.convert(self.at("source", INDEX), self.out, "--config", self.at("source", "config.json"), "--vocab",
                     self.at("source", "vocab.txt"))
        self.assert_converted(self.tensors)

    def test_list_names_the_shards(self):
        rows = [line.split("\t") for line in self.convert(self.source, "--list").splitlines()]
        self.assertEqual({row[0]: row[4] for row in rows}, self.weight_map)

    def test_a_bad_tensor_is_said_to_be_in_its_shard(self):
        name = self.shards[SECOND][0]
        self.tensors[name] = ([3], [1.0] * 3)
        self.write()
        self.bad("%s: tensor %s is F32 [3], expected" % (SECOND, name))

    def test_predict_reads_them_too(self):
        done = subprocess.run([PREDICT, "--model", self.source, "i am happy"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_one_file_goes_before_shards(self):
        write_model(self.source)
        os.remove(self.at("source", FIRST))
        self.convert(self.source, self.out)
        self.assert_converted(self.tensors)

    def test_links_within_the_folder(self):
        os.rename(self.at("source", FIRST), self.at("source", "blob.safetensors"))
        os.symlink("blob.safetensors", self.at("source", FIRST))
        self.convert(self.source, self.out)
        self.assert_converted(self.tensors)

    def test_names_that_lead_out(self):
        name = list(self.tensors)[3]
        outside = self.at("outside.safetensors")
        shutil.copy(self.at("source", FIRST), outside)
        for shard in ("../outside.safetensors", outside, "..", ".", "", "x/" + FIRST, "..\\outside.safetensors",
                      "/etc/passwd", FIRST + "\0"):
            self.weight_map[name] = shard
            self.write()
            self.bad("tensor %s: shard" % name)
        self.weight_map[name] = "config.json"
        self.write()
        self.bad("does not end in .safetensors")
        os.remove(self.at("source", FIRST))
        os.symlink(outside, self.at("source", FIRST))
        self.weight_map[name] = FIRST
        self.shards.pop(FIRST)
        self.write()
        self.bad("is a link that leads out of the index's folder")

    def test_a_missing_shard(self):
        os.remove(self.at("source", SECOND))
        self.bad("shard \"%s\": No such file" % SECOND)

    def test_a_broken_shard(self):
        with open(self.at("source", SECOND), "ab") as file:
            file.write(b"x")
        self.bad(SECOND + ": 1 bytes after the last tensor")

    def test_a_tensor_in_two_shards(self):
        name = self.shards[FIRST][0]
        self.shards[SECOND].append(name)
        self.write()
        self.bad("tensor %s is in two shards, %s and %s" % (name, FIRST, SECOND))

    def test_weight_map_and_shards_disagree(self):
        name = self.shards[FIRST][0]
        self.weight_map[name] = SECOND
        self.write()
        self.bad("tensor %s is not in %s, where weight_map has it" % (name, SECOND))
        del self.weight_map[name]
        self.write()
        self.bad("tensor %s is in %s, but not in weight_map" % (name, FIRST))
        self.weight_map.update({name: FIRST, "ghost": FIRST})
        self.write()
        self.bad("tensor ghost is not in %s" % FIRST)

    def test_a_broken_index(self):
        for text, contains in [
                ("{}", "weight_map is missing"), ("[]", "a JSON object was expected"),
                ('{"weight_map": {}}', "weight_map must be"), ('{"weight_map": ["x"]}', "weight_map must be"),
                ('{"weight_map": {"a": 1}}', "tensor a: the name of a file was expected, not number"),
                ('{"weight_map": {"a": "x", "a": "x"}}', 'key "a" stands there twice'),
                ("[" * 100000, "nested deeper"), (" " * (3 << 20), "more than the 1572864 allowed")]:
            self.write(text)
            self.bad(contains)

    def test_a_truncated_index(self):
        name = list(self.tensors)[0]
        whole = json.dumps({"weight_map": {name: FIRST}})
        for size in range(len(whole)):
            self.write(whole[:size] or " ")
            self.bad(INDEX + ": ")


class Dtype(Case):
    def halves(self, values):
        return struct.pack("<%de" % len(values), *values)

    def test_fp16_rounds_once(self):
        name = "bert.encoder.layer.0.output.dense.bias"
        self.tensors[name] = ([HIDDEN], [1 + 2**-11, 1 + 3 * 2**-11, -(2**-25), 2**-24, 65504.0, 0.1, -0.0, 2**-14])
        write_safetensors(self.at("source", "model.safetensors"), self.tensors)
        self.convert(self.source, self.out, "--dtype", "fp16")
        written = read_safetensors(self.at("out", "model.safetensors"))
        for name, (shape, values) in self.tensors.items():
            single = struct.unpack("<%df" % len(values), struct.pack("<%df" % len(values), *values))
            self.assertEqual(written[name], ("F16", shape, self.halves(single)), name)
        self.assertEqual(self.config()["torch_dtype"], "float16")

    def test_fp16_is_read_back(self):
        for values in self.tensors.values():
            values[1][:] = struct.unpack("<%de" % len(values[1]), self.halves(values[1]))
        path = self.to_torch("zip")
        self.convert(self.source, self.out, "--dtype", "fp16")
        scores = [subprocess.run([PREDICT, "--model", folder, "--all", "--format", "jsonl", "i am happy"],
                                 capture_output=True, text=True, check=True).stdout
                  for folder in (self.out, self.exact(path))]
        self.assertEqual(*scores)
        self.convert(self.out, self.at("again"))
        os.rename(self.at("again"), self.at("out", "..", "x"))
        shutil.rmtree(self.out)
        os.rename(self.at("x"), self.out)
        self.assert_converted(self.tensors)

    def exact(self, _):
        self.convert(self.source, self.at("exact"))
        return self.at("exact")

    def test_what_fp16_cannot_hold(self):
        name = "bert.pooler.dense.bias"
        self.tensors[name] = ([HIDDEN], [70000.0] * HIDDEN)
        write_safetensors(self.at("source", "model.safetensors"), self.tensors)
        self.convert(self.source, self.out)
        self.refused(self.source, self.at("half"), "--dtype", "fp16", contains="tensor %s: 70000 is beyond fp16" % name)

    def test_other_types(self):
        self.refused(self.source, self.out, "--dtype", "bf16", contains="--dtype")


class Around(Case):
    def configure(self, **changes):
        with open(self.at("source", "config.json")) as file:
            config = json.load(file)
        config.update(changes)
        with open(self.at("source", "config.json"), "w") as file:
            json.dump(config, file)

    def test_heads_that_do_not_divide(self):
        self.configure(num_attention_heads=3)
        self.refused(self.source, self.out, contains="num_attention_heads is 3, which does not divide hidden_size 8")

    def test_a_vocabulary_shorter_than_the_embedding(self):
        with open(self.at("source", "vocab.txt"), "w") as file:
            file.write("\n".join(VOCABULARY[:-1]) + "\n")
        short = len(VOCABULARY) - 1
        self.configure(vocab_size=short + 128)
        self.refused(self.source, self.out, contains="vocab.txt: has %d lines, but vocab_size" % short)
        self.configure(vocab_size=short)
        self.refused(self.source, self.out, contains="word_embeddings.weight has %d rows, but vocab_size" % (short + 1))

    def test_lengths(self):
        path = self.at("source", "model.safetensors")
        with open(path, "rb") as file:
            content = file.read()
        for length in 2**31, 2**63, 2**64 - 1:
            with open(path, "wb") as file:
                file.write(struct.pack("<Q", length) + content[8:])
            self.refused(self.source, self.out, contains="a header of %d bytes" % length)

    def test_lengths_of_torch_files(self):
        self.to_torch("legacy")
        path, counts = self.at("source", "pytorch_model.bin"), len(self.tensors[list(self.tensors)[0]][1])
        with open(path, "rb") as file:
            content = file.read()
        at = content.index(struct.pack("<q", counts) + data(self.tensors)[0])
        for count in 2**31, -2**63, -1, 2**62:
            with open(path, "wb") as file:
                file.write(content[:at] + struct.pack("<q", count) + content[at + 8:])
            self.refused(self.source, self.out, contains="has %d elements, but the pickle says" % count)
        write_zip(path, zip_records(self.tensors))
        with open(path, "rb") as file:
            content = file.read()
        for offset in 20, 24, 42:  # compressed size, size, place
            for value in 2**31, 2**32 - 1:
                at = content.index(b"PK\1\2") + offset
                with open(path, "wb") as file:
                    file.write(content[:at] + struct.pack("<I", value) + content[at + 4:])
                self.refused(self.source, self.out, contains="pytorch_model.bin: ")

    def test_the_tar_form(self):
        self.to_torch("zip")
        with open(self.at("source", "pytorch_model.bin"), "wb") as file:
            file.write(b"sys_info".ljust(257, b"\0") + b"ustar\0" + b"0" * 300)
        self.refused(self.source, self.out, contains="the tar form of torch.save")

    def test_json_that_is_slow_to_parse(self):
        with open(self.at("source", "config.json"), "w") as file:
            file.write('{"a":[' + "{}," * 500000 + "{}]}")
        self.refused(self.source, self.out, contains="vocab_size is missing")

    def test_what_is_no_file(self):
        os.remove(self.at("source", "model.safetensors"))
        os.mkfifo(self.at("source", "model.safetensors"))
        self.refused(self.source, self.out, contains="is no regular file")

    def test_too_many_of_anything(self):
        path = self.at("source", "model.safetensors")

        def header(text):
            with open(path, "wb") as file:
                file.write(struct.pack("<Q", len(text)) + text)

        entry = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
        header(b"{" + b",".join(b'"%d":%s' % (i, entry) for i in range(65537)) + b"}")
        self.refused(self.source, self.out, contains="more than 65536 tensors")
        header(b'{"__metadata__":{' + b",".join(b'"%d":""' % i for i in range(65537)) + b"}}")
        self.refused(self.source, self.out, contains="__metadata__ has more than 65536 keys")
        header(b'{"' + b"a" * 70000 + b'":' + entry + b"}")
        self.refused(self.source, self.out, contains="a string or number of more than 65536 bytes at 10")
        header(b'{"a":{"dtype":"U8","shape":[' + b"1" * 70000 + b"]}}")
        self.refused(self.source, self.out, contains="a string or number of more than 65536 bytes")

    def test_a_zip_file_of_nothing_but_entries(self):
        self.to_torch("zip")
        records = zip_records(self.tensors)
        records.update({"archive/data/x%d" % i: b"" for i in range(60000)})
        write_zip(self.at("source", "pytorch_model.bin"), records)
        self.convert(self.source, self.out)
        records.update({"archive/data/y%d" % i: b"" for i in range(60000)})
        write_zip(self.at("source", "pytorch_model.bin"), records)
        self.refused(self.source, self.at("other"), contains="its directory is larger than that of any checkpoint")


if __name__ == "__main__":
    convert_hf_case.CONVERT_HF, PREDICT = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main()
