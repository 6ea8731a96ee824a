"""Makes golden.json: what llama.cpp says of text.txt, token by token, on the same GGUF file.

Usage: python make.py MODEL.gguf > golden.json     (needs the package xllamacpp, see VERSION below)

The text is teacher-forced: for each position the prompt is every token before it, one token is predicted, and the
TOP most probable tokens are kept with their log-probabilities. `reply` is a greedy reply to a chat prompt.
"""

import importlib.metadata
import json
import os
import sys
import urllib.request
from pathlib import Path

answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)

import xllamacpp  # noqa: E402

VERSION = "2026.10.11549"
TOP = 16
TOKENS = 501
CHAT = "What is the capital of France? Answer in one sentence."


def post(server: xllamacpp.Server, path: str, body: dict) -> dict:
    request = urllib.request.Request(
        server.listening_address + path,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.load(response)


def predict(server: xllamacpp.Server, tokens: list[int], n: int, top: int) -> dict:
    return post(
        server,
        "/completion",
        {
            "prompt": tokens,
            "n_predict": n,
            "n_probs": top,
            "temperature": 0.0,
            "samplers": ["top_k"],
            "top_k": 1,
            "repeat_penalty": 1.0,
            "cache_prompt": True,
            "return_tokens": True,
        },
    )


def main() -> None:
    assert importlib.metadata.version("xllamacpp") == VERSION, f"xllamacpp {VERSION} is needed"
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 2048
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.port = 0
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    text = (Path(__file__).parent / "text.txt").read_text()
    tokens = post(server, "/tokenize", {"content": text, "add_special": False})["tokens"][:TOKENS]
    rows = []
    for i in range(1, len(tokens)):
        found = predict(server, tokens[:i], 1, TOP)["completion_probabilities"][0]["top_logprobs"]
        rows.append([[entry["id"], round(entry["logprob"], 6)] for entry in found])
    prompt = f"<|im_start|>user\n{CHAT}<|im_end|>\n<|im_start|>assistant\n"
    system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    chat = post(server, "/tokenize", {"content": system + prompt, "add_special": False, "parse_special": True})
    reply = predict(server, chat["tokens"], 48, 0)
    answers.write('{"made_by": "xllamacpp %s",\n "chat": %s,\n' % (VERSION, json.dumps(CHAT)))
    answers.write(' "chat_tokens": %s,\n "reply": %s,\n' % (json.dumps(chat["tokens"]), json.dumps(reply["content"])))
    answers.write(' "tokens": %s,\n "top": [\n' % json.dumps(tokens))
    answers.write(",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in rows))
    answers.write("\n]}\n")


main()
