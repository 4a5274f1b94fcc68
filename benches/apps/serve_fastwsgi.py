"""Starts fastwsgi without its log of each request: serve_fastwsgi.py MODULE PORT WORKERS."""

import sys
from importlib import import_module

import fastwsgi

module, port, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fastwsgi.run(import_module(module).application, "127.0.0.1", port, loglevel=fastwsgi.LL_ERROR, workers=workers)
