"""llama.cpp as a driver of `cargo xtask peers llm`, through the package xllamacpp.

Usage: llamacpp.py MODEL.gguf THREADS. One JSON object a line: greets with its name and version, then answers
{"prompt": [token, ..], "n": tokens} with {"tokens": [..], "prefill_s": s, "decode_s": s}: greedy, nothing cached,
never stopping early, timed by llama.cpp itself (so that HTTP on the way costs nothing).
"""

import importlib.metadata
import json
import os
import sys
import urllib.request

# llama.cpp logs to both streams; answers get a stream of their own.
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)

import xllamacpp  # noqa: E402


def serve(model: str, threads: int) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 2048
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.port = 0
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)


def generate(server: xllamacpp.Server, prompt: list[int], n: int) -> dict:
    body = {
        "prompt": prompt,
        "n_predict": n,
        "temperature": 0.0,
        "samplers": ["top_k"],
        "top_k": 1,
        "repeat_penalty": 1.0,
        "ignore_eos": True,
        "cache_prompt": False,
        "return_tokens": True,
    }
    request = urllib.request.Request(
        server.listening_address + "/completion",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        answer = json.load(response)
    timings = answer["timings"]
    assert timings["prompt_n"] == len(prompt), "the prompt was cached or changed"
    return {
        "tokens": answer["tokens"],
        "prefill_s": timings["prompt_ms"] / 1000,
        "decode_s": timings["predicted_ms"] / 1000,
    }


def say(document: dict) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


def main() -> None:
    server = serve(sys.argv[1], int(sys.argv[2]))
    say({"name": "llama.cpp (xllamacpp)", "version": importlib.metadata.version("xllamacpp")})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say(generate(server, request["prompt"], request["n"]))
        except Exception as error:  # the answer of a driver, not a crash
            say({"error": repr(error)})


main()
