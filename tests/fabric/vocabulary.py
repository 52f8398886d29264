# SPDX-License-Identifier: Apache-2.0
"""Owns all messages at once, for tests; no process of the agent loads more than it speaks."""

from importlib import import_module

from ipc.messages import CATALOGUE, Message

BY_NAME: dict[str, type[Message]] = {name: getattr(import_module(module), name) for name, module in CATALOGUE.items()}
ALL = tuple(BY_NAME.values())
