//! The console: what a person sees on the compute board's own screen.
//!
//! One static program draws with egui and a software rasteriser on a KMS dumb buffer and reads evdev
//! devices; it needs no compositor, no udev, no shared library. Data flows one way:
//!
//! ```text
//! source (threads) --Event--> model --Screen--> view --pixels--> screen (KMS)
//! input (evdev) ----Event-->   |  \--lines--> text --> /run/goblin/state/console/console.json
//!                              +---Action--> source (threads)
//! ```
//!
//! [`model`], [`content`] and [`text`] are pure: they read no clock, file or socket. [`content`] decides
//! every word that is shown, [`view`] only decides where it goes, so the text offered to tests and
//! screen readers is the text on the screen.
//!
//! The console does not decide anything about the boards: it reads their status from the control tree and
//! passes a person's orders on. It never blocks on either; a silent service is a sentence on the screen.
//!
//! Invariants: no order without a confirmation, save the harmless check for a release · colour never
//! carries meaning alone · no content of a status, however odd, panics or overflows the screen · nothing
//! is drawn while nothing changes.

pub mod clock;
pub mod content;
pub mod input;
pub mod model;
pub mod orders;
pub mod paint;
pub mod png_file;
pub mod release;
pub mod screen;
pub mod shell;
pub mod source;
pub mod text;
pub mod view;
pub mod words;
