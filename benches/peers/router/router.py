"""faiss, usearch, bm25s and onnxruntime as a driver of `cargo xtask peers router`.

One JSON object a line with the name of what to "do": greets, then "open" names the folders ("minilm", and "dir" for what all
sides read). "load_vectors" and "load_words" read what our driver wrote there; "scan", "search" and "embed" are answered
with the processor seconds of one query (the fastest of `reps` passes over all of them) and what was found; "truth" with the
exact nearest rows in 32-bit floats; "quality" with recall and NDCG of BM25, MiniLM and both put together. One thread.
"""

import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

TOP = 10
DIM = 384
RRF = 60  # the constant of reciprocal rank fusion


def version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def fastest(reps: int, queries: int, run) -> float:
    """Seconds of processor time of one query."""
    best = float("inf")
    for _ in range(reps):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best / queries


class Vectors:
    """Rows to be searched, as each library wants them."""

    def __init__(self, dir: Path, rows: int) -> None:
        self.rows = np.memmap(dir / "rows.f32", dtype="<f4", mode="r").reshape(-1, DIM)[:rows]
        self.queries = np.fromfile(dir / "queries.f32", dtype="<f4").reshape(-1, DIM)
        self.made = {}

    def truth(self) -> list:
        scores = np.concatenate([self.rows[at : at + 65_536] @ self.queries.T for at in range(0, len(self.rows), 65_536)])
        return [order(column).tolist() for column in scores.T]

    def index(self, peer: str):
        if peer not in self.made:
            self.made = {}  # one at a time
            self.made[peer] = {"faiss_sq8": self.faiss_sq8, "usearch_i8": self.usearch_i8, "usearch_f32": self.usearch_f32}[peer]()
        return self.made[peer]

    def faiss_sq8(self):
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(self.rows[:100_000]))
        for at in range(0, len(self.rows), 100_000):
            index.add(np.ascontiguousarray(self.rows[at : at + 100_000]))
        return version("faiss-cpu") + " SQ8", lambda query: index.search(query[None], TOP)[1][0]

    def usearch_i8(self):
        from usearch.index import MetricKind, search

        rows = np.empty(self.rows.shape, dtype=np.int8)
        for at in range(0, len(rows), 100_000):
            rows[at : at + 100_000] = bytes_of(self.rows[at : at + 100_000])
        queries = {query.tobytes(): bytes_of(query[None]) for query in self.queries}
        run = lambda query: search(rows, queries[query.tobytes()], TOP, MetricKind.Cos, exact=True, threads=1).keys.ravel()
        return version("usearch") + " exact i8", run

    def usearch_f32(self):
        from usearch.index import MetricKind, search

        rows = np.ascontiguousarray(self.rows)
        run = lambda query: search(rows, query[None], TOP, MetricKind.IP, exact=True, threads=1).keys.ravel()
        return version("usearch") + " exact f32", run

    def scan(self, peer: str, reps: int, found: bool) -> dict:
        label, search = self.index(peer)
        run = lambda: [search(query) for query in self.queries]
        keys = [[int(key) for key in keys] for keys in run()] if found else None
        return {"label": label, "cpu_s": fastest(reps, len(self.queries), run), "found": keys}


def bytes_of(rows: np.ndarray) -> np.ndarray:
    """Integers of one byte, with a scale for each row; cosines need no scales."""
    return np.rint(rows / np.abs(rows).max(axis=1, keepdims=True) * 127).astype(np.int8)


def order(scores: np.ndarray) -> np.ndarray:
    """The places of the ten best, the first of equals first."""
    few = np.argpartition(-scores, min(TOP, len(scores) - 1))[:TOP]
    return few[np.lexsort((few, -scores[few]))]


class Words:
    """Documents that are lists of terms already."""

    def __init__(self, dir: Path) -> None:
        import bm25s

        document = json.loads((dir / "docs.json").read_text())
        self.queries = document["queries"]
        self.indexes = {}
        for backend in ("numpy", "numba"):
            index = bm25s.BM25(method="lucene", k1=0.5, b=0.75, backend=backend)
            index.index(document["docs"], show_progress=False)
            self.indexes[backend] = index
        self.search("numba", 1, False)  # compiles

    def search(self, backend: str, reps: int, found: bool) -> dict:
        index = self.indexes[backend]
        # As our side: a word of a question counts once.
        asked = [[sorted(set(terms))] for terms in self.queries]
        options = {"k": TOP, "show_progress": False, "n_threads": 1 if backend == "numba" else 0}
        run = lambda: [index.retrieve(terms, **options) for terms in asked]
        results = None
        if found:
            results = [
                [[int(doc), float(score)] for doc, score in zip(docs[0], scores[0]) if score > 0] for docs, scores in run()
            ]
        return {"label": version("bm25s") + f" {backend}", "cpu_s": fastest(reps, len(asked), run), "found": results}


class Encoder:
    """MiniLM in onnxruntime: the graph is put together here from the same safetensors."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime as ort
        from tokenizers import Tokenizer

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(graph(folder), options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)

    def of_tokens(self, tokens: list) -> np.ndarray:
        return self.session.run(None, {"ids": np.array(tokens, dtype=np.int64)})[0]

    def of_texts(self, texts: list) -> np.ndarray:
        return np.stack([self.of_tokens(encoding.ids) for encoding in self.tokenizer.encode_batch(texts)])


def graph(folder: Path) -> bytes:
    """One text without padding: the mean of the last layer, scaled to length 1."""
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    weights = {name: array.astype(np.float32) for name, array in load_file(folder / "model.safetensors").items() if "position_ids" not in name}
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    nodes, constants, count = [], {}, [0]

    def constant(name: str, array: np.ndarray) -> str:
        constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def node(kind: str, *inputs: str, **attributes) -> str:
        count[0] += 1
        name = f"n{count[0]}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(x: str, name: str) -> str:
        product = node("MatMul", x, constant(f"{name}.w", weights[f"{name}.weight"].T))
        return node("Add", product, constant(f"{name}.b", weights[f"{name}.bias"]))

    def norm(x: str, name: str) -> str:
        scale, bias = constant(f"{name}.g", weights[f"{name}.weight"]), constant(f"{name}.b", weights[f"{name}.bias"])
        return node("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def split_heads(x: str, perm: list) -> str:
        shape = constant("by_head", np.array([-1, heads, width // heads], dtype=np.int64))
        return node("Transpose", node("Reshape", x, shape), perm=perm)

    words = node("Gather", constant("words", weights["embeddings.word_embeddings.weight"]), "ids")
    length = node("Shape", "ids")
    starts, axes = constant("zero", np.array([0], dtype=np.int64)), constant("axes", np.array([0], dtype=np.int64))
    places = node("Slice", constant("places", weights["embeddings.position_embeddings.weight"]), starts, length, axes)
    kind = constant("kind", weights["embeddings.token_type_embeddings.weight"][0])
    x = norm(node("Add", node("Add", words, kind), places), "embeddings.LayerNorm")
    root, half, one = constant("root", np.float32((width // heads) ** 0.5)), constant("half", np.float32(0.5)), constant("one", np.float32(1))
    two = constant("two", np.float32(2**0.5))
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        q = split_heads(linear(x, f"{at}.attention.self.query"), [1, 0, 2])
        k = split_heads(linear(x, f"{at}.attention.self.key"), [1, 2, 0])
        v = split_heads(linear(x, f"{at}.attention.self.value"), [1, 0, 2])
        weight = node("Softmax", node("Div", node("MatMul", q, k), root), axis=-1)
        joined = node("Transpose", node("MatMul", weight, v), perm=[1, 0, 2])
        joined = node("Reshape", joined, constant("joined", np.array([-1, width], dtype=np.int64)))
        x = norm(node("Add", linear(joined, f"{at}.attention.output.dense"), x), f"{at}.attention.output.LayerNorm")
        up = linear(x, f"{at}.intermediate.dense")
        gelu = node("Mul", node("Mul", up, half), node("Add", node("Erf", node("Div", up, two)), one))
        x = norm(node("Add", linear(gelu, f"{at}.output.dense"), x), f"{at}.output.LayerNorm")
    mean = node("ReduceMean", x, constant("rows", np.array([0], dtype=np.int64)), keepdims=0)
    nodes.append(helper.make_node("LpNormalization", [mean], ["vector"], axis=-1, p=2))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, [width])
    made = helper.make_graph(nodes, "minilm", [ids], [vector], list(constants.values()))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def ranks(scores: np.ndarray) -> np.ndarray:
    """The place of each item, the first of equals first."""
    order = np.lexsort((np.arange(len(scores)), -scores))
    places = np.empty(len(scores), dtype=np.int64)
    places[order] = np.arange(1, len(scores) + 1)
    return places


class Quality:
    """Recall of the first five and NDCG of the first ten, in percent."""

    def __init__(self) -> None:
        self.sums = np.zeros(3)

    def add(self, scores: np.ndarray, relevant: list) -> None:
        first = np.lexsort((np.arange(len(scores)), -scores))[:TOP]
        hits = np.isin(first, relevant)
        discount = 1 / np.log2(np.arange(2, TOP + 2))
        ideal = discount[: min(len(relevant), TOP)].sum()
        self.sums += [1, hits[:5].sum() / len(relevant), (hits * discount[: len(hits)]).sum() / ideal]

    def told(self) -> dict:
        count, recall, ndcg = self.sums
        return {"r5": 100 * recall / count, "ndcg10": 100 * ndcg / count}


def quality(file: Path, encoder: Encoder) -> dict:
    import bm25s
    import Stemmer

    document = json.loads(file.read_text())
    items, questions = document["items"], document["questions"]
    tokens = lambda texts: bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False, return_ids=False)
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(tokens(items), show_progress=False)
    texts = [question["text"] for question in questions]
    vectors, asked = encoder.of_texts(items), encoder.of_texts(texts)
    found = {name: Quality() for name in ("bm25", "minilm", "rrf")}
    for question, terms, vector in zip(questions, tokens(texts), asked):
        # A question without a known word has no scores.
        known = [term for term in terms if term in index.vocab_dict]
        words = np.asarray(index.get_scores(known)) if known else np.zeros(len(items))
        near = vectors @ vector
        fused = 1 / (RRF + ranks(words)) + 1 / (RRF + ranks(near))
        for name, scores in (("bm25", words), ("minilm", near), ("rrf", fused)):
            found[name].add(scores, question["relevant"])
    return {name: quality.told() for name, quality in found.items()}


class Parts:
    def __init__(self) -> None:
        self.dir = self.encoder = self.minilm = self.vectors = self.words = None

    def answer(self, do: str, **request) -> dict:
        return getattr(self, do)(**request)

    def open(self, dir: str, minilm: str | None, **_) -> dict:
        self.dir, self.minilm = Path(dir), minilm and Path(minilm)
        return {}

    def encode(self) -> Encoder:
        self.encoder = self.encoder or Encoder(self.minilm)
        return self.encoder

    def load_vectors(self, rows: int) -> dict:
        self.vectors = Vectors(self.dir, rows)
        return {}

    def truth(self) -> dict:
        return {"found": self.vectors.truth()}

    def scan(self, peer: str, reps: int, found: bool) -> dict:
        return self.vectors.scan(peer, reps, found)

    def load_words(self) -> dict:
        self.words = Words(self.dir)
        return {}

    def search(self, peer: str, reps: int, found: bool) -> dict:
        return self.words.search(peer, reps, found)

    def embed(self, reps: int, found: bool, **_) -> dict:
        encoder, texts = self.encode(), json.loads((self.dir / "tokens.json").read_text())
        arrays = [np.array(text, dtype=np.int64) for text in texts]
        run = lambda: [encoder.session.run(None, {"ids": array})[0] for array in arrays]
        vectors = [vector.tolist() for vector in run()] if found else None
        return {"label": version("onnxruntime"), "cpu_s": fastest(reps, len(arrays), run), "found": vectors}

    def quality(self, set: str, **_) -> dict:
        return quality(self.dir / f"{set}.json", self.encode())


def main() -> None:
    parts = Parts()
    # Libraries print what they like: the protocol gets the real standard output, and they the standard error.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"name": "python", "version": ".".join(map(str, sys.version_info[:3]))}), file=out, flush=True)
    for line in sys.stdin:
        try:
            answer = parts.answer(**json.loads(line))
        except Exception as error:  # the other side says what failed
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
