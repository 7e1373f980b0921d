//! The Rust writer of session rows: serde_json reads, its own writer prints.
//!
//!     parity print FIXTURE...                    the row of each fixture, or {"refused":KEY,"kind":KIND}
//!     parity append [--times N] LOG FIXTURE...   appends the rows to LOG, N times over
//!     parity canon CASES...                      "ok TEXT" or "refused KIND" for each text of each file

mod canonical;
mod log;
mod row;

use canonical::{canonicalize, replace_lone_surrogates};
use row::{encode_row, text_bytes, Failure};
use serde_json::Value;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("parity: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    match args {
        [command, paths @ ..] if command == "print" => print_rows(paths),
        [command, flag, times, rest @ ..] if command == "append" && flag == "--times" => {
            append_rows(times.parse().map_err(|_| "--times takes a number")?, rest)
        }
        [command, rest @ ..] if command == "append" => append_rows(1, rest),
        [command, paths @ ..] if command == "canon" => print_canonical(paths),
        _ => Err("usage: parity print|append|canon ...".into()),
    }
}

fn read(path: &str) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_str(&replace_lone_surrogates(&text)).map_err(|error| format!("{path}: {error}"))
}

fn print_rows(paths: &[String]) -> Result<(), String> {
    let mut out = Vec::new();
    for path in paths {
        match encode_row(&read(path)?, SystemTime::now()) {
            Ok(row) => out.extend(row.bytes()),
            Err(Failure::Refused(key, breach)) => {
                out.extend(format!("{{\"refused\":\"{key}\",\"kind\":\"{breach}\"}}\n").bytes());
            }
            Err(Failure::Fixture(problem)) => return Err(format!("{path}: {problem}")),
        }
    }
    io::stdout().write_all(&out).map_err(|error| error.to_string())
}

fn append_rows(times: usize, args: &[String]) -> Result<(), String> {
    let [target, paths @ ..] = args else {
        return Err("usage: parity append [--times N] LOG FIXTURE...".into());
    };
    let mut target = log::Log::new(target.into());
    let sessions = paths
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>, _>>()?;
    for session in std::iter::repeat_n(&sessions, times).flatten() {
        let row = encode_row(session, SystemTime::now()).map_err(|failure| format!("{failure:?}"))?;
        target.append(row.as_bytes()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn print_canonical(paths: &[String]) -> Result<(), String> {
    let mut out = Vec::new();
    for path in paths {
        let cases = read(path)?;
        for case in cases.as_array().ok_or("a file of cases holds an array")? {
            let text = text_bytes(case).ok_or("a case is a text")?;
            let line = match canonicalize(&text) {
                Ok(canonical) => format!("ok {canonical}\n"),
                Err(breach) => format!("refused {breach}\n"),
            };
            out.extend(line.bytes());
        }
    }
    io::stdout().write_all(&out).map_err(|error| error.to_string())
}
