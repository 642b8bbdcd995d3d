"""Machine images in files: save a machine, load it again, here or in a program without Python.

Linux: none.  The format is that of `_fast/image.pyx`; docs/snapshot.md describes it.
"""

import os

import numpy as np

from mm._fast import image as _image
from mm.sim.snapshot import SnapshotError


def save_image(machine, path):
    """Write a machine's whole state to a file.

    Parameters
    ----------
    machine : mm.Machine
    path : path
        Replaced when the image is complete.

    Notes
    -----
    An image belongs to the build that wrote it and to its byte order; it is no archive format.
    """
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        _image.to_bytes(machine).tofile(temporary)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def load_image(path, cls=None):
    """The machine of an image file.

    Parameters
    ----------
    path : path
    cls : type, optional
        Class of the result, default mm.Machine.

    Raises
    ------
    mm.SnapshotError
        A file that is no image of this build.
    """
    if cls is None:
        from mm.sim.machine import Machine as cls
    try:
        return _image.from_bytes(cls, np.fromfile(path, np.uint8))
    except ValueError as error:
        raise SnapshotError(f"{os.fspath(path)}: {error}") from None
