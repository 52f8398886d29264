# SPDX-License-Identifier: Apache-2.0
"""The opener of envelopes: what the host has sealed for this VM's transport key, with the host's OpenSSL beside it."""
