# SPDX-License-Identifier: Apache-2.0
"""The supervisor of a rig that has vendors' commands run: the agent's own `Commands`, told what to do by the test.

Runs in the rig's second process, in the supervisor's place and confinement.
"""

from typing import TYPE_CHECKING, Any

from tests.jail.rig_supervisor import serve

if TYPE_CHECKING:
    from tests.jail.rig_commands import Commands


def _handlers() -> "type[Commands]":
    import msgspec

    from ipc.descriptors import sealed_memfd
    from supervisor.extensions.commands import Commands as Vendors
    from supervisor.extensions.commands import Keys, Order
    from supervisor.layout import Layout
    from tests.jail.rig_commands import Commands

    keys = Keys(
        lambda thumbprint: sealed_memfd("key", f"the key of {thumbprint}\n".encode()),
        lambda thumbprint: sealed_memfd("certificate", f"the certificate of {thumbprint}\n".encode()),
    )

    class WithHandlers(Commands):
        """The rig's commands, and those of handlers."""

        def _vendors(self) -> Vendors:
            if not hasattr(self, "_made"):
                self._made = Vendors(self._loop, self._fleet, Layout(), keys, "/var/log/azure")
            return self._made

        async def on_run(self, order: dict[str, Any]) -> dict[str, Any]:
            """One order, to its end."""
            result = await self._vendors().run(msgspec.convert(order, Order))
            return {"result": msgspec.to_builtins(result)}

        async def on_find(self, order: dict[str, Any]) -> dict[str, Any]:
            """What came of one, None if it was never begun; and the highest number."""
            result = await self._vendors().find(msgspec.convert(order, Order))
            return {"result": msgspec.to_builtins(result), "highest": self._vendors().highest()}

        async def on_forget(self, number: int) -> dict[str, Any]:
            await self._vendors().forget(number)
            return {}

        async def on_end(self, number: int) -> dict[str, Any]:
            await self._vendors().end(number)
            return {}

        async def on_running(self) -> dict[str, Any]:
            await self._loop.sleep(0)
            return {"running": [each.order.number for each in self._vendors().running()]}

    return WithHandlers


if __name__ == "__main__":
    serve(_handlers)
