# SPDX-License-Identifier: Apache-2.0
"""Owns what a path within a package may be: judged by who unpacks it, and again by who makes files of it.

Pure. It must never make a bad path a good one.
"""

MOST_BYTES, MOST_PART_BYTES, DEEPEST = 1024, 255, 32


def problem(path: str) -> str:
    """Why nothing may be made at `path` below a handler's folder; empty if it may."""
    parts = path.split("/")
    wrong = (
        # Surrogates are among these: what was no UTF-8.
        (not path.isprintable(), "has characters that can't be printed"),
        (path.startswith("/"), "is absolute, and nothing outside of the package's folder is written"),
        ("\\" in path, "has a backslash, which other systems take for a separator"),
        (".." in parts, "climbs, and nothing outside of the package's folder is written"),
        ("" in parts or "." in parts, "has an empty part, or a part that is a dot"),
        (len(path.encode("utf-8", "replace")) > MOST_BYTES, f"is longer than {MOST_BYTES} bytes"),
        (len(parts) > DEEPEST, f"is more than {DEEPEST} folders deep"),
    )
    found = next((problem for applies, problem in wrong if applies), "")
    if not found and any(len(part.encode()) > MOST_PART_BYTES for part in parts):
        found = f"has a part of more than {MOST_PART_BYTES} bytes"
    return found
