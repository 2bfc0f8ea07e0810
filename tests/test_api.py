"""The public names: what is there, what is not, and who makes an object."""

from __future__ import annotations

import pytest

import tpio
import tpio.tls

MADE_BY_FUNCTIONS = [
    (tpio.Watcher, "tpio.watch"),
    (tpio.Process, "tpio.spawn"),
    (tpio.tls.TLSStream, "tpio.tls.connect"),
]


@pytest.mark.parametrize(("made", "maker"), MADE_BY_FUNCTIONS, ids=lambda value: getattr(value, "__name__", None))
def test_a_class_without_a_public_constructor_names_the_function_that_makes_it(made, maker):
    with pytest.raises(TypeError, match=rf"{made.__name__} has no public constructor: {maker}\(\)"):
        made()


def test_the_names_are_those_of_the_socket_module_and_have_no_aliases():
    for name in ("recvfrom", "recvfrom_into", "sendto", "sendmsg", "recvmsg_into"):
        assert callable(getattr(tpio.Socket, name))
    for name in ("recv_from", "recv_from_into", "send_to", "send_msg", "recv_msg_into"):
        assert not hasattr(tpio.Socket, name)
    assert callable(tpio.wait_for_handle)
    assert not hasattr(tpio, "wait")
