"""llama.cpp compiled for this machine, as a driver of `cargo xtask peers llm`, through the package llama-cpp-python.

Usage: native.py MODEL.gguf THREADS. One JSON object a line: greets with its name and version, then answers what
`peer-llm` answers: {"prompt", "n"}, {"prompts", "n"}, {"first"}, {"memory"}; and {"compare": [token, ..], "file"} with
the mean divergence of the log-probabilities in the file from llama.cpp's, in nats, and both perplexities.
"""

import ctypes
import importlib.metadata
import json
import os
import sys
import time

answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)

import llama_cpp  # noqa: E402
import llama_cpp.llama_cpp as c  # noqa: E402
import numpy as np  # noqa: E402

MODEL, THREADS = sys.argv[1], int(sys.argv[2])
SEQUENCES = 8


def resident_bytes() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


BEFORE = resident_bytes()


class Engine:
    """A model and a context of the C interface: Python in the loop costs microseconds a token."""

    def __init__(self, repack: bool, sequences: int = 1, context: int = 2048) -> None:
        params = c.llama_model_default_params()
        params.use_extra_bufts = repack
        self.model = c.llama_model_load_from_file(MODEL.encode(), params)
        self.vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        params = c.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context * sequences, 2048, 512
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = THREADS
        self.context = c.llama_init_from_model(self.model, params)
        self.batch = c.llama_batch_init(2048, 0, 1)

    def close(self) -> None:
        c.llama_batch_free(self.batch)
        c.llama_free(self.context)
        c.llama_model_free(self.model)

    def clear(self) -> None:
        c.llama_memory_clear(c.llama_get_memory(self.context), True)

    def decode(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """Rows of (token, position, sequence, whether logits are wanted)."""
        batch = self.batch
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = wanted
        batch.n_tokens = len(rows)
        assert c.llama_decode(self.context, batch) == 0

    def logits(self, row: int) -> np.ndarray:
        pointer = c.llama_get_logits_ith(self.context, row)
        return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (self.vocab,))

    def prefill(self, prompt: list[int], sequence: int = 0) -> int:
        last = len(prompt) - 1
        self.decode([(token, i, sequence, i == last) for i, token in enumerate(prompt)])
        return int(self.logits(last).argmax())


def generate(engine: Engine, prompt: list[int], n: int) -> dict:
    engine.clear()
    started = time.perf_counter()
    tokens = [engine.prefill(prompt)]
    read = time.perf_counter()
    for i in range(n - 1):
        engine.decode([(tokens[-1], len(prompt) + i, 0, True)])
        tokens.append(int(engine.logits(0).argmax()))
    done = time.perf_counter()
    return {"tokens": tokens, "prefill_s": read - started, "decode_s": done - read}


def batch(repack: bool, prompts: list[list[int]], n: int) -> dict:
    engine = Engine(repack, SEQUENCES, 512)
    last = [engine.prefill(prompt, i) for i, prompt in enumerate(prompts)]
    started = time.perf_counter()
    for step in range(n - 1):
        engine.decode([(token, len(prompts[i]) + step, i, True) for i, token in enumerate(last)])
        last = [int(engine.logits(i).argmax()) for i in range(len(last))]
    took = time.perf_counter() - started
    engine.close()
    return {"batch_s": took}


def first(repack: bool, prompt: list[int]) -> dict:
    started = time.perf_counter()
    engine = Engine(repack)
    engine.prefill(prompt)
    took = time.perf_counter() - started
    engine.close()
    return {"load_s": took}


def compare(engine: Engine, tokens: list[int], file: str) -> dict:
    """Teacher-forced, 256 tokens at a time."""
    ours = np.memmap(file, np.float32, "r").reshape(len(tokens) - 1, engine.vocab)
    engine.clear()
    divergence, surprise, our_surprise, same = 0.0, 0.0, 0.0, 0
    for start in range(0, len(tokens), 256):
        part = tokens[start : start + 256]
        engine.decode([(token, start + i, 0, True) for i, token in enumerate(part)])
        for i in range(min(len(part), len(tokens) - 1 - start)):
            logits = engine.logits(i).astype(np.float64)
            p = logits - logits.max()
            p -= np.log(np.exp(p).sum())
            q = ours[start + i].astype(np.float64)
            divergence += float((np.exp(p) * (p - q)).sum())
            following = tokens[start + i + 1]
            surprise, our_surprise = surprise - float(p[following]), our_surprise - float(q[following])
            same += int(p.argmax() == q.argmax())
    n = len(tokens) - 1
    return {
        "kl_nats": divergence / n,
        "perplexity": float(np.exp(surprise / n)),
        "our_perplexity": float(np.exp(our_surprise / n)),
        "same_top": same / n,
    }


def survives() -> bool:
    """Whether the repacked weights can be computed with: with AMX this version may end the process."""
    child = os.fork()
    if child == 0:
        engine = Engine(True)
        generate(engine, list(range(300, 428)), 4)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def say(document: dict) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


def main() -> None:
    repack = survives()
    engine = Engine(repack)
    name = "llama.cpp (llama-cpp-python, native" + ("" if repack else ", not repacked: that crashes here") + ")"
    say({"name": name, "version": importlib.metadata.version("llama-cpp-python")})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prompt" in request:
                say(generate(engine, request["prompt"], request["n"]))
            elif "prompts" in request:
                say(batch(repack, request["prompts"], request["n"]))
            elif "first" in request:
                say(first(repack, request["first"]))
            elif "compare" in request:
                say(compare(engine, request["compare"], request["file"]))
            else:
                say({"resident_bytes": resident_bytes() - BEFORE})
        except Exception as error:  # the answer of a driver, not a crash
            say({"error": repr(error)})


c.llama_backend_init()
main()
