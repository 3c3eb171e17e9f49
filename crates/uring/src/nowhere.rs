//! For systems without `io_uring`.

use std::io;
use std::os::fd::BorrowedFd;

use super::Short;

/// Can't be constructed: [`Sends::new`] fails on this system.
#[derive(Debug)]
pub struct Sends(std::convert::Infallible);

impl Sends {
    /// Fails.
    ///
    /// # Errors
    /// `Unsupported`, always.
    pub fn new(_: u16) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The most sends at once; none.
    #[must_use]
    pub fn most(&self) -> usize {
        match self.0 {}
    }

    /// Can't be called.
    pub fn send<'a>(
        &mut self,
        _: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        _: impl FnMut(Short),
    ) -> usize {
        match self.0 {}
    }
}
