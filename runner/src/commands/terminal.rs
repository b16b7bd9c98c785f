//! The way out to a terminal or a pipe: each text passes here, and leaves without the values of secrets.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use hybrid_runner_secrets::Redactor;

use super::CommandError;

/// Standard output and standard error of a command.
#[derive(Debug, Clone, Default)]
pub(super) struct Terminal(Arc<OnceLock<Redactor>>);

impl Terminal {
    /// What this redactor knows is not shown. Said once, before a secret is read.
    pub(super) fn without(&self, redactor: &Redactor) {
        self.0.get_or_init(|| redactor.clone());
    }

    /// A line for people, to standard error.
    pub(super) fn tell(&self, text: &str) {
        // Where stderr is closed there is nobody to tell.
        drop(self.line(&mut io::stderr(), text));
    }

    /// A line for programs, to standard output.
    pub(super) fn print(&self, text: &str) -> Result<(), CommandError> {
        self.line(&mut io::stdout(), text).map_err(|error| CommandError::failed(format!("write to stdout: {error}")))
    }

    fn line(&self, to: &mut dyn Write, text: &str) -> io::Result<()> {
        match self.0.get() {
            Some(redactor) => to.write_all(&redactor.replace(text.as_bytes()))?,
            None => to.write_all(text.as_bytes())?,
        }
        to.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use hybrid_runner_secrets::SecretValue;

    use super::*;

    #[test]
    fn a_line_is_written_without_the_values_that_are_known() {
        let terminal = Terminal::default();
        let shown = |terminal: &Terminal| {
            let mut to = Vec::new();
            terminal.line(&mut to, "error: it said correct horse").unwrap();
            String::from_utf8(to).unwrap()
        };
        assert_eq!(shown(&terminal), "error: it said correct horse\n");
        let redactor = Redactor::default();
        terminal.clone().without(&redactor);
        drop(redactor.watch(SecretValue::new("correct horse".to_owned())));
        assert_eq!(shown(&terminal), "error: it said [redacted]\n");
    }
}
