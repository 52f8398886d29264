# SPDX-License-Identifier: Apache-2.0
"""Owns the list of all scenarios, by the kind whose jobs they are."""

from tests.least import (
    of_accounts,
    of_custom_data,
    of_documents,
    of_egress,
    of_files,
    of_grants,
    of_handlers,
    of_host_documents,
    of_jit,
    of_opener,
    of_packages,
    of_storage,
    of_tools,
    of_waagent_policy,
    of_witness,
)
from tests.least.scenario import Scenario


def all_scenarios() -> tuple[Scenario, ...]:
    modules = (
        of_documents,
        of_host_documents,
        of_files,
        of_grants,
        of_accounts,
        of_jit,
        of_opener,
        of_packages,
        of_storage,
        of_tools,
        of_custom_data,
        of_handlers,
        of_egress,
        of_waagent_policy,
        of_witness,
    )
    return tuple(scenario for module in modules for scenario in module.scenarios())
