//! A connection to a database.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio::task::JoinHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::Fault;
use super::settings::{Found, Settings, Ssl, SslMode};
use crate::sys::private::{self, Private};

/// A server that is gone is noticed after a minute or so, though it never says good-bye.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVES: u32 = 3;
const UNANSWERED: Duration = Duration::from_mins(1);

/// Certificates are a few kilobytes each.
const PEM_BYTES_MAX: u64 = 16 << 20;

/// A connection, and what reads and writes for it.
pub(in crate::hose::dest) struct Session {
    pub(in crate::hose::dest) client: Client,
    task: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Session {
    /// The session of the batch before, if the server still has it; else a new one.
    pub(in crate::hose::dest) async fn again(
        known: Option<Self>,
        settings: &Settings,
    ) -> Result<Self, Fault> {
        if let Some(known) = known
            && known.client.check_connection().await.is_ok()
        {
            return Ok(known);
        }
        // Seldom, and large.
        Box::pin(Self::connect(settings)).await
    }

    /// Connects to the first of the hosts that will have us.
    async fn connect(settings: &Settings) -> Result<Self, Fault> {
        let mut outcome = Err(Fault::Permanent("there is no host".to_owned()));
        for (host, port) in &settings.hosts {
            outcome = connect_one(settings, host, *port).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// What ended the connection, where its end is all that the client knows.
    pub(in crate::hose::dest) async fn cause(&mut self, known: Fault) -> Fault {
        if !matches!(known, Fault::Transient(_)) || !self.client.is_closed() {
            return known;
        }
        match (&mut self.task).await {
            Ok(Err(error)) => Fault::of(&error, "connection lost"),
            _ => known,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server ends what was open when it sees the connection closed.
        self.task.abort();
    }
}

async fn connect_one(settings: &Settings, host: &str, port: u16) -> Result<Session, Fault> {
    let mut config = Config::new();
    config
        .host(host)
        .port(port)
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(&settings.application_name)
        .connect_timeout(settings.connect_timeout)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVES)
        .tcp_user_timeout(UNANSWERED);
    if settings.read_write {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if let Some(options) = &settings.options {
        config.options(options);
    }
    let without = match settings.password(host, port) {
        Found::Password(password) => {
            config.password(password.reveal());
            None
        }
        Found::None(why) => why,
    };
    // A socket of this machine is as private as its directory.
    let mode = if host.starts_with('/') { SslMode::Disable } else { settings.ssl.mode };
    config.ssl_mode(match mode {
        SslMode::Disable => tokio_postgres::config::SslMode::Disable,
        SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
            tokio_postgres::config::SslMode::Require
        }
    });
    let limit = settings.connect_timeout * 2;
    let outcome = tokio::time::timeout(limit, async {
        if mode == SslMode::Disable {
            open(&config, NoTls).await
        } else {
            let tls = tls(&settings.ssl).map_err(Fault::Permanent)?;
            open(&config, MakeRustlsConnect::new(tls)).await
        }
    })
    .await;
    let outcome = outcome.unwrap_or_else(|_| Err(Fault::Transient(format!("no answer within {limit:?}"))));
    outcome.map_err(|fault| {
        let why = without.filter(|_| matches!(fault, Fault::Permanent(_)));
        fault.map(|message| match why {
            Some(why) => format!("{host}:{port}: {message} ({why})"),
            None => format!("{host}:{port}: {message}"),
        })
    })
}

async fn open<T>(config: &Config, tls: T) -> Result<Session, Fault>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) =
        config.connect(tls).await.map_err(|error| Fault::of(&error, "cannot connect"))?;
    Ok(Session { client, task: tokio::spawn(connection) })
}

/// How to encrypt.
fn tls(ssl: &Ssl) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    // libpq's `require` looks at the certificate if it was told whom to trust.
    let verifies = match ssl.mode {
        SslMode::Disable | SslMode::Prefer => false,
        SslMode::Require => ssl.roots.is_some(),
        SslMode::VerifyCa | SslMode::VerifyFull => true,
    };
    let verifier: Arc<dyn ServerCertVerifier> = if verifies {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ssl)?), Arc::clone(&provider))
                .build()
                .map_err(|error| format!("root certificates: {error}"))?;
        if ssl.mode == SslMode::VerifyFull { verifier } else { Arc::new(AnyName(verifier)) }
    } else {
        Arc::new(Anybody(provider))
    };
    // Either is what libpq does under the same name.
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let Some((cert, key)) = &ssl.own else { return Ok(builder.with_no_client_auth()) };
    let read = |path: &std::path::Path| {
        private::read(path, PEM_BYTES_MAX).map_err(|error| format!("{}: {error}", path.display()))
    };
    let Private::Kept(key_bytes) = read(key)? else {
        return Err(format!("{} is not used: others may read it; chmod 600 it", key.display()));
    };
    let key_der = PrivateKeyDer::from_pem_slice(&key_bytes)
        .map_err(|_| format!("{}: no private key in PEM without a passphrase", key.display()))?;
    builder
        .with_client_auth_cert(certificates(cert)?, key_der)
        .map_err(|error| format!("{}: {error}", cert.display()))
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let disk = crate::sys::System::real().disk;
    let bytes = disk.read(path, PEM_BYTES_MAX as usize).map_err(|error| wrong(&error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(&"no certificate in PEM")),
        Err(error) => Err(wrong(&error)),
    }
}

fn roots(ssl: &Ssl) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = match &ssl.roots {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(found);
    if roots.is_empty() {
        return Err("no root certificates on this machine: name a file in PGSSLROOTCERT".to_owned());
    }
    Ok(roots)
}

/// A certificate of a known authority, for whatever name: `verify-ca`.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Any certificate: `prefer`, and `require` without roots, keep out who listens and not who interferes.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
