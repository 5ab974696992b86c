//! 9P2000.L: codec, session rules, a client over any stream.
