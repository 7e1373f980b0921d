//! One session of a fixture as its row.

use crate::canonical::{canonicalize, write_string, Breach};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

const DAEMON: &str = "iterate-rust";
const RAW_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub enum Failure {
    /// This JSON of the session broke a rule.
    Refused(&'static str, Breach),
    /// The fixture is not one.
    Fixture(String),
}

/// Writes the members of one JSON object in the order in which they are given.
struct Object<'a>(&'a mut String);

impl Object<'_> {
    fn key(&mut self, name: &str) {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        write_string(name, self.0);
        self.0.push(':');
    }

    fn literal(&mut self, name: &str, text: &str) {
        self.key(name);
        self.0.push_str(text);
    }

    fn string(&mut self, name: &str, text: &str) {
        self.key(name);
        write_string(text, self.0);
    }

    fn text(&mut self, name: &str, of: &Value) -> Result<(), Failure> {
        let text = utf8_text(&of[name], name)?;
        self.string(name, &text);
        Ok(())
    }

    fn optional_text(&mut self, name: &str, of: &Value) -> Result<(), Failure> {
        if of.get(name).is_some() {
            self.text(name, of)?;
        }
        Ok(())
    }

    fn integer(&mut self, name: &str, of: &Value) -> Result<i64, Failure> {
        let value = of[name].as_i64().filter(|value| *value >= 0);
        let value = value.ok_or_else(|| fixture(name, "an integer of 0 to 2^63-1"))?;
        self.literal(name, &value.to_string());
        Ok(value)
    }

    fn optional_integer(&mut self, name: &str, of: &Value) -> Result<Option<i64>, Failure> {
        of.get(name).map(|_| self.integer(name, of)).transpose()
    }

    /// A key that stands for true alone.
    fn flag(&mut self, name: &str, of: &Value) {
        if of.get(name).is_some() {
            self.literal(name, "true");
        }
    }

    /// An array of objects whose members `write` gives; nothing where the key is absent.
    fn objects(
        &mut self,
        name: &str,
        of: &Value,
        write: impl Fn(&mut Object, &Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(values) = of.get(name) else { return Ok(()) };
        let values = values.as_array().ok_or_else(|| fixture(name, "an array"))?;
        self.literal(name, "[");
        for (i, value) in values.iter().enumerate() {
            self.0.push_str(if i > 0 { ",{" } else { "{" });
            write(self, value)?;
            self.0.push('}');
        }
        self.0.push(']');
        Ok(())
    }

    fn findings(&mut self, of: &Value) -> Result<(), Failure> {
        self.objects("findings", of, |object, finding| {
            for name in ["code", "path", "message"] {
                object.text(name, finding)?;
            }
            let Some(suggestions) = finding.get("suggestions") else { return Ok(()) };
            let suggestions = suggestions.as_array().ok_or_else(|| fixture("suggestions", "an array"))?;
            let texts = suggestions.iter().map(|text| canonical_text("suggestions", text));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            object.literal("suggestions", &format!("[{}]", texts.join(",")));
            Ok(())
        })
    }

    fn brief(&mut self, of: &Value) -> Result<(), Failure> {
        let Some(brief) = of.get("brief") else { return Ok(()) };
        self.literal("brief", "{");
        self.text("grounding", brief)?;
        self.optional_integer("candidates", brief)?;
        self.optional_integer("candidates_total", brief)?;
        for name in ["candidates_total_is_floor", "infeasible", "degraded"] {
            self.flag(name, brief);
        }
        self.findings(brief)?;
        self.optional_text("roster", brief)?;
        self.integer("brief_ms", brief)?;
        self.0.push('}');
        Ok(())
    }

    fn embedded(&mut self, name: &'static str, of: &Value) -> Result<(), Failure> {
        if let Some(value) = of.get(name) {
            self.literal(name, &canonical_text(name, value)?);
        }
        Ok(())
    }

    fn error(&mut self, of: &Value) -> Result<(), Failure> {
        if let Some(error) = of.get("error") {
            self.literal("error", "{");
            for name in ["code", "reason", "where", "message"] {
                self.text(name, error)?;
            }
            self.0.push('}');
        }
        Ok(())
    }
}

/// The session's row, LF-ended.
pub fn encode_row(session: &Value, now: SystemTime) -> Result<String, Failure> {
    let mut out = String::from("{");
    let mut row = Object(&mut out);
    row.string("schema", "session.iterate.v1");
    row.text("session_id", session)?;
    row.string("timestamp", &rfc3339(now));
    row.string("daemon", DAEMON);
    row.text("trace_id", session)?;
    row.optional_text("caller_trace", session)?;
    for name in ["kind", "provider", "model", "prompt"] {
        row.text(name, session)?;
    }
    row.embedded("spec", session)?;
    row.integer("max_iterations", session)?;
    let attempts = session["attempts"]
        .as_array()
        .ok_or_else(|| fixture("attempts", "an array"))?;
    row.literal("iterations", &attempts.len().to_string());
    row.text("final_verdict", session)?;
    row.error(session)?;
    row.embedded("artifact", session)?;
    if let Some(grounded) = session.get("grounded_in_roster") {
        row.literal("grounded_in_roster", &grounded.to_string());
    }
    row.literal("attempts", "[");
    let (mut input_tokens, mut output_tokens) = (0, 0);
    let mut cost_nano_usd = (!attempts.is_empty()).then_some(0);
    for (i, attempt) in attempts.iter().enumerate() {
        if i > 0 {
            row.0.push(',');
        }
        let spent = write_attempt(attempt, row.0)?;
        input_tokens += spent.input_tokens;
        output_tokens += spent.output_tokens;
        cost_nano_usd = cost_nano_usd.zip(spent.cost_nano_usd).map(|(sum, cost)| sum + cost);
    }
    row.0.push(']');
    row.literal("input_tokens", &input_tokens.to_string());
    row.literal("output_tokens", &output_tokens.to_string());
    row.integer("duration_ms", session)?;
    row.optional_text("caller", session)?;
    row.brief(session)?;
    row.flag("token_budget_spent", session);
    row.flag("no_progress", session);
    row.optional_integer("try", session)?;
    row.optional_text("request_digest", session)?;
    if let Some(cost) = cost_nano_usd {
        row.literal("cost_nano_usd", &cost.to_string());
    }
    out.push_str("}\n");
    Ok(out)
}

/// What one attempt adds to the session's totals.
struct Spent {
    input_tokens: i64,
    output_tokens: i64,
    cost_nano_usd: Option<i64>,
}

/// Writes one attempt and gives what it spent.
fn write_attempt(attempt: &Value, out: &mut String) -> Result<Spent, Failure> {
    out.push('{');
    let mut object = Object(out);
    object.integer("iteration", attempt)?;
    for name in ["provider", "model", "verdict"] {
        object.text(name, attempt)?;
    }
    object.optional_text("span_id", attempt)?;
    let raw = utf8_text(&attempt["raw"], "raw")?;
    let cut = cut_raw(&raw);
    object.string("raw", cut);
    if cut.len() < raw.len() {
        object.literal("raw_truncated", "true");
    }
    object.findings(attempt)?;
    object.error(attempt)?;
    let input_tokens = object.integer("input_tokens", attempt)?;
    let output_tokens = object.integer("output_tokens", attempt)?;
    object.integer("chat_ms", attempt)?;
    object.integer("validate_ms", attempt)?;
    object.optional_text("roster", attempt)?;
    object.objects("datasets", attempt, |object, dataset| {
        object.text("name", dataset)?;
        object.text("version", dataset)
    })?;
    let cost_nano_usd = object.optional_integer("cost_nano_usd", attempt)?;
    object.optional_text("parse_problem", attempt)?;
    out.push('}');
    Ok(Spent {
        input_tokens,
        output_tokens,
        cost_nano_usd,
    })
}

fn canonical_text(name: &'static str, value: &Value) -> Result<String, Failure> {
    let text = text_bytes(value).ok_or_else(|| fixture(name, "a text"))?;
    canonicalize(&text).map_err(|breach| Failure::Refused(name, breach))
}

/// At most RAW_BYTES_MAX bytes, whole characters.
fn cut_raw(raw: &str) -> &str {
    let mut end = raw.len().min(RAW_BYTES_MAX);
    while !raw.is_char_boundary(end) {
        end -= 1;
    }
    &raw[..end]
}

/// A text of a fixture: a string, a long one told in parts (`{"parts": [["[", 101], ["]", 101]]}`), or bytes
/// that are no UTF-8 (`{"base64": "/w=="}`).
pub fn text_bytes(value: &Value) -> Option<Vec<u8>> {
    if let Some(text) = value.as_str() {
        return Some(text.as_bytes().to_vec());
    }
    if let Some(text) = value.get("base64") {
        return base64(text.as_str()?);
    }
    let mut whole = Vec::new();
    for part in value.get("parts")?.as_array()? {
        let times = usize::try_from(part[1].as_u64()?).ok()?;
        whole.extend(part[0].as_str()?.repeat(times).bytes());
    }
    Some(whole)
}

fn utf8_text(value: &Value, name: &str) -> Result<String, Failure> {
    let bytes = text_bytes(value).ok_or_else(|| fixture(name, "a text"))?;
    String::from_utf8(bytes).map_err(|_| fixture(name, "UTF-8"))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::new());
    for c in text.trim_end_matches('=').bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

fn fixture(name: &str, wanted: &str) -> Failure {
    Failure::Fixture(format!("{name}: {wanted} is expected"))
}

/// RFC 3339 in UTC with six fractional digits.
fn rfc3339(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).expect("the clock is behind 1970");
    let (days, second) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // Civil date of a day count: years start in March, eras are 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::rfc3339;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_leap_day_and_the_day_after_it_have_their_names() {
        let at = |seconds: u64| rfc3339(UNIX_EPOCH + Duration::from_micros(seconds * 1_000_000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.000007Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000007Z");
        assert_eq!(at(951_868_800), "2000-03-01T00:00:00.000007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000007Z");
    }
}
