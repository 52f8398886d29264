# SPDX-License-Identifier: Apache-2.0
"""The storage worker: one blob fetched or stored over HTTPS, by a process that holds nothing but that blob's URL."""
