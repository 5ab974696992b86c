//! The control tree.
