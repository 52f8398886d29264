# SPDX-License-Identifier: Apache-2.0
"""Owns the one exception tree of the project; every process uses it; leaves carry data, not prose.

AgentError
 +-- ProtocolViolation      the other side broke the rules of the channel: it is killed, never answered
 |    +-- MalformedMessage  not msgpack, over a limit, unknown or mistyped field
 |    +-- UnpermittedMessage known, but not allowed for this sender, in this phase, or once too often
 |    +-- BadDescriptor     wrong count, type, seal or size of a descriptor that came with a message
 +-- ChannelClosed          the peer is gone
 +-- InputError             untrusted bytes (DVD, XML, HTTP) are not what they must be
 +-- ConfigError            a setting or a policy file can't be used
 +-- ConfinementError       a step of the jail failed: the child exits, nothing ran
 +-- CommitError            a privileged act failed or its result is not what was proposed
 +-- HostError              the Azure host did not answer as it must
 |    +-- HostUnreachable   no connection, time-out, reset, truncated
 |    +-- HostRefused       a final status code
 |    +-- ResourceGone      410: the goal state must be fetched anew
 +-- StateError             the journal or a state file can't be read or written
"""


class AgentError(Exception):
    """Root of the tree: anything the agent raises on purpose."""


class ProtocolViolation(AgentError):
    """The peer broke the channel's rules; its process is ended and the event recorded."""


class MalformedMessage(ProtocolViolation):
    """The bytes are no message of the catalogue."""


class UnpermittedMessage(ProtocolViolation):
    """A message that this peer may not send now."""


class BadDescriptor(ProtocolViolation):
    """A descriptor that is not what its message promises."""


class ChannelClosed(AgentError):
    """The other end of a channel is closed."""


class InputError(AgentError):
    """Untrusted input refused: `where` names the element, block or line, `problem` what was expected."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class ConfigError(AgentError):
    """A configuration or policy file that can't be used: `source` is its path, `problem` says what and where."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


class ConfinementError(AgentError):
    """A confinement step failed: `step` is its name, `cause` the kernel's answer."""

    def __init__(self, step: str, cause: str) -> None:
        super().__init__(f"{step}: {cause}")
        self.step = step
        self.cause = cause


class CommitError(AgentError):
    """A privileged act failed or its outcome differs from the proposal; `changed` tells if anything was, `paths` what
    of it is known."""

    def __init__(self, problem: str, *, changed: bool = False, paths: tuple[str, ...] = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.changed = changed
        self.paths = paths


class HostError(AgentError):
    """The WireServer did not answer as it must."""


class HostUnreachable(HostError):
    """No usable answer came: refused, silent, reset or cut off."""


class HostRefused(HostError):
    """The host answered with a status that ends the request."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(f"{what}: HTTP status {status}")
        self.status = status


class ResourceGone(HostError):
    """HTTP 410, or 400 with InvalidContainerConfiguration: fetch the goal state and use its new ids."""


class StateError(AgentError):
    """Persistent state is unreadable or can't be written."""
