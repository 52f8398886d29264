# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor prove` itself: catalogue, verdicts, the command in a lab, and what each control alone stops."""
