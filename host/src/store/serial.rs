//! The serial number of an installation: made once, kept in the state directory, part of topics, of MQTT client ids
//! and of what clients index. Not secret.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::path::Path;

/// Name of the file in the state directory.
const FILE: &str = "serial";
/// Digits that cannot be mistaken for each other.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The serial number kept in `state`, made and written there if there is none yet: `LK-` and eight digits.
///
/// # Errors
/// If the directory cannot be read or written.
pub fn serial(state: &Path) -> io::Result<String> {
    let path = state.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) if is_serial(text.trim()) => return Ok(text.trim().to_owned()),
        // Cut off by a crash, or not ours: a new one is better than none.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
        Err(error) => return Err(error),
    }
    let serial = make();
    let beside = state.join("serial.new");
    let mut file = fs::File::create(&beside)?;
    writeln!(file, "{serial}")?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    Ok(serial)
}

fn is_serial(text: &str) -> bool {
    let digits = text.strip_prefix("LK-").unwrap_or_default().as_bytes();
    digits.len() == 8 && digits.iter().all(|digit| DIGITS.contains(digit))
}

fn make() -> String {
    let bits = random();
    let digit = |place: u32| DIGITS.get(((bits >> (5 * place)) & 31) as usize).copied().map_or('0', char::from);
    format!("LK-{}", (0..8).map(digit).collect::<String>())
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    match fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        // Hash keys of the standard library are seeded by the system as well.
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_kept() {
        let state = tempfile::tempdir().unwrap();
        let first = serial(state.path()).unwrap();
        assert!(is_serial(&first), "{first}");
        assert_eq!(serial(state.path()).unwrap(), first);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(serial(other.path()).unwrap(), first);
    }

    #[test]
    fn a_damaged_file_is_replaced_and_a_missing_folder_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        for damaged in [&b""[..], b"LK-12", b"\xff\xfe"] {
            fs::write(state.path().join(FILE), damaged).unwrap();
            assert!(is_serial(&serial(state.path()).unwrap()));
        }
        assert!(serial(&state.path().join("nowhere")).is_err());
    }
}
