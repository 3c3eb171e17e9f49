//! What `tidings check` does beyond reading the configuration: it builds what a start builds.

use std::sync::Arc;

use super::assemble::policy;
use super::{StartError, catalog, tls};
use crate::auth::{LocalRevocations, Verifier};
use crate::config::Config;

/// Builds the parts of a server as far as that opens no socket, no store and no thread, and lets
/// go of them: what [`super::Server::start`] refuses of a configuration is refused here too, with
/// the same words. A configuration without a key passes, for secrets often come by the environment.
///
/// # Errors
/// As [`super::Server::start`].
pub fn rehearse(config: &Config, dev: bool) -> Result<(), StartError> {
    tls::install_crypto();
    tls::Listeners::load(config)?;
    policy(config, dev)?;
    catalog(config)?;
    if config.auth.has_key() {
        Verifier::new(&config.auth.verifier(), Arc::new(LocalRevocations), |_| ())
            .map_err(StartError::new)?;
    }
    Ok(())
}
