"""Builds the extension; everything else about the package is in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MSVC_COMPILE = ["/std:c11", "/W4"]
# What Cython makes is not our style; `python dev.py lint` is strict with the C that we write.
GNU_COMPILE = ["-std=c11", "-Wall", "-Wno-deprecated-declarations"]
GNU_LINK = ["-static-libgcc"]


class build_ext_for_compiler(build_ext):
    """Chooses flags by the compiler, which is not the same as by the system: MinGW runs on Windows too."""

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        for extension in self.extensions:
            extension.extra_compile_args += MSVC_COMPILE if msvc else GNU_COMPILE
            extension.extra_link_args += [] if msvc else GNU_LINK
        super().build_extensions()


extension = Extension(
    "tpio._tpio",
    sources=["src/_tpio.pyx", *sorted(path.as_posix() for path in Path("src").glob("tpio_*.c"))],
    include_dirs=["src", "tpio/include"],
    libraries=["ws2_32", "mswsock", "advapi32", "ntdll", "synchronization"],
    define_macros=[
        ("WIN32_LEAN_AND_MEAN", None),
        ("_WIN32_WINNT", "0x0A00"),
        ("NOMINMAX", None),
        ("UNICODE", None),
        # Cython 3.3.1's shortcut for calls of classes lets go of arguments that it has not got yet when memory runs out.
        ("CYTHON_VECTORCALL_TPNEW", "0"),
    ],
)

setup(
    cmdclass={"build_ext": build_ext_for_compiler},
    ext_modules=cythonize([extension], compiler_directives={"language_level": 3, "freethreading_compatible": True}),
)
