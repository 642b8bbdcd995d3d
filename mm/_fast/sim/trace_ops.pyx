"""The native trace's vocabulary, for Python: the enums and sentinels of trace_ops.pxd."""

TRACE_PFN_UNKNOWN = trace_pfn_unknown()
TRACE_PFN_FAILED = trace_pfn_failed()
TRACE_HANDLE_NONE = trace_handle_none()
