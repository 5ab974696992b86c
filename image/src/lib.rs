//! Deterministic writers of every on-disk format.
