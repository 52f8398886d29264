# SPDX-License-Identifier: Apache-2.0
"""Owns which checks a process gets, in the order in which they are shown. Judges nothing itself."""

from supervisor.audit import judge_identity, judge_kernel, judge_limits, judge_open, judge_view
from supervisor.audit.deep import Deep
from supervisor.audit.expected import Expected
from supervisor.audit.facts import Process
from supervisor.audit.findings import Check, Subject


def judge(expected: Expected, process: Process, deep: Deep | None) -> Subject:
    """One of the agent's own processes against its policy; `deep` is None when it was not stopped."""
    checks = (
        judge_identity.program(expected, process),
        judge_identity.identity(expected, process),
        judge_identity.capabilities(expected, process),
        judge_kernel.secure_bits(expected, deep),
        judge_identity.no_new_privileges(expected, process),
        judge_kernel.seccomp(expected, process, deep),
        judge_kernel.landlock(expected, deep),
        judge_view.namespaces(expected, process),
        judge_view.mounts(expected, process),
        judge_limits.cgroup(expected, process),
        judge_limits.limits(expected, process),
        judge_open.descriptors(expected, process),
        judge_open.sockets(expected, process),
        judge_identity.environment(expected, process),
        judge_identity.dumpable(expected, process, deep),
        judge_kernel.memory(expected, process, deep),
        judge_kernel.lifeline(expected, process, deep),
    )
    return _subject(expected, process, expected.name, checks)


def judge_program(expected: Expected, process: Process, deep: Deep | None) -> Subject:
    """A program that one of them runs: what confines whoever started it confines it, and it is in the same group."""
    checks = (
        judge_identity.identity(expected, process, is_program=True),
        judge_identity.capabilities(expected, process),
        judge_identity.no_new_privileges(expected, process),
        judge_kernel.seccomp(expected, process, deep, is_program=True),
        judge_view.namespaces(expected, process),
        judge_view.mounts(expected, process),
        judge_limits.cgroup(expected, process),
        judge_limits.limits(expected, process),
    )
    name = f"{expected.name}/{process.main.status['Name']}"
    return _subject(expected, process, name, checks)


def _subject(expected: Expected, process: Process, name: str, checks: "tuple[Check, ...]") -> Subject:
    return Subject(name, expected.profile.kind, process.pid, len(process.threads), checks)
