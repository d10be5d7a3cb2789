"""Processes of this machine: whether one is still there."""

from __future__ import annotations

import os


def lives(process: int) -> bool:
    """Whether there is a process of that number, of whatever user."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # of another user
    return True
