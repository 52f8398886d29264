# SPDX-License-Identifier: Apache-2.0
"""The provisioning worker: turns the typed OVF into typed proposals; has no privilege, sees no XML, writes nothing."""
