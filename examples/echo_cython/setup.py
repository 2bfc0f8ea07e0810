"""python setup.py build_ext --inplace"""

from importlib.util import find_spec
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# As tpio.get_include(), but without an import of tpio, which only a Windows Python can do: this may be a cross build.
# Cython itself finds tpio/__init__.pxd where it finds tpio.
include = Path(find_spec("tpio").origin).parent / "include"

setup(
    name="echo_cython",
    ext_modules=cythonize([Extension("echo_cython", ["echo_cython.pyx"], include_dirs=[str(include)])]),
)
