//! `control-plane export`

use clap::Args;

use super::{Common, Outcome, existing_store, failed, load, output};
use crate::export::Export;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Only what this pipeline committed
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let config = load(&arguments.common)?;
    let mut export = Export::new(existing_store(&config).await?, arguments.pipeline.clone());
    while let Some(lines) = export.next_lines().await.map_err(failed)? {
        output::print(&lines)?;
    }
    Ok(())
}
