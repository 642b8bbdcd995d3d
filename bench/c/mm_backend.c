/* The workloads of alloc_driver.h on a machine of this package, called by the symbols that a C host links:
 * every free goes through the checks, every allocation through watermarks and counters. */
#include <stdint.h>
typedef uint32_t (*alloc_fn)(void *, uint32_t, uint32_t, int32_t, int32_t);
typedef int32_t (*free_fn)(void *, uint32_t, uint32_t, int32_t);
static alloc_fn alloc_pages;
static free_fn try_free_pages;
static void (*reset)(void);
static void *state;
static uint32_t gfp;
static int be_init(uint64_t n) { (void)n; reset(); return 0; }
static inline int64_t be_alloc(int order)
{
    uint32_t pfn = alloc_pages(state, gfp, order, -1, 0);
    return pfn == 0xffffffffu ? -1 : (int64_t)pfn;
}
static inline void be_free(uint64_t pfn, int order)
{
    if (try_free_pages(state, pfn, order, 0))
        __builtin_trap();
}
#define BE_NAME "mm"
#define main run_driver
#include "alloc_driver.h"
void setup(void *a, void *f, void *s, void *r, uint32_t mask)
{
    alloc_pages = a; try_free_pages = f; state = s; reset = r; gfp = mask;
}
