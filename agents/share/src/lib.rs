//! The 9P server.
