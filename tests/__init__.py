# SPDX-License-Identifier: Apache-2.0
"""All tests; run by `make test`, never shipped."""
