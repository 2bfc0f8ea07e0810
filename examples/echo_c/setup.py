"""python setup.py build_ext --inplace"""

from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup

# As tpio.get_include(), but without an import of tpio, which only a Windows Python can do: this may be a cross build.
include = Path(find_spec("tpio").origin).parent / "include"

setup(
    name="echo_c",
    ext_modules=[Extension("echo_c", ["echo_c.c"], include_dirs=[str(include)], libraries=["ws2_32"])],
)
