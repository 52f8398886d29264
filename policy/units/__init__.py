# SPDX-License-Identifier: Apache-2.0
"""Profiles said in systemd's words: for each kind the unit that would confine it as our jail does, for tools that read
units. Text in, text out; run by the command line, never by the agent."""
