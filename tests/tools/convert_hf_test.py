"""Runs the built convert_hf: python3 convert_hf_test.py CONVERT_HF [unittest's arguments]."""

import json
import os
import shutil
import struct
import subprocess
import sys
import unittest
import zipfile

import convert_hf_case
from convert_hf_case import (
    Case, FILES, data, encoder_only, integer, read_safetensors, state_dict, tensor, text, tuple_of,
    write_zip, zip_records)
from tiny_model import HIDDEN, LABELS, VOCABULARY, write_model, write_safetensors


class Converts(Case):
    def test_a_fine_tuned_model_in_every_form(self):
        whole = dict(self.tensors)
        out = self.convert(self.source, self.out)
        self.assertIn("%d imported, 0 of them renamed, 0 initialised, 0 ignored; 5 labels\n" % len(whole), out)
        self.assert_converted(whole)
        self.assertEqual(self.config()["id2label"], {str(i): name for i, name in enumerate(LABELS)})
        for form in "zip", "legacy":
            with self.subTest(form):
                shutil.rmtree(self.out)
                shutil.rmtree(self.source)
                write_model(self.source)
                self.to_torch(form)
                self.convert(self.source, self.out)
                self.assert_converted(whole)

    def test_a_classifier_of_another_problem_is_drawn_anew(self):
        path = self.at("source", "config.json")
        with open(path) as file:
            config = json.load(file)
        with open(path, "w") as file:
            json.dump({**config, "problem_type": "single_label_classification"}, file)
        self.refused(self.source, self.out, contains="is not multi_label_classification, the only problem that Ember "
                                                     "computes; where the classifier is for several labels at once, "
                                                     "write that there; --new-classifier draws a new one")
        lines = self.convert(self.source, self.out, "--new-classifier").splitlines()
        self.assertIn("ignored      classifier.weight", lines)
        self.assertIn("initialised  classifier.weight", lines)
        self.assertEqual(self.config()["problem_type"], "multi_label_classification")
        self.assertEqual(self.config()["id2label"], config["id2label"])

    def test_numbers_that_are_not_finite_are_refused(self):
        shape, values = self.tensors["classifier.bias"]
        for value in float("nan"), float("-inf"):
            write_safetensors(self.at("source", "model.safetensors"),
                              {**self.tensors, "classifier.bias": (shape, [value, *values[1:]])})
            for dtype in "fp32", "fp16":
                self.refused(self.source, self.out, "--dtype", dtype,
                             contains="tensor classifier.bias has numbers that are not finite")

    def test_more_data_than_a_directory_may_take(self):
        size = 9 << 18
        self.tensors["cls.large"] = ([size], [0.0] * size)  # 9 MiB
        self.to_torch("zip")
        self.assertIn("ignored      cls.large\n", self.convert(self.source, self.out))

    def test_safetensors_go_before_what_torch_saved(self):
        with open(self.at("source", "pytorch_model.bin"), "w") as file:
            file.write("no weights")
        self.convert(self.source, self.out)
        self.assert_converted(self.tensors)

    def test_an_encoder_as_tinybert_is_published(self):
        whole = {name: value for name, value in self.tensors.items() if not name.startswith("classifier.")}

        def junk(config):
            del config["id2label"], config["label2id"]
            config.update(cell={}, structure=[], pre_trained="", emb_size=312)

        self.to_torch("zip", encoder_only, junk)
        out = self.convert(self.source, self.out)
        written = read_safetensors(self.at("out", "model.safetensors"))
        for (name, (shape, _)), packed in zip(whole.items(), data(whole)):
            self.assertEqual(written[name], ("F32", shape, packed), name)
        self.assertEqual(written["classifier.weight"][1], [2, HIDDEN])
        self.assertNotEqual(written["classifier.weight"][2].strip(b"\0"), b"")
        self.assertEqual(self.config()["id2label"], {"0": "LABEL_0", "1": "LABEL_1"})
        lines = out.splitlines()
        self.assertIn("renamed      bert.embeddings.LayerNorm.gamma -> bert.embeddings.LayerNorm.weight", lines)
        self.assertIn("initialised  classifier.bias", lines)
        self.assertIn("ignored      cls.predictions.bias", lines)
        self.assertIn("ignored      fit_denses.0.weight", lines)
        self.assertEqual(lines[-1], "%d imported, 10 of them renamed, 2 initialised, 2 ignored; 2 labels" % len(whole))

    def test_labels(self):
        self.to_torch("legacy", encoder_only)
        labels = self.at("labels.txt")
        with open(labels, "w") as file:
            file.write("good\nbad\nboth\n")
        self.convert(self.source, self.out, "--labels", labels)
        self.assertEqual(self.config()["id2label"], {"0": "good", "1": "bad", "2": "both"})
        self.convert(self.source, self.out, "--force")
        self.assertEqual(list(self.config()["label2id"]), LABELS)

    def test_a_classifier_into_the_same_labels_is_drawn_anew_if_told(self):
        labels = self.at("labels.txt")
        with open(labels, "w") as file:
            file.write("".join(name + "\n" for name in LABELS))
        for flags in ["--labels", labels], []:
            self.assertIn(" 0 initialised,", self.convert(self.source, self.out, "--force", *flags))
            self.assert_converted(self.tensors)
            out = self.convert(self.source, self.out, "--force", "--new-classifier", *flags)
            self.assertIn(" 2 initialised,", out)
            self.assertEqual(list(self.config()["label2id"]), LABELS)
            written = read_safetensors(self.at("out", "model.safetensors"))
            self.assertNotIn(written["classifier.weight"][2], data(self.tensors))

    def test_a_classifier_into_other_labels_is_kept_unless_told(self):
        for names in LABELS[:2], LABELS[::-1]:
            labels = self.at("labels.txt")
            with open(labels, "w") as file:
                file.write("".join(name + "\n" for name in names))
            self.refused(self.source, self.out, "--labels", labels, contains="--new-classifier draws a new one")
            self.assertFalse(os.path.exists(self.out))
            out = self.convert(self.source, self.out, "--labels", labels, "--new-classifier")
            self.assertIn("initialised  classifier.weight\n", out)
            self.assertEqual(list(self.config()["label2id"]), names)
            shutil.rmtree(self.out)
        self.refused("", self.out, contains="INPUT: the checkpoint to convert is missing")

    def test_one_weight_file(self):
        path = self.to_torch("zip")
        self.convert(path, self.out, "--config", self.at("source", "config.json"), "--vocab",
                     self.at("source", "vocab.txt"))
        self.assert_converted(self.tensors)
        with open(self.at("source", "tokenizer_config.json"), "w") as file:
            json.dump({"do_lower_case": False}, file)
        self.convert(path, self.at("cased"), "--config", self.at("source", "config.json"), "--vocab",
                     self.at("source", "vocab.txt"))
        with open(self.at("cased", "tokenizer_config.json")) as file:
            self.assertIs(json.load(file)["do_lower_case"], False)
        for flag, name in ("--config", "config.json"), ("--vocab", "vocab.txt"):
            self.refused(path, self.at("other"), flag, self.at("source", name),
                         contains="--config and --vocab must name")
        self.refused(self.source, self.at("other"), "--config", "x", contains="go with a weight file")

    def test_the_vocabulary_is_the_file_that_was_named(self):
        special = [{"id": i, "content": token} for i, token in enumerate(VOCABULARY[:5])]
        ends = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
        fast = self.at("source", "tokenizer.json")
        with open(fast, "w") as file:
            json.dump({"added_tokens": special, "normalizer": {"type": "BertNormalizer", "lowercase": True},
                       "pre_tokenizer": {"type": "BertPreTokenizer"},
                       "post_processor": {"type": "TemplateProcessing", "single": ends,
                                          "special_tokens": {"[CLS]": {"ids": [2]}, "[SEP]": {"ids": [3]}}},
                       "model": {"vocab": {token: i for i, token in enumerate(VOCABULARY)}}}, file)
        path, config = self.to_torch("zip"), ["--config", self.at("source", "config.json")]
        none = self.at("source", "vocabulary.txt")
        self.refused(path, self.out, *config, "--vocab", none, contains="--vocab %s: no such file" % none)
        self.convert(path, self.out, *config, "--vocab", fast)
        self.assert_converted(self.tensors)
        with open(self.at("out", "vocab.txt")) as file:
            self.assertEqual(file.read().split("\n")[:-1], VOCABULARY)

    def test_an_adapter_is_not_left_out(self):
        path = self.to_torch("zip")
        with open(self.at("source", "adapter_config.json"), "w") as file:
            file.write("{}")
        self.refused(self.source, self.out, contains="holds adapter_config.json, of an adapter")
        self.assertIn("classifier.bias", self.convert(self.source, "--list"))
        self.convert(path, self.out, "--config", self.at("source", "config.json"), "--vocab",
                     self.at("source", "vocab.txt"))
        os.remove(path)  # and PEFT saves nothing but the adapter
        self.refused(self.source, self.at("other"), contains="holds adapter_config.json, of an adapter")

    def test_list(self):
        self.to_torch("zip")
        lines = self.convert(self.source, "--list").splitlines()
        self.assertEqual(len(lines), len(self.tensors))
        self.assertEqual(lines[1].split("\t"), ["bert.embeddings.position_embeddings.weight", "F32", "[32, 8]", "1024",
                                                "pytorch_model.bin"])
        self.assertEqual(os.listdir(self.scratch), ["source"])

    def test_other_entries_are_named(self):
        root = b"}(" + text("model") + state_dict(self.tensors, False) + text("epoch") + integer(3) + b"u"
        path = self.to_torch("zip")
        write_zip(path, zip_records(self.tensors, root))
        out = self.convert(self.source, self.out)
        self.assertIn("ignored      epoch (no tensor)\n", out)
        self.assertIn(" 1 ignored;", out)
        self.assert_converted(self.tensors)


class Out(Case):
    def test_is_not_replaced_without_force(self):
        self.convert(self.source, self.out)
        self.refused(self.source, self.out, contains="is there already")
        before = os.stat(self.at("out", "config.json")).st_ino
        self.convert(self.source, self.out + "/", "--force")
        self.assertNotEqual(os.stat(self.at("out", "config.json")).st_ino, before)
        self.assertEqual(sorted(os.listdir(self.scratch)), ["out", "source"])

    def test_is_not_the_input(self):
        for out in self.source, self.source + "/", self.at("source", "..", "source"):
            self.refused(self.source, out, "--force", contains="is where the input is")
        path = self.to_torch("zip")
        self.refused(path, self.source, "--force", contains="is where the input is")
        self.refused(path, path, "--force", contains="is where the input is")

    def test_what_killed_conversions_left_is_removed(self):
        ended = subprocess.Popen(["true"])
        ended.wait()
        gone, here, name = ended.pid, os.getpid(), os.path.basename(self.out)
        left = [f".{name}.{gone}.partial", f".{name}.{gone}.new", f"..{name}.{gone}.new.{gone}.partial"]
        kept = [f".{name}.{here}.new", f".{name}.{gone}.old", f".{name}x.{gone}.new", f".{name}.x.new",
                f"{name}.{gone}.new", f"..{name}.{gone}.partial.{gone}.partial", f".{name}.{gone}.removed",
                young := f".{name}.{gone}1.new"]
        for folder in left + kept:
            os.mkdir(self.at(folder))
            if folder != young:
                os.utime(self.at(folder), (1, 1))
        self.convert(self.source, self.out)
        self.convert(self.source, self.out, "--force")
        beside = os.listdir(os.path.dirname(self.out))
        self.assertEqual([folder for folder in left if folder in beside], [])
        self.assertEqual([folder for folder in kept if folder not in beside], [])

    def test_force_removes_nothing_but_a_model(self):
        self.convert(self.source, self.out)
        with open(self.at("out", "thesis.tex"), "w"):
            pass
        self.refused(self.source, self.out, "--force", contains="holds thesis.tex")
        self.refused(self.source, self.scratch, "--force", contains="--force does not replace it")
        os.symlink(self.out, self.at("link"))
        self.refused(self.source, self.at("link"), "--force", contains="is no directory")
        os.symlink("nowhere", self.at("dangling"))
        self.refused(self.source, self.at("dangling"), contains="is there already")
        self.refused(self.source, self.at("out", "thesis.tex", "out"),
                     contains="thesis.tex: cannot be used as a folder")
        self.refused(self.source, contains="OUT")
        self.convert(self.source, self.at("none", "out"))
        self.assertEqual(sorted(os.listdir(self.at("none", "out"))), FILES)
        os.remove(self.at("none", "out", "vocab.txt"))
        os.mkdir(self.at("none", "out", "vocab.txt"))
        self.refused(self.source, self.at("none", "out"), "--force", contains="holds vocab.txt, which is no part")

    def test_list_takes_nothing_that_converts(self):
        for flags in [[self.out], ["--labels", "x"], ["--dtype", "fp16"], ["--force"], ["--new-classifier"]]:
            self.refused(self.source, "--list", *flags, contains="excludes --list")
        self.assertFalse(os.path.exists(self.out))

    def test_stays_whole_when_the_input_is_bad(self):
        self.convert(self.source, self.out)
        self.to_torch("zip", lambda tensors: tensors.pop("bert.embeddings.LayerNorm.bias"))
        self.refused(self.source, self.out, "--force", contains="bert.embeddings.LayerNorm.bias is missing")
        self.assertEqual(sorted(os.listdir(self.out)), FILES)


class Refuses(Case):
    def bad(self, contains, change=lambda records: records, prepare=None):
        path = self.at("bad.bin")
        write_zip(path, change(zip_records(self.tensors)))
        if prepare:
            with open(path, "rb") as file:
                content = bytearray(file.read())
            prepare(content)
            with open(path, "wb") as file:
                file.write(content)
        self.refused(path, self.out, "--config", self.at("source", "config.json"), "--vocab",
                     self.at("source", "vocab.txt"), contains=contains)

    def test_containers(self):
        self.bad("two data.pkl", lambda records: {**records, "b/data.pkl": b"\x80\x02}."})
        self.bad("without a data.pkl", lambda records: {"archive/version": b"3\n"})
        self.bad("zip entry archive/data/0 is missing",
                 lambda records: {k: v for k, v in records.items() if k != "archive/data/0"})
        for change in lambda content: content[:-4], lambda content: content + b"1234":
            self.bad("but zip entry archive/data/0 has",
                     lambda records: {**records, "archive/data/0": change(records["archive/data/0"])})
        self.bad("data.pkl: 1 bytes after STOP",
                 lambda records: {**records, "archive/data.pkl": records["archive/data.pkl"] + b"."})
        self.bad("expected little", lambda records: {**records, "archive/byteorder": b"big"})

    def test_tensors_larger_than_the_file(self):
        storage = tuple_of(text("storage"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"), integer(1)) + b"Q"
        expanded = (b"ctorch._utils\n_rebuild_tensor_v2\n" +
                    tuple_of(storage, integer(0), tuple_of(integer(2**30)), tuple_of(integer(0)), b"\x89",
                             b"ccollections\nOrderedDict\n)R") + b"R")
        self.tensors = {"t": ([1], [1.0])}
        root = b"}(" + text("t") + expanded + b"u"
        self.bad("with it the tensors take more than", lambda _: zip_records(self.tensors, root))

    def test_tensors_that_disagree_about_their_storage(self):
        float_view = tensor("0", [2], 2, False)
        entries = text("a") + float_view + text("b") + float_view.replace(b"FloatStorage", b"IntStorage")
        self.tensors = {"a": ([2], [1.0, 2.0])}
        self.bad("storage 0 is 2 F32 and 2 I32", lambda _: zip_records(self.tensors, b"}(" + entries + b"u"))

    def test_repeated_names(self):
        for name in "archive/data/0", "archive/data.pkl":
            with self.assertWarns(UserWarning):
                self.bad("stands there twice", lambda records: [*records.items(), (name, records[name])])

    def test_compressed_entries(self):
        path = self.at("bomb.bin")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("archive/data.pkl", b"\0" * (1 << 24))
        self.refused(path, "--list", contains="archive/data.pkl: is compressed")

    def test_damaged_entries(self):
        packed = data(self.tensors)[0]

        def wrong_byte(content):
            content[content.index(packed)] ^= 1

        def local(content, offset, value):  # in every local header
            at = content.find(b"PK\3\4")
            while at >= 0:
                content[at + offset:at + offset + len(value)] = value
                at = content.find(b"PK\3\4", at + 4)

        def central(content, offset, value):
            at = content.index(b"PK\1\2")
            content[at + offset:at + offset + len(value)] = value

        def encrypted(content):
            """The first entry, as APPNOTE 6.1 has it: a flag, and 12 bytes that are not of the data."""
            size = struct.pack("<I", struct.unpack_from("<I", content, 22)[0] - 12)
            content[6] |= 1
            content[22:26] = size
            central(content, 8, b"\1")
            central(content, 24, size)

        self.bad("CRC", prepare=wrong_byte)
        self.bad("is encrypted", prepare=encrypted)
        self.bad("not a sound zip file", prepare=lambda content: local(content, 18, b"\1\0\0\0\1\0\0\0"))
        self.bad("bad.bin: ", prepare=lambda content: central(content, 20, b"\xff\xff\xff\x7f\xff\xff\xff\x7f"))
        self.bad("bad.bin: ", prepare=lambda content: central(content, 42, b"\xff\xff\xff\x7f"))

    def test_pickles_that_run_code(self):
        marker = self.at("ran")
        command = "touch '%s'" % marker
        for pickle, contains in [
                (b"cos\nsystem\n" + tuple_of(text(command)) + b"R", "os.system"),
                (b"cbuiltins\neval\n" + tuple_of(text("1")) + b"R", "builtins.eval"),
                (text("os") + text("system") + b"\x93" + tuple_of(text(command)) + b"R", "STACK_GLOBAL"),
                (b"(X\x01\0\0\0aios\nsystem\n", "INST"), (b"(ccollections\nOrderedDict\no", "OBJ"),
                (state_dict(self.tensors, False) + b"0", "POP")]:
            records = {"archive/data.pkl": b"\x80\x02" + pickle + b"."}
            self.bad(contains, lambda _: records)
        self.assertFalse(os.path.exists(marker))

    def test_contradictions(self):
        name = "bert.embeddings.LayerNorm."
        self.tensors[name + "gamma"] = self.tensors[name + "weight"]
        self.bad("are both bert.embeddings.LayerNorm.weight")
        del self.tensors[name + "gamma"]
        self.tensors["pooler.dense.bias"] = self.tensors["bert.pooler.dense.bias"]
        self.bad("are both bert.pooler.dense.bias")
        del self.tensors["pooler.dense.bias"]
        self.tensors[name + "weight"] = ([4], [1.0] * 4)
        self.bad("tensor bert.embeddings.LayerNorm.weight is F32 [4], expected [8]")

    def test_what_git_has_in_the_place_of_weights(self):
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 4096\n" % ("0" * 64)
        for name in "model.safetensors", "pytorch_model.bin":
            with open(self.at("source", name), "w") as file:
                file.write(pointer)
            for arguments in [self.source, self.out], [self.source, "--list"]:
                self.refused(*arguments, contains=name + ": is a pointer of Git LFS and not the weights")
            os.remove(self.at("source", name))

    def test_missing_and_split_files(self):
        self.refused(self.at("none"), self.out, contains="no such file")
        os.remove(self.at("source", "model.safetensors"))
        self.refused(self.source, self.out,
                     contains="holds no model.safetensors, model.safetensors.index.json or pytorch_model.bin")
        with open(self.at("source", "pytorch_model.bin.index.json"), "w"):
            pass
        self.refused(self.source, self.out, contains="split over several files")


if __name__ == "__main__":
    convert_hf_case.CONVERT_HF = sys.argv.pop(1)
    unittest.main()
