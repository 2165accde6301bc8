"""A recording: cut, compressed, padded, encrypted, hashed, signed, kept, verified, read back."""
