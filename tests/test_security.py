"""Who may reach our pipes and sockets, and who inherits our handles."""

import ctypes
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from ctypes import wintypes

import pytest

import tpio
import wines
from ends import GENERIC_WRITE, OVERLAPPED, closing, named_pair, pipe_name, tcp_pair
from support import WAIT, wine
from tpio import _tpio

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)

SE_KERNEL_OBJECT = 6
OWNER, DACL = 1, 4
ALLOW, ALL_ACCESS_OF_A_FILE = 0, 0x1F01FF
PROTECTED = 0x1000


def taken(text):
    """What a pointer from the system points to, which is given back."""
    try:
        return ctypes.wstring_at(text.value)
    finally:
        kernel32.LocalFree(text)


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
        return taken(text)
    finally:
        kernel32.LocalFree(found)


advapi32.ConvertStringSidToSidW.argtypes = [ctypes.c_wchar_p, ctypes.c_void_p]
advapi32.ConvertSidToStringSidW.argtypes = [ctypes.c_void_p, ctypes.c_void_p]


def sid_of(name):
    """In SDDL some have names of two letters: the built-in Administrator is LA."""
    found, text = ctypes.c_void_p(), ctypes.c_void_p()
    succeeds(advapi32.ConvertStringSidToSidW(name, ctypes.byref(found)))
    try:
        succeeds(advapi32.ConvertSidToStringSidW(found, ctypes.byref(text)))
        return taken(text)
    finally:
        kernel32.LocalFree(found)


def only_the_owner_may(sddl):
    """Is there exactly one entry in the list, and does it allow the current user everything?"""
    entries = re.findall(r"\(([^)]*)\)", sddl.partition("D:")[2])
    assert len(entries) == 1, sddl
    kind, flags, rights, _, _, who = entries[0].split(";")
    assert kind == "A" and flags == "", sddl
    assert rights in ("FA", "GA", "0x1f01ff"), sddl
    assert sid_of(who) == _tpio.user_sid(), sddl


def test_a_named_pipe_is_for_the_current_user_alone():
    server, client = named_pair()
    with closing(server, client):
        only_the_owner_may(descriptor(server.fileno()))
        if not wine:
            assert "D:P(" in descriptor(server.fileno())


# ---- what the system itself says, asked with another token

TOKEN_DUPLICATE, TOKEN_QUERY, TOKEN_IMPERSONATE = 2, 8, 4
FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_ALL_ACCESS = 0x120089, 0x120116, 0x1F01FF
STRANGER = "S-1-5-21-1111111111-2222222222-3333333333-1001"

kernel32.GetCurrentProcess.restype = kernel32.GetCurrentThread.restype = wintypes.HANDLE
advapi32.OpenProcessToken.argtypes = [wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p]
advapi32.CreateRestrictedToken.argtypes = [
    wintypes.HANDLE,
    wintypes.DWORD,
    *[wintypes.DWORD, ctypes.c_void_p] * 3,
    ctypes.c_void_p,
]
advapi32.DuplicateToken.argtypes = [wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p]
advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW.argtypes = [
    ctypes.c_wchar_p,
    wintypes.DWORD,
    *[ctypes.c_void_p] * 2,
]
kernel32.LocalFree.argtypes = [ctypes.c_void_p]
advapi32.AccessCheck.argtypes = [ctypes.c_void_p, wintypes.HANDLE, wintypes.DWORD, *[ctypes.c_void_p] * 5]
advapi32.ImpersonateAnonymousToken.argtypes = [wintypes.HANDLE]


class SidAndAttributes(ctypes.Structure):
    _fields_ = (("sid", ctypes.c_void_p), ("attributes", wintypes.DWORD))


def succeeds(ok):
    if not ok:
        raise ctypes.WinError(ctypes.get_last_error())


@contextmanager
def token_of(who):
    """An impersonation token: of this user, or of one who is in the same groups and is not this user."""
    process, token, made = (wintypes.HANDLE() for _ in range(3))
    succeeds(
        advapi32.OpenProcessToken(kernel32.GetCurrentProcess(), TOKEN_DUPLICATE | TOKEN_QUERY, ctypes.byref(process))
    )
    opened = [process]
    try:
        if who == "somebody else":
            me = SidAndAttributes()
            succeeds(advapi32.ConvertStringSidToSidW(_tpio.user_sid(), ctypes.byref(me)))
            try:
                succeeds(
                    advapi32.CreateRestrictedToken(
                        *(process, 0, 1, ctypes.byref(me), 0, None, 0, None), ctypes.byref(token)
                    )
                )
            finally:
                kernel32.LocalFree(me.sid)
            opened.append(token)
        impersonation_level = 2
        succeeds(advapi32.DuplicateToken(opened[-1], impersonation_level, ctypes.byref(made)))
        opened.append(made)
        yield made
    finally:
        for each in opened:
            _tpio.close_handle(each.value)


def granted(handle, token, wanted, *, change=str):
    """What the system would give to whoever has the token, if the descriptor (as SDDL) were changed so."""
    found = ctypes.c_void_p()
    text = change(f"{descriptor(handle)}G:{_tpio.user_sid()}")  # AccessCheck demands a group
    succeeds(advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(text, 1, ctypes.byref(found), None))
    try:
        return access_check(found, token, wanted)
    finally:
        kernel32.LocalFree(found)


def access_check(found, token, wanted):
    generic = (wintypes.DWORD * 4)(FILE_GENERIC_READ, FILE_GENERIC_WRITE, 0x1200A0, FILE_ALL_ACCESS)
    privileges, length = ctypes.create_string_buffer(400), wintypes.DWORD(400)
    given, ok = wintypes.DWORD(), wintypes.BOOL()
    succeeds(
        advapi32.AccessCheck(
            *(found, token, wanted, generic, privileges),
            *(ctypes.byref(length), ctypes.byref(given), ctypes.byref(ok)),
        )
    )
    return given.value if ok else 0


def strange(sddl):
    """The same descriptor, as a stranger's process would have made it: what we are to it, others are to ours."""
    owner, entry = r"\AO:([A-Z]{2}|S-[0-9-]+)", r"\A([^(]*\((?:[^;)]*;){5})([^;)]*)"
    assert sid_of(re.search(entry, sddl)[2]) == _tpio.user_sid(), sddl  # the first entry is ours, however it is spelled
    sddl, owners = re.subn(owner, f"O:{STRANGER}", sddl)
    assert owners == 1, sddl
    return re.sub(entry, rf"\g<1>{STRANGER}", sddl)


RIGHTS = [FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_ALL_ACCESS, 1, 2, 4]


@pytest.mark.parametrize("wanted", RIGHTS)
def test_the_system_gives_a_named_pipe_to_the_current_user(wanted):
    server, client = named_pair()
    with closing(server, client), token_of("this user") as token:
        assert granted(server.fileno(), token, wanted) == wanted


@pytest.mark.parametrize("wanted", RIGHTS)
def test_the_system_refuses_a_named_pipe_of_another_user(wanted):
    server, client = named_pair()
    with closing(server, client), token_of("this user") as token:
        assert granted(server.fileno(), token, wanted, change=strange) == 0


@wines.skipif("the user's own SID stays in a restricted token")
@pytest.mark.parametrize("wanted", RIGHTS)
def test_the_system_refuses_a_named_pipe_to_who_is_not_the_current_user(wanted):
    server, client = named_pair()
    with closing(server, client), token_of("somebody else") as token:
        assert granted(server.fileno(), token, wanted) == 0


def test_the_system_gives_others_what_they_were_given_and_no_more():
    with tpio.PipeListener(pipe_name(), security=["WD"]) as listener:
        client = tpio.open_pipe(listener.name)
        with client.result(WAIT), listener.accept().result(WAIT) as server, token_of("this user") as token:
            assert granted(server.fileno(), token, FILE_GENERIC_READ, change=strange) == FILE_GENERIC_READ
            for more in (FILE_ALL_ACCESS, 4):  # 4: to make another instance, as the server does
                assert granted(server.fileno(), token, more, change=strange) == 0


@wines.skipif("anonymous impersonation is not implemented, and pipes have no access check")
def test_an_anonymous_client_is_refused():
    with tpio.PipeListener(pipe_name()) as listener:
        succeeds(advapi32.ImpersonateAnonymousToken(kernel32.GetCurrentThread()))
        try:
            with pytest.raises(PermissionError):
                open(listener.name, "r+b", buffering=0)
        finally:
            advapi32.RevertToSelf()


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
    with closing(reader, writer):
        with pytest.raises(OSError, match=".") as caught:  # to write: who asks to read is refused for that alone
            _tpio.create_file(names[0], GENERIC_WRITE, 0, 3, OVERLAPPED)
        assert caught.value.winerror == 231  # ERROR_PIPE_BUSY: there is no instance but the one that has its client


@wines.skipif("FILE_FLAG_FIRST_PIPE_INSTANCE is not enforced")
def test_a_name_that_somebody_has_is_refused():
    with tpio.PipeListener(pipe_name()) as listener:
        with pytest.raises(PermissionError):
            tpio.PipeListener(listener.name)


def test_a_name_that_somebody_was_faster_to_take_is_refused():
    """A squatter who waits for our clients; he leaves no room for another instance, as the first one decides that."""
    name = "\\\\.\\pipe\\" + pipe_name()
    squatter = _tpio.create_named_pipe(
        name, "rw", first=True, message=False, instances=1, buffer_size=100, sddl="D:(A;;GA;;;WD)"
    )
    try:
        with pytest.raises(OSError, match=r"WinError (5|231)\]"):
            tpio.PipeListener(name)
    finally:
        _tpio.close_handle(squatter)


@wines.skipif("FILE_FLAG_FIRST_PIPE_INSTANCE is not enforced")
def test_a_name_whose_squatter_leaves_room_is_refused_too():
    name = "\\\\.\\pipe\\" + pipe_name()
    squatter = _tpio.create_named_pipe(
        name, "rw", first=True, message=False, instances=255, buffer_size=100, sddl="D:(A;;GA;;;WD)"
    )
    try:
        with pytest.raises(PermissionError):
            tpio.PipeListener(name)
    finally:
        _tpio.close_handle(squatter)


@wines.skipif("there are no pipes of other machines")
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


def test_every_client_of_a_pipe_says_that_it_may_be_identified_at_most(monkeypatch):
    """Without these flags a server that is somebody else's could act in our name."""
    identification_at_most = 0x00110000  # SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION
    opened = []
    create = _tpio.create_file

    def spy(name, access, share, disposition, flags, **options):
        opened.append((name, flags & 0x001F0000))
        return create(name, access, share, disposition, flags, **options)

    monkeypatch.setattr(_tpio, "create_file", spy)
    with tpio.PipeListener(pipe_name()) as listener:
        with tpio.open_pipe(listener.name).result(WAIT), listener.accept().result(WAIT):
            pass
    for inherit in (None, "read", "write"):
        for end in tpio.pipe(inherit=inherit):
            end.close()
    assert len(opened) == 4
    assert all(flags == identification_at_most for _, flags in opened), opened


def test_a_server_may_know_its_client_but_not_act_in_its_name():
    """SECURITY_IDENTIFICATION: what the client's token is good for, once the server has impersonated it."""
    wines.skip("the security quality of service of a pipe's client is not implemented")
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
