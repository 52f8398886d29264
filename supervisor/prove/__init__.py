# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor prove`: attacks from the confinement of each kind of process. No resident process loads it."""
