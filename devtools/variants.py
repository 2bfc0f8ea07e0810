"""Ways to build and run tpio that show what the ordinary way hides.

A variant is one value: the build reads what it says of compilers, the run what it says of running. Several are added to
one, so that `--heap --ubsan` is a variant too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    help: str = ""
    # Macros that every C file is compiled with: the core, the binding and the examples.
    defines: tuple[str, ...] = ()
    # More flags for GCC, which builds for Windows elsewhere.
    gcc: tuple[str, ...] = ()
    # For the processes of the run.
    environment: Mapping[str, str] = field(default_factory=dict)
    # Functions of devtools/planted, each a mistake: before the tests, one run of each has to fail.
    planted: tuple[str, ...] = ()

    def __add__(self, other: Variant) -> Variant:
        return Variant(
            help=" and ".join(filter(None, (self.help, other.help))),
            defines=self.defines + other.defines,
            gcc=self.gcc + other.gcc,
            environment={**self.environment, **other.environment},
            planted=self.planted + other.planted,
        )


PLAIN = Variant()

# By the option of dev.py that asks for it.
VARIANTS = {
    "--ubsan": Variant(
        "undefined behaviour in the C ends the process",
        gcc=("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"),
        planted=("signed_overflow",),
    ),
}
