# SPDX-License-Identifier: Apache-2.0
"""Envelopes of every form, opened by the real worker and the host's OpenSSL."""
