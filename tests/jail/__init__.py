# SPDX-License-Identifier: Apache-2.0
"""Each confinement mechanism alone: what it forbids fails with it and succeeds without it. Needs root."""
