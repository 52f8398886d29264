# SPDX-License-Identifier: Apache-2.0
"""The emulated Azure host: everything that Azure gives a VM, strict and able to misbehave on demand."""
