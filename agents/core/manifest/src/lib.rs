//! Releases: manifest format and signed repository metadata.
