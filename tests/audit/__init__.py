# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor audit` on live agents: green as they are, red for whatever is tampered with."""
