"""Workloads of the benchmarks on tpio's C API. dev.py compiles it."""

from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup

include = Path(find_spec("tpio").origin).parent / "include"

setup(
    name="bench_capi",
    ext_modules=[Extension("bench_capi", ["bench_capi.c"], include_dirs=[str(include)])],
)
