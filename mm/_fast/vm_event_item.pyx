"""Names of the counters, for Python: the enums of vm_event_item.pxd.

Linux: mm/vmstat.c (vmstat_text).  The text name of an item is its lower-case enum name.
"""
