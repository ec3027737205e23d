"""Ports are chosen by variables, and a taken one is explained."""

import os
import socket

import pytest

from devstack import ports
from devstack.errors import DevstackError, PortTaken
from devstack.ports import LOOPBACK, Ports, free_port, require_free


def test_a_variable_moves_one_port_and_leaves_the_others() -> None:
    chosen = Ports.from_environment({"TRADINGFLOW_PORT_REDIS": "21000"})
    assert chosen.redis == 21000
    assert chosen.postgres == Ports().postgres


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "http", "7000.0", "\N{ARABIC-INDIC DIGIT SEVEN}"])
def test_a_port_that_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(DevstackError, match=r"TRADINGFLOW_PORT_REDIS=.* allowed is a number from 1 to 65535"):
        Ports.from_environment({"TRADINGFLOW_PORT_REDIS": text})


@pytest.mark.parametrize("address", [LOOPBACK, "0.0.0.0"])
def test_a_taken_port_names_its_holder_and_the_way_out(address: str) -> None:
    with socket.socket() as holder:
        holder.bind((address, 0))
        holder.listen()
        port = holder.getsockname()[1]
        holder_named = rf"port {port} for rabbitmq epmd is taken by pid {os.getpid()} \(.*python.*\)"
        expected = rf"{holder_named}[\s\S]*TRADINGFLOW_PORT_RABBITMQ_EPMD=<port>"
        with pytest.raises(PortTaken, match=expected):
            require_free(port, "rabbitmq_epmd")


def test_no_port_is_handed_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "FREE_PORT_RANGE", range(32_000, 32_040))
    handed_out = [free_port() for _ in range(20)]
    assert len(set(handed_out)) == 20


def test_a_port_variable_nobody_reads_is_refused_with_those_that_are() -> None:
    with pytest.raises(DevstackError, match="TRADINGFLOW_PORT_PY_WORKER"):
        Ports.from_environment({"TRADINGFLOW_PORT_WORKER": "8101"})
