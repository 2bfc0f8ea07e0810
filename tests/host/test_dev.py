"""dev.py keeps its promises about what it passes through, without a Windows program in sight."""

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from devtools import (
    build,
    cache,
    cli,
    dlls,
    interpreter,
    native,
    pythons,
    sim,
    system,
    testing,
    toolchains,
    tools,
    wheels,
    wine,
)
from devtools.findings import Sieve
from devtools.noting import MARK
from devtools.ui import Failure
from devtools.variants import PLAIN, VARIANTS, Variant


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TPIO_CACHE", str(tmp_path / "cache"))


def test_options_before_and_after_the_arguments_of_pytest():
    options = cli.parse(["test", "-x", "-V", "3.13t", "tests/test_pipe.py", "-k", "a or b"])
    assert options.version == pythons.find("3.13t")
    assert options.rest == ["-x", "tests/test_pipe.py", "-k", "a or b"]


def test_what_follows_two_dashes_goes_to_pytest():
    options = cli.parse(["test", "-x", "--", "-h", "-V"])
    assert options.version is None
    assert options.rest == ["-x", "-h", "-V"]


def test_arguments_of_python_are_left_alone():
    options = cli.parse(["python", "-V", "3.14", "--heap", "-c", "pass", "-V", "--all"])
    assert options.version == pythons.find("3.14")
    assert options.rest == ["-c", "pass", "-V", "--all"]
    assert options.variant == VARIANTS["--heap"]
    assert not options.all


def test_variants_are_taken_from_among_the_arguments_of_pytest_and_added_up(monkeypatch):
    one, other = (
        Variant(flags=("-g",), planted=("a",)),
        Variant(defines=("X=1",), environment={"A": "b"}, planted=("b",)),
    )
    monkeypatch.setitem(VARIANTS, "--one", one)
    monkeypatch.setitem(VARIANTS, "--other", other)
    options = cli.parse(["test", "-x", "--one", "-V", "3.13t", "--other", "tests/test_pipe.py"])
    assert options.rest == ["-x", "tests/test_pipe.py"]
    assert options.variant == Variant(flags=("-g",), defines=("X=1",), environment={"A": "b"}, planted=("a", "b"))


def test_variant_is_left_to_a_command_that_has_an_option_of_that_name():
    options = cli.parse(["sim", "--faults", "3"])
    assert options.faults == 3
    assert options.variant == PLAIN


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command_is_printed_and_nothing_runs(name, monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, name, replace(cli.COMMANDS[name], run=pytest.fail))
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "-h"])
    assert ended.value.code == 0
    assert f"usage: dev.py {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, command in cli.COMMANDS.items() if not command.passes_to])
@pytest.mark.parametrize("option", ["--explode", "--al"])
def test_unknown_option_fails_and_nothing_runs(name, option, monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, name, replace(cli.COMMANDS[name], run=pytest.fail))
    with pytest.raises(SystemExit) as ended:
        cli.main([name, option])
    assert ended.value.code == 2
    assert f"{name} does not know {option}" in capsys.readouterr().err


@pytest.mark.parametrize("change", [Variant(defines=("X",)), Variant(flags=("-g",))])
@pytest.mark.skipif(wine.NATIVE, reason="of MinGW's flags")
def test_what_a_variant_changes_in_the_build_makes_a_build_of_its_own(change, monkeypatch, tmp_path):
    monkeypatch.setattr(pythons, "home", lambda version: tmp_path)
    version = pythons.find("3.13")
    assert build._recipe(version, PLAIN) == build._recipe(version, Variant(environment={"A": "b"}))
    assert build._recipe(version, PLAIN) != build._recipe(version, change)


@pytest.mark.skipif(wine.NATIVE, reason="of compilers for Windows elsewhere")
def test_variant_of_another_compiler_makes_a_build_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(pythons, "home", lambda version: tmp_path)
    monkeypatch.setattr(toolchains.Msvc, "_libraries", lambda self, version: tmp_path)
    recipes = {
        build._recipe(pythons.find("3.13"), variant)
        for variant in (PLAIN, VARIANTS["--msvc"], VARIANTS["--msvc"] + VARIANTS["--ubsan"])
    }
    assert len(recipes) == 3


@pytest.mark.skipif(wine.NATIVE, reason="of Wine's prefixes")
def test_what_a_variant_changes_in_the_registry_makes_a_prefix_of_its_own():
    plain = wine._wine_environment(PLAIN)
    checked = wine._wine_environment(Variant(registry=((r"HKLM\X", "Y", 1),), wine_debug=("warn+heap",)))
    assert plain["WINEPREFIX"] == wine._wine_environment(Variant(flags=("-g",)))["WINEPREFIX"]
    assert plain["WINEPREFIX"] != checked["WINEPREFIX"]
    assert checked["WINEDEBUG"] == plain["WINEDEBUG"] + ",warn+heap"


def test_variant_that_windows_cannot_run_is_refused_there_with_another_way(monkeypatch):
    monkeypatch.setattr(wine, "NATIVE", True)
    with pytest.raises(Failure, match="do it by hand"):
        interpreter.get(pythons.find("3.13"), Variant(on_windows="do it by hand"))


def _program_that(says, code):
    """Stands for a run of the Windows Python: this machine's Python, which says something and ends."""

    class Stand(interpreter.Interpreter):
        def with_packages(self, *folders):
            return self

        def capture(self, args, **variables):
            sink = io.BytesIO()
            sieve = Sieve(sink, self.variant.findings)
            sieve.write(says)
            sieve.close()
            return code or int(sieve.found > 0), sink.getvalue().decode()

    variant = Variant(findings="err:heap", planted=("mistake",))
    return Stand(pythons.find("3.13"), Path("python"), (), variant)


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (b"planted\nsurvived\n", 0),
        (b"Traceback (most recent call last):\nImportError: no module\n", 1),
        (b"planted\nTraceback (most recent call last):\nAttributeError: no such mistake\n", 1),
    ],
    ids=["unnoticed", "not planted", "no such mistake"],
)
def test_variant_that_does_not_notice_what_was_planted_fails_before_the_tests(says, code, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "planted", lambda version, variant: tmp_path)
    with pytest.raises(Failure, match="mistake, planted, went unnoticed on Python 3.13"):
        testing._prove(_program_that(says, code))


@pytest.mark.parametrize(("says", "code"), [(b"planted\n", 29), (b"planted\n0024:err:heap:x\nsurvived\n", 0)])
def test_variant_that_notices_what_was_planted_goes_on(says, code, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "planted", lambda version, variant: tmp_path)
    testing._prove(_program_that(says, code))


def _sifted(text, cut):
    sink = io.BytesIO()
    sieve = Sieve(sink, "(?:err|warn):heap:")
    for start in range(0, len(text), cut):
        sieve.write(text[start : start + cut])
    sieve.close()
    return sieve.found, sink.getvalue().decode()


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_findings_are_shown_once_with_the_test_that_ran_and_the_rest_passes(cut):
    text = b"before\n"
    text += f"{MARK}test_one\n".encode()
    text += b"0024:err:heap:validate bad\n" * 100
    text += f"{MARK}test_two\n".encode()
    text += b"a word of its own\n0024:warn:heap:free bad\nunended"
    found, shown = _sifted(text, cut)
    assert found == 101
    assert shown.splitlines() == [
        "before",
        "",
        "dev.py: FOUND in test_one:",
        *["0024:err:heap:validate bad"] * 3,
        "dev.py: and 97 more of the kind",
        "a word of its own",
        "",
        "dev.py: FOUND in test_two:",
        "0024:warn:heap:free bad",
        "unended",
    ]


def test_heap_that_lacks_room_is_no_finding():
    pattern = re.compile(VARIANTS["--heap"].findings)
    assert not pattern.search("0024:warn:heap:allocate_region Could not allocate 0x40 bytes, status 0x40000002")
    assert pattern.search("0024:warn:heap:unsafe_block_from_ptr heap 00420000, block 00430588: delayed freed block")
    assert pattern.search("0024:err:heap:validate_used_block heap 00420000, block 00430588: invalid block tail")


def test_finding_at_the_end_of_an_unended_stream_counts():
    assert _sifted(b"0024:err:heap:validate bad", 5)[0] == 1


def test_run_with_a_finding_fails_although_the_program_is_content(monkeypatch, capfdbinary):
    monkeypatch.setattr(wine, "NATIVE", True)  # this machine's own Python, directly
    program = "import sys; sys.stderr.write('0024:err:heap:bad\\n')"
    for variant, code in ((PLAIN, 0), (Variant(findings="err:heap:"), 1)):
        arguments = ["-c", program]
        assert wine.run(Path(sys.executable), arguments, env=os.environ, variant=variant) == code
        assert wine.capture(Path(sys.executable), arguments, env=os.environ, variant=variant)[0] == code


def test_unknown_version_is_refused_with_the_known_ones():
    with pytest.raises(Failure, match=r"2\.7 is not supported; choose one of 3\.11, .*3\.14t"):
        pythons.find("2.7")


def test_unknown_command_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["explode"])
    assert ended.value.code == 2
    assert re.search("invalid choice: 'explode' .*demo.*test.*python", capsys.readouterr().err)


@pytest.mark.skipif(wine.NATIVE, reason="Windows' own line ends stay as they are")
@pytest.mark.parametrize("pieces", [[b"a\r\nb\r\n"], [b"a\r", b"\nb\r", b"\n"], [b"a\r\nb", b"\r\n"]])
def test_line_ends_become_the_hosts_wherever_the_output_was_cut(pieces):
    reader, writer = os.pipe()
    sink = io.BytesIO()

    def read():
        with os.fdopen(reader, "rb") as source:
            wine._copy(source, sink)

    thread = threading.Thread(target=read)
    thread.start()
    for piece in pieces:
        os.write(writer, piece)
    os.close(writer)
    thread.join()
    assert sink.getvalue() == b"a\nb\n"


def test_making_a_cached_thing_twice_makes_it_once():
    made = []
    for _ in range(2):
        cache.make(cache.root() / "thing", made.append)
    assert len(made) == 1


def test_failed_making_leaves_nothing_behind():
    def fail(scratch):
        (scratch / "half").touch()
        raise Failure("no")

    thing = cache.root() / "thing"
    with pytest.raises(Failure):
        cache.make(thing, fail)
    assert not thing.exists()
    cache.make(thing, lambda scratch: (scratch / "whole").touch())
    assert [entry.name for entry in thing.iterdir()] == ["whole"]


def test_download_with_another_hash_is_refused(tmp_path):
    file = tmp_path / "archive.whl"
    file.write_bytes(b"something else")
    with pytest.raises(Failure, match=r"archive\.whl has sha256 .* instead of 00"):
        cache.verify(file, "00")


def test_dll_imports_reads_the_import_table():
    image = bytearray(0x400)
    header, optional = 0x80, 0x98
    struct.pack_into("<I", image, 0x3C, header)
    struct.pack_into("<H12xH", image, header + 6, 1, 240)  # one section, size of the optional header
    struct.pack_into("<H", image, optional, 0x20B)
    struct.pack_into("<I", image, optional + 112 + 8, 0x1000)
    struct.pack_into("<4I", image, optional + 240 + 8, 0x200, 0x1000, 0x200, 0x200)
    struct.pack_into("<12xI", image, 0x200, 0x1040)
    image[0x240:0x24D] = b"KERNEL32.dll\0"
    assert dlls.imports(bytes(image)) == {"kernel32.dll"}


@pytest.mark.parametrize("count", [0, 7])
def test_dll_symbols_reads_the_size_of_the_symbol_table(count):
    image = bytearray(0x100)
    struct.pack_into("<I", image, 0x3C, 0x80)
    struct.pack_into("<I", image, 0x80 + 16, count)
    assert dlls.symbols(bytes(image)) == count


def test_dll_exports_reads_the_export_table():
    image = bytearray(0x400)
    header, optional = 0x80, 0x98
    struct.pack_into("<I", image, 0x3C, header)
    struct.pack_into("<H12xH", image, header + 6, 1, 240)
    struct.pack_into("<H", image, optional, 0x20B)
    struct.pack_into("<I", image, optional + 112, 0x1000)
    struct.pack_into("<4I", image, optional + 240 + 8, 0x200, 0x1000, 0x200, 0x200)
    struct.pack_into("<24xI4xI", image, 0x200, 2, 0x1040)  # two names, their addresses at 0x1040
    struct.pack_into("<2I", image, 0x240, 0x1050, 0x1058)
    image[0x250:0x258] = b"Py_Main\0"
    image[0x258:0x25D] = b"Py_X\0"
    assert list(dlls.exports(bytes(image))) == ["Py_Main", "Py_X"]


@pytest.fixture
def wine_server(tmp_path, monkeypatch):
    """A process that looks like the server of the prefix that runs use."""
    monkeypatch.setenv("TPIO_WINE", "env")
    monkeypatch.setattr(wine, "_LOOK", 0.05)
    program = tmp_path / "wineserver64"
    shutil.copy(shutil.which("sleep"), program)
    environment = {**os.environ, "WINEPREFIX": wine._wine_environment(PLAIN)["WINEPREFIX"]}
    with subprocess.Popen([program, "600"], env=environment) as server:
        yield server
        server.kill()


@pytest.mark.skipif(wine.NATIVE, reason="of Wine's server")
def test_a_run_whose_server_is_gone_ends_and_says_so(wine_server, monkeypatch):
    look = wine._server_runs

    def look_and_kill(prefix):
        there = look(prefix)
        wine_server.kill()
        wine_server.wait()
        return there

    monkeypatch.setattr(wine, "_server_runs", look_and_kill)
    with pytest.raises(wine.ServerCrashed, match="Wine's server has crashed"):
        wine.run(Path("sleep"), ["600"], env=os.environ)


@pytest.mark.skipif(wine.NATIVE, reason="of Wine's server")
@pytest.mark.parametrize("there", [True, False])
def test_a_run_goes_on_while_its_server_does_or_has_never_been_seen(there, wine_server, monkeypatch):
    looks = []

    def look(prefix):
        looks.append(prefix)
        if len(looks) == 5:
            (Path(wine_server.args[0]).parent / "enough").touch()
        return there

    monkeypatch.setattr(wine, "_server_runs", look)
    enough = Path(wine_server.args[0]).parent / "enough"
    program = f"until [ -e {enough} ]; do sleep 0.01; done; exit 7"
    assert wine.run(Path("sh"), ["-c", program], env=os.environ) == 7


def test_tests_run_again_only_when_the_server_has_crashed(monkeypatch, tmp_path):
    runs = []

    class Stand(interpreter.Interpreter):
        def run(self, args, **more):
            runs.append(args)
            if len(runs) == 1:
                raise wine.ServerCrashed("gone")
            return 3

    version = pythons.find("3.13")
    monkeypatch.setattr(interpreter, "available", list)
    monkeypatch.setattr(interpreter, "get", lambda version, variant: Stand(version, tmp_path, (), variant))
    monkeypatch.setattr(build, "examples", lambda version, variant: tmp_path)
    assert testing.run([version], ["-x"]) == 3
    assert runs == [["-m", "pytest", "-x"]] * 2


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """Makes a folder the place of apt: a script stands for each program, and what they are asked is returned."""
    calls = tmp_path / "calls"
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setattr(system, "_LOCK_PAUSE", 0)
    monkeypatch.setattr(system, "_as_root", lambda wanted: [])

    def stand_in(**scripts):
        for name, script in scripts.items():
            program = folder / name.replace("_", "-")
            program.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >> "$CALLS"\n{script}\n')
            program.chmod(0o755)

        def asked():
            return calls.read_text().splitlines()

        return asked

    return stand_in


LOCKED = [
    "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 71 (apt-get)",
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 71 (unattended-upgr)",
    "Error: Could not get lock /var/lib/dpkg/lock-frontend - open (11: Resource temporarily unavailable)",
]


@pytest.mark.skipif(wine.NATIVE, reason="of Debian's packages")
@pytest.mark.parametrize("said", LOCKED)
def test_lock_of_another_package_manager_is_waited_for_with_a_message(said, apt, capfd):
    asked = apt(apt_get=f'[ $(wc -l < "$CALLS") -gt 2 ] || {{ echo "{said}"; exit 100; }}')
    system.need("a-package", present=False)
    assert asked() == [
        *["apt-get update"] * 3,
        "apt-get install --yes --no-install-recommends a-package",
    ]
    (message,) = re.findall("waiting for another package manager, (.*) ...", capfd.readouterr().err)
    assert re.fullmatch(r"(process 71 \([\w-]+\)|which) holds /var/lib/(apt/lists/lock|dpkg/lock-frontend)", message)


@pytest.mark.skipif(wine.NATIVE, reason="of Debian's packages")
def test_other_failure_of_apt_is_shown_and_not_waited_for(apt, capfd):
    asked = apt(apt_get="echo E: Unable to locate package a-package; exit 100")
    with pytest.raises(Failure, match="apt-get update failed with exit code 100"):
        system.need("a-package", present=False)
    assert asked() == ["apt-get update"]
    assert "Unable to locate" in capfd.readouterr().err


@pytest.mark.skipif(wine.NATIVE, reason="of Debian's packages")
@pytest.mark.parametrize(("has", "chosen"), [("a", "a-16"), ("b", "a-19")])
def test_first_of_several_packages_that_the_system_has_is_installed(has, chosen, apt):
    asked = apt(apt_get="", apt_cache=f'[ {has} = b ] && [ "$2" = a-16 ] || echo "  Candidate: 1"')
    system.need("a-16 | a-19 | a-18", "b", present=False)
    assert asked()[-1] == f"apt-get install --yes --no-install-recommends {chosen} b"


def test_program_is_compiled_with_the_compiler_of_extensions(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "venv", lambda *names: Path(sys.executable))
    (tmp_path / "source").mkdir()
    source = tmp_path / "source" / "answer.c"
    source.write_text('#include "value.h"\nint main(void) { return VALUE + MORE; }\n')
    (tmp_path / "value.h").write_text("#define VALUE 40\n")
    target = tmp_path / ("answer.exe" if wine.NATIVE else "answer")
    native.compile_program(source, target, options=["/DMORE=2" if wine.NATIVE else "-DMORE=2"], include_dirs=[tmp_path])
    assert subprocess.run([target]).returncode == 42


def test_differences_of_two_answers_are_printed(capsys):
    assert sim._differ("one", "a\nb\n", "other", "a\nc\n")
    assert capsys.readouterr().out.splitlines() == ["--- one", "+++ other", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]
    assert not sim._differ("one", "a\n", "other", "a\n")
    assert capsys.readouterr().out == ""


def test_version_of_the_package_is_the_one_of_the_build(tmp_path, monkeypatch):
    (tmp_path / "tpio").mkdir()
    (tmp_path / "tpio" / "__init__.py").write_text('"""Text."""\n\n__version__ = "4.5.6"\n')
    monkeypatch.setattr(build, "CHECKOUT", tmp_path)
    assert build._project_version() == "4.5.6"


def test_wheel_that_is_too_large_is_refused(tmp_path, monkeypatch):
    wheel = tmp_path / "tpio-1-cp313-cp313-win_amd64.whl"
    wheel.write_bytes(bytes(wheels.MAX_BYTES))
    with pytest.raises(Failure, match="has 600,000 bytes, which must be less than 600,000"):
        wheels.check(wheel)
