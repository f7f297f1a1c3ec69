"""Ports for servers that are started later."""

import socket
from pathlib import Path

import pytest

from momo_platform import machine


def test_a_free_port_is_none_that_an_outgoing_connection_could_take():
    ports = machine.free_ports(50)
    assert len(set(ports)) == 50
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(given.read_text().split()[0]) if given.exists() else 32_768
    assert all(1024 < port < lowest for port in ports)


def test_a_port_that_is_listened_on_is_not_given(monkeypatch):
    first, second = machine.free_ports(2)
    monkeypatch.setattr(machine, "_SERVERS_PORTS", [first, second])
    with socket.socket() as server:
        server.bind(("127.0.0.1", first))
        server.listen()
        assert machine.free_ports(1) == [second]
        with pytest.raises(OSError, match="2 free ports wanted, 1 found"):
            machine.free_ports(2)
