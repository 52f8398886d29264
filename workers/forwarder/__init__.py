# SPDX-License-Identifier: Apache-2.0
"""The forwarder: takes the requests of one handler that has a grant to the WireServer, and passes on what is in it."""
