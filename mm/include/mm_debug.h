/* Invariant checks: VM_BUG_ON compiles to nothing unless MM_DEBUG_VM is defined; mm_bug always records.
 * MM_CANARY breaks one merge rule on purpose: the fuzz command must find such a build. */
#ifndef MM_DEBUG_H
#define MM_DEBUG_H
#ifdef MM_DEBUG_VM
#define MM_IS_DEBUG_VM 1
#define VM_BUG_ON(s, cond, code, pfn) do { if (__builtin_expect(!!(cond), 0)) mm_bug((s), (code), (pfn), __LINE__); } while (0)
#else
#define MM_IS_DEBUG_VM 0
#define VM_BUG_ON(s, cond, code, pfn) do { } while (0)
#endif
#ifdef MM_CANARY
#define MM_IS_CANARY 1
#else
#define MM_IS_CANARY 0
#endif
#define MM_LIKELY(x) __builtin_expect(!!(x), 1)
#define MM_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define MM_PREFETCHW(p) __builtin_prefetch((p), 1)
#define MM_FLS(x) (31u - (uint32_t)__builtin_clz(x))
#define MM_CTZ(x) ((uint32_t)__builtin_ctz(x))
#endif
