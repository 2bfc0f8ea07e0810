"""Who may reach our pipes and sockets, and who inherits our handles."""

import ctypes
import os
import re
import socket
import subprocess
import sys
from ctypes import wintypes

import pytest

import tpio
from ends import closing, named_pair, pipe_name, tcp_pair
from support import WAIT, wine
from tpio import _tpio

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)

SE_KERNEL_OBJECT = 6
OWNER, DACL = 1, 4
ALLOW, ALL_ACCESS_OF_A_FILE = 0, 0x1F01FF
PROTECTED = 0x1000


def descriptor(handle):
    """The security descriptor of a handle's object, as SDDL."""
    advapi32.GetSecurityInfo.argtypes = [
        wintypes.HANDLE,
        ctypes.c_int,
        wintypes.DWORD,
        *[ctypes.c_void_p] * 4,
        ctypes.POINTER(ctypes.c_void_p),
    ]
    convert = advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW
    convert.argtypes = [
        ctypes.c_void_p,
        wintypes.DWORD,
        wintypes.DWORD,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_void_p,
    ]
    kernel32.LocalFree.argtypes = [ctypes.c_void_p]
    found, text = ctypes.c_void_p(), ctypes.c_void_p()
    error = advapi32.GetSecurityInfo(
        handle, SE_KERNEL_OBJECT, OWNER | DACL, None, None, None, None, ctypes.byref(found)
    )
    assert error == 0, error
    try:
        if not convert(found, 1, OWNER | DACL, ctypes.byref(text), None):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            return ctypes.wstring_at(text.value)
        finally:
            kernel32.LocalFree(text)
    finally:
        kernel32.LocalFree(found)


def only_the_owner_may(sddl):
    """Is there exactly one entry in the list, and does it allow the current user everything?"""
    entries = re.findall(r"\(([^)]*)\)", sddl.partition("D:")[2])
    assert len(entries) == 1, sddl
    kind, flags, rights, _, _, who = entries[0].split(";")
    assert kind == "A" and flags == "", sddl
    assert rights in ("FA", "GA", "0x1f01ff"), sddl
    if not who.startswith("S-"):  # one of the two-letter names, such as LA
        pytest.skip(f"the system abbreviates the user as {who}")
    assert who == _tpio.user_sid(), sddl


def test_a_named_pipe_is_for_the_current_user_alone():
    server, client = named_pair()
    with closing(server, client):
        only_the_owner_may(descriptor(server.fileno()))
        if not wine:
            assert "D:P(" in descriptor(server.fileno())


@pytest.mark.parametrize("inherit", [None, "read", "write"])
def test_an_anonymous_pipe_is_for_the_current_user_alone(inherit):
    reader, writer = tpio.pipe(inherit=inherit)
    with closing(reader, writer):
        ours = writer if inherit == "read" else reader
        only_the_owner_may(descriptor(ours.fileno()))


def test_a_listener_can_be_opened_to_others():
    everyone = "D:(A;;GRGW;;;WD)"
    with tpio.PipeListener(pipe_name(), security=everyone) as listener:
        client = tpio.open_pipe(listener.name)
        with client.result(WAIT), listener.accept().result(WAIT) as server:
            assert "WD)" in descriptor(server.fileno()) or "S-1-1-0)" in descriptor(server.fileno())


def test_a_list_of_users_may_connect_too_but_not_pose_as_the_server():
    with tpio.PipeListener(pipe_name(), security=["S-1-5-32-545", "WD"]) as listener:
        client = tpio.open_pipe(listener.name)
        with client.result(WAIT), listener.accept().result(WAIT) as server:
            sddl = descriptor(server.fileno())
    entries = dict.fromkeys(re.findall(r"\(([^)]*)\)", sddl.partition("D:")[2]))
    rights = {entry.split(";")[5]: entry.split(";")[2] for entry in entries}
    assert len(rights) == 3, sddl
    create_pipe_instance = 0x4
    for others in ({"S-1-5-32-545", "BU"}, {"S-1-1-0", "WD"}):
        (given,) = (int(rights[who], 16) for who in others & rights.keys())
        assert given & create_pipe_instance == 0 and given & 0x3 == 0x3


def test_what_is_no_user_is_refused():
    for bad in (["everybody"], ["WD)(A;;GA;;;WD"], [""], ["S-1"], ["S-1-5-32-545\n"]):
        with pytest.raises(ValueError, match="not a SID"):
            tpio.PipeListener(pipe_name(), security=bad)
    with pytest.raises(ValueError, match="not a security descriptor"):
        tpio.PipeListener(pipe_name(), security=["QQ"])
    for bad in (5, [5], [b"WD"]):
        with pytest.raises(TypeError):
            tpio.PipeListener(pipe_name(), security=bad)


@pytest.mark.parametrize("text", ["nonsense", "D:(A;;XX;;;WD)", "D:("])
def test_a_descriptor_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="not a security descriptor"):
        tpio.PipeListener(pipe_name(), security=text)


def test_names_of_anonymous_pipes_cannot_be_guessed(monkeypatch):
    names = []
    create = _tpio.create_named_pipe

    def spy(name, *args, **options):
        names.append((name, options["first"], options["instances"]))
        return create(name, *args, **options)

    monkeypatch.setattr(_tpio, "create_named_pipe", spy)
    for _ in range(10):
        for end in tpio.pipe():
            end.close()
    assert len({name for name, _, _ in names}) == 10
    for name, first, instances in names:
        assert re.fullmatch(r"\\\\\.\\pipe\\tpio-\d+-[0-9a-f]{32}", name)
        assert first and instances == 1


def test_nobody_else_can_connect_to_an_anonymous_pipe(monkeypatch):
    names = []
    create = _tpio.create_named_pipe
    monkeypatch.setattr(_tpio, "create_named_pipe", lambda name, *a, **o: names.append(name) or create(name, *a, **o))
    reader, writer = tpio.pipe()
    with closing(reader, writer), pytest.raises(TimeoutError):
        tpio.open_pipe(names[0], timeout=0).result(WAIT)


@pytest.mark.skipif(wine, reason="Wine does not enforce FILE_FLAG_FIRST_PIPE_INSTANCE")
def test_a_name_that_somebody_has_is_refused():
    with tpio.PipeListener(pipe_name()) as listener:
        with pytest.raises(PermissionError):
            tpio.PipeListener(listener.name)


@pytest.mark.skipif(wine, reason="Wine has no pipes of other machines")
def test_clients_from_the_network_are_refused():
    with tpio.PipeListener(pipe_name()) as listener:
        accepting = listener.accept()
        with pytest.raises(OSError, match="WinError"):
            tpio.open_pipe(listener.name.replace("\\\\.\\", "\\\\127.0.0.1\\"), timeout=WAIT).result(WAIT)
        assert not accepting.done()


def test_no_handle_can_be_inherited_unless_asked_for(tmp_path):
    reader, writer = tpio.pipe()
    server, client = named_pair()
    accepted, connected = tcp_pair()
    file = tpio.open(tmp_path / "file", "w+b")
    listener = tpio.listen(("127.0.0.1", 0))
    made = tpio.Socket()
    ends = (reader, writer, server, client, accepted, connected, file, listener, made)
    with closing(*ends):
        for end in ends:
            assert not os.get_handle_inheritable(end.fileno()), end


def test_a_child_does_not_get_what_is_not_for_it():
    """Handles of ours are not open in a child that inherits all that can be inherited."""
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        process = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        try:
            future = reader.read(1)
            writer.close()
            assert future.result(WAIT) == b""  # nobody else holds the writing end
        finally:
            process.communicate(b"\n", timeout=WAIT)


def test_a_listening_socket_is_alone_at_its_address():
    with tpio.listen(("127.0.0.1", 0)) as listener, socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match=r"WinError (10013|10048)"):
            thief.bind(listener.getsockname())


def test_a_server_may_know_its_client_but_not_act_in_its_name():
    """SECURITY_IDENTIFICATION: what the client's token is good for, once the server has impersonated it."""
    if wine:
        pytest.skip("Wine does not implement the security quality of service of a pipe's client")
    advapi32.ImpersonateNamedPipeClient.argtypes = [wintypes.HANDLE]
    advapi32.OpenThreadToken.argtypes = [wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL, ctypes.c_void_p]
    advapi32.GetTokenInformation.argtypes = [
        wintypes.HANDLE,
        ctypes.c_int,
        ctypes.c_void_p,
        wintypes.DWORD,
        ctypes.c_void_p,
    ]
    kernel32.GetCurrentThread.restype = wintypes.HANDLE
    token_query, token_impersonation_level, security_identification = 8, 9, 1
    server, client = named_pair()
    with closing(server, client):
        client.write(b"x").result(WAIT)
        server.read(1).result(WAIT)
        assert advapi32.ImpersonateNamedPipeClient(server.fileno())
        try:
            token, level, size = wintypes.HANDLE(), ctypes.c_int(), wintypes.DWORD()
            opened = advapi32.OpenThreadToken(kernel32.GetCurrentThread(), token_query, True, ctypes.byref(token))
        finally:
            advapi32.RevertToSelf()
        assert opened
        asked = advapi32.GetTokenInformation(
            token, token_impersonation_level, ctypes.byref(level), 4, ctypes.byref(size)
        )
        _tpio.close_handle(token.value)
        assert asked and level.value == security_identification
