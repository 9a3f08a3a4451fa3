"""Where a Capsule cannot listen it says which setting is to be changed: the address or the port."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from capsule.errors import CapsuleHomeError
from capsule.http.listening import listen, url
from capsule.http.metrics import serving_metrics

NOT_OURS = "192.0.2.1"
"""Of the addresses that are for documentation (RFC 5737)."""


def serve_metrics(host: str, port: int) -> None:
    with serving_metrics(host, port, CollectorRegistry()):
        raise AssertionError("it listens")


def test_a_socket_listens_at_the_port_that_its_url_names() -> None:
    with listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert url(host, port) == f"http://127.0.0.1:{port}"
    assert url("::1", 80) == "http://[::1]:80"


@pytest.mark.parametrize(("start", "setting"), [(listen, "--port"), (serve_metrics, "--metrics-port")])
def test_a_port_that_is_taken_is_told_as_the_port(start: Callable[[str, int], None], setting: str) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CapsuleHomeError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .*another {setting}$"):
            start("127.0.0.1", port)


@pytest.mark.parametrize(("start", "setting"), [(listen, "--host"), (serve_metrics, "metrics_host")])
@pytest.mark.parametrize("host", [NOT_OURS, "a..b"])
def test_an_address_that_is_not_of_this_machine_is_told_as_the_host(
    start: Callable[[str, int], None], setting: str, host: str
) -> None:
    with pytest.raises(CapsuleHomeError, match=rf"^cannot listen on {host}:0: .*; choose another {setting}$"):
        start(host, 0)
