//! The configuration: defaults, files, environment, checks.
