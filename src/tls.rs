//! TLS to PostgreSQL according to libpq's parameters.
//!
//! Owns which server certificate each sslmode accepts, and the files of certificates and keys. They are read for each
//! connection, so that renewed ones are used without a restart. `redis::address` owns the TLS settings of Redis.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// libpq's sslmode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum TlsMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    pub fn parse(text: &str) -> Option<TlsMode> {
        Some(match text {
            "disable" => TlsMode::Disable,
            "allow" => TlsMode::Allow,
            "prefer" => TlsMode::Prefer,
            "require" => TlsMode::Require,
            "verify-ca" => TlsMode::VerifyCa,
            "verify-full" => TlsMode::VerifyFull,
            _ => return None,
        })
    }
}

/// The certificate authorities that may have signed a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Any: the certificate is not verified.
    None,
    /// The authorities that the system trusts.
    System,
    File(PathBuf),
}

/// The TLS part of a PostgreSQL address.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub mode: TlsMode,
    pub roots: Roots,
    /// The files of the client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsSettings {
    /// The settings of a handshake, with the files as they are now.
    ///
    /// # Errors
    ///
    /// Fails if a file is unusable; the error names the file and the reason.
    pub fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            roots: Trusted::load(&self.roots)?,
            checks_name: self.mode == TlsMode::VerifyFull,
            algorithms: provider.signature_verification_algorithms,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some((certificate, key)) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| format!("no usable private key in {}: {error}", key.display()))?;
        builder.with_client_auth_cert(chain, private).map_err(|error| {
            format!(
                "{} and {} do not belong together: {error}",
                certificate.display(),
                key.display()
            )
        })
    }
}

/// Makes ring the process's default TLS provider, which the redis crate uses.
pub fn use_one_provider() {
    // Fails if there is a default already. It was set by an earlier call.
    let _ = CryptoProvider::install_default(ring::default_provider());
}

/// The certificates in a PEM file.
///
/// # Errors
///
/// Fails if the file cannot be read or contains no certificate.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("no usable certificate in {}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(&error))?;
    match certificates.is_empty() {
        true => Err(unusable(&"it is empty or not PEM")),
        false => Ok(certificates),
    }
}

/// The trusted certificate authorities.
#[derive(Debug)]
struct Trusted {
    store: RootCertStore,
    /// The same certificates as read from the file. A server may present one of them as its own if it is self-signed.
    certificates: Vec<CertificateDer<'static>>,
}

impl Trusted {
    fn load(roots: &Roots) -> Result<Option<Trusted>, String> {
        let certificates = match roots {
            Roots::None => return Ok(None),
            Roots::File(path) => certificates(path)?,
            Roots::System => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
        match (added, roots) {
            (0, Roots::File(path)) => Err(format!("no usable certificate in {}", path.display())),
            (0, _) => Err("the system trusts no certificate authority: install ca-certificates".to_owned()),
            _ => Ok(Some(Trusted { store, certificates })),
        }
    }
}

/// Verifies a server's certificate as libpq does: its issuer if authorities are given, and its name with verify-full.
#[derive(Debug)]
struct Verifier {
    roots: Option<Trusted>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if !roots.certificates.contains(end_entity) {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &roots.store,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        if self.checks_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What the operator can do about a handshake that failed.
pub fn advice(error: &rustls::Error) -> Option<&'static str> {
    use rustls::AlertDescription as Alert;
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "name the file of the authority that signed the server's certificate"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "connect to a name that the server's certificate has"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew the server's certificate",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "look at the clocks of both machines"
            }
            _ => "give the server a certificate that its authority has signed for its name",
        },
        rustls::Error::AlertReceived(
            Alert::CertificateRequired | Alert::HandshakeFailure | Alert::BadCertificate | Alert::UnknownCA,
        ) => "the server may want another certificate of this client",
        rustls::Error::InvalidMessage(_) => "the port probably does not use TLS",
        _ => return None,
    })
}

/// The TLS error that an error was made of.
pub fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    type Shared = Arc<dyn std::error::Error + Send + Sync>;
    let mut error = Some(error);
    while let Some(mut current) = error {
        // The redis crate's errors share theirs.
        if let Some(shared) = current.downcast_ref::<Shared>() {
            current = &**shared;
        }
        let inner = current.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls.or_else(|| current.downcast_ref()) {
            return Some(tls);
        }
        error = current.source();
    }
    None
}
