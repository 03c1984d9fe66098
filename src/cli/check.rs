//! `oncesink check`: everything that the files alone show.

use std::path::PathBuf;

use clap::Args;

use super::{
    exit::Exit,
    files::{self, Overrides},
    output,
};
use crate::settings;

#[derive(Debug, Args)]
pub struct Check {
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Prints each file as it is understood, with the origin of each value; secrets are masked
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    overrides: Overrides,
}

pub fn check(arguments: &Check) -> Result<Exit, Exit> {
    let pipelines = arguments.overrides.load(&arguments.files)?;
    for pipeline in &pipelines {
        // What only the database's part can judge: its scheme, and what applies to it.
        files::database(&pipeline.database)?;
        if arguments.show {
            println!("{}", settings::show(pipeline));
        }
        for warning in &pipeline.warnings {
            output::warning(&format!("{}: {warning}", pipeline.name));
        }
    }
    let warnings: usize = pipelines.iter().map(|pipeline| pipeline.warnings.len()).sum();
    let files: Vec<String> = arguments.files.iter().map(|file| file.display().to_string()).collect();
    let warned = if warnings == 0 { "no warnings".to_owned() } else { format!("{warnings} warnings") };
    eprintln!("No errors, {warned}; nothing was connected to. Next: oncesink plan {}", files.first().map_or("FILE", String::as_str));
    Ok(Exit::Done)
}
