//! System disk and data disks.
