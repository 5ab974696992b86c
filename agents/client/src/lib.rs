//! The compute board as a client of the storage board.
