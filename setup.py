"""What pyproject.toml has no settled form for yet: the part of the request path that is in C."""

from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import Extension, setup

SOURCE = Path("src/tercet/fast/twins.c")

# Left out where it cannot be compiled: then all is Python, and not what was compiled of an older one.
twins = Extension("tercet.fast.twins", [SOURCE.as_posix()], py_limited_api=True, optional=True)
for compiled in SOURCE.parent.glob("twins.*.so"):
    if compiled.stat().st_mtime < SOURCE.stat().st_mtime:
        compiled.unlink()

# Nor is anything left in a wheel that an earlier build has put there.
with TemporaryDirectory() as anew:
    setup(ext_modules=[twins], options={"build": {"build_base": anew}})
