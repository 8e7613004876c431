//! From arguments to a service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use super::args::HoseArgs;
use super::deliver::{About, Parts};
use super::target::Service;
use super::{Run, formats, setup};
use crate::cli::args::StreamArg;
use crate::cli::{about, output};
use crate::hose::cancel::Cancel;
use crate::hose::courier::Runtime;
use crate::hose::dest::Destination;
use crate::hose::dest::client::ClientOptions;
use crate::hose::dest::http::{HttpEndpoint, HttpOptions};
use crate::hose::dest::opensearch::{Authorization, OpenSearch, OpenSearchOptions};
use crate::hose::dest::postgres::{self, Address, Postgres, Settings, Surroundings};
use crate::hose::dest::redshift::{self, CopyFormat, Redshift};
use crate::hose::dest::secret::SecretSource;
use crate::hose::dest::splunk::{Splunk, SplunkEndpoint, SplunkOptions};
use crate::hose::dest::stdout::Stdout;
use crate::hose::dest::stream::{Details, NoDetails, SourceDetails, StreamOptions, ToStream};
use crate::hose::format::Format;
use crate::hose::format::body::Scratch;
use crate::hose::ledger::Ledger;
use crate::hose::name::{Extension, Limits, Partitioner, Prefix, Role, Zone};
use crate::hose::naming::{Namer, Signature};
use crate::hose::store::local::LocalStore;
use crate::hose::store::{Location, Store};
use crate::sys::System;

impl Run {
    /// What a service needs.
    pub(super) fn service_parts(
        &self,
        about: &About<'_>,
        signature: &Signature,
        system: &System,
        cancel: &Cancel,
        service: Service,
        url: &str,
    ) -> anyhow::Result<Parts> {
        let args = &self.args;
        let mut format = None;
        let mut scratch = setup::scratch(system);
        let destination: Box<dyn Destination> = match service {
            Service::Http => Box::new(HttpEndpoint::new(
                system,
                HttpOptions {
                    url: url.to_owned(),
                    name: about.name.clone(),
                    access_key: args.service.access_key_file.clone().map(SecretSource::File),
                    common: common(args)?,
                    gzip: args.service.gzip,
                    retry: setup::policy(args),
                    client: client(args),
                    ..HttpOptions::default()
                },
                cancel,
            )?),
            Service::OpenSearch => Box::new(OpenSearch::new(
                system,
                OpenSearchOptions {
                    url: url.to_owned(),
                    index: args.service.index.clone(),
                    rotation: match &args.service.index_rotation {
                        Some(period) => {
                            period.parse().map_err(|reason: String| anyhow!("--index-rotation: {reason}"))?
                        }
                        None => crate::hose::dest::opensearch::Rotation::None,
                    },
                    // Lines of a pipe have other numbers in every run.
                    ids: Some(about.id.to_string()),
                    authorization: authorization(args)?,
                    gzip: args.service.gzip,
                    add_timestamp: args.service.add_timestamp,
                    retry: setup::policy(args),
                    client: client(args),
                    ..OpenSearchOptions::default()
                },
                cancel,
            )?),
            Service::Splunk => {
                let defaults = SplunkOptions::default();
                Box::new(Splunk::new(
                    system,
                    SplunkOptions {
                        url: url.to_owned(),
                        endpoint: if args.service.splunk_raw {
                            SplunkEndpoint::Raw
                        } else {
                            SplunkEndpoint::Event
                        },
                        token: args
                            .service
                            .access_key_file
                            .clone()
                            .map_or(defaults.token.clone(), SecretSource::File),
                        acks: !args.service.splunk_no_ack,
                        ack_timeout: args.service.timeout.max(defaults.ack_timeout),
                        gzip: args.service.gzip,
                        retry: setup::policy(args),
                        client: client(args),
                        ..defaults
                    },
                    cancel,
                )?)
            }
            Service::Postgres => {
                let mut address = Address::parse(url)?;
                let mut options = postgres::Options::of(&mut address, about.delivery.clone())?;
                options.retry = setup::policy(args);
                options.cancel = cancel.clone();
                let settings = Settings::complete(address, postgres::POSTGRESQL, &Surroundings::real())?;
                Box::new(Postgres::new(system, settings, options))
            }
            Service::Redshift => {
                let mut address = Address::parse(url)?;
                let mut options = redshift::Options::of(&mut address, about.delivery.clone())?;
                let opened = formats::open(args, None, None)?;
                let output = args.objects.output.as_deref().unwrap_or("ndjson");
                options.format = CopyFormat::of(output, !args.table.no_header)?;
                options.compression = args.objects.compression.clone().unwrap_or_else(|| "none".to_owned());
                if let Some(duration) = args.service.retry_duration {
                    options.retry.duration = duration;
                }
                options.cancel = cancel.clone();
                let settings = Settings::complete(address, redshift::REDSHIFT, &Surroundings::real())?;
                let staging =
                    Location::parse(&options.staging).map_err(|reason| anyhow!("staging: {reason}"))?;
                let store = staging.open(&self.context)?;
                if let Some(root) = staging.local_path() {
                    scratch = Scratch::new(system, root);
                }
                format = Some(opened);
                Box::new(Redshift::new(system, settings, options, store)?)
            }
        };
        let extension = format.as_ref().map_or_else(Extension::default, |opened| opened.extension.clone());
        let namer = match service {
            Service::Redshift => setup::namer(args, signature, &extension, None)?,
            _ => one_partition(signature)?,
        };
        self.beside(about, signature, system, destination, namer, format.map(|opened| opened.format), scratch)
    }

    /// What another stream needs.
    pub(super) fn stream_parts(
        &self,
        about: &About<'_>,
        signature: &Signature,
        system: &System,
        cancel: &Cancel,
        name: &std::ffi::OsStr,
    ) -> anyhow::Result<Parts> {
        let target = about::open(&StreamArg { stream: name.to_owned() })?;
        let options = StreamOptions {
            delivery: about.delivery.clone(),
            retry: setup::policy(&self.args),
            cancel: cancel.clone(),
        };
        let details: Box<dyn Details> = match &about.source {
            Some(source) => Box::new(SourceDetails::new(source.clone())),
            None => Box::new(NoDetails),
        };
        let destination = Box::new(ToStream::new(target, about.source.as_ref(), options, details)?);
        let scratch = setup::scratch(system);
        self.beside(about, signature, system, destination, one_partition(signature)?, None, scratch)
    }

    /// What standard output needs: encoded objects, one behind the other.
    pub(super) fn stdout_parts(
        &self,
        about: &About<'_>,
        signature: &Signature,
        system: &System,
        cancel: &Cancel,
        _runtime: &Runtime,
    ) -> anyhow::Result<Parts> {
        let opened = formats::open(&self.args, None, None)?;
        let out =
            output::Stdout::open(self.args.follow.follow, Some(self.shutdown)).context("standard output")?;
        let destination = Box::new(Stdout::new(Box::new(out), cancel));
        let scratch = setup::scratch(system);
        let namer = one_partition(signature)?;
        self.beside(about, signature, system, destination, namer, Some(opened.format), scratch)
    }

    /// The ledger lies beside the consumer where the destination cannot hold it, and so do failed records.
    #[expect(clippy::too_many_arguments, reason = "what each kind of destination has of its own")]
    fn beside(
        &self,
        about: &About<'_>,
        signature: &Signature,
        system: &System,
        destination: Box<dyn Destination>,
        namer: Namer,
        format: Option<Arc<dyn Format>>,
        scratch: Scratch,
    ) -> anyhow::Result<Parts> {
        let ledger = about.consumer_dir.map(|dir| {
            let store: Arc<dyn Store> = Arc::new(LocalStore::new(system, dir));
            Ledger::new(store, "delivery")
        });
        let fallback = match &about.source {
            Some(stream) => stream.path().join("rejects").join("khose"),
            None => PathBuf::from("./khose.rejects"),
        };
        let fallback = format!("{}/", Path::new(&fallback).display());
        let errors = setup::errors(&self.args, &self.context, None, &fallback, signature, &about.delivery)?;
        Ok(Parts { destination, ledger, errors, namer, format, schema: None, scratch })
    }
}

/// All records go into one open object.
pub(super) fn one_partition(signature: &Signature) -> anyhow::Result<Namer> {
    let prefix = Prefix::parse("", Role::Data)?;
    let partitioner = Partitioner::new(prefix, Zone::utc(), Limits::OBJECT_STORE);
    Ok(Namer::new(partitioner, None, Extension::default(), signature.clone()))
}

fn client(args: &HoseArgs) -> ClientOptions {
    ClientOptions {
        response_timeout: args.service.timeout,
        ca_file: args.service.ca_file.clone(),
        ..ClientOptions::default()
    }
}

/// `NAME=VALUE`, as often as it was given.
fn common(args: &HoseArgs) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| {
        let (name, value) =
            text.split_once('=').ok_or_else(|| anyhow!("--common {text}: give NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    args.service.common.iter().map(pair).collect()
}

fn authorization(args: &HoseArgs) -> anyhow::Result<Option<Authorization>> {
    let Some(file) = args.service.access_key_file.clone() else { return Ok(None) };
    let secret = SecretSource::File(file);
    Ok(Some(match args.service.auth.as_deref().unwrap_or("basic") {
        "basic" => Authorization::Basic(secret),
        "api-key" => Authorization::ApiKey(secret),
        "bearer" => Authorization::Bearer(secret),
        other => return Err(anyhow!("--auth: `{other}` is not known: give basic, api-key or bearer")),
    }))
}
