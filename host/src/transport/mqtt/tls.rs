//! TLS towards a broker: whom we trust, who we are, and what went wrong in words. `rustls` with `ring`; files are
//! read anew at each connection, so that a renewed certificate needs no restart.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;

use crate::config::BrokerTls;

/// Prepares a connection. Reads files; not to be called where waiting is forbidden.
///
/// # Errors
/// The sentence with the file that cannot be used.
pub(super) fn connector(settings: &BrokerTls) -> Result<TlsConnector, String> {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let verified = if settings.verify {
        versions.with_root_certificates(roots(settings.ca_file.as_deref())?)
    } else {
        versions.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    };
    let config = match &settings.client {
        None => verified.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates(cert)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "a private key", &error))?;
            verified
                .with_client_auth_cert(chain, secret)
                .map_err(|error| format!("{} and {} do not belong together: {error}", cert.display(), key.display()))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name the broker's certificate must carry: a host name, which is also sent as SNI, or an address.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|_| format!("\"{host}\" is no name a certificate can carry"))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca_file {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this system has no certificate authorities to trust{why}; install them (ca-certificates) or give this \
             broker a ca_file"
        ));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |error| unusable(file, "certificates", &error);
    let all = CertificateDer::pem_file_iter(file).map_err(fail)?.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    if all.is_empty() {
        return Err(unusable(file, "certificates", &pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn unusable(file: &Path, wanted: &str, error: &pem::Error) -> String {
    let why = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("there are no {wanted} in it; expected PEM"),
        other => other.to_string(),
    };
    format!("cannot read {wanted} from {}: {why}", file.display())
}

/// What an I/O error says if TLS is the reason.
pub(super) fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the broker's certificate comes from an unknown authority; give this broker a ca_file in mqtt.tls"
                .to_owned()
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the broker's certificate has expired".to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the broker's certificate is not valid yet; is this machine's clock right?".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the broker's certificate is for another name: {error}"),
        Error::InvalidCertificate(other) => format!("the broker's certificate is refused: {other}"),
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => format!("the broker does not accept our certificate; see client_cert in mqtt.tls ({error})"),
        Error::InvalidMessage(_) => "the broker does not speak TLS on this port".to_owned(),
        other => format!("TLS: {other}"),
    })
}

/// Takes any certificate, for `verify = false`. Signatures are checked all the same: the broker must own the key of
/// the certificate it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
