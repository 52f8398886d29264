# SPDX-License-Identifier: Apache-2.0
"""By which proxy storage is reached: settings before environment, and whom it is not for."""

import pytest

from supervisor.wire.proxy import Proxy, settings

CONFIGURED, LOWER, UPPER = Proxy("conf.example", 1), Proxy("lower.example", 3128), Proxy("10.0.0.9", 80)
ENVIRONMENT = {"https_proxy": "http://lower.example:3128/", "HTTPS_PROXY": "http://10.0.0.9:80"}


def test_the_settings_come_first() -> None:
    found = settings("conf.example", 1, ENVIRONMENT)
    assert found.proxy_for("https", "a.example") == found.proxy_for("http", "a.example") == CONFIGURED


def test_a_host_without_a_port_is_no_proxy_and_said() -> None:
    found = settings("conf.example", None, ENVIRONMENT)
    assert found.proxy_for("https", "a.example") is None
    assert found.problems == ("HttpProxy.Host is set without HttpProxy.Port: no proxy is used",)


@pytest.mark.parametrize(
    ("environ", "scheme", "proxy"),
    [
        ({}, "https", None),
        (ENVIRONMENT, "https", LOWER),
        (ENVIRONMENT, "http", None),
        ({"https_proxy": " ", "HTTPS_PROXY": "http://10.0.0.9:80"}, "https", UPPER),
        ({"HTTP_PROXY": "10.0.0.9:80"}, "http", UPPER),
        ({"https_proxy": "http://me:word@lower.example:3128"}, "https", LOWER),
        ({"https_proxy": "https://[2001:db8::1]:443/"}, "https", Proxy("2001:db8::1", 443)),
        ({"https_proxy": "http://lower.example"}, "https", None),
        ({"https_proxy": "http://lower.example:0"}, "https", None),
        ({"https_proxy": "http://lower.example:70000"}, "https", None),
        ({"https_proxy": "lower example:3128"}, "https", None),
    ],
)
def test_the_environment(environ: dict[str, str], scheme: str, proxy: Proxy | None) -> None:
    assert settings(None, None, environ).proxy_for(scheme, "a.example") == proxy


def test_what_is_wrong_with_the_environment_is_said_without_its_password() -> None:
    environ = {"https_proxy": "http://me:word@lower.example:3128", "http_proxy": "http://me:word@x"}
    told = settings(None, None, environ).problems
    assert told == (
        "https_proxy names a user, who is not told to the proxy",
        "http_proxy is not of the form http://HOST:PORT: no proxy is used for http",
    )


@pytest.mark.parametrize(
    ("exempt", "host", "direct"),
    [
        ("a.example", "a.example", True),
        ("example", "a.EXAMPLE", True),
        (".Example", "a.example", True),
        ("ple", "a.example", False),
        ("b.example, a.example ,", "a.example", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.10", False),
        ("10.0.0.0/8", "10.200.3.4", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("0.0.0.0/0", "11.0.0.1", True),
        ("10.0.0.0/33", "10.0.0.1", False),
        ("10.0.0.0/", "10.0.0.0", False),
        ("10.0.0.0/8", "a.example", False),
        ("0.0.1", "10.0.0.1", False),
        ("*", "10.0.0.1", True),
        ("", "a.example", False),
        (".", "a.example", False),
    ],
)
def test_whom_it_is_not_for(exempt: str, host: str, direct: bool) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        for found in (settings("conf.example", 1, {name: exempt}), settings(None, None, ENVIRONMENT | {name: exempt})):
            assert (found.proxy_for("https", host) is None) is direct
