//! The text that the suite and its peers exchange: lines with percent-encoded values.
use std::io::Write;
use tonic::metadata::{Ascii, Binary, KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue};

pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

pub fn encode(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    bytes
        .iter()
        .map(|&byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

pub fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds a field as the suite writes it; says what is wrong with one that tonic does not take.
pub fn put(metadata: &mut MetadataMap, name: &str, value: &str) -> Result<(), String> {
    let problem = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    if name.ends_with("-bin") {
        let bytes: Vec<u8> = (0..value.len() / 2)
            .map(|at| u8::from_str_radix(&value[2 * at..2 * at + 2], 16).expect("hexadecimal digits"))
            .collect();
        let key = MetadataKey::<Binary>::from_bytes(name.as_bytes()).map_err(|error| problem(&error))?;
        metadata.append_bin(key, MetadataValue::from_bytes(&bytes));
    } else {
        let key = MetadataKey::<Ascii>::from_bytes(name.as_bytes()).map_err(|error| problem(&error))?;
        metadata.append(key, MetadataValue::try_from(value).map_err(|error| problem(&error))?);
    }
    Ok(())
}

/// Each field as ` PREFIX.NAME=VALUE`.
pub fn fields(prefix: &str, metadata: &MetadataMap) -> String {
    metadata
        .iter()
        .map(|field| match field {
            KeyAndValueRef::Ascii(name, value) => {
                format!(" {prefix}.{name}={}", encode(value.as_encoded_bytes()))
            }
            KeyAndValueRef::Binary(name, value) => {
                format!(" {prefix}.{name}={}", hex(&value.to_bytes().unwrap_or_default()))
            }
        })
        .collect()
}
