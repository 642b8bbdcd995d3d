"""Machine: one simulated host.  The one file that knows every subsystem.

A machine is booted from a description of its memory (`Machine("16G", nodes=2, cpus=8)`) or takes over the state of a
real kernel (`Machine.from_snapshot`).  Subsystems are attached here and register what lower layers call upward.
"""

from mm._fast.machine_core import MachineCore
from mm.sim import snapshot as _snapshot


class Machine(MachineCore):
    """A simulated host; see `mm.Machine.from_snapshot` and the boot parameters."""

    @classmethod
    def from_snapshot(cls, path):
        """A machine in the recorded state of a real kernel.

        Parameters
        ----------
        path : str or path-like
            `snap-before.npz` or `snap-boot.npz`; the `meta.json` beside it is read too.

        Raises
        ------
        mm.SnapshotError
            A file that is missing, damaged, contradicts itself, or comes from a kernel with other constants.
        """
        snap = _snapshot.read_snapshot(path)
        self = cls.__new__(cls)
        MachineCore.__init__(self, *_snapshot.shape_of(snap))
        _snapshot.load_into(snap, self)
        return self
