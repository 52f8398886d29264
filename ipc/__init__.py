# SPDX-License-Identifier: Apache-2.0
"""The only vocabulary that the supervisor and its workers share: messages, codec, channels, descriptors."""
