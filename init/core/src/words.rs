//! Lists of words in one piece of memory each: a board may have a thousand units, and a list of strings costs three
//! pieces and more for a single word.

/// Words without NUL, in order. One that has a NUL would become two: unit files with such words are refused.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Words(
    /// Each word, and a NUL behind it.
    Box<str>,
);

impl Words {
    /// The words.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\0')
    }

    /// The first of them.
    pub fn first(&self) -> Option<&str> {
        self.iter().next()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each as a string of its own.
    pub fn to_vec(&self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Words {
    fn from_iter<T: IntoIterator<Item = S>>(words: T) -> Self {
        let mut text = String::new();
        for word in words {
            text.push_str(word.as_ref());
            text.push('\0');
        }
        Self(text.into_boxed_str())
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(words in prop::collection::vec("[^\0]{0,9}", 0..9)) {
            let list: Words = words.iter().collect();
            prop_assert_eq!(list.to_vec(), words.clone());
            prop_assert_eq!(list.first(), words.first().map(String::as_str));
            prop_assert_eq!(list.is_empty(), words.is_empty());
        }
    }

    #[test]
    fn a_list_is_two_numbers_long() {
        assert_eq!(size_of::<Words>(), 2 * size_of::<usize>());
    }
}
