//! Certificates made for one test: an authority, and what it signs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::postgres::lesser_user;
use super::scratch;

pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM files that the test, its servers and the worker may read.
pub(crate) struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = scratch::directory("certificates");
        let mut params = params("an authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(dir.join("ca.crt"), certificate.pem()).expect("ca.crt");
        let issuer = Issuer::new(params, key);
        Self { dir, issuer }
    }

    /// The authority's own certificate.
    pub(crate) fn path(&self) -> String {
        text(&self.dir.join("ca.crt"))
    }

    /// A certificate for these hosts.
    pub(crate) fn sign(&self, common_name: &str, hosts: &[&str]) -> Identity {
        self.sign_params(common_name, params(common_name, hosts))
    }

    /// The same, but its time is over.
    pub(crate) fn sign_expired(&self, common_name: &str, hosts: &[&str]) -> Identity {
        let mut params = params(common_name, hosts);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign_params(&format!("{common_name}-expired"), params)
    }

    fn sign_params(&self, name: &str, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let identity = Identity {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).expect("a certificate file");
        fs::write(&identity.key, key.serialize_pem()).expect("a key file");
        // PostgreSQL takes no key that others may read.
        fs::set_permissions(&identity.key, Permissions::from_mode(0o600)).expect("permissions of the key");
        if let Some((uid, gid)) = lesser_user() {
            chown(&identity.key, Some(uid), Some(gid)).expect("root may give a file away");
        }
        identity
    }
}

impl Identity {
    pub(crate) fn certificate(&self) -> String {
        text(&self.certificate)
    }

    pub(crate) fn key(&self) -> String {
        text(&self.key)
    }
}

fn params(common_name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
