# SPDX-License-Identifier: Apache-2.0
"""Owns the documents that a goal state names, as the emulated host publishes them (wire-protocol.md 4.2, 5.2, 6).

Runs in test processes. What is sealed in them comes from tenancy.py.
"""

from collections.abc import Callable
from uuid import NAMESPACE_URL, uuid5
from xml.sax.saxutils import escape

from tests.fabric.documents import DECLARATION, GoalState
from tests.fabric.extensions_documents import extensions_xml
from tests.fabric.tenancy import FORMAT

ROLE = "MachineRole"


def _identity(goal_state: GoalState) -> str:
    """The four elements that open HostingEnvironmentConfig and SharedConfig alike."""
    deployment, instance = escape(goal_state.deployment_id), escape(_instance(goal_state))
    guid = uuid5(NAMESPACE_URL, goal_state.deployment_id)
    return (
        f'<Deployment name="{deployment}" guid="{{{guid}}}" incarnation="{goal_state.incarnation}">'
        f'<Service name="emulated" guid="{{00000000-0000-0000-0000-000000000000}}" />'
        f'<ServiceInstance name="{deployment}.1" guid="{{{guid}}}" /></Deployment>'
        f'<Incarnation number="{goal_state.incarnation}" instance="{instance}" guid="{{{guid}}}" />'
    )


def _instance(goal_state: GoalState) -> str:
    return goal_state.instance_id.rpartition(".")[2]


def hosting_environment_xml(goal_state: GoalState) -> str:
    """HostingEnvironmentConfig: the names of VM, role and deployment."""
    guid = uuid5(NAMESPACE_URL, ROLE)
    return (
        f'<HostingEnvironmentConfig version="1.0.0.0" goalStateIncarnation="{goal_state.incarnation}">'
        f"<StoredCertificates />{_identity(goal_state)}"
        f'<Role guid="{{{guid}}}" name="{ROLE}" hostingEnvironmentVersion="1" software="" '
        'softwareType="ApplicationPackage" entryPoint="" parameters="" settleTimeSeconds="10" />'
        '<HostingEnvironmentSettings name="full" runtime="rd_fabric_stable"><CAS mode="full" />'
        '<PrivilegeLevel mode="max" /><AdditionalProperties><CgiHandlers></CgiHandlers></AdditionalProperties>'
        "</HostingEnvironmentSettings><ApplicationSettings /><ResourceReferences />"
        "</HostingEnvironmentConfig>"
    )


def shared_config_xml(goal_state: GoalState) -> str:
    """SharedConfig: opaque to the agent; others on the VM read it."""
    guid = uuid5(NAMESPACE_URL, ROLE)
    instance = escape(_instance(goal_state))
    return (
        f'<SharedConfig version="1.0.0.0" goalStateIncarnation="{goal_state.incarnation}">{_identity(goal_state)}'
        f'<Role guid="{{{guid}}}" name="{ROLE}" settleTimeSeconds="10" />'
        '<LoadBalancerSettings timeoutSeconds="0" waitLoadBalancerProbeCount="8">'
        f'<Probes><Probe name="{ROLE}" /></Probes></LoadBalancerSettings><OutputEndpoints />'
        f'<Instances><Instance id="{instance}" address="10.0.0.4">'
        '<FaultDomains randomId="0" updateId="0" updateCount="0" /><InputEndpoints /></Instance></Instances>'
        "</SharedConfig>"
    )


def extensions_config_xml(goal_state: GoalState) -> str:
    """ExtensionsConfig, by the goal state's plan."""
    return extensions_xml(goal_state.plan, goal_state.incarnation)


def certificates_xml(goal_state: GoalState, data: str = "", form: str = FORMAT) -> str:
    """CertificateFile; that of a VM without certificates has no Data."""
    told = f"<Data>{data}</Data>" if data else ""
    return (
        f'{DECLARATION}<CertificateFile xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:noNamespaceSchemaLocation="certificates10.xsd"><Version>2012-11-30</Version>'
        f"<Incarnation>{goal_state.incarnation}</Incarnation><Format>{escape(form)}</Format>{told}"
        "</CertificateFile>"
    )


# By the name of their route.
CONFIG_DOCUMENTS: dict[str, Callable[[GoalState], str]] = {
    "hostingenvironment": hosting_environment_xml,
    "sharedconfig": shared_config_xml,
    "extensionsconfig": extensions_config_xml,
    "certificates": certificates_xml,
}
