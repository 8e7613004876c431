//! Which account of Azure, and how it is reached.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use reqwest::Url;

use super::super::credentials::CredentialError;
use super::super::url::Bucket;
use super::super::{Context, Environment};
use super::Opened;
use super::open::{client_options, endpoint, of_library, plain, retry, wrong};
use super::transport::Transport;

/// The emulator's account and key, which everybody knows.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const EMULATOR_URL: &str = "http://127.0.0.1:10000";

pub(super) fn open(bucket: &Bucket, context: &Context) -> Result<Opened, CredentialError> {
    let environment = &context.environment;
    let set = AzureSettings::read(bucket, environment)?;
    let at = set.endpoint.as_deref().map(|text| endpoint(text, "AZURE_STORAGE_ENDPOINT")).transpose()?;
    let transport = Transport::default();
    let options = client_options(at.as_ref().is_some_and(|url| url.scheme() == "http"));
    let mut builder = MicrosoftAzureBuilder::new().with_client_options(options);
    for (name, value) in environment.beginning_with("AZURE_") {
        use AzureConfigKey as Key;
        builder = match name.to_ascii_lowercase().parse() {
            Ok(
                Key::ContainerName
                | Key::AccountName
                | Key::AccessKey
                | Key::SasKey
                | Key::Endpoint
                | Key::UseEmulator,
            )
            | Err(_) => builder,
            Ok(key) => builder.with_config(key, value),
        };
    }
    if let Some(url) = environment.first(&["IDENTITY_ENDPOINT", "MSI_ENDPOINT"]) {
        builder = builder.with_msi_endpoint(url);
    }
    if let Some(key) = &set.key {
        builder = builder.with_access_key(key);
    }
    if let Some(sas) = &set.sas {
        builder = builder.with_config(AzureConfigKey::SasKey, sas);
    }
    if let Some(url) = &at {
        builder = builder.with_endpoint(plain(url));
    }
    let client = builder
        .with_account(set.account)
        .with_container_name(&bucket.name)
        .with_retry(retry())
        .with_http_connector(transport.clone())
        .build()
        // Of a key that is no base64 the library repeats a byte.
        .map_err(|error| {
            let is_of_key = set.key.is_some() && error.to_string().contains("Access Key");
            if is_of_key { wrong("AZURE_STORAGE_ACCOUNT_KEY is not a key") } else { of_library(&error) }
        })?;
    // The emulator does not know where to begin, and neither do older versions of the service.
    Ok(Opened { client: Arc::new(client), keys: None, region: None, transport, lists_from: false })
}

/// Which account, and how it is reached.
struct AzureSettings {
    account: String,
    key: Option<String>,
    sas: Option<String>,
    endpoint: Option<String>,
}

impl AzureSettings {
    fn read(bucket: &Bucket, environment: &Environment) -> Result<Self, CredentialError> {
        let variable = |names: &[&str]| environment.first(names).map(str::to_owned);
        let text = environment.get("AZURE_STORAGE_CONNECTION_STRING");
        let is_emulator = environment.is_on("AZURE_STORAGE_USE_EMULATOR")
            || text.is_some_and(|text| text.to_ascii_lowercase().contains("usedevelopmentstorage=true"));
        let mut set = Connection::default();
        if is_emulator {
            let url = environment.get("AZURITE_BLOB_STORAGE_URL").unwrap_or(EMULATOR_URL);
            set = Connection {
                account: Some(EMULATOR_ACCOUNT.to_owned()),
                key: Some(EMULATOR_KEY.to_owned()),
                endpoint: Some(format!("{}/{EMULATOR_ACCOUNT}", url.trim_end_matches('/'))),
                ..Connection::default()
            };
        } else if let Some(text) = text {
            set = Connection::parse(text)?;
        }
        let named = variable(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]);
        let account = bucket.account.clone().or(named).or_else(|| set.account.clone()).ok_or_else(|| {
            wrong("no account: set AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING")
        })?;
        // What belongs to another account is of no use.
        if set.account.as_ref().is_some_and(|of| *of != account) {
            set = Connection::default();
        }
        let key = variable(&[
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_MASTER_KEY",
            "AZURE_STORAGE_KEY",
        ]);
        let sas = variable(&["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"]);
        let endpoint = variable(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]);
        Ok(Self {
            account,
            // One of the two: the library would take the key where both are there.
            key: key.or_else(|| set.key.filter(|_| sas.is_none())),
            sas: sas.or(set.sas),
            endpoint: endpoint.or(set.endpoint),
        })
    }
}

/// `AZURE_STORAGE_CONNECTION_STRING`.
#[derive(Default)]
struct Connection {
    account: Option<String>,
    key: Option<String>,
    sas: Option<String>,
    endpoint: Option<String>,
}

impl Connection {
    fn parse(text: &str) -> Result<Self, CredentialError> {
        let (mut set, mut protocol, mut suffix) = (Self::default(), "https".to_owned(), None);
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            // Keys end in `=`: only the first one divides.
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong("AZURE_STORAGE_CONNECTION_STRING is not a list of NAME=VALUE;"))?;
            let value = value.to_owned();
            match name.to_ascii_lowercase().as_str() {
                "accountname" => set.account = Some(value),
                "accountkey" => set.key = Some(value),
                "sharedaccesssignature" => set.sas = Some(value),
                "blobendpoint" => set.endpoint = Some(value),
                "defaultendpointsprotocol" => protocol = value,
                "endpointsuffix" => suffix = Some(value),
                _ => {}
            }
        }
        if let (None, Some(account), Some(suffix)) = (&set.endpoint, &set.account, suffix) {
            set.endpoint = Some(format!("{protocol}://{account}.blob.{suffix}"));
        }
        if set.account.is_none() {
            let host = set.endpoint.as_deref().and_then(|url| Url::parse(url).ok());
            let host =
                host.as_ref().and_then(|url| url.host_str()?.split_once(".blob.").map(|(name, _)| name));
            set.account = host.map(str::to_owned);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Service;
    use super::*;

    #[test]
    fn azure_accounts() {
        let settings = |account: Option<&str>, variables: &[(&str, &str)]| {
            let bucket = Bucket {
                service: Service::Azure,
                account: account.map(str::to_owned),
                name: "c".to_owned(),
                prefix: String::new(),
            };
            let environment = variables.iter().copied().collect();
            let set = AzureSettings::read(&bucket, &environment).map_err(|error| error.to_string())?;
            let shown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            Ok::<_, String>(format!(
                "{} {} {} {}",
                set.account,
                shown(set.key),
                shown(set.sas),
                shown(set.endpoint)
            ))
        };
        let text =
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=k==;EndpointSuffix=core.windows.net";
        let whole = [("AZURE_STORAGE_CONNECTION_STRING", text)];
        let at = "https://a.blob.core.windows.net";
        assert_eq!(settings(None, &whole).unwrap(), format!("a k== - {at}"));
        assert_eq!(settings(Some("a"), &whole).unwrap(), format!("a k== - {at}"));
        assert_eq!(settings(Some("b"), &whole).unwrap(), "b - - -", "the keys of another account");
        let sas = [whole[0], ("AZURE_STORAGE_SAS_TOKEN", "sv=1")];
        assert_eq!(settings(None, &sas).unwrap(), format!("a - sv=1 {at}"));
        let shared = "BlobEndpoint=https://x.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=2%3D";
        let shared = [("AZURE_STORAGE_CONNECTION_STRING", shared)];
        assert_eq!(settings(None, &shared).unwrap(), "x - sv=1&sig=2%3D https://x.blob.core.windows.net/");
        let names = [("AZURE_STORAGE_ACCOUNT", "n"), ("AZURE_STORAGE_KEY", "k")];
        assert_eq!(settings(None, &names).unwrap(), "n k - -");
        let emulator = format!("devstoreaccount1 {EMULATOR_KEY} - http://127.0.0.1:10000/devstoreaccount1");
        let short = [("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")];
        assert_eq!(settings(None, &short).unwrap(), emulator);
        assert_eq!(settings(None, &[("AZURE_STORAGE_USE_EMULATOR", "1")]).unwrap(), emulator);
        assert!(settings(None, &[]).unwrap_err().starts_with("no account"));
    }
}
