//! The strict reading of JSON from outside, and its canonical text.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

const BYTES_MAX: usize = 256 * 1024;
const DEPTH_MAX: usize = 100;
const INTEGER_DIGITS_MAX: usize = 1000;

/// The kind of a broken rule, the same word in all three languages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Breach {
    TooLarge,
    NotUtf8,
    TooDeep,
    Syntax,
    IntegerTooLong,
    DoubleOverflow,
    DuplicateName,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Breach::TooLarge => "too_large",
            Breach::NotUtf8 => "not_utf8",
            Breach::TooDeep => "too_deep",
            Breach::Syntax => "syntax",
            Breach::IntegerTooLong => "integer_too_long",
            Breach::DoubleOverflow => "double_overflow",
            Breach::DuplicateName => "duplicate_name",
        })
    }
}

/// The canonical text of a JSON text from outside, or the kind of its first breach: size, UTF-8, depth and
/// grammar of the whole, then numbers and names in reading order (an object's names when it closes).
pub fn canonicalize(text: &[u8]) -> Result<String, Breach> {
    if text.len() > BYTES_MAX {
        return Err(Breach::TooLarge);
    }
    let text = std::str::from_utf8(text).map_err(|_| Breach::NotUtf8)?;
    if text.starts_with('\u{feff}') {
        return Err(Breach::Syntax);
    }
    if deeper_than(text, DEPTH_MAX) {
        return Err(Breach::TooDeep);
    }
    let text = replace_lone_surrogates(text);
    let value: &RawValue = serde_json::from_str(&text).map_err(|_| Breach::Syntax)?;
    // The whole is checked before any part is judged. Every part is read again at each level that holds it:
    // at most DEPTH_MAX times.
    let mut canonical = String::with_capacity(text.len());
    write_value(value.get(), &mut canonical)?;
    if canonical.len() > BYTES_MAX {
        return Err(Breach::TooLarge);
    }
    Ok(canonical)
}

/// Counts the brackets outside strings. Up to the first syntax error it sees the strings that a parser sees.
fn deeper_than(text: &str, limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        if escaped {
            escaped = false;
        } else if in_string && byte == b'\\' {
            escaped = true;
        } else if byte == b'"' {
            in_string = !in_string;
        } else if in_string {
            continue;
        } else if byte == b'[' || byte == b'{' {
            depth += 1;
            if depth > limit {
                return true;
            }
        } else if byte == b']' || byte == b'}' {
            depth = depth.saturating_sub(1);
        }
    }
    false
}

/// serde_json refuses lone surrogate escapes; the contract reads them as U+FFFD.
pub fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match surrogate_escape(rest) {
            Some(0xd800..=0xdbff) if matches!(surrogate_escape(&rest[6..]), Some(0xdc00..=0xdfff)) => 12,
            Some(_) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            // Any other escape: the backslash and the character behind it, which may be a backslash too.
            None => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The code unit of an escape `\uD800` to `\uDFFF` at the start of `text`.
fn surrogate_escape(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    if bytes.len() < 6 || &bytes[..2] != b"\\u" || !bytes[2..6].iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let unit = u32::from_str_radix(&text[2..6], 16).ok()?;
    (0xd800..=0xdfff).contains(&unit).then_some(unit)
}

/// The members of an object as they stand: serde_json's own map would keep the last of two equal names.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

fn write_value(token: &str, out: &mut String) -> Result<(), Breach> {
    match token.as_bytes()[0] {
        b'{' => {
            let Members(members) = serde_json::from_str(token).map_err(|_| Breach::Syntax)?;
            write_object(members, out)?;
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(token).map_err(|_| Breach::Syntax)?;
            out.push('[');
            for (i, item) in items.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(item.get(), out)?;
            }
            out.push(']');
        }
        b'"' => {
            let text: String = serde_json::from_str(token).map_err(|_| Breach::Syntax)?;
            write_string(&text, out);
        }
        b'-' | b'0'..=b'9' => write_number(token, out)?,
        _ => out.push_str(token), // true, false, null
    }
    Ok(())
}

fn write_object(members: Vec<(String, &RawValue)>, out: &mut String) -> Result<(), Breach> {
    let mut printed = Vec::with_capacity(members.len());
    for (name, value) in members {
        let mut text = String::new();
        write_value(value.get(), &mut text)?;
        printed.push((name, text));
    }
    printed.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (i, (name, text)) in printed.iter().enumerate() {
        if i > 0 {
            if printed[i - 1].0 == *name {
                return Err(Breach::DuplicateName);
            }
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        out.push_str(text);
    }
    out.push('}');
    Ok(())
}

/// Escapes `"`, `\` and U+0000-U+001F alone.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Integers keep their digits, all other numbers are doubles.
fn write_number(token: &str, out: &mut String) -> Result<(), Breach> {
    if token.contains(['.', 'e', 'E']) {
        // Rounds correctly at any length; an overflow gives an infinity.
        let value: f64 = token.parse().map_err(|_| Breach::Syntax)?;
        if !value.is_finite() {
            return Err(Breach::DoubleOverflow);
        }
        // ECMAScript's Number::toString. The standard library's shortest digits will not do: of two that are
        // equally near they are the upper ones (2^-25 ends in 13), ECMAScript's the even ones (in 12).
        out.push_str(ryu_js::Buffer::new().format_finite(value));
    } else if token.trim_start_matches('-').len() > INTEGER_DIGITS_MAX {
        return Err(Breach::IntegerTooLong);
    } else {
        out.push_str(if token == "-0" { "0" } else { token });
    }
    Ok(())
}
