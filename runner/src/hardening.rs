//! What the program does about its own memory and its own last words, before it reads any secret.
//!
//! - No core dump, neither a file nor to a collector: the limit is zero and may not be raised again.
//! - Linux counts the process as not dumpable: another process of the same user can neither attach to it nor read its memory
//!   or its environment below `/proc`.
//! - A panic says where, never what: a message may quote anything.
//!
//! The program starts no other program, so that nothing inherits its arguments or environment.

use std::io::{self, Write as _};

/// Hardens this process.
///
/// # Errors
/// The operating system refused one of the limits.
pub(crate) fn apply() -> io::Result<()> {
    std::panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        // Where stderr is closed there is nobody to tell.
        drop(writeln!(io::stderr(), "error: hybrid-runner panicked at {place}; report it with this line"));
    }));
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
