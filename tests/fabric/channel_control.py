# SPDX-License-Identifier: Apache-2.0
"""Owns what a test may do with the emulated host's secure channel and clock while it runs, and see of them.

Runs in the host's process; each act is one step for every connection's thread.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from tests.fabric.host_channel import Channel
from tests.fabric.recording import Recording
from tests.fabric.wire_rules import VM, Host


class ChannelControl:
    """A part of WireServer."""

    recording: Recording

    @property
    @abstractmethod
    def _state(self) -> Host: ...

    def set_channel(self, *words: str, identity: str = VM) -> None:
        """Change the secure channel of the caller `identity`, as host_channel.Channel.set has it. Raises ValueError."""
        with self.recording.changed:
            self._state.channel(identity).set(*words)
            self.recording.changed.notify_all()

    def set_keys(self, keys: Mapping[str, str], latched: str) -> None:
        """The VM's channel knows these keys, by their GUIDs, and that one is latched."""
        with self.recording.changed:
            channel = self._state.channel(VM)
            channel.keys, channel.latched = dict(keys), latched

    def name_caller(self, address: str, identity: str) -> None:
        """Who calls from `address` is `identity` from now on, with a secure channel of its own."""
        with self.recording.changed:
            self._state.identities[address] = identity

    def set_clock(self, ahead_s: float) -> None:
        """The host's clock is so far ahead of this machine's."""
        with self.recording.changed:
            self._state.clock_ahead_s = ahead_s

    def channel(self, identity: str = VM) -> Channel:
        """The secure channel of the caller `identity` as it is now."""
        with self.recording.changed:
            channel = self._state.channel(identity)
            return replace(channel, keys=dict(channel.keys))
