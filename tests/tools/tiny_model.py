"""Writes a tiny BERT classifier as a Hugging Face directory, with nothing but the standard library.

    python3 tiny_model.py DIRECTORY

write_model(directory) draws random weights. write_model(directory, scores=[...]) makes a model that gives every text
these scores: the classifier's weights are zero and its biases the scores' logits.
"""

import json
import math
import os
import random
import struct
import sys

LABELS = ["admiration", "joy", "love", "sadness", "neutral"]
WORDS = "i am so happy sad you the cat was great passed exam name is ! ? [ ] , . -".split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS
HIDDEN, LAYERS, HEADS, FFN, POSITIONS = 8, 2, 2, 12, 32


def shapes(label_count):
    c, f = HIDDEN, FFN
    yield "bert.embeddings.word_embeddings.weight", [len(VOCABULARY), c]
    yield "bert.embeddings.position_embeddings.weight", [POSITIONS, c]
    yield "bert.embeddings.token_type_embeddings.weight", [2, c]
    yield from vectors("bert.embeddings.LayerNorm", c)
    for i in range(LAYERS):
        layer = "bert.encoder.layer.%d." % i
        for name in "query", "key", "value":
            yield from dense(layer + "attention.self." + name, c, c)
        yield from dense(layer + "attention.output.dense", c, c)
        yield from vectors(layer + "attention.output.LayerNorm", c)
        yield from dense(layer + "intermediate.dense", f, c)
        yield from dense(layer + "output.dense", c, f)
        yield from vectors(layer + "output.LayerNorm", c)
    yield from dense("bert.pooler.dense", c, c)
    yield from dense("classifier", label_count, c)


def dense(name, rows, cols):
    yield name + ".weight", [rows, cols]
    yield name + ".bias", [rows]


def vectors(name, size):
    yield name + ".weight", [size]
    yield name + ".bias", [size]


def draw(name, count, generator):
    if "LayerNorm" in name:
        return [1.0 if name.endswith("weight") else 0.0] * count
    return [generator.gauss(0, 0.7) for _ in range(count)]


def write_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (shape, values) in tensors.items():
        packed = struct.pack("<%df" % len(values), *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def write_model(directory, scores=None, labels=LABELS, change=lambda tensors: None):
    os.makedirs(directory, exist_ok=True)
    generator = random.Random(1)
    tensors = {}
    for name, shape in shapes(len(labels)):
        tensors[name] = (shape, draw(name, math.prod(shape), generator))
    if scores is not None:
        tensors["classifier.weight"] = ([len(labels), HIDDEN], [0.0] * (len(labels) * HIDDEN))
        tensors["classifier.bias"] = ([len(labels)], [math.log(score / (1 - score)) for score in scores])
    change(tensors)
    write_safetensors(os.path.join(directory, "model.safetensors"), tensors)
    config = {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_act": "gelu",
        "vocab_size": len(VOCABULARY), "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "intermediate_size": FFN, "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
        "problem_type": "multi_label_classification",
    }
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump(config, file)
    with open(os.path.join(directory, "vocab.txt"), "w") as file:
        file.write("\n".join(VOCABULARY) + "\n")
    with open(os.path.join(directory, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "BertTokenizer", "do_lower_case": True}, file)


if __name__ == "__main__":
    write_model(sys.argv[1], scores=[0.1, 0.93, 0.31, 0.02, 0.2])
