"""Run a command, and print its time and its peak memory as JSON: `python -I -S -s stopwatch.py COMMAND`.

A process of its own and as small as Python gets, for Linux counts into a program's peak what the process was
before it became that program: started by a larger one, small programs would all look as large as that.
"""

import os
import sys
import time

began = time.perf_counter()
child = os.posix_spawn(
    sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - began
if status:
    raise SystemExit(f"{sys.argv[1:]} ended with status {os.waitstatus_to_exitcode(status)}")
per_megabyte = 1024 * 1024 if sys.platform == "darwin" else 1024
print(f'{{"seconds": {seconds}, "megabytes": {usage.ru_maxrss / per_megabyte}}}')
