use std::collections::BTreeMap;

/// The fragment over `allnoconfig`, text of `board/kernel.config`.
pub const FRAGMENT: &str = include_str!("../kernel.config");

/// The kernel's command line, part of the signed UKI.
///
/// A file in the initramfs can be mounted as the base only if the first root is ramfs, not tmpfs. A
/// screen is used if there is one; /dev/console, the last one named, is the serial line. A board nobody
/// looks at starts again by itself after a panic, and boot counting takes a bad release back. The kernel's
/// look whether timer interrupts come within 40 ms is left out: a virtual board on a busy host fails it,
/// panics, and would blame a release on trial. Kernel modules come from the base and from nowhere else.
pub const COMMAND_LINE: &str = "rootfstype=ramfs console=tty0 console=ttyS0,115200 quiet loglevel=4 \
                                panic=5 oops=panic no_timer_check loadpin.enforce=1";

/// Options of a kernel configuration by name; `n` for one that is not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelConfig {
    options: BTreeMap<String, String>,
}

impl KernelConfig {
    /// Reads a fragment or a `.config`: lines `CONFIG_X=value` and `# CONFIG_X is not set`; every other
    /// line is a comment.
    pub fn parse(text: &str) -> Self {
        let options = text
            .lines()
            .filter_map(|line| {
                let unset = line.strip_prefix("# ").and_then(|l| l.strip_suffix(" is not set"));
                let (name, value) = match unset {
                    Some(name) => (name, "n"),
                    None => line.split_once('=')?,
                };
                name.starts_with("CONFIG_").then(|| (name.to_owned(), value.trim().to_owned()))
            })
            .collect();
        Self { options }
    }

    /// How many options it names.
    pub fn len(&self) -> usize {
        self.options.len()
    }

    /// True when something is built as a module.
    pub fn has_modules(&self) -> bool {
        self.options.values().any(|value| value == "m")
    }

    /// True when it names none.
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// Options wanted here that `taken` has with another value, or not at all because something they
    /// depend on is off; each as a line for a person.
    pub fn lost(&self, taken: &Self) -> Vec<String> {
        self.options
            .iter()
            .filter_map(|(name, value)| {
                let got = taken.options.get(name).map_or("n", String::as_str);
                (got != value).then(|| format!("{name}={value} (it is {got})"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_option_is_named_with_what_it_became() {
        let wanted =
            KernelConfig::parse("CONFIG_A=y\nCONFIG_B=64\n# CONFIG_C is not set\nCONFIG_D=y\n");
        let taken =
            KernelConfig::parse("CONFIG_A=y\nCONFIG_B=8\n# CONFIG_D is not set\n# a remark\n");
        assert_eq!(wanted.lost(&taken), ["CONFIG_B=64 (it is 8)", "CONFIG_D=y (it is n)"]);
    }

    #[test]
    fn the_fragment_is_read_whole_and_names_each_option_once() {
        let lines = FRAGMENT.lines().filter(|line| line.contains("CONFIG_"));
        let named =
            lines.filter(|l| l.starts_with("CONFIG_") || l.ends_with(" is not set")).count();
        assert_eq!(KernelConfig::parse(FRAGMENT).len(), named);
    }

    #[test]
    fn the_base_can_be_mounted_from_the_first_root() {
        assert!(COMMAND_LINE.split(' ').any(|word| word == "rootfstype=ramfs"));
    }
}
