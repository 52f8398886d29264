# SPDX-License-Identifier: Apache-2.0
"""Owns what of `agent-supervisor prove` is about handlers' classes: which of them, and why there are none."""

import argparse
import os

from ipc.errors import AgentError
from supervisor import options as settings
from supervisor.config import load
from supervisor.layout import Layout
from supervisor.prove import handler_proving, handler_unit
from supervisor.prove.handler_cases import CLASSES, Case
from supervisor.prove.handler_verdict import HandlersProof

NO_SYSTEMD = "systemd does not run here, and so no vendor's command does"


def prove(options: argparse.Namespace, cases: tuple[Case, ...]) -> HandlersProof | None:
    """None where they are not asked for. ConfigError."""
    classes = tuple(name for name in CLASSES if name in options.workers or not options.workers)
    if options.without or not classes or not cases:
        return None
    if not handler_unit.can_run():
        # Where they were asked for by name, that they are not proven is no success.
        return HandlersProof(problem=NO_SYSTEMD) if options.workers else HandlersProof(absent=NO_SYSTEMD)
    config, logs = Layout().config, settings.EXTENSION_LOG_DIR.default
    # Where the agent was never started there need not be one.
    if os.path.exists(config):
        logs = load(config).config[settings.EXTENSION_LOG_DIR]
    try:
        return HandlersProof(cases, handler_proving.prove(cases, classes, logs))
    except (AgentError, OSError) as error:
        # What else was proven stands.
        return HandlersProof(problem=str(error))
