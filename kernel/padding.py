"""Padding that hides exact lengths: Padmé (Nikitin et al., PETS 2019, section 4)."""

MIN_PADDED_BYTES = 16 << 10


def compute_padded_bytes(size_bytes: int) -> int:
    """The padded length: leaks O(log log n) bits of a length, costs ≤ 12 %; at least `MIN_PADDED_BYTES`."""
    size_bytes = max(size_bytes, MIN_PADDED_BYTES)
    exponent = size_bytes.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << free_bits) - 1
    return (size_bytes + mask) & ~mask
