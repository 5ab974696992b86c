//! The updater.
