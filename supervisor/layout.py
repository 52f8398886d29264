# SPDX-License-Identifier: Apache-2.0
"""Owns where things are on disk; read by spawner, supervisor and command line; creates nothing."""

import msgspec


class Layout(msgspec.Struct, frozen=True):
    """Folders and files of the agent, absolute. `lib` is the place that outsiders know (design section 8)."""

    run: str = "/run/agent-supervisor"
    state: str = "/var/lib/agent-supervisor"
    lib: str = "/var/lib/waagent"
    log: str = "/var/log/waagent.log"
    config: str = "/etc/waagent.conf"
    console: str = "/dev/console"

    @property
    def channels(self) -> str:
        return f"{self.run}/w"

    @property
    def control_socket(self) -> str:
        return f"{self.run}/control.sock"

    @property
    def credentials(self) -> str:
        return f"{self.state}/credentials"

    @property
    def journal(self) -> str:
        return f"{self.state}/journal"

    @property
    def audit_log(self) -> str:
        return f"{self.state}/audit.log"

    @property
    def custom_data_record(self) -> str:
        """How far the one run of the custom data has come; committers write it."""
        return f"{self.state}/custom-data"

    @property
    def telemetry(self) -> str:
        """Events that the host has not taken yet."""
        return f"{self.state}/telemetry"

    @property
    def transitions(self) -> str:
        """Which operations went well the last time: only a change of that is an event."""
        return f"{self.telemetry}/transitions"

    def channel_folder(self, kind: str, instance: int) -> str:
        """The folder of one worker's listening socket, 0700 and the worker's own."""
        return f"{self.channels}/{kind}.{instance}"
