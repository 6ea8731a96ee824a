"""Makes tiny/*.safetensors: small random checkpoints with the logits that their definition gives.

Usage: python tiny.py     (the standard library alone; writes beside itself)

The reference is written here, in 64-bit floats and loops, from the definition of the architecture (RMSNorm, rotary
positions on halves, grouped-query attention, windows, caps, SwiGLU or squared ReLU, mixtures of experts); it shares no code with the engine. Weights are
rounded to 16 bits before they are used, so the file holds exactly what was computed with. `expected.logits` is
`[tokens, vocab]`; the metadata has the configuration and the tokens.
"""

import json
import math
import random
import struct
from pathlib import Path

VOCAB = 265  # that of the crate's tiny tokenizer
TOKENS = [104, 105, 32, 260, 17, 99, 104, 3, 261, 44, 32, 200]
CASES = {
    "grouped_tied": {"kv": 2, "tied": True},
    "one_key_head_untied": {"kv": 1, "tied": False},
    "llama3_scaling": {
        "kv": 4,
        "tied": True,
        "scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "linear_scaling": {"kv": 2, "tied": True, "scaling": {"type": "linear", "factor": 4.0}},
    "squared_relu": {"kv": 2, "tied": True, "act": "relu2"},
    "experts": {"kv": 2, "tied": True, "experts": {"num_local_experts": 5, "num_experts_per_tok": 2}},
    "experts_sigmoid_biased": {
        "kv": 2,
        "tied": True,
        "experts": {
            "num_local_experts": 4,
            "num_experts_per_tok": 3,
            "scoring_func": "sigmoid",
            "use_routing_bias": True,
        },
    },
    "window_and_caps": {
        "kv": 2,
        "tied": True,
        "more": {
            "model_type": "mistral",
            "sliding_window": 5,
            "aion": {"attention_cap": 1.5, "logit_cap": 2.5},
        },
    },
}


def config(case):
    experts = {"model_type": "mixtral", **case["experts"]} if "experts" in case else {}
    return {
        "model_type": "llama",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": case["kv"],
        "head_dim": 8,
        "intermediate_size": 24,
        "vocab_size": VOCAB,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": case.get("scaling"),
        "hidden_act": case.get("act", "silu"),
        "tie_word_embeddings": case["tied"],
        **experts,
        **case.get("more", {}),
    }


def half(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def weights(c, rng):
    d, ff, h = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * h, c["num_key_value_heads"] * h
    shapes = {"model.embed_tokens.weight": (VOCAB, d), "model.norm.weight": (d,)}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (VOCAB, d)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        parts = {
            "input_layernorm": (d,),
            "self_attn.q_proj": (q, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, q),
            "post_attention_layernorm": (d,),
        }
        if "num_local_experts" in c:
            parts["block_sparse_moe.gate"] = (c["num_local_experts"], d)
            for e in range(c["num_local_experts"]):
                expert = f"block_sparse_moe.experts.{e}."
                parts.update({expert + "w1": (ff, d), expert + "w2": (d, ff), expert + "w3": (ff, d)})
            if c.get("use_routing_bias"):
                shapes[layer + "block_sparse_moe.e_score_correction_bias"] = (c["num_local_experts"],)
        else:
            parts.update({"mlp.up_proj": (ff, d), "mlp.down_proj": (d, ff)})
            if c["hidden_act"] == "silu":
                parts["mlp.gate_proj"] = (ff, d)
        shapes.update({layer + name + ".weight": shape for name, shape in parts.items()})
    out = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            out[name] = (shape, [half(1 + 0.3 * rng.uniform(-1, 1)) for _ in range(shape[0])])
        else:
            spread = math.sqrt(3 / shape[1]) if "embed" not in name else 0.7
            rows = [[half(spread * rng.uniform(-1, 1)) for _ in range(shape[1])] for _ in range(shape[0])]
            out[name] = (shape, rows)
    return out


def norm(x, w, eps):
    scale = math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v / scale * k for v, k in zip(x, w)]


def apply(rows, x):
    return [sum(w * v for w, v in zip(row, x)) for row in rows]


def frequencies(c):
    n, scaling = c["head_dim"] // 2, c["rope_scaling"]
    plain = [c["rope_theta"] ** (-i / n) for i in range(n)]
    if scaling is None:
        return plain
    if "type" in scaling:
        return [f / scaling["factor"] for f in plain]
    out = []
    for f in plain:
        wave, old = 2 * math.pi / f, scaling["original_max_position_embeddings"]
        if wave < old / scaling["high_freq_factor"]:
            out.append(f)
        elif wave > old / scaling["low_freq_factor"]:
            out.append(f / scaling["factor"])
        else:
            share = (old / wave - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"]
            )
            out.append((1 - share) * f / scaling["factor"] + share * f)
    return out


def turned(x, position, freqs):
    n = len(freqs)
    out = list(x)
    for start in range(0, len(x), 2 * n):
        for i, f in enumerate(freqs):
            a, b = x[start + i], x[start + i + n]
            cos, sin = math.cos(position * f), math.sin(position * f)
            out[start + i], out[start + i + n] = a * cos - b * sin, b * cos + a * sin
    return out


def softmax(x):
    top = max(x)
    e = [math.exp(v - top) for v in x]
    total = sum(e)
    return [v / total for v in e]


def capped(x, cap):
    return x if cap is None else cap * math.tanh(x / cap)


def silu_times(gate, up):
    return [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up)]


def mixture(c, w, layer, x):
    """Every expert, multiplied by 0 where it was not chosen."""
    block = f"model.layers.{layer}.block_sparse_moe."
    count, used = c["num_local_experts"], c["num_experts_per_tok"]
    router = apply(w[block + "gate.weight"][1], x)
    sigmoid = c.get("scoring_func") == "sigmoid"
    weights = [1 / (1 + math.exp(-v)) for v in router] if sigmoid else softmax(router)
    scores = weights
    if c.get("use_routing_bias"):
        scores = [a + b for a, b in zip(weights, w[block + "e_score_correction_bias"][1])]
    chosen = sorted(range(count), key=lambda e: -scores[e])[:used]
    total = sum(weights[e] for e in chosen)
    out = [0.0] * len(x)
    for e in range(count):
        part = lambda name: w[f"{block}experts.{e}.{name}.weight"][1]
        gate = weights[e] / total if e in chosen else 0.0
        y = apply(part("w2"), silu_times(apply(part("w1"), x), apply(part("w3"), x)))
        out = [a + gate * b for a, b in zip(out, y)]
    return out


def logits(c, w):
    h, heads, kv = c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    eps, freqs = c["rms_norm_eps"], frequencies(c)
    xs = [list(w["model.embed_tokens.weight"][1][t]) for t in TOKENS]
    for i in range(c["num_hidden_layers"]):
        part = lambda name: w[f"model.layers.{i}.{name}.weight"][1]
        normed = [norm(x, part("input_layernorm"), eps) for x in xs]
        q = [turned(apply(part("self_attn.q_proj"), x), p, freqs) for p, x in enumerate(normed)]
        k = [turned(apply(part("self_attn.k_proj"), x), p, freqs) for p, x in enumerate(normed)]
        v = [apply(part("self_attn.v_proj"), x) for x in normed]
        for p in range(len(xs)):
            mixed = []
            for head in range(heads):
                at = head // (heads // kv) * h
                query = q[p][head * h : (head + 1) * h]
                seen = range(max(0, p + 1 - c.get("sliding_window", p + 1)), p + 1)
                scores = [sum(a * b for a, b in zip(query, k[j][at : at + h])) / math.sqrt(h) for j in seen]
                shares = softmax([capped(s, c.get("aion", {}).get("attention_cap")) for s in scores])
                mixed += [sum(s * v[j][at + n] for j, s in zip(seen, shares)) for n in range(h)]
            xs[p] = [a + b for a, b in zip(xs[p], apply(part("self_attn.o_proj"), mixed))]
        for p, x in enumerate(xs):
            y = norm(x, part("post_attention_layernorm"), eps)
            if "num_local_experts" in c:
                xs[p] = [a + b for a, b in zip(x, mixture(c, w, i, y))]
                continue
            up = apply(part("mlp.up_proj"), y)
            if c["hidden_act"] == "silu":
                inner = silu_times(apply(part("mlp.gate_proj"), y), up)
            else:
                inner = [max(u, 0.0) ** 2 for u in up]
            xs[p] = [a + b for a, b in zip(x, apply(part("mlp.down_proj"), inner))]
    head = w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"][1]
    rows = [apply(head, norm(x, w["model.norm.weight"][1], eps)) for x in xs]
    return [[capped(x, c.get("aion", {}).get("logit_cap")) for x in row] for row in rows]


def flat(values):
    return [x for row in values for x in row] if isinstance(values[0], list) else values


def main():
    place = Path(__file__).parent / "tiny"
    place.mkdir(exist_ok=True)
    for name, case in CASES.items():
        c = config(case)
        w = weights(c, random.Random(name))
        rows = logits(c, w)
        data, header = b"", {"__metadata__": {"config": json.dumps(c), "tokens": json.dumps(TOKENS)}}
        for key, (shape, values) in w.items():
            packed = struct.pack(f"<{math.prod(shape)}e", *flat(values))
            header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(packed)]}
            data += packed
        packed = struct.pack(f"<{len(rows) * VOCAB}f", *flat(rows))
        shape = [len(rows), VOCAB]
        header["expected.logits"] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (place / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


main()
