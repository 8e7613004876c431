//! Clients as the environment and the files of the services' own tools say.
//!
//! Every variable that the library knows is passed on to it; what decides over credentials, regions and endpoints is
//! read here, so that it means what it means to the services' own tools.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig, StaticCredentialProvider};
use reqwest::Url;

use super::super::credentials::aws::{AwsKeys, Settings};
use super::super::credentials::profile::Profiles;
use super::super::credentials::{CredentialError, read_file, warn_if_open_to_others};
use super::super::url::Bucket;
use super::super::{Context, Environment, StoreError};
use super::transport::{Transport, patience};
use super::{Opened, SINGLE_BYTES, Service, azure};

/// The region where the environment names none, as the SDKs have it for endpoints of their own.
const REGION: &str = "us-east-1";
pub(super) fn open(bucket: &Bucket, context: &Context) -> Result<Opened, StoreError> {
    let opened = match bucket.service {
        Service::S3 => open_s3(bucket, context),
        Service::Google => open_google(bucket, context),
        Service::Azure => azure::open(bucket, context),
    };
    opened.map_err(|error| {
        let (name, reason) = (bucket.root_url(), error.reason);
        if error.is_transient {
            StoreError::Transient { name, reason }
        } else {
            StoreError::Denied { name, reason }
        }
    })
}

/// A few attempts within seconds. Whoever calls goes on for as long as they like.
pub(super) fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: Duration::from_secs(45),
    }
}

pub(super) fn client_options(allow_http: bool) -> ClientOptions {
    let agent = concat!("kpipe/", env!("CARGO_PKG_VERSION"));
    let agent = reqwest::header::HeaderValue::from_static(agent);
    // Each request has a shorter time of its own; this ends an answer that stops half way.
    let options = ClientOptions::new().with_user_agent(agent).with_timeout(patience(SINGLE_BYTES));
    options.with_connect_timeout(Duration::from_secs(10)).with_allow_http(allow_http)
}

pub(super) fn wrong(what: impl Into<String>) -> CredentialError {
    CredentialError::permanent(what)
}

/// What the library says of a wrong setting. Its words are known not to repeat keys, and URLs are cut.
pub(super) fn of_library(error: &object_store::Error) -> CredentialError {
    super::answer::credential_error(error)
}

/// Checks an endpoint from the environment. Plain HTTP is allowed there, as the SDKs do: whoever writes it means it.
pub(super) fn endpoint(text: &str, from: &str) -> Result<Url, CredentialError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url =
        url.ok_or_else(|| wrong(format!("the endpoint of {from} is not a URL with http:// or https://")))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(wrong(format!("the endpoint of {from} has keys in it, or a query")));
    }
    Ok(url)
}

pub(super) fn plain(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn open_s3(bucket: &Bucket, context: &Context) -> Result<Opened, CredentialError> {
    let environment = &context.environment;
    let profiles = Profiles::read(context)?;
    let region =
        environment.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).or_else(|| profiles.setting("region"));
    let region = region.unwrap_or(REGION);
    let given = |service: &str, variable: &str| {
        if environment.is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
            return Ok(None);
        }
        let names = [variable, "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        match (environment.first(&names), profiles.endpoint(service)) {
            (Some(text), _) => endpoint(text, "AWS_ENDPOINT_URL").map(Some),
            (None, Some(text)) => endpoint(text, "the profile").map(Some),
            (None, None) => Ok(None),
        }
    };
    let is_express = bucket.name.ends_with("--x-s3");
    let style = profiles.setting("s3.addressing_style") == Some("virtual");
    let is_virtual = style || environment.is_on("AWS_VIRTUAL_HOSTED_STYLE_REQUEST");
    let mut at = given("s3", "AWS_ENDPOINT_URL_S3")?;
    if at.is_none() && !is_express {
        at = partition_endpoint(region, environment, "s3")
            .map(|url| endpoint(&url, "AWS_REGION"))
            .transpose()?;
    }
    // The library takes an endpoint for this style to have the bucket's name in it.
    if let Some(url) = at.as_mut().filter(|_| is_virtual) {
        name_bucket(url, &bucket.name)?;
    }
    let transport = Transport::default();
    let mut options = client_options(at.as_ref().is_some_and(|url| url.scheme() == "http"));
    if let Some(path) = environment.get("AWS_CA_BUNDLE").or_else(|| profiles.setting("ca_bundle")) {
        let text =
            read_file(context, Path::new(path))?.ok_or_else(|| wrong(format!("{path}: it is not there")))?;
        let bundle = Certificate::from_pem_bundle(text.as_bytes());
        let bundle = bundle.map_err(|_| wrong(format!("{path}: not a bundle of certificates")))?;
        options = bundle.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    let sts = given("sts", "AWS_ENDPOINT_URL_STS")?.map(|url| plain(&url));
    let sts = sts.or_else(|| partition_endpoint(region, environment, "sts"));
    let keys = Arc::new(AwsKeys::new(
        context,
        Settings {
            region: region.to_owned(),
            sts_endpoint: sts.unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com")),
            client_options: options.clone(),
            retry: retry(),
            transport: transport.clone(),
        },
    ));
    let mut builder = AmazonS3Builder::new().with_client_options(options);
    for (name, value) in environment.beginning_with("AWS_") {
        builder = match name.to_ascii_lowercase().parse() {
            Ok(key) if !is_read_here(key) => builder.with_config(key, value),
            _ => builder,
        };
    }
    builder = builder
        .with_bucket_name(&bucket.name)
        .with_region(region)
        .with_retry(retry())
        .with_http_connector(transport.clone())
        .with_credentials(keys.clone())
        .with_virtual_hosted_style_request(is_virtual)
        .with_config(AmazonS3ConfigKey::S3Express, is_express.to_string());
    if let Some(url) = &at {
        builder = builder.with_endpoint(plain(url));
    }
    let client = builder.build().map_err(|error| of_library(&error))?;
    let is_signed = !environment.is_on("AWS_SKIP_SIGNATURE");
    Ok(Opened {
        client: Arc::new(client),
        keys: is_signed.then_some(keys),
        region: Some(region.to_owned()),
        transport,
        lists_from: !is_express,
    })
}

/// Puts the bucket's name in front of the endpoint's host, where it is not there already.
fn name_bucket(url: &mut Url, bucket: &str) -> Result<(), CredentialError> {
    let host = url.host_str().unwrap_or("").to_owned();
    if host.starts_with(&format!("{bucket}.")) {
        return Ok(());
    }
    let named = url.domain().map(|_| format!("{bucket}.{host}"));
    let is_named = named.is_some_and(|named| url.set_host(Some(&named)).is_ok());
    if is_named {
        Ok(())
    } else {
        Err(wrong("the endpoint's host is no name that a bucket could stand before"))
    }
}

/// Settings of S3 that are not passed on as they are.
fn is_read_here(key: AmazonS3ConfigKey) -> bool {
    use AmazonS3ConfigKey as Key;
    matches!(
        key,
        Key::AccessKeyId
            | Key::SecretAccessKey
            | Key::Token
            | Key::Region
            | Key::DefaultRegion
            | Key::Bucket
            | Key::Endpoint
            | Key::S3Endpoint
            | Key::StsEndpoint
            | Key::VirtualHostedStyleRequest
            | Key::S3Express
            | Key::WebIdentityTokenFile
            | Key::RoleArn
            | Key::RoleSessionName
            | Key::ContainerCredentialsRelativeUri
            | Key::ContainerCredentialsFullUri
            | Key::ContainerAuthorizationTokenFile
            | Key::MetadataEndpoint
            | Key::ImdsV1Fallback
    )
}

/// The endpoint where it is not the one that the library builds of a region.
fn partition_endpoint(region: &str, environment: &Environment, service: &str) -> Option<String> {
    let (fips, dual) =
        (environment.is_on("AWS_USE_FIPS_ENDPOINT"), environment.is_on("AWS_USE_DUALSTACK_ENDPOINT"));
    let is_china = region.starts_with("cn-");
    if !fips && !dual && !is_china {
        return None;
    }
    let fips = if fips { "-fips" } else { "" };
    Some(match (service, dual, is_china) {
        ("s3", true, _) => {
            format!("https://s3{fips}.dualstack.{region}.amazonaws.com{}", if is_china { ".cn" } else { "" })
        }
        (_, true, false) => format!("https://{service}{fips}.{region}.api.aws"),
        (_, true, true) => format!("https://{service}{fips}.{region}.api.amazonwebservices.com.cn"),
        (_, false, _) => {
            format!("https://{service}{fips}.{region}.amazonaws.com{}", if is_china { ".cn" } else { "" })
        }
    })
}

fn open_google(bucket: &Bucket, context: &Context) -> Result<Opened, CredentialError> {
    let environment = &context.environment;
    let emulator = environment
        .get("STORAGE_EMULATOR_HOST")
        .map(|host| if host.contains("://") { host.to_owned() } else { format!("http://{host}") });
    let base = emulator.as_deref().or_else(|| environment.get("GOOGLE_BASE_URL"));
    let base = base.map(|text| endpoint(text, "STORAGE_EMULATOR_HOST or GOOGLE_BASE_URL")).transpose()?;
    let transport = Transport::default();
    let options = client_options(base.as_ref().is_some_and(|url| url.scheme() == "http"));
    let mut builder = GoogleCloudStorageBuilder::new().with_client_options(options);
    for (name, value) in environment.beginning_with("GOOGLE_") {
        builder = match name.to_ascii_lowercase().parse() {
            Ok(GoogleConfigKey::Bucket | GoogleConfigKey::BaseUrl) | Err(_) => builder,
            Ok(key) => builder.with_config(key, value),
        };
    }
    let file = environment.first(&[
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "SERVICE_ACCOUNT",
    ]);
    if environment.first(&["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"]).is_none()
        && let Some(path) = environment.get("SERVICE_ACCOUNT")
    {
        builder = builder.with_service_account_path(path);
    }
    let is_signed = emulator.is_none() && !environment.is_on("GOOGLE_SKIP_SIGNATURE");
    if is_signed {
        match file {
            Some(path) => warn_if_open_to_others(context, Path::new(path)),
            None if environment.get("GOOGLE_SERVICE_ACCOUNT_KEY").is_none() => {
                if let Some(path) = gcloud_file(context) {
                    builder = builder.with_application_credentials(path);
                }
            }
            None => {}
        }
    } else {
        // The library sends a token with each put even where it does not sign, and some servers take none that is empty.
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer: "anonymous".to_owned() });
        builder = builder.with_credentials(Arc::new(nobody)).with_skip_signature(emulator.is_none());
    }
    if let Some(base) = &base {
        builder = builder.with_base_url(&plain(base));
    }
    let client = builder
        .with_bucket_name(&bucket.name)
        .with_retry(retry())
        .with_http_connector(transport.clone())
        .build()
        // What the parser says may repeat what it read.
        .map_err(|error| {
            let from = file.unwrap_or("GOOGLE_SERVICE_ACCOUNT_KEY");
            let is_of_parser = error.to_string().contains("decode");
            if is_of_parser {
                wrong(format!("{from}: not the JSON of a service account or a user"))
            } else {
                of_library(&error)
            }
        })?;
    Ok(Opened { client: Arc::new(client), keys: None, region: None, transport, lists_from: true })
}

/// What `gcloud auth application-default login` leaves.
fn gcloud_file(context: &Context) -> Option<String> {
    let environment = &context.environment;
    let dir = match environment.get("CLOUDSDK_CONFIG") {
        Some(dir) => dir.to_owned(),
        None => format!("{}/.config/gcloud", environment.get("HOME")?),
    };
    let path = format!("{dir}/application_default_credentials.json");
    context.system.disk.exists(Path::new(&path)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_regions() {
        let at = |region: &str, service: &str, variables: &[&str]| {
            let environment = variables.iter().map(|name| (*name, "true")).collect();
            partition_endpoint(region, &environment, service)
        };
        let (fips, dual) = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT");
        assert_eq!(at("eu-west-1", "s3", &[]), None);
        for (region, service, variables, url) in [
            ("cn-north-1", "s3", &[][..], "https://s3.cn-north-1.amazonaws.com.cn"),
            ("cn-north-1", "sts", &[], "https://sts.cn-north-1.amazonaws.com.cn"),
            ("us-east-1", "s3", &[fips], "https://s3-fips.us-east-1.amazonaws.com"),
            ("us-east-1", "s3", &[fips, dual], "https://s3-fips.dualstack.us-east-1.amazonaws.com"),
            ("us-east-1", "sts", &[dual], "https://sts.us-east-1.api.aws"),
        ] {
            assert_eq!(at(region, service, variables).as_deref(), Some(url));
        }
    }

    #[test]
    fn a_bucket_before_the_host() {
        let named = |text: &str| {
            let mut url = Url::parse(text).unwrap();
            name_bucket(&mut url, "b.c").map(|()| plain(&url)).map_err(|error| error.to_string())
        };
        assert_eq!(named("http://minio:9000/").unwrap(), "http://b.c.minio:9000");
        assert_eq!(named("https://b.c.s3.example").unwrap(), "https://b.c.s3.example");
        assert!(named("http://127.0.0.1:9000").is_err());
    }
}
