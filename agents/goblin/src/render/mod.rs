//! Text for people. Pure: values in, lines out.

pub mod history;
pub mod status;
pub mod words;
