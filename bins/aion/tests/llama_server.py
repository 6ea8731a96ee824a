"""Serves a GGUF model with llama.cpp's own OpenAI-compatible server.

Usage: llama_server.py MODEL [THREADS]. Prints the base URL as its first line, then serves until
its standard input ends.
"""
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = 8192
params.n_parallel = 1
params.cpuparams.n_threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
params.hostnames = ["127.0.0.1"]
params.port = 0
server = xllamacpp.Server(params)
print(server.listening_address + "/v1", flush=True)
sys.stdin.read()
