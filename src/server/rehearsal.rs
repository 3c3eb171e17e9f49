//! The dry run behind `tidings check`: builds what a start builds.

use std::sync::Arc;

use super::assemble::policy;
use super::{StartError, catalog, tls};
use crate::auth::{LocalRevocations, Verifier};
use crate::config::Config;

/// Builds the parts of a server, without opening a socket, a store or a thread, and drops them. A
/// configuration that [`super::Server::start`] would refuse is refused here with the same error. A
/// configuration without a key passes, because secrets often come from the environment.
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
