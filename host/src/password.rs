//! The admin password: hashed with argon2id, never kept and never shown.

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Argon2, PasswordVerifier};

use crate::config::PasswordHash;

/// Hashes a password with a fresh salt. Computes for some tens of milliseconds: not for a thread that others wait for.
///
/// # Errors
/// The sentence why the password cannot be hashed.
pub fn hash(password: &str) -> Result<PasswordHash, String> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| PasswordHash(hash.to_string())).map_err(|error| format!("the password cannot be hashed: {error}"))
}

/// Whether this is the password. Computes as long as [`hash`], whatever the answer.
#[must_use]
pub fn verify(hash: &PasswordHash, password: &str) -> bool {
    let parsed = argon2::PasswordHash::new(&hash.0);
    parsed.is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
}

/// A hash that is cheap to check, as no real one is: for tests that are about something else.
#[cfg(test)]
pub(crate) fn quick(password: &str) -> PasswordHash {
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    PasswordHash(argon.hash_password(password.as_bytes(), &SaltString::generate(&mut OsRng)).unwrap().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_fits_and_the_hash_tells_nothing() {
        let hash = hash("geheim").unwrap();
        assert!(hash.0.starts_with("$argon2id$"), "{}", hash.0);
        assert!(verify(&hash, "geheim"));
        assert!(!verify(&hash, "Geheim") && !verify(&hash, ""));
        assert!(!verify(&PasswordHash("geheim".into()), "geheim"));
        assert_ne!(super::hash("geheim").unwrap(), hash, "each has its own salt");
        assert!(!format!("{hash:?}").contains("argon2id"));
    }
}
