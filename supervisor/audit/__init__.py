# SPDX-License-Identifier: Apache-2.0
"""The live processes held against their policies from kernel facts alone; runs in the command, and changes nothing.

It shares no code with the jail, the spawner or the verifier: a mistake of theirs must not be repeated here.
"""
