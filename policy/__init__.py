# SPDX-License-Identifier: Apache-2.0
"""What each kind of process may do: profiles as data, their schema, loading, linting and compiling."""
