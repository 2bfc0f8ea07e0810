"""What the return of a Win32 call means for the thread pool: does a completion come? The submit path's one decision."""

from __future__ import annotations

import pytest

from tpio._tpio import classify

SUCCESS, IO_PENDING, MORE_DATA = 0, 997, 234

FAILURES = {
    "ERROR_FILE_NOT_FOUND": 2,
    "ERROR_ACCESS_DENIED": 5,
    "ERROR_INVALID_HANDLE": 6,
    "ERROR_NOT_ENOUGH_MEMORY": 8,
    "ERROR_HANDLE_EOF": 38,
    "ERROR_NETNAME_DELETED": 64,
    "ERROR_INVALID_PARAMETER": 87,
    "ERROR_BROKEN_PIPE": 109,
    "ERROR_SEM_TIMEOUT": 121,
    "ERROR_BAD_PIPE": 230,
    "ERROR_PIPE_BUSY": 231,
    "ERROR_NO_DATA": 232,
    "ERROR_PIPE_NOT_CONNECTED": 233,
    "WAIT_TIMEOUT": 258,
    "ERROR_PIPE_CONNECTED": 535,  # a success of ConnectNamedPipe, and no completion comes
    "ERROR_OPERATION_ABORTED": 995,
    "ERROR_IO_INCOMPLETE": 996,
    "ERROR_NOACCESS": 998,
    "ERROR_NOTIFY_ENUM_DIR": 1022,
    "ERROR_INVALID_USER_BUFFER": 1784,
    "WSAEMSGSIZE": 10040,  # but of a receive it is a warning
    "WSAECONNRESET": 10054,
    "WSAENOBUFS": 10055,
    "WSAENOTCONN": 10057,
    "WSAECONNREFUSED": 10061,
}


VERBS = [
    "ReadFile",
    "WriteFile",
    "WSARecv",
    "WSASend",
    "WSARecvFrom",
    "WSASendTo",
    "ConnectNamedPipe",
    "AcceptEx",
    "ConnectEx",
    "DisconnectEx",
    "TransmitFile",
    "DeviceIoControl",
    "IOCTL_AFD_POLL",
    "LockFileEx",
    "ReadDirectoryChangesW",
]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("verb", VERBS)
def test_a_failure_brings_no_completion(verb, skip):
    wanted = dict.fromkeys(FAILURES, "done")
    if verb in ("WSARecv", "WSARecvFrom"):
        # The first part of a datagram was received, and its completion is queued.
        wanted["WSAEMSGSIZE"] = "done" if skip else "pending"
    assert {name: classify(verb, code, skip) for name, code in FAILURES.items()} == wanted


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("error", "skip", "meaning"),
    [
        (SUCCESS, False, "pending"),  # a completion is queued although the call succeeded at once
        (SUCCESS, True, "done"),  # FILE_SKIP_COMPLETION_PORT_ON_SUCCESS
        (IO_PENDING, False, "pending"),
        (IO_PENDING, True, "pending"),
        (MORE_DATA, False, "pending"),  # a warning, which is a kind of success: the first part was read
        (MORE_DATA, True, "done"),
    ],
)
def test_success_and_warnings(verb, error, skip, meaning):
    if verb == "ReadDirectoryChangesW" and error == SUCCESS:
        meaning = "pending"  # its success says no more than that
    assert classify(verb, error, skip) == meaning
