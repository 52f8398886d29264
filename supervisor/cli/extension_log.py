# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor extensions logs NAME`: the log of a handler's commands, which it reads itself.

Vendors' programs write beside it: no link is followed, nothing but a regular file opened, secrets are taken out.
"""

import argparse
import os
import re
import stat
import sys

from ipc.errors import AgentError, ConfigError
from supervisor import options as settings
from supervisor.cli.printable import printable
from supervisor.config import load
from supervisor.extensions import left_file
from supervisor.extensions.naming import problem_of_extension, problem_of_name
from supervisor.layout import Layout
from supervisor.redaction import Redactor

EXIT_WELL, EXIT_WRONG, EXIT_USAGE, EXIT_NO_PERMISSION = 0, 1, 2, 4
# The log itself is kept at 10 MiB; what is printed of anything larger is its end.
MOST_BYTES = 16 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("name", metavar="NAME", help="of the handler: Publisher.Type")
    parser.add_argument("--extension", metavar="NAME", default="", help="of a handler that has several")
    parser.add_argument("-n", metavar="N", type=_count, default=0, help="the last N lines alone, at least 1")
    parser.add_argument("--config", metavar="FILE", default=Layout().config, help="settings (default: %(default)s)")
    parser.set_defaults(carry_out=carry_out)


class _NotPrinted(Exception):
    """Why it is not, and the exit status of that."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


def carry_out(options: argparse.Namespace) -> int:
    """Print it."""
    try:
        _judge(options)
        content = _log(options, _folder(options.config))
    except _NotPrinted as problem:
        print(f"agent-supervisor: {printable(str(problem))}", file=sys.stderr)
        return problem.status
    lines = Redactor().clean(content.decode("utf-8", "replace")).splitlines()
    # Without a number 0, which is the beginning.
    for line in lines[-options.n :]:
        print(printable(line.replace("\t", "    ")))
    return EXIT_WELL


def _judge(options: argparse.Namespace) -> None:
    problem = problem_of_name(options.name) or problem_of_extension(options.extension)
    if options.json:
        problem = "a handler's log is text as it was written: extensions logs takes no --json"
    if problem:
        raise _NotPrinted(problem, EXIT_USAGE)


def _folder(config: str) -> str:
    """In which the logs of all handlers are."""
    _refuse_shut(config, config)
    try:
        return load(config).config[settings.EXTENSION_LOG_DIR]
    except ConfigError as error:
        raise _NotPrinted(str(error), EXIT_USAGE) from None


def _log(options: argparse.Namespace, folder: str) -> bytes:
    file = f"CommandExecution{f'_{options.extension}' if options.extension else ''}.log"
    path = f"{folder}/{options.name}/{file}"
    for each in (folder, f"{folder}/{options.name}", path):
        _refuse_shut(each, path)
    try:
        return _content(folder, options.name, file)
    except FileNotFoundError:
        raise _NotPrinted(_absent(folder, options.name, options.extension, path), EXIT_WRONG) from None
    except (AgentError, OSError) as error:
        raise _NotPrinted(f"{path} is not printed: {error}", EXIT_WRONG) from None


def _refuse_shut(path: str, wanted: str) -> None:
    """What is there and not for this user to open has one sentence, whatever part of the way to `wanted` it is."""
    if os.path.lexists(path) and not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
        raise _NotPrinted(f"{wanted} can't be read: be root", EXIT_NO_PERMISSION)


def _content(folder: str, name: str, file: str) -> bytes:
    """The end of the file. OSError; Unreadable for what is no file of its own."""
    inner = left_file.enter(folder, name)
    try:
        left_file.stamp(inner, file)
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=inner)
    finally:
        os.close(inner)
    with open(descriptor, "rb") as log:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise left_file.Unreadable(f"{file} is no regular file")
        log.seek(max(0, status.st_size - MOST_BYTES))
        return log.read(MOST_BYTES)


def _absent(folder: str, handler: str, extension: str, path: str) -> str:
    """That there is no such log, why that may be, and which ones there are."""
    logs = _extensions_with_a_log(f"{folder}/{handler}")
    if extension and logs:
        named = ", ".join(name or "one without --extension" for name in logs)
        return f"no command of {handler}'s extension {extension} has run, there is no {path}; logs there are: {named}"
    ran_for = f"; those of its extensions have logs (--extension NAME): {', '.join(logs)}" if logs else ""
    if logs or os.path.isdir(f"{folder}/{handler}"):
        return f"no command of {handler} has run, there is no {path}{ran_for}"
    others = [name for name in _names(folder) if _extensions_with_a_log(f"{folder}/{name}")]
    known = f"commands have run of {', '.join(others)}" if others else f"no handler has a log in {folder}"
    return f"no command of {handler} has run, there is no {path}; {known}"


def _extensions_with_a_log(folder: str) -> list[str]:
    """By name, empty for the log that is of no single extension."""
    found = (re.fullmatch(r"CommandExecution(?:_(.+))?\.log", name) for name in _names(folder))
    return [each[1] or "" for each in found if each]


def _names(folder: str) -> list[str]:
    """None where it can't be listed, as a link can't."""
    try:
        return [] if os.path.islink(folder) else sorted(os.listdir(folder))
    except OSError:
        return []


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines: a whole number from 1 on is expected")
    return int(text)
