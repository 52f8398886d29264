# SPDX-License-Identifier: Apache-2.0
"""Owns what a test may publish at the emulated host while it runs: goal states, certificates; and see of its reports.

Runs in the host's process; each act is one step for every connection's thread.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.fabric.documents import GoalState
from tests.fabric.neighbours import Neighbours
from tests.fabric.plan import Plan
from tests.fabric.recording import Recording
from tests.fabric.telemetry_rules import Event
from tests.fabric.tenancy import Tenancy
from tests.fabric.wire_rules import Host


class GoalStateControl:
    """A part of WireServer."""

    recording: Recording

    @property
    @abstractmethod
    def _state(self) -> Host: ...

    @property
    @abstractmethod
    def _neighbours(self) -> Neighbours: ...

    def publish(
        self,
        *,
        new_container: bool = True,
        instance_id: str = "",
        incomplete: int = 0,
        plan: Plan | None = None,
        steps: int = 1,
    ) -> GoalState:
        """Publish the next goal state; its first `incomplete` answers lack the role instance. Without a `plan` it wants
        what the last one wanted; with `steps` 0 it has the last one's incarnation, as after a hibernation."""
        with self.recording.changed:
            host = self._state
            wanted = host.settle(plan) if plan is not None else None
            goal_state = host.goal_state.successor(
                new_container=new_container, instance_id=instance_id, plan=wanted, steps=steps
            )
            host.publish(goal_state, incomplete)
            self.recording.changed.notify_all()
            return goal_state

    def renew_certificates(self, kinds: Sequence[str] | None = None) -> tuple[str, ...]:
        """Give the tenant fresh certificates, of the kinds that it has without `kinds`; their thumbprints. They come to
        the VM with the next goal state. Raises ValueError."""
        with self.recording.changed:
            tenancy = self._state.tenancy
            tenancy.renew(tuple(tenancy.kinds if kinds is None else kinds), self._state.wall)
            return tenancy.thumbprints

    def set_envelopes(self, *words: str) -> None:
        """How things are sealed from now on, as tenancy.Tenancy.set has it. Raises ValueError."""
        with self.recording.changed:
            self._state.tenancy.set(*words)

    def publish_fast(self, plan: Plan | None) -> str:
        """Publish a FastTrack goal state by vmSettings; None withdraws it: they tell the WireServer's again. The new
        ETag. Raises ValueError."""
        with self.recording.changed:
            etag = self._neighbours.plugin.publish(plan)
            self.recording.changed.notify_all()
            return etag

    def set_plugin(self, *words: str) -> None:
        """`supported` or `unsupported` (vmSettings), version=N.N.N.N, versions=V,V. Raises ValueError."""
        with self.recording.changed:
            plugin = self._neighbours.plugin
            for word in words:
                name, _, value = word.partition("=")
                if word in {"supported", "unsupported"}:
                    plugin.supports_vm_settings = word == "supported"
                elif name == "version":
                    plugin.version = value
                elif name == "versions":
                    plugin.versions = tuple(value.split(","))
                else:
                    raise ValueError(f"{word!r} says nothing about the HostGAPlugin")

    def set_metadata(self, **compute: str) -> None:
        """What the instance metadata service tells otherwise."""
        with self.recording.changed:
            self._neighbours.metadata.compute.update(compute)

    def put_blob(self, path: str, content: bytes) -> str:
        """Have `content` in the storage account; the URL to read it by."""
        with self.recording.changed:
            return self._state.blobs.put_there(path, content)

    def stock(self, handler: str, versions: Mapping[str, Sequence[bytes]]) -> str:
        """Have the packages of `handler` in the storage account (BlobStore.stock); the URL of their manifest."""
        with self.recording.changed:
            return self._state.blobs.stock(handler, versions)

    def blob(self, path: str) -> bytes:
        """What is in the storage account there. Raises KeyError."""
        with self.recording.changed:
            return bytes(self._state.blobs.blobs[path].content)

    @property
    def statuses(self) -> tuple[dict[str, Any], ...]:
        """All statuses that the host accepted, whole and by whatever way."""
        with self.recording.changed:
            return tuple(self._state.blobs.statuses)

    @property
    def logs(self) -> tuple[bytes, ...]:
        """The newest logs that the HostGAPlugin accepted."""
        with self.recording.changed:
            return tuple(self._neighbours.plugin.logs)

    @property
    def connected(self) -> tuple[str, ...]:
        """Where the proxy was asked to connect to."""
        proxy = self._neighbours.proxy
        return tuple(proxy.connected) if proxy is not None else ()

    @property
    def tenancy(self) -> Tenancy:
        with self.recording.changed:
            return replace(self._state.tenancy)

    @property
    def events(self) -> tuple[Event, ...]:
        """All telemetry that the host accepted."""
        with self.recording.changed:
            return tuple(self._state.events)

    @property
    def observations(self) -> tuple[dict[str, object], ...]:
        """All observations that the host accepted."""
        with self.recording.changed:
            return tuple(self._state.observations)
