"""The frames of an error's traceback."""

from __future__ import annotations


def files_of(error: BaseException) -> set[str]:
    """Return the names of the files whose frames the error's own traceback has."""
    files = set()
    traceback = error.__traceback__
    while traceback is not None:
        files.add(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
    return files
