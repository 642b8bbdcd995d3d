"""What the package raises beside ValueError, TypeError and OSError.

A failed allocation is an answer of the simulated kernel; a broken invariant is a bug of this package.
"""


class AllocationFailed(MemoryError):
    """The simulated kernel had no memory for a request.

    Attributes
    ----------
    order : int
        Order of the request.
    gfp : int
        Its mask.
    """

    def __init__(self, order, gfp):
        super().__init__(f"page allocation failure: order:{order}, mode:{gfp:#x}")
        self.order = order
        self.gfp = gfp


class BadFree(ValueError):
    """A block was freed that is not allocated, or not with this order; the machine is untouched.

    Attributes
    ----------
    pfn, order : int
        What was to be freed.
    state : str
        What the page is.
    """

    def __init__(self, pfn, order, state):
        super().__init__(f"cannot free pfn {pfn} order {order}: {state}")
        self.pfn = pfn
        self.order = order
        self.state = state


class VMBug(AssertionError):
    """An invariant of the machine is broken: a bug of this package, with the page and the step where it was seen."""
