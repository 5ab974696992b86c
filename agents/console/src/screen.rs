//! The screen: one KMS dumb buffer on the first connected connector.
//!
//! No rendering device, no page flips: a picture is copied into the buffer and the changed rows are
//! reported dirty, which every KMS driver understands, simpledrm on a bare firmware framebuffer too.

use drm::Device;
use drm::buffer::{Buffer, DrmFourcc};
use drm::control::dumbbuffer::DumbBuffer;
use drm::control::{
    ClipRect, Device as ControlDevice, Mode, ModeTypeFlags, ResourceHandles, connector, crtc,
    framebuffer,
};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Largest mode used where there is a choice: beyond, a weak core would redraw too slowly.
pub const MODE_PIXELS_MAX: (u16, u16) = (1920, 1080);
/// Card nodes that are tried.
const CARDS_MAX: u8 = 8;

/// Why there is no screen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScreenError {
    /// No card node exists: no driver has taken a display.
    #[error("no display card in /dev/dri")]
    NoCard,
    /// A card exists, but nothing is plugged into it.
    #[error("no screen is connected to {card}")]
    NotConnected {
        /// Card.
        card: PathBuf,
    },
    /// The kernel refused a step.
    #[error("{card}: cannot {step}")]
    Kernel {
        /// Card.
        card: PathBuf,
        /// What was tried.
        step: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device for Card {}
impl ControlDevice for Card {}

/// An open screen. Dropping it gives the display back to the kernel's terminal.
pub struct Screen {
    card: Card,
    path: PathBuf,
    connector: connector::Handle,
    buffer: DumbBuffer,
    frame: framebuffer::Handle,
    width: usize,
    height: usize,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("card", &self.path)
            .field("width", &self.width)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

impl Screen {
    /// Takes the first card with a connected screen.
    ///
    /// # Errors
    /// When there is none now, or the kernel refuses it; try again later.
    pub fn open() -> Result<Self, ScreenError> {
        let mut last = ScreenError::NoCard;
        for number in 0..CARDS_MAX {
            let path = PathBuf::from(format!("/dev/dri/card{number}"));
            if !path.exists() {
                continue;
            }
            match Self::open_card(&path) {
                Ok(screen) => return Ok(screen),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    fn open_card(path: &Path) -> Result<Self, ScreenError> {
        let failed =
            |step| move |source| ScreenError::Kernel { card: path.to_owned(), step, source };
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(failed("open it"))?;
        let card = Card(file);
        let resources = card.resource_handles().map_err(failed("list its outputs"))?;
        let (info, mode) = choose(&card, &resources)
            .ok_or_else(|| ScreenError::NotConnected { card: path.to_owned() })?;
        let crtc = crtc_for(&card, &resources, &info)
            .ok_or_else(|| ScreenError::NotConnected { card: path.to_owned() })?;
        let (width, height) = mode.size();
        let buffer = card
            .create_dumb_buffer((u32::from(width), u32::from(height)), DrmFourcc::Xrgb8888, 32)
            .map_err(failed("make a picture buffer"))?;
        let frame =
            card.add_framebuffer(&buffer, 24, 32).map_err(failed("add the picture buffer"))?;
        card.set_crtc(crtc, Some(frame), (0, 0), &[info.handle()], Some(mode))
            .map_err(failed("show the picture; does another program own the screen?"))?;
        Ok(Self {
            card,
            path: path.to_owned(),
            connector: info.handle(),
            buffer,
            frame,
            width: usize::from(width),
            height: usize::from(height),
        })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The card.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// False when the card went away or the screen was unplugged: open again.
    pub fn connected(&self) -> bool {
        self.card
            .get_connector(self.connector, false)
            .is_ok_and(|info| info.state() != connector::State::Disconnected)
    }

    /// Shows the rows `rows` of a picture that is `width` pixels wide, blue, green, red, unused.
    ///
    /// # Errors
    /// When the card went away; open again.
    pub fn show(
        &mut self,
        pixels: &[[u8; 4]],
        width: usize,
        rows: Range<usize>,
    ) -> Result<(), ScreenError> {
        let failed =
            |path: &Path, step, source| ScreenError::Kernel { card: path.to_owned(), step, source };
        let pitch = usize::try_from(self.buffer.pitch()).unwrap_or(0);
        let end = rows.end.min(self.height);
        let start = rows.start.min(end);
        if pitch == 0 || width == 0 {
            return Ok(());
        }
        let mut map = self
            .card
            .map_dumb_buffer(&mut self.buffer)
            .map_err(|source| failed(&self.path, "map the picture buffer", source))?;
        let lines = map.as_mut().chunks_exact_mut(pitch).zip(pixels.chunks_exact(width));
        for (to, from) in lines.take(end).skip(start) {
            for (to, from) in to.chunks_exact_mut(4).zip(from.iter().take(self.width)) {
                to.copy_from_slice(from);
            }
        }
        drop(map);
        let side = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let clip = ClipRect::new(0, side(start), side(self.width), side(end));
        match self.card.dirty_framebuffer(self.frame, &[clip]) {
            // Drivers that scan the buffer out directly have no such call.
            Err(err) if err.raw_os_error() != Some(libc_enosys()) => {
                Err(failed(&self.path, "refresh the picture", err))
            }
            _ => Ok(()),
        }
    }
}

/// `ENOSYS`, as rustix names it.
fn libc_enosys() -> i32 {
    rustix::io::Errno::NOSYS.raw_os_error()
}

fn choose(card: &Card, resources: &ResourceHandles) -> Option<(connector::Info, Mode)> {
    let infos: Vec<_> =
        resources.connectors().iter().filter_map(|c| card.get_connector(*c, true).ok()).collect();
    let usable = |state| infos.iter().find(|i| i.state() == state && !i.modes().is_empty());
    // Some outputs cannot tell whether anything is plugged in; they are better than none.
    let info = usable(connector::State::Connected).or_else(|| usable(connector::State::Unknown))?;
    let mode = choose_mode(info.modes())?;
    Some((info.clone(), mode))
}

/// The preferred mode if it is not too large, else the largest that is not, else the preferred one.
fn choose_mode(modes: &[Mode]) -> Option<Mode> {
    let fits = |m: &&Mode| m.size().0 <= MODE_PIXELS_MAX.0 && m.size().1 <= MODE_PIXELS_MAX.1;
    let preferred = modes.iter().find(|m| m.mode_type().contains(ModeTypeFlags::PREFERRED));
    let area = |m: &&Mode| u32::from(m.size().0).saturating_mul(u32::from(m.size().1));
    let largest = modes.iter().filter(fits).max_by_key(area);
    preferred.filter(fits).or(largest).or(preferred).or(modes.first()).copied()
}

fn crtc_for(
    card: &Card,
    resources: &ResourceHandles,
    info: &connector::Info,
) -> Option<crtc::Handle> {
    let encoders = info.encoders().iter().filter_map(|e| card.get_encoder(*e).ok());
    encoders.flat_map(|e| resources.filter_crtcs(e.possible_crtcs())).next()
}
