from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

class MachineCore:
    """State of one machine: arrays, and the calls on them."""

    is_debug_vm: bool
    is_canary: bool

    page: NDArray[np.void]
    cold: NDArray[np.void]
    buddy: NDArray[np.uint8]
    pageblock_flags: NDArray[np.uint8]
    zones: NDArray[np.void]
    pageset: NDArray[np.void]
    nodes: NDArray[np.void]
    vm_event: NDArray[np.int64]
    zonelists: NDArray[np.int32]
    first_zone: NDArray[np.int32]
    node_distance: NDArray[np.int32]
    cpu_node: NDArray[np.int32]
    current: NDArray[np.void]
    g: NDArray[np.void]

@METHODS@
