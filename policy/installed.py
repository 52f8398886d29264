# SPDX-License-Identifier: Apache-2.0
"""Owns an edition with its paths as they are on this machine: placeholders filled in, facts made of profiles. Pure."""

import os
import sys
from collections.abc import Mapping

import msgspec

from policy.edition import Edition
from policy.facts import Facts, facts_of
from policy.groups import stages
from policy.load import own_folder
from policy.placeholders import LIB, NOTIFY, NOTIFY_SOCKET, expand, installation


def here(edition: Edition, lib: str) -> Edition:
    """`edition` for this installation; `lib` is the folder that Lib.Dir names."""
    places = {
        **installation(sys.prefix, sys.executable, os.__file__, own_folder()),
        LIB: (lib,),
        NOTIFY: (NOTIFY_SOCKET,),
    }
    profiles = {
        kind: msgspec.structs.replace(profile, paths=expand(profile.paths, places, f"profiles/{kind}.toml"))
        for kind, profile in edition.profiles.items()
    }
    return msgspec.structs.replace(edition, profiles=profiles)


def facts(edition: Edition) -> Mapping[str, Facts]:
    """What holds each kind. The edition must have its sources."""
    everyone = edition.profiles.values()
    return {
        kind: facts_of(profile, stages(profile, everyone, edition.groups)[1])
        for kind, profile in edition.profiles.items()
    }
