//! OLPC canonical JSON: the bytes that TUF signatures are made over.
//!
//! Shape: no white space; object keys sorted by their bytes and unique; strings in UTF-8 with only `"`
//! and `\` escaped (by `\`); integers only. Source: TUF specification 1.0, section 4.2 and
//! <http://wiki.laptop.org/go/Canonical_JSON>.

use serde_json::Value;

/// Deepest nesting that is written; metadata needs 6 levels.
const DEPTH_MAX: u32 = 32;

/// A value that has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// A number with a fraction or an exponent.
    #[error("holds a number that is not an integer; canonical JSON has only integers")]
    NotAnInteger,
    /// Nested deeper than 32 levels.
    #[error("is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
}

/// Writes the canonical form.
///
/// # Errors
/// [`CanonicalError`] when there is none; such a value cannot be signed or verified.
pub fn to_vec(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write(value, 0, &mut out)?;
    Ok(out)
}

fn write(value: &Value, depth: u32, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    if depth > DEPTH_MAX {
        return Err(CanonicalError::TooDeep);
    }
    let inner = depth.saturating_add(1);
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_f64() => return Err(CanonicalError::NotAnInteger),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, inner, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted here: whether the map already is depends on a feature other crates may turn on.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (index, (key, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(item, inner, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn members_are_sorted_and_only_quotes_are_escaped() {
        let value = json!({"b": [1, -2, null, true], "a": "tab\there \"q\" \\ é"});
        let expected = "{\"a\":\"tab\there \\\"q\\\" \\\\ é\",\"b\":[1,-2,null,true]}";
        assert_eq!(to_vec(&value).unwrap(), expected.as_bytes());
    }

    #[test]
    fn fractions_are_refused() {
        assert_eq!(to_vec(&json!({"a": 1.5})), Err(CanonicalError::NotAnInteger));
    }

    #[test]
    fn depth_is_bounded() {
        let mut value = json!(1);
        for _ in 0..40 {
            value = json!([value]);
        }
        assert_eq!(to_vec(&value), Err(CanonicalError::TooDeep));
    }

    proptest! {
        // Control characters stay raw in this form, so it is JSON only without them.
        #[test]
        fn printable_values_survive(keys in proptest::collection::btree_map("[ -~]{0,8}", "[ -~é]{0,8}", 0..6)) {
            let value = json!(keys);
            let bytes = to_vec(&value).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value);
        }
    }
}
