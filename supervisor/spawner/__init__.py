# SPDX-License-Identifier: Apache-2.0
"""The first process: starts the supervisor, forks confined workers, holds no secret and reads only fixed records."""
