"""Names and limits of the machine state, for Python: the enums of state.pxd."""
