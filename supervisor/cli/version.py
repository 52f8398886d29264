# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor version`: the installed version, and the version of the agent that runs."""

import argparse
import platform

import msgspec

from supervisor.cli.client import add_socket_option, ask
from supervisor.verbs import RUNNING_VERSION
from supervisor.version import VERSION


class _Running(msgspec.Struct, frozen=True):
    version: str
    policy: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.version}, policy {self.policy}" if self.policy else self.version


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_socket_option(parser)
    parser.set_defaults(carry_out=lambda options: show(options.socket))


def show(path: str) -> int:
    """Print three lines. That the agent does not run, or does not answer, is an answer here."""
    print(f"agent-supervisor {VERSION} on {_system()}")
    print(f"Python: {platform.python_version()}")
    print(f"Running agent: {_running(path)}")
    return 0


def _running(path: str) -> str:
    try:
        return msgspec.json.decode(ask(path, RUNNING_VERSION).data, type=_Running).sentence
    except (FileNotFoundError, ConnectionRefusedError):
        return "none"
    except PermissionError:
        return "no permission to ask"
    except (OSError, ValueError) as error:
        return f"no usable answer ({error})"


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
