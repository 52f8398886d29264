# SPDX-License-Identifier: Apache-2.0
"""Owns the catalogue: the name of every message that crosses a process boundary, and the module that has its class.

Requests are imperative (`CreateAccount`), answers are nouns or past (`Committed`). Units stand in the names.
A process loads only the vocabularies that it imports a name of, understands no other, and sends no other.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from ipc.messages.base import Message

if TYPE_CHECKING:
    from ipc.messages.commits import *
    from ipc.messages.egress import *
    from ipc.messages.extension_documents import *
    from ipc.messages.extension_rules import *
    from ipc.messages.forwarding import *
    from ipc.messages.grants import *
    from ipc.messages.handler_commands import *
    from ipc.messages.handler_packages import *
    from ipc.messages.host_documents import *
    from ipc.messages.jit import *
    from ipc.messages.life import *
    from ipc.messages.parsing import *
    from ipc.messages.policy import *
    from ipc.messages.programs import *
    from ipc.messages.provisioning import *
    from ipc.messages.refusals import *
    from ipc.messages.sealed import *
    from ipc.messages.secure_channel import *
    from ipc.messages.storage import *
    from ipc.messages.vault import *
    from ipc.messages.waagent_policy import *

# A new message is a class in one of these modules and a name in its line here; a new module gets its line here, and one
# above for mypy. `from ipc.messages import Name` works for all names, and loads the one module. A message's limits on
# text are those of the codec unless a field says less.
_MESSAGES = {
    "life": "WorkerReady InputRefused",
    "parsing": "ParseMedium ParseOvf ParseGoalState ParseVersions ParseKeyStatus ParseChannelKey ParseExtensionsConfig "
    "ParseVmSettings ParseCertificateFile ParseHostingEnvironment ParseRemoteAccess ParseArtifactsProfile "
    "ParseInstanceMetadata ParsePluginVersions ParseEventFile ParseEventRecord ParsePackageManifest "
    "ParseHandlerManifest ParseStatusFile ParseHeartbeat ParseExtensionPolicy Ovf GoalState Versions",
    "secure_channel": "KeyStatus ChannelKey",
    "host_documents": "ExtensionsGoalState VmSettings CertificateFile HostingEnvironment RemoteAccess ArtifactsProfile "
    "InstanceMetadata PluginVersions ExtensionEvents EventRecord",
    "provisioning": "PlanProvisioning SetHostName CreateAccount SetPassword GrantSudo ConfigureSshd PlaceKeys "
    "PlaceKeyPair StoreCustomData LockRootPassword PlanComplete HashPassword PasswordHashed",
    "commits": "MakeHostKeys InstallHostKeys ReadHostKeys CommitHostName CommitAccount CommitPassword CommitSudo "
    "CommitSshd CommitSshdReload CommitKeys CommitKeyPair CommitRootLock CommitLabels CommitCustomData ClearFormerVm "
    "Committed CommitFailed",
    "jit": "RemoveJitAccount MoveJitExpiry WithdrawSudo",
    "egress": "GuardEgress EgressGuarded OpenEgress MakeSockets SocketsMade",
    "refusals": "HearRefusals RefusalsHeard NameConnector Connector",
    "forwarding": "OpenGrant RedirectAttached RedirectLoaded CloseGrant WatchGrant GrantWatched Forward ForwardRequest "
    "ForwardAnswer ForwardRefused RefusalNoted",
    "programs": "FindProgram RunProgram RunScript ProgramFound ProgramEnded ProgramFailed",
    "sealed": "VerifyWorker Verification MakeTransportKey TransportKey",
    "vault": "OpenCertificates OpenPassword CertificatesOpened PasswordOpened DecryptEnvelope UnpackPfx "
    "VerifySignature",
    "storage": "FetchBlob BlobFetched FetchInto BlobInFile StoreBlob BlobStored TransferFailed",
    "policy": "CompilePolicy PolicyCompiled PolicyRefused",
    "extension_documents": "PackageChoice HandlerManifest ExtensionStatus Heartbeat ExtensionPolicyFile",
    "handler_packages": "UnpackPackage PackageUnpacked PackageRefused PlaceHandler CarryOver RemoveHandler "
    "VerifyPackage PackageVerified SignatureRefused",
    "handler_commands": "StartCommand AskCommand CommandStanding EndCommand MakeSlice",
    "waagent_policy": "ReadWaagentPolicy WaagentPolicyRead",
}
# What messages are made of; it can't be sent by itself.
_PARTS = {
    "parsing": "KeyPair PublicKey RoleInstance",
    "host_documents": "AgentFamily Dropped ExtensionEvent ExtensionSettings Plugin RemoteUser Span StatusBlob",
    "provisioning": "AccountFacts CertificateKey ProvisioningOptions",
    "commits": "Aside CommitPaths FileChange HostKey",
    "egress": "Rule",
    "grants": "WireGrant WireRequests",
    "vault": "OpenedCertificate Openssl",
    "storage": "BlobPut Way",
    "extension_documents": "PolicyEntry Substatus",
    "handler_packages": "Entry",
    "handler_commands": "Containment",
    "extension_rules": "ExtensionRule ExtensionTable HandlerLimits Outbound ServiceLimits",
}
VOCABULARIES = tuple(f"{__name__}.{module}" for module in dict.fromkeys((*_MESSAGES, *_PARTS)))
# The name of each message -> the module that has it.
CATALOGUE = {name: f"{__name__}.{module}" for module, names in _MESSAGES.items() for name in names.split()}
_NAMES = CATALOGUE | {name: f"{__name__}.{module}" for module, names in _PARTS.items() for name in names.split()}


def find(name: str) -> type[Message] | None:
    """The message called `name`; None if there is none, or this process does not speak its vocabulary."""
    module = sys.modules.get(CATALOGUE.get(name, ""))
    return None if module is None else getattr(module, name)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> type[Message]:
        """What is imported from here and not loaded yet."""
        if name not in _NAMES:
            raise AttributeError(f"no message, nor part of one, is called {name}")
        return getattr(import_module(_NAMES[name]), name)
