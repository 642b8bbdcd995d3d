/* A host without Python: loads a machine image, runs the operations on standard input, prints every answer.
 *
 * Operations, one a line: `a GFP ORDER NODE CPU` allocates, `f PFN ORDER CPU` frees, `b GFP NODE N CPU` allocates in bulk,
 * `v` audits. */
#include <stdio.h>
#include <stdlib.h>
#include <mm.h>

static void *read_image(const char *path, uint64_t *nbytes)
{
    FILE *file = fopen(path, "rb");
    void *image;

    if (!file || fseek(file, 0, SEEK_END))
        return NULL;
    *nbytes = (uint64_t)ftell(file);
    rewind(file);
    image = aligned_alloc(64, (*nbytes + 63) & ~(uint64_t)63);
    if (image && fread(image, 1, *nbytes, file) != *nbytes)
        image = NULL;
    fclose(file);
    return image;
}

static void bulk(MMState *s, uint32_t gfp, int32_t node, uint32_t n, int32_t cpu)
{
    uint32_t *pfns = malloc(n * sizeof(*pfns)), got = mm_alloc_pages_bulk(s, gfp, node, n, cpu, pfns), i;

    printf("%u", got);
    for (i = 0; i < got; i++)
        printf(" %u", pfns[i]);
    putchar('\n');
    free(pfns);
}

int main(int argc, char **argv)
{
    static MMState s;
    uint64_t nbytes;
    void *image = argc == 2 ? read_image(argv[1], &nbytes) : NULL;
    long long a, b, c, d;
    int error;
    char op;

    if (!image)
        return 2;
    error = mm_image_load(&s, image, nbytes);
    if (error != IMAGE_OK) {
        fprintf(stderr, "image refused: %d\n", error);
        return 3;
    }
    while (scanf(" %c", &op) == 1) {
        if (op == 'a' && scanf("%lld %lld %lld %lld", &a, &b, &c, &d) == 4)
            printf("%u\n", mm_alloc_pages(&s, (uint32_t)a, (uint32_t)b, (int32_t)c, (int32_t)d));
        else if (op == 'f' && scanf("%lld %lld %lld", &a, &b, &c) == 3)
            printf("%d\n", mm_try_free_pages(&s, (uint32_t)a, (uint32_t)b, (int32_t)c));
        else if (op == 'b' && scanf("%lld %lld %lld %lld", &a, &b, &c, &d) == 4)
            bulk(&s, (uint32_t)a, (int32_t)b, (uint32_t)c, (int32_t)d);
        else if (op == 'v')
            printf("%d\n", mm_verify(&s));
        else
            return 4;
    }
    return 0;
}
