"""The service over HTTP: `uvicorn bench.serve:app`, with whatever dress the environment asks for."""

import os

from bench.service import Load, build_app, setup_lines
from bench.setups import dress

if os.environ.get("BENCH_FORMATS_ITSELF"):
    setup_lines()
app = build_app(Load())
dress(app)
