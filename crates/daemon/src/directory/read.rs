//! Files that `ConvertTo-Json` wrote, in whatever encoding PowerShell chose: bounded in octets, in depth and in objects.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

/// Longest file read.
pub(super) const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Deepest nesting looked at; `ConvertTo-Json -Depth 4` makes some ten.
pub(super) const DEPTH_MAX: usize = 32;

/// Reads and parses one file.
///
/// # Errors
/// What is wrong with it, for the operator.
pub fn read(path: &Path) -> Result<Value, String> {
    let mut bytes = Vec::new();
    // Counted while reading: a device has no length to ask for and no end.
    let opened = std::fs::File::open(path).map_err(|error| error.to_string())?;
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} octets"));
    }
    parse(&bytes)
}

/// Parses what stood in a file.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = decoded(bytes)?;
    // serde_json itself refuses more than 128 levels, so the walk below is bounded.
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))?;
    match is_deeper(&value, DEPTH_MAX) {
        true => Err(format!("nested more than {DEPTH_MAX} deep")),
        false => Ok(value),
    }
}

/// `>` of Windows PowerShell writes UTF-16, `Out-File -Encoding utf8` a byte order mark.
fn decoded(bytes: &[u8]) -> Result<String, String> {
    let utf16 = |unit: fn([u8; 2]) -> u16, rest: &[u8]| {
        let units: Vec<u16> = rest.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).map_err(|_| "broken UTF-16".to_owned())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => utf16(u16::from_be_bytes, rest),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => {
            String::from_utf8(rest.to_vec()).map_err(|_| "neither UTF-8 nor UTF-16".to_owned())
        }
    }
}

fn is_deeper(value: &Value, left: usize) -> bool {
    match (value, left) {
        (Value::Array(_) | Value::Object(_), 0) => true,
        (Value::Array(list), _) => list.iter().any(|value| is_deeper(value, left - 1)),
        (Value::Object(map), _) => map.values().any(|value| is_deeper(value, left - 1)),
        _ => false,
    }
}
