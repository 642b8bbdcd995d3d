# Characters and numbers of a text line between two pointers.  `p` never passes `end`, nothing is written to the text.

from libc.stdint cimport uint64_t
from libc.string cimport memcmp


cdef inline char before(const char *p) noexcept nogil:
    """The character in front of p; the caller knows that there is one."""
    return (p - 1)[0]


cdef inline bint is_digit(char c) noexcept nogil:
    return <unsigned char>(c - c'0') < 10


cdef inline bint is_hex(char c) noexcept nogil:
    return is_digit(c) or <unsigned char>((c | 0x20) - c'a') < 6


cdef inline uint64_t hex_digit(char c) noexcept nogil:
    return <uint64_t>(c - c'0') if is_digit(c) else <uint64_t>((c | 0x20) - c'a' + 10)


cdef inline bint is_letter(char c) noexcept nogil:
    return <unsigned char>((c | 0x20) - c'a') < 26


cdef inline bint is_word(char c) noexcept nogil:
    return is_letter(c) or is_digit(c) or c == c'_'


cdef inline bint is_flag(char c) noexcept nogil:
    return is_letter(c) or is_digit(c) or c == c'.' or c == c'#'


cdef inline const char *skip_spaces(const char *p, const char *end) noexcept nogil:
    while p < end and p[0] == c' ':
        p += 1
    return p


cdef inline bint starts_with(const char *p, const char *end, const char *word, Py_ssize_t n) noexcept nogil:
    return end - p >= n and memcmp(p, word, n) == 0


cdef inline const char *parse_decimal(const char *p, const char *end, uint64_t *out) noexcept nogil:
    """At most 20 digits below 2**64; returns what follows, NULL if there is no such number."""
    cdef const char *start = p
    cdef uint64_t value = 0
    cdef uint64_t digit
    while p < end and is_digit(p[0]):
        digit = <uint64_t>(p[0] - c'0')
        if value > 1844674407370955161ULL or (value == 1844674407370955161ULL and digit > 5):
            return NULL
        value = value * 10 + digit
        p += 1
    if p == start:
        return NULL
    out[0] = value
    return p
