//! The catalog in other languages: TypeScript, and AsyncAPI.

use std::path::PathBuf;

use super::super::check;
use super::super::client::{Target, flag_or_env};
use super::super::failure::Failure;
use super::super::output::Output;
use super::{get, page};
use crate::catalog::typescript::{self, Described};
use crate::catalog::{Catalog, KnownType, Schema};
use crate::config::{Config, Inputs};
use crate::proto::EventType;
use crate::server;
use crate::transport::http::{AsyncApiServer, asyncapi_document};

/// The source of the event types.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// Read them from a configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read them from a preset
    #[arg(long, value_name = "NAME", value_parser = check::preset_names())]
    preset: Option<String>,
}

impl Source {
    fn is_named(&self) -> bool {
        self.config.is_some() || self.preset.is_some()
    }

    /// The configuration that `tidings serve` would have with these flags.
    fn config(&self) -> Result<Config, Failure> {
        let named = |variable| flag_or_env(None, variable).filter(|_| !self.is_named());
        let preset = self.preset.clone().or_else(|| named("TIDINGS_PRESET"));
        let file = self.config.clone();
        Ok(Config::load(&Inputs {
            preset: check::preset(preset.as_deref())?,
            file: file.or_else(|| named("TIDINGS_CONFIG").map(PathBuf::from)),
            environment: Inputs::process_environment(),
            ..Inputs::default()
        })?)
    }
}

fn catalog(config: &Config) -> Result<Catalog, Failure> {
    server::catalog(config).map_err(|error| Failure::new(error.to_string()))
}

/// Prints the description of the events of a configuration.
pub(super) fn asyncapi(source: &Source, output: &mut Output) -> Result<(), Failure> {
    let config = source.config()?;
    let catalog = catalog(&config)?;
    let namespaces = config.all_namespaces(false);
    let server = AsyncApiServer {
        host: config.public.listen.to_string(),
        token_required: config.auth.required,
        settings: server::asyncapi_settings(&config).into(),
    };
    let names = namespaces.iter().map(|namespace| namespace.name.as_str());
    let document = asyncapi_document(&server, names, &catalog);
    if output.is_json() {
        return output.object(&document);
    }
    output.line(&format!("{document:#}"))
}

/// Prints the types of a configuration's events or, without a configuration, of the server's.
pub(super) async fn typescript(
    source: &Source,
    target: &Target,
    output: &mut Output,
) -> Result<(), Failure> {
    let module = if source.is_named() {
        let catalog = catalog(&source.config()?)?;
        typescript::module(catalog.after("").map(known))
    } else {
        let types = served(target).await?;
        typescript::module(types.iter().map(|event_type| Described {
            name: &event_type.name,
            description: &event_type.description,
            schema: &event_type.schema,
        }))
    };
    if output.is_json() {
        return output.object(&serde_json::json!({ "typescript": module }));
    }
    output.line(module.trim_end())
}

fn known(known: &KnownType) -> Described<'_> {
    Described {
        name: known.name.as_str(),
        description: &known.description,
        schema: known.schema.as_ref().map_or("", Schema::text),
    }
}

/// All event types of a server, each with its schema.
async fn served(target: &Target) -> Result<Vec<EventType>, Failure> {
    let client = target.connect().await?;
    let mut types = Vec::new();
    let mut token = String::new();
    loop {
        let page = page(&client, token).await?;
        for event_type in page.event_types {
            // A list leaves out the schemas, which may be large.
            types.push(get(&client, &event_type.name).await?);
        }
        if page.next_page_token.is_empty() {
            return Ok(types);
        }
        token = page.next_page_token;
    }
}
