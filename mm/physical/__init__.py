"""The memory of a machine: where it comes from, its zones, what its free blocks are worth, the allocator's tuning."""
