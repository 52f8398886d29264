# SPDX-License-Identifier: Apache-2.0
"""Owns the controls of a worker's confinement, each as the mutation of our source that takes it away."""

from tests.jail.mutants import Mutation

CONFINE, CHILD = "supervisor.jail.confine", "supervisor.spawner.child"
# Nobody would get work in such a state: first the two that look at it are made to see nothing.
UNSEEN = (
    Mutation("supervisor.kernel_view", "    return found\n", "    return []\n"),
    Mutation(
        "supervisor.verifier",
        "verify(request, profiles, descriptors[0])",
        "Verification((), 1)",
    ),
)
# The filter that every process has from the spawner, which stops much of what its own would.
SPAWNERS_FILTER = (Mutation("supervisor.spawner.main", 'seccomp.load(policies["spawner"].locked_filter)', "pass"),)
SECCOMP = (
    *SPAWNERS_FILTER,
    Mutation(CONFINE, "seccomp.load(child.compiled.startup_filter)", "pass"),
    Mutation(CHILD, "lambda: seccomp.load(locked_filter, all_threads=True)", "lambda: None"),
)
LANDLOCK = (Mutation(CONFINE, "_if_there(child, lambda: landlock.restrict(profile))", "pass"),)
MDWE = (Mutation(CONFINE, "_if_there(child, mdwe.deny_writable_code)", "pass"),)
NO_NEW_PRIVILEGES = (
    Mutation(
        CONFINE,
        "capabilities.no_new_privileges()\n        capabilities.keep",
        "capabilities.keep",
    ),
)
CAPABILITIES = (
    Mutation(
        CONFINE,
        'capabilities.limit_to(profile.capability_names)\n        step = "parent-death signal"\n        # After',
        'step = "parent-death signal"\n        # After',
    ),
)
NETWORK = (
    Mutation(
        CONFINE, "namespaces.leave(profile.namespaces.new)", 'namespaces.leave({*profile.namespaces.new} - {"net"})'
    ),
)
USER_NAMESPACE = (Mutation(CONFINE, "if own_folder >= 0:", "if False:"),)
OWN_VIEW = (
    Mutation(CONFINE, 'if profile.view == "own":', "if False:"),
    # Without its own root the socket is where the host has it.
    Mutation(CHILD, "_channel(profile.transport)", '_channel(profile.transport, f"{birth.channel_folder}/s")'),
    Mutation(CHILD, "def _channel(transport: str)", "def _channel(transport: str, path: str)"),
    Mutation(CHILD, "CHANNEL_SOCKET, side)", "path, side)"),
)
OWN_UID = (
    Mutation(CONFINE, "identity.take(child.uid, child.uid,", "identity.take(0, 0,"),
    Mutation(CONFINE, "be_alone_as(child.uid, child.uid,", "be_alone_as(0, 0,"),
    Mutation("supervisor.births", "uid = profile.identity.uid + instance\n", "uid = 0\n"),
    Mutation("supervisor.spawner.children", "give(birth.channel_folder, birth.uid)", "give(birth.channel_folder, 0)"),
)
CGROUP = (Mutation(CONFINE, "child.group.join(", "(lambda **_: None)("),)
RESOURCE_LIMITS = (Mutation(CONFINE, "rlimits.lower(profile.limits)", "pass"),)
TABLE = (
    Mutation(
        "supervisor.dispatch",
        "        name = type(message).__name__\n",
        "        return\n        name = type(message).__name__\n",
    ),
)
DESCRIPTORS = (
    Mutation(
        "ipc.pair",
        "if packet != _BESIDE.pack(self.received - 1) or len(descriptors) != announced:",
        "if False:",
    ),
)
