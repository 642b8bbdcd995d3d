"""gfp bits and masks, for Python: the enums of gfp.pxd.

Linux: include/linux/gfp_types.h.  mm/sim/gfp.py prints, parses and translates masks.
"""
