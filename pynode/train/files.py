"""Writing a file so that there is always a whole one: the old until the moment when the new is complete."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def save_atomically(path, write) -> None:
    """Call ``write(file)`` on a temporary file beside path, flush it to the disk, and put it in path's place.

    OSError where the disk is full or not writable, with a sentence; the file that was there before stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise OSError(getattr(error, "errno", None), _reason(path, error)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _reason(path, error) -> str:
    # torch's zip writer reports a full disk as a RuntimeError about a failed write, without errno.
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    what = "the disk is full" if full else str(error).strip().splitlines()[0]
    kept = "; the previous file is unharmed" if path.exists() else ""
    return f"{path} could not be written: {what}{kept}. Make room or choose another directory with --out."
