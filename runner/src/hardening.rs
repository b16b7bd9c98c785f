//! What the program does about its own memory and its own last words, before it reads any secret.
//!
//! - No core dump, neither a file nor to a collector: the limit is zero and may not be raised again.
//! - Linux counts the process as not dumpable: another process of the same user can neither attach to it nor read its memory
//!   or its environment below `/proc`.
//! - A panic says where, never what: a message may quote anything.
//!
//! The program starts no other program, so that nothing inherits its arguments or environment.

use std::io::{self, Write as _};
use std::panic::PanicHookInfo;

/// Hardens this process.
///
/// # Errors
/// The operating system refused one of the limits.
pub(crate) fn apply() -> io::Result<()> {
    std::panic::set_hook(Box::new(tell_place));
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn tell_place(panicked: &PanicHookInfo<'_>) {
    let place = panicked.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    // Where stderr is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "error: hybrid-runner panicked at {place}; report it with this line"));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What the test below says to itself when it runs as a program of its own: the hook is the process's.
    const MARK: &str = "HARDENED_AND_PANICKING";

    #[test]
    fn a_panic_says_where_and_not_what() {
        if std::env::var_os(MARK).is_some() {
            apply().unwrap();
            let secret = std::hint::black_box("correct horse");
            panic!("it said {secret}");
        }
        let name = "hardening::tests::a_panic_says_where_and_not_what";
        let mut again = Command::new(std::env::current_exe().unwrap());
        let output = again.args(["--exact", name, "--nocapture"]).env(MARK, "1").output().unwrap();
        assert!(!output.status.success());
        let shown = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(shown.contains("error: hybrid-runner panicked at ") && shown.contains("hardening.rs:"), "{shown}");
        assert!(!shown.contains("horse"), "{shown}");
    }
}
