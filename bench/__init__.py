"""What telemetry costs, beside other ways to have it: `make bench`.

The parent process needs the standard library alone; each figure comes from a process of its own:

- what is measured: `variants.py`, served by `service.py`, dressed by `setups.py`
- the parts: `inprocess.py` (by `request.py`), `growth.py` (likewise, in `turns.py`), `http.py` (by `serve.py`
  and wrk), `startup.py` (by `stopwatch.py`), `exporter.py` (by `encoding.py` and `saturation.py`)
- what is delivered: `counter.py`, a server that answers at once and counts afterwards
- what it means: `figures.py`, `bars.py`, `table.py`, `pages.py`
"""
