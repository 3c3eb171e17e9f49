//! The streams of this cluster: made by the first node that needs them, widened as needed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;
use serde_json::json;

use super::error::EngineError;
use super::line::Line;
use super::stream::{Change, Shape, Stream, StreamConfig, stream_name};
use super::subject::UNDECLARED;
use crate::event::{ChannelName, Namespace, Namespaces};

/// JetStream's codes: the stream exists with another configuration; it does not exist; too few
/// servers for so many replicas.
const EXISTS: u32 = 10058;
const NOT_FOUND: u32 = 10059;
const TOO_FEW_SERVERS: [u32; 2] = [10074, 10005];

/// What all streams have in common.
#[derive(Debug, Clone)]
pub(super) struct StreamDefaults {
    pub(super) prefix: String,
    /// 0: as many as the servers allow, up to three.
    pub(super) replicas: u8,
    pub(super) max_bytes: u64,
    pub(super) event_bytes: usize,
}

/// The streams by token, as far as this node has met them.
pub(super) struct Streams {
    line: Line,
    defaults: StreamDefaults,
    known: RwLock<HashMap<Arc<str>, Known>>,
    /// One node makes one stream at a time.
    making: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    stream: Arc<Stream>,
    /// What it was made or widened for.
    namespace: Arc<Namespace>,
}

#[derive(Deserialize)]
struct Info {
    config: StreamConfig,
}

impl Streams {
    pub(super) fn new(line: Line, defaults: StreamDefaults) -> Self {
        Streams {
            line,
            defaults,
            known: RwLock::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// The stream of a channel of this namespace, if it is wide enough.
    pub(super) fn get(
        &self,
        channel: &ChannelName,
        namespace: &Arc<Namespace>,
    ) -> Option<Arc<Stream>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(token_of(channel, namespace))?;
        let same = Arc::ptr_eq(&known.namespace, namespace) || known.namespace == *namespace;
        same.then(|| Arc::clone(&known.stream))
    }

    /// The stream of a channel whose namespace keeps no history now, if it once did.
    pub(super) fn former(
        &self,
        channel: &ChannelName,
        namespace: &Arc<Namespace>,
    ) -> Option<Arc<Stream>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(token_of(channel, namespace))?;
        Some(Arc::clone(&known.stream))
    }

    /// All streams.
    pub(super) fn all(&self) -> Vec<Arc<Stream>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .values()
            .map(|known| Arc::clone(&known.stream))
            .collect()
    }

    /// The stream of a channel, made or widened if necessary.
    pub(super) async fn ensure(
        &self,
        channel: &ChannelName,
        namespace: &Arc<Namespace>,
        now: u64,
    ) -> Result<Arc<Stream>, EngineError> {
        self.ensure_token(token_of(channel, namespace), namespace, now)
            .await
    }

    /// Makes the streams of all namespaces with history, and finds those of namespaces that had it.
    pub(super) async fn ensure_all(
        &self,
        namespaces: &Namespaces,
        now: u64,
    ) -> Result<(), EngineError> {
        for (token, namespace) in namespaces.by_name() {
            let token = if &*token == "*" { UNDECLARED } else { &token };
            if namespace.history.size > 0 {
                self.ensure_token(token, namespace, now).await?;
            } else if let Some(found) = self
                .info(&stream_name(&self.defaults.prefix, token))
                .await?
            {
                self.take_over(token, namespace, &found);
            }
        }
        Ok(())
    }

    async fn ensure_token(
        &self,
        token: &str,
        namespace: &Arc<Namespace>,
        now: u64,
    ) -> Result<Arc<Stream>, EngineError> {
        let making = self.making.lock().await;
        let known = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.get(token).cloned()
        };
        if let Some(known) = known
            && known.namespace == *namespace
        {
            return Ok(known.stream);
        }
        let config = self.make(token, namespace, now).await?;
        drop(making);
        Ok(self.take_over(token, namespace, &config))
    }

    fn take_over(
        &self,
        token: &str,
        namespace: &Arc<Namespace>,
        config: &StreamConfig,
    ) -> Arc<Stream> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let namespace = Arc::clone(namespace);
        if let Some(known) = known.get_mut(token) {
            known.stream.set(config);
            known.namespace = namespace;
            return Arc::clone(&known.stream);
        }
        let stream = Arc::new(Stream::new(token.to_owned(), config));
        let entry = Known {
            stream: Arc::clone(&stream),
            namespace,
        };
        known.insert(Arc::from(token), entry);
        stream
    }

    async fn make(
        &self,
        token: &str,
        namespace: &Namespace,
        now: u64,
    ) -> Result<StreamConfig, EngineError> {
        let name = stream_name(&self.defaults.prefix, token);
        let mut replicas = match self.defaults.replicas {
            0 if self.line.client().server_info().cluster.is_some() => 3,
            0 => 1,
            replicas => replicas,
        };
        loop {
            let shape = Shape {
                prefix: &self.defaults.prefix,
                token,
                replicas,
                max_bytes: self.defaults.max_bytes,
                event_bytes: self.defaults.event_bytes,
            };
            let wanted = StreamConfig::new(shape, namespace, now, fastrand::u64(1..));
            let made: Result<Info, _> = self
                .line
                .ask(&format!("STREAM.CREATE.{name}"), &wanted)
                .await;
            let error = match made {
                Ok(made) => return Ok(made.config),
                Err(error) => error,
            };
            match error.code() {
                Some(EXISTS) => return self.widen(&name, &wanted).await,
                Some(code)
                    if TOO_FEW_SERVERS.contains(&code)
                        && self.defaults.replicas == 0
                        && replicas > 1 =>
                {
                    replicas = 1;
                }
                _ => return Err(error),
            }
        }
    }

    /// Widens a stream that another node, or an earlier configuration, has made.
    async fn widen(&self, name: &str, wanted: &StreamConfig) -> Result<StreamConfig, EngineError> {
        let found = self.info(name).await?;
        let found = found.ok_or_else(|| EngineError::Unreadable(format!("{name} vanished")))?;
        if found.salt().is_none() {
            return Err(EngineError::Refused(
                EXISTS,
                format!(
                    "the stream {name} exists and is not from Tidings: choose another cluster.name"
                ),
            ));
        }
        let wide = match self.defaults.replicas {
            // The number of replicas stays as it was made.
            0 => found.widened(&wanted.clone().with_replicas_of(&found)),
            _ => found.widened(wanted),
        };
        match wide {
            None => Ok(found),
            Some(wide) => self.update(name, &wide).await,
        }
    }

    async fn update(&self, name: &str, config: &StreamConfig) -> Result<StreamConfig, EngineError> {
        let updated: Info = self
            .line
            .ask(&format!("STREAM.UPDATE.{name}"), config)
            .await?;
        Ok(updated.config)
    }

    async fn info(&self, name: &str) -> Result<Option<StreamConfig>, EngineError> {
        let info: Result<Info, _> = self
            .line
            .ask(&format!("STREAM.INFO.{name}"), &json!({}))
            .await;
        match info {
            Ok(info) => Ok(Some(info.config)),
            Err(EngineError::Refused(NOT_FOUND, _)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Events of a stream's channels go by without offsets: ends all epochs, once. True for the call
    /// that did.
    pub(super) async fn bypass(&self, stream: &Stream) -> Result<bool, EngineError> {
        let making = self.making.lock().await;
        if stream.is_bypassed() {
            return Ok(false);
        }
        self.renew(stream).await?;
        stream.set_bypassed();
        drop(making);
        Ok(true)
    }

    /// Gives all channels of a stream new epochs.
    pub(super) async fn renew(&self, stream: &Stream) -> Result<(), EngineError> {
        let Some(found) = self.info(&stream.name).await? else {
            return Ok(());
        };
        let renewed = found.renewed(fastrand::u64(1..));
        let config = self.update(&stream.name, &renewed).await?;
        stream.set(&config);
        Ok(())
    }

    /// Reads the configuration of each stream again, as another node may have renewed it. Makes
    /// streams again that were removed. Returns the streams whose epochs are others now.
    pub(super) async fn refresh(
        &self,
        now: u64,
    ) -> Result<Vec<(Arc<Stream>, Change)>, EngineError> {
        let making = self.making.lock().await;
        let known: Vec<(Arc<str>, Known)> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let known = known.iter();
            known
                .map(|(token, known)| (Arc::clone(token), known.clone()))
                .collect()
        };
        let mut changed = Vec::new();
        for (token, Known { stream, namespace }) in known {
            let config = match self.info(&stream.name).await? {
                Some(config) => config,
                None if namespace.history.size == 0 => continue,
                None => {
                    tracing::warn!(
                        stream = stream.name,
                        "the engine has lost a stream: its channels get new epochs"
                    );
                    self.make(&token, &namespace, now).await?
                }
            };
            match stream.set(&config) {
                Change::Nothing => {}
                change @ (Change::Renewed | Change::Recreated) => changed.push((stream, change)),
            }
        }
        drop(making);
        Ok(changed)
    }

    /// The channels of a stream whose names may start with `prefix`.
    pub(super) async fn channels(&self, stream: &Stream) -> Result<Vec<ChannelName>, EngineError> {
        #[derive(Deserialize)]
        struct Listed {
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            subjects: Option<HashMap<String, u64>>,
        }
        let mut found = Vec::new();
        loop {
            let subjects = super::subject::logs(&self.defaults.prefix, &stream.token);
            let body = json!({"subjects_filter": subjects, "offset": found.len()});
            let page: Listed = self
                .line
                .ask(&format!("STREAM.INFO.{}", stream.name), &body)
                .await?;
            let page = page.state.subjects.unwrap_or_default();
            if page.is_empty() {
                return Ok(found);
            }
            let count = page.len();
            found.extend(
                page.keys()
                    .filter_map(|subject| super::subject::channel_of(subject)),
            );
            // A page of the API has up to 100,000 subjects.
            if count < 100_000 {
                return Ok(found);
            }
        }
    }
}

/// The token of a channel's stream.
fn token_of<'n>(channel: &ChannelName, namespace: &'n Namespace) -> &'n str {
    if &*namespace.name == channel.namespace() {
        &namespace.name
    } else {
        UNDECLARED
    }
}
