//! The recipe of a UKI: every input by digest, from which anyone rebuilds the same bytes.
//!
//! ```text
//! UKI = boot program + .osrel .cmdline .uname .linux .initrd
//!                                                      |
//!                             newc cpio, uncompressed: dirs, /dev/console, /init, /base.erofs
//!                                                                                  |
//!                                                       uncompressed erofs of the whole base tree
//! ```

use crate::Guid;
use crate::bytes::Hashed;
use crate::contents::{BuildError, Contents, copy_content};
use crate::cpio::{self, Archive};
use crate::erofs::{self, Layout};
use crate::tree::{Kind, Tree};
use crate::uki::{STUB_BYTES_MAX, UkiPlan};
use goblin_core_types::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The format of recipes this crate builds. A change of any written byte is a new number.
pub const RECIPE_FORMAT: u32 = 1;
/// Longest kernel command line in bytes (the kernel's limit on x86).
pub const CMDLINE_BYTES_MAX: usize = 2047;
/// Longest os-release text in bytes.
pub const OS_RELEASE_BYTES_MAX: usize = 16 << 10;
/// Longest kernel release text in bytes (the kernel's `__NEW_UTS_LEN`).
pub const UNAME_BYTES_MAX: usize = 64;

/// Directories of the initramfs, parents first.
const DIRS: [(&str, u16); 6] = [
    ("dev", 0o755),
    ("proc", 0o755),
    ("sys", 0o755),
    ("run", 0o755),
    ("root", 0o700),
    ("base", 0o755),
];

/// A content by digest, with its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// blake3 of the content.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// Why a recipe is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Made for a later builder; upgrade to a release in between first.
    #[error(
        "the recipe has format {got}, this release builds format {RECIPE_FORMAT}: upgrade in smaller steps"
    )]
    Format {
        /// Its format.
        got: u32,
    },
    /// A text is too long or holds NUL.
    #[error("recipe field `{field}` is empty, longer than {max} bytes, or holds NUL")]
    Text {
        /// The field.
        field: &'static str,
        /// The limit in bytes.
        max: usize,
    },
    /// The same content is listed with two sizes.
    #[error("content {digest} is listed with two different sizes")]
    SizeConflict {
        /// The content.
        digest: Digest,
    },
    /// The parts give another size than the recipe promises.
    #[error("the UKI would have {planned} bytes, the recipe promises {promised}")]
    Size {
        /// Size of the layout.
        planned: u64,
        /// Size in the recipe.
        promised: u64,
    },
}

/// Everything a UKI is made of.
///
/// `uki_size` and `uki_digest` are filled in by [`UkiRecipe::seal`] at the publisher; whoever rebuilds
/// compares the digest that [`UkiRecipe::write_uki`] answers with `uki_digest`, or uses
/// [`UkiRecipe::build`], which does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UkiRecipe {
    /// [`RECIPE_FORMAT`].
    pub format: u32,
    /// systemd's EFI boot program, `linuxx64.efi.stub`.
    pub stub: BlobRef,
    /// The kernel, a bzImage.
    pub kernel: BlobRef,
    /// Kernel command line.
    pub cmdline: String,
    /// Text of os-release, as the loader shows and sorts it.
    pub os_release: String,
    /// Kernel release, `uname -r`.
    pub uname: String,
    /// The program that becomes `/init` of the initramfs.
    pub preinit: BlobRef,
    /// The base system.
    pub base: Tree,
    /// UUID of the base's erofs.
    pub erofs_uuid: Guid,
    /// Modification time of everything in the base, seconds since 1970.
    pub erofs_time: u64,
    /// Size of the UKI in bytes.
    pub uki_size: u64,
    /// blake3 of the UKI.
    pub uki_digest: Digest,
}

impl UkiRecipe {
    /// Every distinct content that a rebuild needs, in the order of their digests.
    pub fn blobs(&self) -> Vec<BlobRef> {
        let mut sizes = BTreeMap::new();
        for blob in self.all_blobs() {
            sizes.insert(blob.digest, blob.size);
        }
        sizes.into_iter().map(|(digest, size)| BlobRef { digest, size }).collect()
    }

    fn all_blobs(&self) -> impl Iterator<Item = BlobRef> + '_ {
        let files = self.base.entries().iter().filter_map(|entry| match entry.kind {
            Kind::File { size, digest } => Some(BlobRef { digest, size }),
            Kind::Dir | Kind::Symlink { .. } => None,
        });
        [self.stub, self.kernel, self.preinit].into_iter().chain(files)
    }

    /// Checks what can be checked without contents.
    ///
    /// # Errors
    /// [`RecipeError`] names the first field that is wrong.
    pub fn check(&self) -> Result<(), RecipeError> {
        if self.format != RECIPE_FORMAT {
            return Err(RecipeError::Format { got: self.format });
        }
        let texts = [
            ("cmdline", &self.cmdline, CMDLINE_BYTES_MAX),
            ("os_release", &self.os_release, OS_RELEASE_BYTES_MAX),
            ("uname", &self.uname, UNAME_BYTES_MAX),
        ];
        for (field, text, max) in texts {
            if text.is_empty() || text.len() > max || text.contains('\0') {
                return Err(RecipeError::Text { field, max });
            }
        }
        let mut sizes = BTreeMap::new();
        for BlobRef { digest, size } in self.all_blobs() {
            if *sizes.entry(digest).or_insert(size) != size {
                return Err(RecipeError::SizeConflict { digest });
            }
        }
        Ok(())
    }

    /// Writes the UKI in one pass and answers the digest of what was written; the caller compares it
    /// with `uki_digest` before it uses the file. `uki_size` is checked before the first byte.
    ///
    /// # Errors
    /// [`BuildError`]; what was written so far is useless.
    pub fn write_uki<W: Write + ?Sized, C: Contents + ?Sized>(
        &self,
        out: &mut W,
        contents: &mut C,
    ) -> Result<Digest, BuildError> {
        let parts = Parts::plan(self, contents)?;
        let planned = parts.uki.size();
        if planned != self.uki_size {
            return Err(RecipeError::Size { planned, promised: self.uki_size }.into());
        }
        parts.write(self, out, contents)
    }

    /// Like [`UkiRecipe::write_uki`], and compares the digest.
    ///
    /// # Errors
    /// [`BuildError`]; [`BuildError::ContentDigest`] with the UKI's digests when all parts were right
    /// and the result still differs, which means that builder and publisher disagree.
    pub fn build<W: Write + ?Sized, C: Contents + ?Sized>(
        &self,
        out: &mut W,
        contents: &mut C,
    ) -> Result<(), BuildError> {
        let got = self.write_uki(out, contents)?;
        if got != self.uki_digest {
            return Err(BuildError::ContentDigest { expected: self.uki_digest, got });
        }
        Ok(())
    }

    /// Builds the UKI once into nothing and notes its size and digest in the recipe.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn seal<C: Contents + ?Sized>(&mut self, contents: &mut C) -> Result<(), BuildError> {
        let parts = Parts::plan(self, contents)?;
        let size = parts.uki.size();
        let digest = parts.write(self, &mut io::sink(), contents)?;
        self.uki_size = size;
        self.uki_digest = digest;
        Ok(())
    }

    /// Size in bytes of the base's erofs image.
    ///
    /// # Errors
    /// [`BuildError::Erofs`] when the tree does not fit the format.
    pub fn base_bytes(&self) -> Result<u64, BuildError> {
        Ok(Layout::plan(&self.base, &self.erofs_params())?.size())
    }

    fn erofs_params(&self) -> erofs::Params {
        erofs::Params { uuid: self.erofs_uuid, build_time: self.erofs_time }
    }
}

/// The layouts of all three formats, before anything is written.
struct Parts<'a> {
    base: Layout<'a>,
    initrd_bytes: u64,
    uki: UkiPlan,
}

impl<'a> Parts<'a> {
    fn plan<C: Contents + ?Sized>(
        recipe: &'a UkiRecipe,
        contents: &mut C,
    ) -> Result<Self, BuildError> {
        recipe.check()?;
        let base = Layout::plan(&recipe.base, &recipe.erofs_params())?;
        let initrd_bytes = DIRS
            .iter()
            .map(|(name, _)| cpio::entry_bytes(name, 0))
            .chain([
                cpio::entry_bytes("dev/console", 0),
                cpio::entry_bytes("init", recipe.preinit.size),
                cpio::entry_bytes("base.erofs", base.size()),
                cpio::trailer_bytes(),
            ])
            .fold(0u64, u64::saturating_add);
        if recipe.stub.size > STUB_BYTES_MAX as u64 {
            let max = STUB_BYTES_MAX as u64;
            return Err(crate::uki::UkiError::TooLarge { got: recipe.stub.size, max }.into());
        }
        let mut stub = Vec::new();
        copy_content(&mut stub, contents, &recipe.stub.digest, recipe.stub.size)?;
        let sections = [
            (".osrel", recipe.os_release.len() as u64),
            (".cmdline", recipe.cmdline.len() as u64),
            (".uname", recipe.uname.len() as u64),
            (".linux", recipe.kernel.size),
            (".initrd", initrd_bytes),
        ];
        let uki = UkiPlan::new(&stub, &sections)?;
        Ok(Self { base, initrd_bytes, uki })
    }

    fn write<W: Write + ?Sized, C: Contents + ?Sized>(
        &self,
        recipe: &UkiRecipe,
        out: &mut W,
        contents: &mut C,
    ) -> Result<Digest, BuildError> {
        let mut hashed = Hashed::new(out);
        self.uki.write(&mut hashed, |section, out| match section {
            ".osrel" => text(out, &recipe.os_release),
            ".cmdline" => text(out, &recipe.cmdline),
            ".uname" => text(out, &recipe.uname),
            ".linux" => copy_content(out, contents, &recipe.kernel.digest, recipe.kernel.size),
            _ => self.write_initrd(recipe, out, contents),
        })?;
        hashed.flush().map_err(BuildError::Write)?;
        Ok(hashed.digest())
    }

    fn write_initrd<C: Contents + ?Sized>(
        &self,
        recipe: &UkiRecipe,
        out: &mut dyn Write,
        contents: &mut C,
    ) -> Result<(), BuildError> {
        let mut archive = Archive::new(out);
        for (name, mode) in DIRS {
            archive.dir(name, mode)?;
        }
        // The kernel opens it for /init before anything can be mounted on /dev.
        archive.char_device("dev/console", 0o600, 5, 1)?;
        let preinit = recipe.preinit;
        archive.file("init", 0o755, preinit.size, |out| {
            copy_content(out, contents, &preinit.digest, preinit.size)
        })?;
        archive
            .file("base.erofs", 0o444, self.base.size(), |out| self.base.write(out, contents))?;
        let got = archive.finish()?;
        if got != self.initrd_bytes {
            return Err(BuildError::PartSize {
                part: ".initrd".into(),
                planned: self.initrd_bytes,
                got,
            });
        }
        Ok(())
    }
}

fn text(out: &mut dyn Write, text: &str) -> Result<(), BuildError> {
    out.write_all(text.as_bytes()).map_err(BuildError::Write)
}
