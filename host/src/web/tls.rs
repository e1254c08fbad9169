//! The server's certificate: the one that the configuration names, or one of our own that is made at the first start
//! and kept in the state directory.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, ConfigError};

/// Names of our own certificate's files in the state directory.
const OWN_CERT: &str = "http-cert.pem";
const OWN_KEY: &str = "http-key.pem";

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The files that the configuration names.
    #[error("{0}")]
    Named(ConfigError),
    /// Our own certificate cannot be made or kept.
    #[error("the certificate of the HTTP server, {}: {reason}", file.display())]
    Own {
        /// The file that is concerned.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A certificate with its key, ready to serve.
#[derive(Clone)]
pub struct Tls {
    pub(super) acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads `http.tls_cert` and `http.tls_key`, relative to the configuration file, or takes our own certificate,
    /// which is made if there is none that works. Blocks for some milliseconds.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(config: &Config, state_dir: &Path) -> Result<Self, TlsError> {
        match Self::named(config) {
            Some(tls) => tls,
            None => Self::own(state_dir),
        }
    }

    /// The certificate that the configuration names, if it names one.
    pub fn named(config: &Config) -> Option<Result<Self, TlsError>> {
        let (cert, key) = config.http.tls.as_ref()?;
        let folder = Path::new(&config.places.file).parent().unwrap_or(Path::new(""));
        let (cert, key) = (folder.join(cert), folder.join(key));
        let loaded = serving(&cert, &key).map_err(|reason| {
            let message = format!("{} with http.tls_key {}: {reason}", cert.display(), key.display());
            TlsError::Named(ConfigError { place: config.places.file.clone(), key: "http.tls_cert".into(), message })
        });
        Some(loaded)
    }

    fn own(state_dir: &Path) -> Result<Self, TlsError> {
        let (cert, key) = (state_dir.join(OWN_CERT), state_dir.join(OWN_KEY));
        let wrong = |reason| TlsError::Own { file: cert.clone(), reason };
        // What a crash has left half written, or what was damaged, is made anew.
        let tls = match serving(&cert, &key) {
            Ok(tls) => tls,
            Err(why) => {
                if cert.exists() {
                    tracing::warn!("{} cannot be used ({why}), so a new certificate is made", cert.display());
                }
                make(&cert, &key)?;
                serving(&cert, &key).map_err(wrong)?
            }
        };
        let fingerprint = fingerprint(&cert).map_err(wrong)?;
        tracing::info!("HTTPS with our own certificate {}, SHA-256 fingerprint {fingerprint}", cert.display());
        Ok(tls)
    }
}

/// A server with these files.
fn serving(cert: &Path, key: &Path) -> Result<Tls, String> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate file holds no certificate, expected PEM".into());
    }
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| format!("the key cannot be read, expected PEM: {error}"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| format!("certificate and key cannot be used together: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)) })
}

fn make(cert: &Path, key: &Path) -> Result<(), TlsError> {
    let wrong = |file: &Path, reason: String| TlsError::Own { file: file.to_owned(), reason };
    let pair = rcgen::KeyPair::generate().map_err(|error| wrong(key, error.to_string()))?;
    let made = params().and_then(|params| params.self_signed(&pair));
    let made = made.map_err(|error| wrong(cert, error.to_string()))?;
    // The key first: a certificate that is there has its key.
    write(key, &pair.serialize_pem(), 0o600).map_err(|error| wrong(key, error.to_string()))?;
    write(cert, &made.pem(), 0o644).map_err(|error| wrong(cert, error.to_string()))
}

/// For this machine's names, and for longer than the machine lives: nobody renews a certificate that is pinned by
/// its fingerprint.
fn params() -> Result<rcgen::CertificateParams, rcgen::Error> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if let Some(host) = super::cross_site::hostname() {
        names.push(format!("{host}.local"));
        names.push(host);
    }
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Ladekern");
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    // The mode counts for new files only.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// `AB:CD:…`, as browsers show it.
fn fingerprint(cert: &Path) -> Result<String, String> {
    let cert = CertificateDer::from_pem_file(cert).map_err(|error| error.to_string())?;
    let digest = Sha256::digest(&cert);
    Ok(digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(folder: &Path, cert: &str, key: &str) -> Result<Tls, TlsError> {
        let file = folder.join("ladekern.toml").display().to_string();
        let text = format!("[http]\ntls_cert = \"{cert}\"\ntls_key = \"{key}\"");
        Tls::load(&crate::config::parse(&file, &text, &[]).unwrap(), folder)
    }

    fn own(folder: &Path) -> (Vec<u8>, Vec<u8>) {
        Tls::load(&crate::config::parse("f", "", &[]).unwrap(), folder).unwrap();
        (fs::read(folder.join(OWN_CERT)).unwrap(), fs::read(folder.join(OWN_KEY)).unwrap())
    }

    #[test]
    fn our_own_certificate_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let made = own(folder.path());
        assert_eq!(own(folder.path()), made);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.path().join(OWN_KEY)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        // Cut off, or the key of another one: a new pair, which works.
        fs::write(folder.path().join(OWN_CERT), "-----BEGIN").unwrap();
        let second = own(folder.path());
        assert_ne!(second.0, made.0);
        fs::write(folder.path().join(OWN_KEY), &made.1).unwrap();
        assert_ne!(own(folder.path()).1, made.1);
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        own(folder.path());
        let other = tempfile::tempdir().unwrap();
        own(other.path());
        fs::copy(other.path().join(OWN_KEY), folder.path().join("other.pem")).unwrap();
        fs::write(folder.path().join("empty.pem"), "nothing").unwrap();
        named(folder.path(), OWN_CERT, OWN_KEY).unwrap();
        for (cert, key, part) in [
            ("none.pem", OWN_KEY, "the certificate cannot be read"),
            ("empty.pem", OWN_KEY, "holds no certificate"),
            (OWN_CERT, "none.pem", "the key cannot be read"),
            (OWN_CERT, "empty.pem", "the key cannot be read"),
            (OWN_CERT, "other.pem", "together"),
        ] {
            let TlsError::Named(error) = named(folder.path(), cert, key).unwrap_err() else { panic!("{cert}") };
            assert_eq!(error.key, "http.tls_cert");
            for part in [cert, key, part] {
                assert!(error.message.contains(part), "{part}: {error}");
            }
        }
    }
}
