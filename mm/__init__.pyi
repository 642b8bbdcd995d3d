from mm.errors import AllocationFailed as AllocationFailed
from mm.errors import BadFree as BadFree
from mm.errors import VMBug as VMBug
from mm.sim.machine import Machine as Machine
from mm.sim.run import Run as Run
from mm.sim.run import RunError as RunError
from mm.sim.snapshot import SnapshotError as SnapshotError
from mm.sim.trace import Trace as Trace
from mm.sim.trace.convert import convert as convert
from mm.sim.trace.format import TraceError as TraceError

__version__: str
__distribution__: str

def get_include() -> str: ...
def get_library() -> str: ...
def __getattr__(name: str) -> int: ...  # GFP_* and __GFP_*
