//! A picture of a status without any screen: for people who work on the pages, and for tests.

use crate::content;
use crate::model::{Clients, Event, Model, PAGES};
use crate::paint::Artist;
use crate::release::Release;
use goblin_core_types::{BoxStatus, ShareReply};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Moment that pictures are taken at when the caller names none: 2026-11-20 16:42 UTC.
pub const PICTURE_UNIX_S: u64 = 1_795_192_920;
/// Longest status file in bytes.
const STATUS_BYTES_MAX: usize = 4 << 20;

/// What to draw.
#[derive(Debug, Clone)]
pub struct Order {
    /// PNG to write.
    pub picture: PathBuf,
    /// `BoxStatus` as JSON.
    pub status: PathBuf,
    /// Page, 1 to 7.
    pub page: usize,
    /// Pixels.
    pub size: (usize, usize),
    /// Log lines, a JSON list.
    pub logs: Option<PathBuf>,
    /// What `goblin client list --json` prints.
    pub clients: Option<PathBuf>,
    /// Keys pressed before the picture is taken.
    pub keys: Vec<crate::model::Key>,
    /// Colour and name of the release.
    pub release: Release,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} does not hold what `goblin status --json` `goblin client list --json` or a list of log lines holds"
    )]
    Parse {
        /// File.
        path: PathBuf,
        /// Cause.
        source: serde_json::Error,
    },
    /// The picture cannot be written.
    #[error("cannot write the picture {path}")]
    Write {
        /// File.
        path: PathBuf,
        /// Cause.
        source: png::EncodingError,
    },
}

/// Draws a status file into a PNG file and returns the visible text.
///
/// # Errors
/// When the status cannot be read or the picture cannot be written.
pub fn draw(order: &Order) -> Result<Vec<String>, PictureError> {
    let status: BoxStatus = read(&order.status)?;
    let mut model = Model::new(order.release.clone());
    // What is not in the status has then been missing for a minute.
    for mono_s in [0, 60] {
        model.step(Event::Tick { unix_s: PICTURE_UNIX_S, mono_s });
        for event in Model::events_of(status.clone()) {
            model.step(event);
        }
    }
    if let Some(logs) = &order.logs {
        model.step(Event::Logs(Ok(read(logs)?)));
    }
    if let Some(clients) = &order.clients
        && let Some(clients) = Clients::of(read::<ShareReply>(clients)?)
    {
        model.step(Event::Clients(Ok(Box::new(clients))));
    }
    if let Some(page) = order.page.checked_sub(1).and_then(|i| PAGES.get(i)) {
        model.step(Event::Go(*page));
    }
    let mut artist = Artist::new(order.size.0, order.size.1);
    // Twice: the first drawing measures the page, so that keys can scroll it.
    settle(&mut artist, &mut model);
    for key in &order.keys {
        model.step(Event::Key(*key));
        settle(&mut artist, &mut model);
    }
    write(&order.picture, &artist)
        .map_err(|source| PictureError::Write { path: order.picture.clone(), source })?;
    Ok(crate::text::lines(&content::screen(&model)))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, PictureError> {
    let bytes = goblin_sys::files::read_bounded(path, STATUS_BYTES_MAX)
        .map_err(|source| PictureError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|source| PictureError::Parse { path: path.to_owned(), source })
}

/// Draws until the measured length is the one that was drawn with.
pub fn settle(artist: &mut Artist, model: &mut Model) {
    for _ in 0..2 {
        for event in artist.draw(&content::screen(model), Vec::new(), 0.0) {
            model.step(event);
        }
    }
}

fn write(path: &Path, artist: &Artist) -> Result<(), png::EncodingError> {
    let (width, height) = artist.size();
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut encoder =
        png::Encoder::new(BufWriter::new(File::create(path)?), side(width), side(height));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let rgb: Vec<u8> = artist.pixels().iter().flat_map(|[b, g, r, _]| [*r, *g, *b]).collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()
}
