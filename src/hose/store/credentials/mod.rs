//! The keys that a store signs its requests with, and where they come from.
//!
//! The promise: they come from the environment and the files where the services' own tools look for them, they are read
//! again before they expire, after a service has refused them, and when told to; and they are never shown. No type here
//! prints them, no message has them in it, and none is taken from a command line.
//!
//! # S3
//!
//! In the order of the SDKs, the first that is there:
//!
//! 1. `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`;
//! 2. `AWS_WEB_IDENTITY_TOKEN_FILE` with `AWS_ROLE_ARN`;
//! 3. the profile (`AWS_PROFILE`, else `default`) of `~/.aws/credentials` and `~/.aws/config`: a role that is assumed
//!    (`role_arn` with `source_profile` or `credential_source`), keys, or a `credential_process`;
//! 4. the container's credentials (`AWS_CONTAINER_CREDENTIALS_*`);
//! 5. the machine's (IMDS), unless `AWS_EC2_METADATA_DISABLED` is set.
//!
//! `AWS_SKIP_SIGNATURE=true` signs nothing. A profile of the single sign-on needs a browser and is refused with the
//! command that makes plain credentials of it.
//!
//! # Google Cloud Storage
//!
//! `GOOGLE_SERVICE_ACCOUNT` (a file) or `GOOGLE_SERVICE_ACCOUNT_KEY`, `GOOGLE_APPLICATION_CREDENTIALS`, what
//! `gcloud auth application-default login` left, the machine's metadata service. `GOOGLE_SKIP_SIGNATURE=true` signs
//! nothing, and so does an emulator (`STORAGE_EMULATOR_HOST`).
//!
//! # Azure
//!
//! `AZURE_STORAGE_CONNECTION_STRING`; `AZURE_STORAGE_ACCOUNT_NAME` with `AZURE_STORAGE_ACCOUNT_KEY` or
//! `AZURE_STORAGE_SAS_TOKEN` (the short names of the `az` command as well); a service principal or workload identity
//! (`AZURE_CLIENT_ID`, `AZURE_TENANT_ID`, `AZURE_CLIENT_SECRET` or `AZURE_FEDERATED_TOKEN_FILE`); the `az` command with
//! `AZURE_USE_AZURE_CLI=true`; the machine's identity.

pub(super) mod assume_role;
pub(super) mod aws;
pub(super) mod ini;
pub(super) mod process;
pub(super) mod profile;

use std::path::Path;

use super::Context;

/// Why there are no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct CredentialError {
    /// What is wrong, without any secret in it.
    pub(super) reason: String,
    /// Whether it may be otherwise in a moment.
    pub(super) is_transient: bool,
}

impl CredentialError {
    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_transient: false }
    }

    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_transient: true }
    }
}

/// A file with secrets in it is as a rule small; what is larger is something else.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The text of a file with settings, or `None` where it is not there.
pub(super) fn read_file(context: &Context, path: &Path) -> Result<Option<String>, CredentialError> {
    let wrong = |what: String| CredentialError::permanent(format!("{}: {what}", path.display()));
    let file = match context.system.disk.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| wrong(error.to_string()))?,
    };
    let len = file.len().map_err(|error| wrong(error.to_string()))?;
    if len > FILE_BYTES_MAX {
        return Err(wrong(format!("{len} bytes: too long for a file of settings")));
    }
    let mut bytes = vec![0; len as usize];
    let got = file.read_at(&mut bytes, 0).map_err(|error| wrong(error.to_string()))?;
    bytes.truncate(got);
    String::from_utf8(bytes).map(Some).map_err(|_| wrong("not text".to_owned()))
}

/// Warns where others may read a file with secrets in it.
pub(super) fn warn_if_open_to_others(context: &Context, path: &Path) {
    const READ_BY_GROUP_OR_OTHERS: u32 = 0o044;
    let mode = context.system.disk.open(path).ok().and_then(|file| file.mode());
    if mode.is_some_and(|mode| mode & READ_BY_GROUP_OR_OTHERS != 0) {
        let path = path.display();
        context.tell_once(&format!(
            "{path}: other users of this machine may read the secrets in it; try: chmod go= {path}"
        ));
    }
}
