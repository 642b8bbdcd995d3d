"""`python -m mm.sim.cli` is the command `mm`."""

import sys

from mm.sim.cli import main

sys.exit(main())
