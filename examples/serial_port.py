"""A device: writes a line to a serial port and shows what comes back, with a limit on how long either may take.

python serial_port.py COM3 ATI
"""

import ctypes
import sys

import tpio

SECONDS = 2
FOREVER = 0xFFFFFFFF


def set_up(port: tpio.File, settings: str) -> None:
    """Speed and format, and the times after which Windows ends a read or write that has got nothing done."""
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    handle = ctypes.c_void_p(port.fileno())
    state = (ctypes.c_char * 28)(28)  # a DCB, which begins with its size
    # A read ends with the first bytes, or without any when its time is up.
    times = (ctypes.c_uint32 * 5)(FOREVER, FOREVER, 1000 * SECONDS, 0, 1000 * SECONDS)  # COMMTIMEOUTS
    if not (
        kernel32.GetCommState(handle, state)
        and kernel32.BuildCommDCBW(settings, state)
        and kernel32.SetCommState(handle, state)
        and kernel32.SetCommTimeouts(handle, times)
    ):
        raise ctypes.WinError(ctypes.get_last_error())


if len(sys.argv) < 2:
    print("name a serial port, such as COM3, and what to send to it")
    sys.exit(0)
name, line = sys.argv[1], " ".join(sys.argv[2:])
with tpio.open(rf"\\.\{name}", "r+b", share="") as port:
    set_up(port, "baud=9600 parity=n data=8 stop=1")
    request = line.encode() + b"\r"
    if port.write(request).result() < len(request):
        sys.exit("the device does not take it")
    while answer := port.read(100).result():
        sys.stdout.write(answer.decode("ascii", "replace"))
