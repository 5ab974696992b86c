//! Text for people. Pure: values in, lines out.

pub mod boot_svg;
pub mod history;
pub mod release;
pub mod status;
pub mod units;
pub mod words;
