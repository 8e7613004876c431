//! Credentials for S3, kept for as long as they are good.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientOptions, CredentialProvider, RetryConfig};

use super::super::Context;
use super::super::context::blocking;
use super::super::object::answer::credential_error;
use super::super::object::transport::Transport;
use super::assume_role::{self, Desk};
use super::profile::{Keys, NOTHING, Plan, Profiles};
use super::{CredentialError, process};

/// Credentials that end are read again so long before: a request that waits for its turn must not outlive them.
const BEFORE_END_US: i64 = 5 * 60 * 1_000_000;

/// What could not be renewed is tried again after this: a program that is asked may take its time to fail.
const RETRY_PAUSE_US: i64 = 10 * 1_000_000;

/// What is needed to come to credentials, beside the plan.
#[derive(Clone)]
pub(in super::super) struct Settings {
    pub(in super::super) region: String,
    /// Where roles are assumed.
    pub(in super::super) sts_endpoint: String,
    pub(in super::super) client_options: ClientOptions,
    pub(in super::super) retry: RetryConfig,
    pub(in super::super) transport: Transport,
}

/// What was read last.
struct Held {
    credential: Arc<AwsCredential>,
    /// Until when it is used without reading it again.
    use_until_us: Option<i64>,
    expires_us: Option<i64>,
    /// Which reading it was.
    reading: u64,
}

impl Held {
    /// Whether a service may still take it.
    fn is_good(&self, now_us: i64) -> bool {
        self.expires_us.is_none_or(|end_us| now_us < end_us)
    }
}

/// One that looks after its credentials itself, and whether to ask it each time.
enum Source {
    Held(Held),
    Other(AwsCredentialProvider, u64),
}

/// What is known, and when it could not be renewed the last time.
#[derive(Default)]
struct Known {
    source: Option<Source>,
    failed_us: Option<i64>,
}

/// Gives the credentials of the environment and the files.
pub(in super::super) struct AwsKeys {
    context: Context,
    settings: Settings,
    known: tokio::sync::Mutex<Known>,
    /// Counted up when what is held is not to be used any more.
    readings: AtomicU64,
    /// Whether the machine has given any.
    machine_has_some: Arc<AtomicBool>,
}

/// Nothing of the keys.
impl fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsKeys").finish_non_exhaustive()
    }
}

impl AwsKeys {
    pub(in super::super) fn new(context: &Context, settings: Settings) -> Self {
        Self {
            context: context.clone(),
            settings,
            known: tokio::sync::Mutex::default(),
            readings: AtomicU64::new(1),
            machine_has_some: Arc::default(),
        }
    }

    /// Has them read again before the next request.
    pub(in super::super) fn refresh(&self) {
        self.readings.fetch_add(1, Ordering::SeqCst);
    }

    fn now_us(&self) -> i64 {
        self.context.system.clock.now_us()
    }

    pub(in super::super) async fn get(&self) -> Result<Arc<AwsCredential>, CredentialError> {
        let mut known = self.known.lock().await;
        let reading = self.readings.load(Ordering::SeqCst);
        let now_us = self.now_us();
        match &known.source {
            Some(Source::Held(held)) => {
                let is_fresh =
                    held.reading == reading && held.use_until_us.is_none_or(|until_us| now_us < until_us);
                let has_just_failed =
                    known.failed_us.is_some_and(|failed_us| now_us - failed_us < RETRY_PAUSE_US);
                if is_fresh || (has_just_failed && held.is_good(now_us)) {
                    return Ok(held.credential.clone());
                }
            }
            Some(Source::Other(provider, read)) if *read == reading => return ask(provider).await,
            _ => {}
        }
        match self.read(reading).await {
            Ok(read) => {
                let credential = match &read {
                    Source::Held(held) => held.credential.clone(),
                    Source::Other(provider, _) => ask(provider).await?,
                };
                *known = Known { source: Some(read), failed_us: None };
                Ok(credential)
            }
            // The old ones may do for some time yet.
            Err(error) => match &known.source {
                Some(Source::Held(held)) if held.is_good(now_us) => {
                    self.context.tell_once(&format!("credentials cannot be renewed yet: {error}"));
                    let credential = held.credential.clone();
                    known.failed_us = Some(now_us);
                    Ok(credential)
                }
                _ => Err(error),
            },
        }
    }

    async fn read(&self, reading: u64) -> Result<Source, CredentialError> {
        let context = self.context.clone();
        let plan = blocking(move || Profiles::read(&context)?.plan(&context.environment)).await?;
        if let Some(provider) = self.other(&plan)? {
            return Ok(Source::Other(provider, reading));
        }
        let (keys, expires_us) = self.obtain(plan).await?;
        let now_us = self.now_us();
        // What lives shorter than twice the margin is used for half of its life.
        let use_until_us = expires_us.map(|end_us| end_us - BEFORE_END_US.min((end_us - now_us) / 2));
        let credential = Arc::new(credential_of(keys));
        Ok(Source::Held(Held { credential, use_until_us, expires_us, reading }))
    }

    /// Comes to keys by a plan that is carried out here.
    async fn obtain(&self, plan: Plan) -> Result<(Keys, Option<i64>), CredentialError> {
        match plan {
            Plan::Keys(keys) => Ok((keys, None)),
            Plan::Process { command, profile } => blocking(move || process::run(&command, &profile)).await,
            Plan::Role(mut role) => {
                let base = std::mem::replace(&mut role.base, Plan::Instance);
                let base = match self.other(&base)? {
                    Some(provider) => ask(&provider).await?,
                    None => Arc::new(credential_of(Box::pin(self.obtain(base)).await?.0)),
                };
                let client = self.connect()?;
                let Settings { region, sts_endpoint, .. } = &self.settings;
                let desk = Desk { client: &client, endpoint: sts_endpoint, region, base: &base };
                assume_role::assume(&role, &desk).await
            }
            Plan::WebIdentity { .. } | Plan::Container | Plan::Instance => {
                Err(CredentialError::permanent("credentials of a kind that is read elsewhere"))
            }
        }
    }

    fn connect(&self) -> Result<HttpClient, CredentialError> {
        let options = self.settings.client_options.clone();
        let options = options.with_allow_http(self.settings.sts_endpoint.starts_with("http://"));
        self.settings
            .transport
            .connect(&options)
            .map_err(|error| CredentialError::permanent(error.to_string()))
    }

    /// The provider of the library for the plans that it carries out itself.
    fn other(&self, plan: &Plan) -> Result<Option<AwsCredentialProvider>, CredentialError> {
        let environment = &self.context.environment;
        // It gives its provider of credentials away only as a part of a whole client; the bucket is never asked for.
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name("none")
            .with_region(&self.settings.region)
            .with_retry(self.settings.retry.clone())
            .with_client_options(self.settings.client_options.clone())
            .with_http_connector(self.settings.transport.clone());
        let mut set = |key: AmazonS3ConfigKey, value: Option<&str>| {
            if let Some(value) = value {
                builder = std::mem::take(&mut builder).with_config(key, value);
            }
        };
        match plan {
            Plan::WebIdentity { token_file, role_arn, session_name } => {
                set(AmazonS3ConfigKey::WebIdentityTokenFile, Some(token_file));
                set(AmazonS3ConfigKey::RoleArn, Some(role_arn));
                set(AmazonS3ConfigKey::RoleSessionName, session_name.as_deref().or(Some("kpipe")));
                set(AmazonS3ConfigKey::StsEndpoint, Some(&self.settings.sts_endpoint));
            }
            Plan::Container => {
                let relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
                set(AmazonS3ConfigKey::ContainerCredentialsRelativeUri, relative);
                let full = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI");
                let token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
                if relative.is_none() && (full.is_none() || token.is_none()) {
                    return Err(CredentialError::permanent(
                        "the container's credentials need AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, or \
                         AWS_CONTAINER_CREDENTIALS_FULL_URI with AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    ));
                }
                set(AmazonS3ConfigKey::ContainerCredentialsFullUri, full);
                set(AmazonS3ConfigKey::ContainerAuthorizationTokenFile, token);
            }
            Plan::Instance => {
                let endpoint =
                    environment.first(&["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_METADATA_ENDPOINT"]);
                set(AmazonS3ConfigKey::MetadataEndpoint, endpoint);
                set(AmazonS3ConfigKey::ImdsV1Fallback, environment.get("AWS_IMDSV1_FALLBACK"));
            }
            Plan::Keys(_) | Plan::Process { .. } | Plan::Role(_) => return Ok(None),
        }
        let client = builder.build().map_err(|error| CredentialError::permanent(error.to_string()))?;
        let provider = client.credentials().clone();
        Ok(Some(match plan {
            Plan::Instance => Arc::new(Machine { provider, has_some: self.machine_has_some.clone() }),
            _ => provider,
        }))
    }
}

fn credential_of(keys: Keys) -> AwsCredential {
    AwsCredential { key_id: keys.id, secret_key: keys.secret, token: keys.token }
}

async fn ask(provider: &AwsCredentialProvider) -> Result<Arc<AwsCredential>, CredentialError> {
    provider.get_credential().await.map_err(|error| credential_error(&error))
}

/// The machine's credentials are what is tried last, and most machines have none: the error is about that, and it is
/// worth another try only on a machine that has given some.
#[derive(Debug)]
struct Machine {
    provider: AwsCredentialProvider,
    has_some: Arc<AtomicBool>,
}

impl CredentialProvider for Machine {
    type Credential = AwsCredential;

    fn get_credential<'this, 'async_trait>(
        &'this self,
    ) -> futures_util::future::BoxFuture<'async_trait, object_store::Result<Arc<AwsCredential>>>
    where
        'this: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let answer = self.provider.get_credential().await.map_err(|error| {
                let error = credential_error(&error);
                let reason = format!("{NOTHING}; the machine's metadata service: {}", error.reason);
                let is_transient = error.is_transient && self.has_some.load(Ordering::SeqCst);
                wrapped(CredentialError { reason, is_transient })
            });
            self.has_some.fetch_or(answer.is_ok(), Ordering::SeqCst);
            answer
        })
    }
}

impl CredentialProvider for AwsKeys {
    type Credential = AwsCredential;

    fn get_credential<'this, 'async_trait>(
        &'this self,
    ) -> futures_util::future::BoxFuture<'async_trait, object_store::Result<Arc<AwsCredential>>>
    where
        'this: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move { self.get().await.map_err(wrapped) })
    }
}

fn wrapped(error: CredentialError) -> object_store::Error {
    object_store::Error::Generic { store: "credentials", source: Box::new(error) }
}
