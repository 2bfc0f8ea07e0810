"""What a number depends on: processor, system (Windows itself, or Wine), Python and tpio."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import sys
import winreg


def describe() -> dict[str, str]:
    return {
        "processor": f"{_processor()}, {os.cpu_count()} logical",
        "system": _system(),
        "Python": f"{platform.python_version()}{_threading()}, {platform.machine()}",
        "tpio": _version("tpio"),
    }


def _processor() -> str:
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
            return " ".join(str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).split())
    except OSError:
        return platform.processor()


def is_wine() -> bool:
    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


def _system() -> str:
    windows = f"Windows {platform.version()}"
    if not is_wine():
        return windows
    version = ctypes.WinDLL("ntdll").wine_get_version
    version.restype = ctypes.c_char_p
    return f"Wine {version().decode()} as {windows}"


def _threading() -> str:
    is_gil_enabled = getattr(sys, "_is_gil_enabled", lambda: True)
    return "" if is_gil_enabled() else ", free-threaded"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of this checkout"
