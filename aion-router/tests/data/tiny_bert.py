"""Makes tests/data/tiny-bert: a BERT of random weights, its tokenizer, and what it gives in double precision.

Run with numpy: python3 tests/data/tiny_bert.py
"""

import json
import math
import struct
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "tiny-bert"
HIDDEN, HEADS, LAYERS, INNER, POSITIONS = 24, 3, 2, 40, 16
WORDS = "[PAD] [UNK] [CLS] [SEP] read write a file ##s ##ing the mail send book flight ##e ##r , ? find".split()
TEXTS = ["read the file", "Reading files, sending mails?", "unheard", "", "book a flight " * 8]

rng = np.random.default_rng(7)
tensors = {}


def tensor(name, *shape, scale=0.3, around=0.0):
    tensors[name] = (around + scale * rng.standard_normal(shape)).astype(np.float32)


def norm(name):
    tensor(f"{name}.weight", HIDDEN, scale=0.2, around=1.0)
    tensor(f"{name}.bias", HIDDEN, scale=0.2)


def linear(name, outputs, inputs):
    tensor(f"{name}.weight", outputs, inputs)
    tensor(f"{name}.bias", outputs)


tensor("embeddings.word_embeddings.weight", len(WORDS), HIDDEN)
tensor("embeddings.position_embeddings.weight", POSITIONS, HIDDEN)
tensor("embeddings.token_type_embeddings.weight", 2, HIDDEN)
norm("embeddings.LayerNorm")
for n in range(LAYERS):
    layer = f"encoder.layer.{n}"
    for part in ("query", "key", "value"):
        linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
    linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
    norm(f"{layer}.attention.output.LayerNorm")
    linear(f"{layer}.intermediate.dense", INNER, HIDDEN)
    linear(f"{layer}.output.dense", HIDDEN, INNER)
    norm(f"{layer}.output.LayerNorm")


def w(name):
    return tensors[name].astype(np.float64)


def apply_linear(x, name):
    return x @ w(f"{name}.weight").T + w(f"{name}.bias")


def apply_norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
    return x * w(f"{name}.weight") + w(f"{name}.bias")


def gelu(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def embed(ids):
    x = w("embeddings.word_embeddings.weight")[ids] + w("embeddings.position_embeddings.weight")[: len(ids)]
    x = apply_norm(x + w("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
    for n in range(LAYERS):
        layer, dim = f"encoder.layer.{n}", HIDDEN // HEADS
        q, k, v = (apply_linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = []
        for h in range(HEADS):
            at = slice(h * dim, (h + 1) * dim)
            scores = q[:, at] @ k[:, at].T / math.sqrt(dim)
            p = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(p / p.sum(-1, keepdims=True) @ v[:, at])
        attended = apply_linear(np.concatenate(heads, -1), f"{layer}.attention.output.dense")
        x = apply_norm(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = gelu(apply_linear(x, f"{layer}.intermediate.dense"))
        x = apply_norm(x + apply_linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def pieces(word):
    found, start = [], 0
    while start < len(word):
        end = len(word)
        while end > start and (("##" if start else "") + word[start:end]) not in WORDS:
            end -= 1
        if end == start:
            return [WORDS.index("[UNK]")]
        found.append(WORDS.index(("##" if start else "") + word[start:end]))
        start = end
    return found


def tokens(text):
    words = text.lower().replace(",", " , ").replace("?", " ? ").split()
    ids = [piece for word in words for piece in pieces(word)]
    return [WORDS.index("[CLS]"), *ids[: POSITIONS - 2], WORDS.index("[SEP]")]


def safetensors(path):
    header, blobs, at = {}, [], 0
    for name, value in tensors.items():
        blob = value.tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


special = {name: WORDS.index(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")}
tokenizer = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": n, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for name, n in special.items()
    ],
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [special[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")},
    },
    "decoder": None,
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {word: n for n, word in enumerate(WORDS)}},
}
config = {
    "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS, "vocab_size": len(WORDS), "layer_norm_eps": 1e-12, "hidden_act": "gelu",
}
HERE.mkdir(exist_ok=True)
safetensors(HERE / "model.safetensors")
(HERE / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1) + "\n")
(HERE / "config.json").write_text(json.dumps(config, indent=1) + "\n")
golden = [{"text": text, "tokens": tokens(text), "vector": [round(float(x), 9) for x in embed(tokens(text))]} for text in TEXTS]
(HERE / "golden.json").write_text(json.dumps(golden) + "\n")
